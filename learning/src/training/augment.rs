//! What happens to a drawn patch: brightness, contrast and gamma as nnU-Net does them, HED stain jitter (spec 1.10;
//! Tellez et al. 2019), mirroring and quarter turns. Values stay in [0, 1], as those of every real slide do.

use consilium_common::plan::Augmentation;
use rand_chacha::ChaCha8Rng;

use super::sampler::Patch;
use crate::network::random;

/// Probability of a brightness change, and of a contrast change.
const COLOUR_CHANCE: f32 = 0.15;
/// Probability of a gamma change.
const GAMMA_CHANCE: f32 = 0.3;
/// Stain vectors of haematoxylin, eosin and DAB in optical density (Ruifrok and Johnston 2001), as scikit-image has them.
const HED: [[f32; 3]; 3] = [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]];
/// Mean intensities between which stains are jittered: neither an empty patch nor a black one.
const STAINED: std::ops::RangeInclusive<f32> = 0.15..=0.85;
/// Darkest intensity that is told from black: half a step of 8 bits.
const DARKEST: f32 = 0.5 / 255.0;
/// Mean optical density up to which a pixel counts as glass, in part: the added stain fades out towards white.
const GLASS: f32 = 0.1;

/// All colour augmentations of a planar RGB patch, in nnU-Net's order, each with its probability.
pub(crate) fn colour(pixels: &mut [f32], settings: &Augmentation, rng: &mut ChaCha8Rng) {
    if settings.hed > 0.0 {
        jitter_stain(pixels, settings.hed as f32, rng);
    }
    if !settings.colour {
        return;
    }
    let plane = pixels.len() / 3;
    if random::chance(rng, COLOUR_CHANCE) {
        for channel in pixels.chunks_exact_mut(plane) {
            let factor = random::between(rng, 0.75, 1.25);
            channel.iter_mut().for_each(|v| *v = (*v * factor).min(1.0));
        }
    }
    if random::chance(rng, COLOUR_CHANCE) {
        for channel in pixels.chunks_exact_mut(plane) {
            contrast(channel, random::between(rng, 0.75, 1.25));
        }
    }
    if random::chance(rng, GAMMA_CHANCE) {
        gamma(pixels, random::between(rng, 0.7, 1.5));
    }
}

/// Stretches around the mean and keeps the range that the values had.
fn contrast(values: &mut [f32], factor: f32) {
    let (low, high) = range(values);
    let (mean, _) = moments(values);
    values.iter_mut().for_each(|v| *v = ((*v - mean) * factor + mean).clamp(low, high));
}

/// Gamma on the range that the values have; mean and spread stay (nnU-Net's `retain_stats`).
fn gamma(values: &mut [f32], gamma: f32) {
    let (low, high) = range(values);
    let span = high - low;
    if span < 1e-3 {
        return;
    }
    let (mean, spread) = moments(values);
    values.iter_mut().for_each(|v| *v = ((*v - low) / span).powf(gamma));
    let (new_mean, new_spread) = moments(values);
    let factor = spread / new_spread.max(1e-8);
    values.iter_mut().for_each(|v| *v = ((*v - new_mean) * factor + mean).clamp(0.0, 1.0));
}

fn range(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}

/// Mean and standard deviation.
fn moments(values: &[f32]) -> (f32, f32) {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    (mean as f32, variance.sqrt() as f32)
}

/// Each stain's concentration c becomes c (1 + s) + b with s and b uniform in +-`strength`. The jitter is drawn whatever
/// the patch looks like, so that later draws do not depend on pixels.
fn jitter_stain(pixels: &mut [f32], strength: f32, rng: &mut ChaCha8Rng) {
    let mut draw = || std::array::from_fn(|_| random::between(rng, -strength, strength));
    let (factor, shift): ([f32; 3], [f32; 3]) = (draw(), draw());
    let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
    if STAINED.contains(&mean) {
        restain(pixels, factor, shift);
    }
}

/// In optical density (Beer and Lambert) the jitter is an affine map: one 3 x 3 matrix and one vector.
fn restain(pixels: &mut [f32], factor: [f32; 3], shift: [f32; 3]) {
    let inverse = inverse(HED);
    let mut matrix = [[0.0f32; 3]; 3];
    for (i, row) in matrix.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            let mixed: f32 = (0..3).map(|s| inverse[i][s] * factor[s] * HED[s][j]).sum();
            *cell = mixed + if i == j { 1.0 } else { 0.0 };
        }
    }
    let offset: [f32; 3] = std::array::from_fn(|j| (0..3).map(|s| shift[s] * HED[s][j]).sum());
    let plane = pixels.len() / 3;
    let (red, rest) = pixels.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let density = [*r, *g, *b].map(|v| -v.max(DARKEST).ln());
        let tissue = ((density[0] + density[1] + density[2]) / (3.0 * GLASS)).clamp(0.0, 1.0);
        let stained: [f32; 3] = std::array::from_fn(|j| {
            let mixed: f32 = (0..3).map(|i| density[i] * matrix[i][j]).sum();
            (-(mixed + tissue * offset[j])).exp().clamp(0.0, 1.0)
        });
        [*r, *g, *b] = stained;
    }
}

/// The inverse of a 3 x 3 matrix by cofactors.
fn inverse(m: [[f32; 3]; 3]) -> [[f32; 3]; 3] {
    let cofactor = |r: usize, c: usize| {
        let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
        m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
    };
    let determinant: f32 = (0..3).map(|c| m[0][c] * cofactor(0, c)).sum();
    std::array::from_fn(|i| std::array::from_fn(|j| cofactor(j, i) / determinant))
}

/// One of the eight symmetries of the square: bit 0 mirrors x, bit 1 mirrors y, bit 2 swaps x and y.
pub(crate) fn flip(patch: &mut Patch, side: usize, symmetry: usize) {
    if symmetry == 0 {
        return;
    }
    for plane in patch.pixels.chunks_exact_mut(side * side) {
        flip_plane(plane, side, symmetry);
    }
    flip_plane(&mut patch.labels, side, symmetry);
}

fn flip_plane<T: Copy>(plane: &mut [T], side: usize, symmetry: usize) {
    if symmetry & 1 != 0 {
        plane.chunks_exact_mut(side).for_each(<[T]>::reverse);
    }
    if symmetry & 2 != 0 {
        for y in 0..side / 2 {
            let (upper, lower) = plane.split_at_mut((side - 1 - y) * side);
            upper[y * side..(y + 1) * side].swap_with_slice(&mut lower[..side]);
        }
    }
    if symmetry & 4 != 0 {
        for y in 0..side {
            for x in 0..y {
                plane.swap(y * side + x, x * side + y);
            }
        }
    }
}

#[cfg(test)]
mod tests;
