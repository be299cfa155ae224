//! UGA's 8-bit form of uncertainty.

/// UGA stores uncertainty in 8 bits; this many nats are white. Entropy alone reaches `ln classes`, so most of the range
/// is for disagreement between members.
pub const QUANTISATION_NATS: f32 = 4.0;

/// UGA's 8-bit value: `int(clip(u, 0, 4) / 4 * 255)`, truncated as there.
pub fn quantise(nats: f32) -> u8 {
    // The range is exactly 0 to 255, so the cast only truncates; NaN becomes 0.
    (nats.clamp(0.0, QUANTISATION_NATS) / QUANTISATION_NATS * 255.0) as u8
}
