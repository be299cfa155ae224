//! Randomness for drawing: a ChaCha generator by name, gradient noise on lattices, smooth fields on a coarse grid, and one
//! periodic texture tile that the inner loops read instead of computing noise for each pixel.
//!
//! The same text gives the same numbers on every machine; no trigonometry is done per pixel.

use consilium_common::Digest;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A generator whose stream is named by a text such as `7/lakeside/slide-02/nuclei`.
pub(crate) fn rng_of(text: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(*Digest::of(text.as_bytes()).as_bytes())
}

/// The cosine and sine of a random angle.
pub(crate) fn turn(rng: &mut ChaCha8Rng) -> (f32, f32) {
    let angle: f32 = rng.random_range(0.0..std::f32::consts::TAU);
    (angle.cos(), angle.sin())
}

/// Where in the textures a body's own begins.
pub(crate) fn salt(rng: &mut ChaCha8Rng) -> i32 {
    rng.random_range(0..1 << 18)
}

/// A 32-bit seed for lattice noise from a text.
pub(crate) fn seed_of(text: &str) -> u32 {
    let digest = Digest::of(text.as_bytes());
    let b = digest.as_bytes();
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

/// A well-mixed hash of a lattice point.
#[inline]
pub(crate) fn hash2(seed: u32, x: i32, y: i32) -> u32 {
    let mut h = seed ^ (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77).rotate_left(13);
    h = (h ^ (h >> 16)).wrapping_mul(0x7FEB_352D);
    h = (h ^ (h >> 15)).wrapping_mul(0x846C_A68B);
    h ^ (h >> 16)
}

/// A hash as a number in 0..1.
#[inline]
pub(crate) fn unit(hash: u32) -> f32 {
    (hash >> 8) as f32 * (1.0 / 16_777_216.0)
}

#[inline]
fn fade(t: f32) -> f32 {
    t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
}

#[inline]
pub(crate) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// The integer below, without the call that `f32::floor` is on plain x86-64.
#[inline]
pub(crate) fn floor(x: f32) -> i32 {
    let towards_zero = x as i32;
    towards_zero - i32::from(x < towards_zero as f32)
}

/// 0 below `from`, 1 above `to`, smooth between.
#[inline]
pub(crate) fn smoothstep(from: f32, to: f32, x: f32) -> f32 {
    let t = ((x - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Gradient noise (Perlin 1985) around 0, mostly within -0.5..0.5, with lattice distance 1.
pub(crate) fn gradient_noise(seed: u32, x: f32, y: f32) -> f32 {
    let (ix, iy) = (floor(x), floor(y));
    let (fx, fy) = (x - ix as f32, y - iy as f32);
    let corner = |dx: i32, dy: i32| {
        let h = hash2(seed, ix + dx, iy + dy);
        let (gx, gy) = (unit(h) * 2.0 - 1.0, unit(h.rotate_left(16)) * 2.0 - 1.0);
        gx * (fx - dx as f32) + gy * (fy - dy as f32)
    };
    let (tx, ty) = (fade(fx), fade(fy));
    lerp(lerp(corner(0, 0), corner(1, 0), tx), lerp(corner(0, 1), corner(1, 1), tx), ty)
}

/// Several octaves of gradient noise, in 0..1 around 1/2. Each octave is turned, so that no lattice shows.
pub(crate) fn fbm(seed: u32, x: f32, y: f32, octaves: u32) -> f32 {
    const TURN: (f32, f32) = (0.7373688, 0.6754903);
    let (mut sum, mut weight) = (0.0, 1.0);
    let (mut x, mut y) = (x * TURN.0 - y * TURN.1 + 17.3, x * TURN.1 + y * TURN.0 + 5.7);
    for octave in 0..octaves {
        sum += weight * gradient_noise(seed.wrapping_add(octave.wrapping_mul(0x68BC_21EB)), x, y);
        weight *= 0.5;
        (x, y) = (2.03 * (x * TURN.0 - y * TURN.1), 2.03 * (x * TURN.1 + y * TURN.0));
    }
    (0.5 + 1.1 * sum).clamp(0.0, 1.0)
}

/// A smooth scalar field of a slide, sampled every [`Field::STEP`] level-0 pixels and read bilinearly.
pub(crate) struct Field {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) data: Vec<f32>,
}

impl Field {
    /// Level-0 pixels between samples (8 um at 0.5 um/px).
    pub(crate) const STEP: usize = 16;

    /// Samples `f` at level-0 positions over a slide of this size.
    pub(crate) fn sample(width_px: usize, height_px: usize, f: impl Fn(f32, f32) -> f32) -> Self {
        let (width, height) = (width_px.div_ceil(Self::STEP) + 1, height_px.div_ceil(Self::STEP) + 1);
        let mut data = Vec::with_capacity(width * height);
        for j in 0..height {
            for i in 0..width {
                data.push(f((i * Self::STEP) as f32, (j * Self::STEP) as f32));
            }
        }
        Self { width, height, data }
    }

    /// Shifts and scales the field so that it is positive on this share of the samples where `within` is above 30, and
    /// changes by about one per pixel at the border, `slope` being the noise's wavelength.
    pub(crate) fn positive_on(&mut self, share: f32, within: &Self, slope: f32) {
        let mut inside: Vec<f32> =
            self.data.iter().zip(&within.data).filter(|(_, t)| **t > 30.0).map(|(v, _)| *v).collect();
        inside.sort_by(f32::total_cmp);
        let cut = inside.get(((1.0 - share) * inside.len() as f32) as usize).copied().unwrap_or(f32::MAX);
        self.data.iter_mut().for_each(|v| *v = (*v - cut) * slope);
    }

    /// The value at a level-0 position; positions outside take the nearest sample.
    #[inline]
    pub(crate) fn at(&self, x: f32, y: f32) -> f32 {
        let gx = (x / Self::STEP as f32).clamp(0.0, (self.width - 1) as f32 - 0.001);
        let gy = (y / Self::STEP as f32).clamp(0.0, (self.height - 1) as f32 - 0.001);
        let (i, j) = (gx as usize, gy as usize);
        let (tx, ty) = (gx - i as f32, gy - j as f32);
        let at = j * self.width + i;
        let d = &self.data;
        lerp(lerp(d[at], d[at + 1], tx), lerp(d[at + self.width], d[at + self.width + 1], tx), ty)
    }

    /// The samples of the row at level-0 line `y`, interpolated between sample rows.
    pub(crate) fn row(&self, y: usize, out: &mut Vec<f32>) {
        let j = (y / Self::STEP).min(self.height - 2);
        let t = (y - j * Self::STEP) as f32 / Self::STEP as f32;
        let above = &self.data[j * self.width..(j + 1) * self.width];
        let below = &self.data[(j + 1) * self.width..(j + 2) * self.width];
        out.clear();
        out.extend(above.iter().zip(below).map(|(a, b)| lerp(*a, *b, t)));
    }
}

/// A periodic texture of 512 x 512 values around 0 (about -1..1), for the inner loops.
pub(crate) struct Tile {
    data: Vec<f32>,
}

impl Tile {
    const SIDE: i32 = 512;

    /// A tile whose coarsest grain has this wavelength in pixels (a power of two up to 256).
    pub(crate) fn new(seed: u32, wavelength: i32, octaves: u32) -> Self {
        let side = Self::SIDE;
        let mut data = vec![0.0f32; (side * side) as usize];
        let (mut weight, mut total, mut grain) = (1.0f32, 0.0f32, wavelength);
        for octave in 0..octaves {
            let (salt, cells) = (seed.wrapping_add(octave), side / grain);
            for y in 0..side {
                for x in 0..side {
                    let (ix, iy) = (x / grain, y / grain);
                    let (tx, ty) = (fade((x % grain) as f32 / grain as f32), fade((y % grain) as f32 / grain as f32));
                    let corner = |dx: i32, dy: i32| unit(hash2(salt, (ix + dx) % cells, (iy + dy) % cells));
                    let value = lerp(lerp(corner(0, 0), corner(1, 0), tx), lerp(corner(0, 1), corner(1, 1), tx), ty);
                    data[(y * side + x) as usize] += weight * (value - 0.5);
                }
            }
            total += weight * 0.36;
            weight *= 0.6;
            grain = (grain / 2).max(1);
        }
        data.iter_mut().for_each(|v| *v /= total);
        Self { data }
    }

    /// The value at an integer position, wrapped.
    #[inline]
    pub(crate) fn at(&self, x: i32, y: i32) -> f32 {
        let mask = Self::SIDE - 1;
        self.data[(((y & mask) << 9) | (x & mask)) as usize]
    }

    /// The value at a real position, wrapped and linearly interpolated.
    #[inline]
    pub(crate) fn linear(&self, x: f32, y: f32) -> f32 {
        let (ix, iy) = (floor(x), floor(y));
        let (tx, ty) = (x - ix as f32, y - iy as f32);
        lerp(lerp(self.at(ix, iy), self.at(ix + 1, iy), tx), lerp(self.at(ix, iy + 1), self.at(ix + 1, iy + 1), tx), ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_bounded_and_named_by_its_seed() {
        let values: Vec<f32> = (0..2000).map(|i| fbm(3, i as f32 * 0.37, i as f32 * 0.11, 4)).collect();
        assert!(values.iter().all(|v| (0.0..=1.0).contains(v)));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((0.35..0.65).contains(&mean), "mean {mean}");
        assert_ne!(gradient_noise(1, 0.4, 0.3), gradient_noise(2, 0.4, 0.3));
        assert_eq!(seed_of("a"), seed_of("a"));
    }

    #[test]
    fn tile_wraps_without_a_seam() {
        let tile = Tile::new(9, 16, 3);
        assert_eq!(tile.at(0, 0), tile.at(512, -512));
        let step = (tile.at(511, 40) - tile.at(512, 40)).abs();
        assert!(step < 1.0, "a step of {step} at the seam");
    }
}
