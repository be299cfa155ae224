//! How maps lie on disk: slabs of a few rows of one lane, 16 bits a value, compressed.
//!
//! Nats are cut to a grid of which UGA's 8-bit grid is every [`PER_STEP`]th line, so that the 8-bit map made from a slab
//! is exactly the one made from the floats. A slab carries the digest of its content: one that was cut off by a power
//! failure is known and computed again.

use std::ops::Range;

use super::strip::Strip;
use crate::uncertainty::{QUANTISATION_NATS, quantise};

/// Rows of a slab.
pub(super) const SLAB_ROWS: u32 = 32;
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

/// The planes of a slab of so many rows and columns as they were stored; `None` if the bytes are not the ones that were
/// written for this scan.
pub(super) fn unpack(key: &str, bytes: &[u8], (rows, width): (u32, u32), classes: usize) -> Option<Slab> {
    let (digest, packed) = bytes.split_at_checked(DIGEST)?;
    let pixels = rows as usize * width as usize;
    let length = pixels * (6 + 2 * (classes - 1));
    let plain = lz4_flex::decompress(packed, length).ok()?;
    (plain.len() == length && self::digest(key, &plain) == *digest).then_some(Slab {
        plain,
        width: width as usize,
        pixels,
    })
}

/// An unpacked slab.
#[derive(Debug)]
pub(super) struct Slab {
    plain: Vec<u8>,
    width: usize,
    pixels: usize,
}

/// A part of a slab, and where it belongs in a strip.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) slab: Slab,
    /// Columns and rows of the slab.
    pub(super) columns: Range<usize>,
    pub(super) rows: Range<usize>,
    /// Column and row in the strip.
    pub(super) to: (usize, usize),
}

impl Piece {
    /// Copies one plane of the piece, stored from `start` in `N` bytes a pixel, into a plane of a strip.
    fn copy<const N: usize, T>(&self, start: usize, plane: &mut [T], width: usize, value: impl Fn([u8; N]) -> T) {
        for (k, row) in self.rows.clone().enumerate() {
            let first = start + N * (row * self.slab.width + self.columns.start);
            let (stored, _) = self.slab.plain[first..][..N * self.columns.len()].as_chunks::<N>();
            let line = &mut plane[(self.to.1 + k) * width + self.to.0..][..self.columns.len()];
            for (to, &from) in line.iter_mut().zip(stored) {
                *to = value(from);
            }
        }
    }

    /// The same for a plane of 16-bit values.
    fn copy_wide(&self, number: usize, plane: &mut [f32], width: usize, value: fn(u16) -> f32) {
        let start = self.slab.pixels * (2 + 2 * number);
        self.copy(start, plane, width, |bytes| value(u16::from_le_bytes(bytes)));
    }
}

/// Copies pieces into a strip, its planes side by side.
pub(super) fn fill(strip: &mut Strip, pieces: &[Piece]) {
    let width = strip.width as usize;
    let Strip { labels, tissue, colour, uncertainty, entropy, probabilities, .. } = strip;
    let wide = |number, plane: &mut [f32], value| {
        pieces.iter().for_each(|piece| piece.copy_wide(number, plane, width, value));
    };
    let wide = &wide;
    rayon::scope(|scope| {
        scope.spawn(move |_| {
            for piece in pieces {
                piece.copy(0, labels, width, |[label]| label);
                piece.copy(piece.slab.pixels, tissue, width, |[kind]| u8::from(kind & TISSUE != 0));
                piece.copy(piece.slab.pixels, colour, width, |[kind]| kind & !TISSUE);
            }
        });
        scope.spawn(move |_| wide(0, uncertainty, grid_to_nats));
        scope.spawn(move |_| wide(1, entropy, |steps| (f64::from(steps) / STEPS_PER_NAT) as f32));
        for (number, plane) in probabilities.iter_mut().enumerate() {
            scope.spawn(move |_| wide(2 + number, plane, |p| f32::from(p) / FULL));
        }
    });
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
            let slab = unpack("k", &encode("k", &strip), (3, 8), 2).unwrap();
            let mut back = Strip::background(7, 3, 8, 2);
            fill(&mut back, &[Piece { slab, columns: 0..8, rows: 0..3, to: (0, 0) }]);
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
        let unpack = |bytes: &[u8], rows| unpack("k", bytes, (rows, 300), 3);
        assert!(unpack(&bytes, 64).is_some());
        assert!(bytes.len() < 2000, "glass costs nothing: {}", bytes.len());
        assert!(unpack(&bytes[..bytes.len() - 1], 64).is_none());
        assert!(unpack(&bytes[..7], 64).is_none());
        assert!(unpack(&bytes, 63).is_none(), "of another size");
        assert!(super::unpack("another", &bytes, (64, 300), 3).is_none(), "of another scan");
        let mut other = bytes.clone();
        other[3] ^= 1;
        assert!(unpack(&other, 64).is_none());
    }
}
