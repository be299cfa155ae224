//! How maps lie on disk: slabs of a few rows of one lane, 16 bits a value, compressed.
//!
//! Nats are cut to a grid of which UGA's 8-bit grid is every [`PER_STEP`]th line, so that the 8-bit map made from a slab
//! is exactly the one made from the floats. A slab carries the digest of its content: one that was cut off by a power
//! failure is known and computed again.

use super::strip::Strip;
use crate::uncertainty::{QUANTISATION_NATS, quantise};

/// Rows of a slab.
pub(super) const SLAB_ROWS: u32 = 64;
/// Steps of the 16-bit grid in one of UGA's 8-bit grid; 65,535 steps are 21 nats, more than eps lets anything reach.
const PER_STEP: u16 = 48;
const STEPS_PER_NAT: f64 = 255.0 / QUANTISATION_NATS as f64 * PER_STEP as f64;
const FULL: f32 = 65535.0;
/// Bytes of the digest before the compressed content.
const DIGEST: usize = 16;
/// The flag of scanned tissue beside the colour class.
const TISSUE: u8 = 0x80;

/// The bytes of a slab of the scan that `key` names; `strip` is one lane wide.
pub(super) fn encode(key: &str, strip: &Strip) -> Vec<u8> {
    let pixels = strip.labels.len();
    let mut plain = Vec::with_capacity(pixels * (6 + 2 * strip.probabilities.len()));
    plain.extend_from_slice(&strip.labels);
    plain.extend(
        strip.colour.iter().zip(&strip.tissue).map(|(&colour, &tissue)| colour | (TISSUE * u8::from(tissue != 0))),
    );
    put(&mut plain, &strip.uncertainty, nats_to_grid);
    put(&mut plain, &strip.entropy, |nats| (f64::from(nats) * STEPS_PER_NAT).round().min(f64::from(u16::MAX)) as u16);
    for plane in &strip.probabilities {
        put(&mut plain, plane, |p| (p * FULL).round() as u16);
    }
    let mut bytes = digest(key, &plain).to_vec();
    bytes.extend(lz4_flex::compress(&plain));
    bytes
}

/// The maps in a slab of so many rows and columns; `None` if the bytes are not the ones that were written for this scan.
pub(super) fn decode(key: &str, bytes: &[u8], y: u32, (rows, width): (u32, u32), classes: usize) -> Option<Strip> {
    let (digest, packed) = bytes.split_at_checked(DIGEST)?;
    let pixels = rows as usize * width as usize;
    let plain = lz4_flex::decompress(packed, pixels * (6 + 2 * (classes - 1))).ok()?;
    if self::digest(key, &plain) != *digest || plain.len() != pixels * (6 + 2 * (classes - 1)) {
        return None;
    }
    let (labels, rest) = plain.split_at(pixels);
    let (kinds, rest) = rest.split_at(pixels);
    let mut planes = rest.chunks_exact((2 * pixels).max(1));
    let mut next =
        |value: fn(u16) -> f32| -> Vec<f32> { planes.next().map(|plane| get(plane, value)).unwrap_or_default() };
    Some(Strip {
        y,
        rows,
        width,
        labels: labels.to_vec(),
        tissue: kinds.iter().map(|kind| u8::from(kind & TISSUE != 0)).collect(),
        colour: kinds.iter().map(|kind| kind & !TISSUE).collect(),
        uncertainty: next(grid_to_nats),
        entropy: next(|steps| (f64::from(steps) / STEPS_PER_NAT) as f32),
        probabilities: (1..classes).map(|_| next(|p| f32::from(p) / FULL)).collect(),
    })
}

fn digest(key: &str, plain: &[u8]) -> [u8; DIGEST] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes()).update(&[0]).update(plain);
    let mut digest = [0; DIGEST];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..DIGEST]);
    digest
}

fn put(plain: &mut Vec<u8>, values: &[f32], grid: impl Fn(f32) -> u16) {
    plain.extend(values.iter().flat_map(|&value| grid(value).to_le_bytes()));
}

fn get(bytes: &[u8], value: fn(u16) -> f32) -> Vec<f32> {
    bytes.chunks_exact(2).map(|pair| value(u16::from_le_bytes([pair[0], pair[1]]))).collect()
}

/// Truncates to the grid, staying within the 8-bit step that [`quantise`] gives.
fn nats_to_grid(nats: f32) -> u16 {
    let steps = (f64::from(nats) * STEPS_PER_NAT).clamp(0.0, f64::from(u16::MAX)) as u16;
    let eight_bit = u16::from(quantise(nats)) * PER_STEP;
    if nats < QUANTISATION_NATS { steps.clamp(eight_bit, eight_bit + PER_STEP - 1) } else { steps.max(eight_bit) }
}

/// The middle of a step, where most of the error goes; but what is certain stays so.
fn grid_to_nats(steps: u16) -> f32 {
    if steps == 0 { 0.0 } else { ((f64::from(steps) + 0.5) / STEPS_PER_NAT) as f32 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn maps_come_back_within_a_step(
            nats in prop::collection::vec(prop_oneof![0.0f32..4.5, Just(0.0), 0.0f32..18.4], 24),
            p in prop::collection::vec(0.0f32..=1.0, 24),
        ) {
            let mut strip = Strip::background(7, 3, 8, 2);
            strip.labels = (0..24).map(|i| i % 2).collect();
            strip.tissue = (0..24).map(|i| u8::from(i % 3 == 0)).collect();
            strip.uncertainty = nats.clone();
            strip.entropy = nats;
            strip.probabilities = vec![p];
            let back = decode("k", &encode("k", &strip), 7, (3, 8), 2).unwrap();
            prop_assert_eq!((&back.labels, &back.tissue, &back.colour), (&strip.labels, &strip.tissue, &strip.colour));
            for i in 0..24 {
                let nats = strip.uncertainty[i];
                prop_assert_eq!(quantise(back.uncertainty[i]), quantise(nats), "of {} nats", nats);
                prop_assert!((back.uncertainty[i] - nats).abs() < 5e-4 && (back.entropy[i] - nats).abs() < 2e-4);
                prop_assert!((back.probabilities[0][i] - strip.probabilities[0][i]).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_damaged_slab_is_known() {
        let bytes = encode("k", &Strip::background(0, 64, 300, 3));
        let decode = |bytes: &[u8], rows| decode("k", bytes, 0, (rows, 300), 3);
        assert!(decode(&bytes, 64).is_some());
        assert!(bytes.len() < 2000, "glass costs nothing: {}", bytes.len());
        assert!(decode(&bytes[..bytes.len() - 1], 64).is_none());
        assert!(decode(&bytes[..7], 64).is_none());
        assert!(decode(&bytes, 63).is_none(), "of another size");
        assert!(super::decode("another", &bytes, 0, (64, 300), 3).is_none(), "of another scan");
        let mut other = bytes.clone();
        other[3] ^= 1;
        assert!(decode(&other, 64).is_none());
    }
}
