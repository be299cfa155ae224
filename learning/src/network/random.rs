//! The only source of chance: ChaCha8 seeded by the BLAKE3 digest of a text such as `7/site-a/round-2/member-0`, so that
//! every draw can be repeated alone.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator that belongs to a text.
pub fn rng(text: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(*blake3::hash(text.as_bytes()).as_bytes())
}

/// The 64-bit seed that belongs to a text.
pub fn seed(text: &str) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// Uniform in [0, 1), from the upper 24 bits: the same on every machine.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}

/// Uniform in [low, high).
pub(crate) fn between(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * unit(rng)
}

/// Uniform in 0..bound; 0 for a bound of 0.
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// True with this probability.
pub(crate) fn chance(rng: &mut ChaCha8Rng, probability: f32) -> bool {
    unit(rng) < probability
}

/// A standard normal number (Box and Muller 1958).
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let scale = 1.0 / (1u64 << 53) as f64;
    let u = ((rng.next_u64() >> 11) as f64 + 1.0) * scale;
    let v = (rng.next_u64() >> 11) as f64 * scale;
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
