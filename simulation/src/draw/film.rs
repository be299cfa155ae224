//! The film: how much haematoxylin and eosin lies at each level-0 pixel, before any colour. Eight bits each, 100 steps per
//! unit of optical density, which is finer than the scanner's noise.

use super::noise::{Tile, smoothstep};

/// Steps per unit of stain.
pub(crate) const STEPS: f32 = 100.0;

/// Haematoxylin and eosin of every pixel.
pub(crate) struct Film {
    pub(crate) size: usize,
    /// Pixels of the layout along a side of one of the film: 1, or 2 after [`Film::halved`].
    pub(crate) step: usize,
    pub(crate) stain: Vec<[u8; 2]>,
}

/// A cell's nucleus, or another small body: an ellipse with a wavy border and a texture inside.
pub(crate) struct Body {
    pub(crate) x: f32,
    pub(crate) y: f32,
    /// Half axes in pixels; `(cos, sin)` is the direction of the first.
    pub(crate) axes: (f32, f32),
    pub(crate) direction: (f32, f32),
    pub(crate) haematoxylin: f32,
    pub(crate) eosin: f32,
    /// How irregular the border is, 0 smooth to 0.5 ragged.
    pub(crate) ragged: f32,
    /// How clumped the chromatin is, 0 to 0.5.
    pub(crate) clumped: f32,
    /// How much darker the rim is than the middle.
    pub(crate) rim: f32,
    /// Where the texture is read, so that no two look the same.
    pub(crate) salt: i32,
}

/// The textures that bodies are made of.
pub(crate) struct Textures {
    /// Waves of about 16 px: borders.
    pub(crate) wave: Tile,
    /// Grain of about 6 px: chromatin and cytoplasm.
    pub(crate) grain: Tile,
    /// Strands, coarse in x and y alike; read through the fibre coordinates.
    pub(crate) strand: Tile,
}

impl Textures {
    pub(crate) fn new(seed: u32) -> Self {
        Self {
            wave: Tile::new(seed, 16, 2),
            grain: Tile::new(seed ^ 0xA5A5, 8, 3),
            strand: Tile::new(seed ^ 0x3C3C, 16, 4),
        }
    }
}

#[inline]
pub(crate) fn level(value: f32) -> u8 {
    (value * STEPS + 0.5) as u8
}

impl Film {
    pub(crate) fn new(size: usize) -> Self {
        Self { size, step: 1, stain: vec![[0, 0]; size * size] }
    }

    /// The film at half the resolution: means of 2 x 2 pixels. The side must be even.
    pub(crate) fn halved(&self) -> Self {
        let size = self.size / 2;
        let mut stain = Vec::with_capacity(size * size);
        for rows in self.stain.chunks_exact(2 * self.size) {
            let (above, below) = rows.split_at(self.size);
            for (a, b) in above.chunks_exact(2).zip(below.chunks_exact(2)) {
                let mean = |k: usize| ([a[0], a[1], b[0], b[1]].map(|p| u16::from(p[k])).iter().sum::<u16>() + 2) / 4;
                stain.push([mean(0) as u8, mean(1) as u8]);
            }
        }
        Self { size, step: 2 * self.step, stain }
    }

    /// Eosin at a position, 0 outside.
    pub(crate) fn eosin_at(&self, x: f32, y: f32) -> f32 {
        if x < 0.0 || y < 0.0 || x >= self.size as f32 || y >= self.size as f32 {
            return 0.0;
        }
        f32::from(self.stain[y as usize * self.size + x as usize][1]) / STEPS
    }

    /// Lays `stain` over what is there, with this coverage.
    #[inline]
    pub(crate) fn cover(&mut self, at: usize, haematoxylin: f32, eosin: f32, coverage: f32) {
        let [h, e] = self.stain[at];
        let mix = |old: u8, new: f32| (f32::from(old) + (new * STEPS - f32::from(old)) * coverage + 0.5) as u8;
        self.stain[at] = [mix(h, haematoxylin), mix(e, eosin)];
    }

    /// The pixels of a box around a point, cut to the slide: `(x range, y range)`.
    pub(crate) fn window(&self, x: f32, y: f32, reach: f32) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let cut = |v: f32| (v.max(0.0) as usize).min(self.size);
        (cut(x - reach)..cut(x + reach + 1.0), cut(y - reach)..cut(y + reach + 1.0))
    }

    /// Stamps one body.
    pub(crate) fn stamp(&mut self, body: &Body, textures: &Textures) {
        let (a, b) = body.axes;
        let (cos, sin) = body.direction;
        let (inverse_a, inverse_b) = (1.0 / a, 1.0 / b);
        let (xs, ys) = self.window(body.x, body.y, a.max(b) * (1.0 + 0.5 * body.ragged) + 1.0);
        let (salt_x, salt_y) = (body.salt & 511, body.salt >> 9);
        let soft = (2.2 / a.min(b)).min(0.6);
        for y in ys {
            let dy = y as f32 - body.y;
            for x in xs.clone() {
                let dx = x as f32 - body.x;
                let (u, v) = ((dx * cos + dy * sin) * inverse_a, (dy * cos - dx * sin) * inverse_b);
                let bare = u * u + v * v;
                if bare > 1.6 {
                    continue;
                }
                let (tx, ty) = (x as i32 + salt_x, y as i32 + salt_y);
                let q = bare + body.ragged * textures.wave.at(tx, ty);
                if q < 1.0 {
                    let coverage = smoothstep(1.0, 1.0 - soft, q);
                    let texture = 1.0 + body.clumped * textures.grain.at(tx * 2, ty * 2) + body.rim * (q - 0.55);
                    let h = (body.haematoxylin * texture).clamp(0.0, 2.5);
                    self.cover(y * self.size + x, h, body.eosin, coverage);
                }
            }
        }
    }
}
