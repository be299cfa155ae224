//! Benign glands: their shape, their epithelium and its nuclei.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::film::{Body, Film, Textures};
use super::noise::{salt, smoothstep};

/// A benign gland, cut across: a ring of epithelium around a lumen.
pub(crate) struct Gland {
    pub(crate) x: f32,
    pub(crate) y: f32,
    /// Outer radius and thickness of the epithelium.
    pub(crate) radius: f32,
    pub(crate) wall: f32,
    /// The outline's shape: radius factors at 16 angles.
    pub(crate) outline: [f32; 16],
}

/// A wavy outline: radius factors at 16 angles.
pub(super) fn outline(rng: &mut ChaCha8Rng) -> [f32; 16] {
    let mut raw = [0.0f32; 16];
    raw.iter_mut().for_each(|r| *r = rng.random_range(0.66..1.0));
    let mut out = raw;
    for i in 0..16 {
        out[i] = 0.25 * raw[(i + 15) % 16] + 0.5 * raw[i] + 0.25 * raw[(i + 1) % 16];
    }
    out
}

impl Gland {
    /// The outer radius in direction (dx, dy), read from the outline by a diamond angle (no trigonometry).
    #[inline]
    pub(crate) fn reach(&self, dx: f32, dy: f32) -> f32 {
        let sum = dx.abs() + dy.abs() + 1e-6;
        let p = dx / sum;
        let turn = if dy < 0.0 { 3.0 + p } else { 1.0 - p };
        let at = turn * 4.0;
        let i = at as usize;
        let t = at - i as f32;
        self.radius * (self.outline[i & 15] * (1.0 - t) + self.outline[(i + 1) & 15] * t)
    }
}

/// Stamps a gland with its nuclei.
pub(super) fn stamp(film: &mut Film, gland: &Gland, textures: &Textures, rng: &mut ChaCha8Rng) {
    body(film, gland, textures, rng);
    nuclei(film, gland, textures, rng);
}

/// Epithelium from the basement membrane inwards, then the lumen, empty or with secretion.
fn body(film: &mut Film, gland: &Gland, textures: &Textures, rng: &mut ChaCha8Rng) {
    let secretion = if rng.random_bool(0.35) { rng.random_range(0.16..0.40f32) } else { 0.015 };
    let pale: f32 = rng.random_range(0.75..1.05);
    let (xs, ys) = film.window(gland.x, gland.y, gland.radius * 1.05 + 6.0);
    for y in ys {
        for x in xs.clone() {
            let (dx, dy) = (x as f32 - gland.x, y as f32 - gland.y);
            let depth = gland.reach(dx, dy) - dx.hypot(dy) + 2.5 * textures.wave.at(x as i32, y as i32);
            if depth < -4.0 {
                continue;
            }
            let grain = textures.grain.at(x as i32, y as i32);
            let at = y * film.size + x;
            let membrane = smoothstep(-4.0, -1.0, depth);
            let cells = smoothstep(0.0, 2.5, depth);
            let lumen = smoothstep(gland.wall - 1.5, gland.wall + 2.0, depth + 1.5 * grain);
            let apical = smoothstep(0.45, 1.0, depth / gland.wall);
            let e = 0.48 * (1.0 - cells) + (0.27 + 0.10 * apical + 0.04 * grain) * pale * cells;
            let h = 0.08 * (1.0 - cells) + (0.17 - 0.08 * apical + 0.03 * grain) * pale * cells;
            film.cover(at, h.max(0.0), e.max(0.0), membrane);
            if lumen > 0.0 {
                film.cover(at, 0.01, secretion * (1.0 + 0.12 * grain), lumen);
            }
        }
    }
}

/// Oval nuclei in a row near the basement membrane, sometimes a second one.
fn nuclei(film: &mut Film, gland: &Gland, textures: &Textures, rng: &mut ChaCha8Rng) {
    let second = rng.random_bool(0.4);
    for (row, depth) in [0.34f32, 0.62].into_iter().enumerate() {
        if row == 1 && !second {
            continue;
        }
        let spacing = if row == 0 { 11.5 } else { 15.0 };
        let count = (std::f32::consts::TAU * gland.radius * 0.78 / spacing) as usize;
        for index in 0..count {
            let angle = (index as f32 + rng.random_range(-0.28..0.28f32)) / count as f32 * std::f32::consts::TAU;
            let (cos, sin) = (angle.cos(), angle.sin());
            let reach = gland.reach(cos, sin) - gland.wall * (depth + rng.random_range(-0.09..0.09f32));
            let body = Body {
                x: gland.x + cos * reach,
                y: gland.y + sin * reach,
                axes: (rng.random_range(6.2..8.6), rng.random_range(4.4..5.6)),
                direction: (cos, sin),
                haematoxylin: rng.random_range(0.72..1.02),
                eosin: 0.20,
                ragged: 0.10,
                clumped: 0.18,
                rim: 0.22,
                salt: salt(rng),
            };
            film.stamp(&body, textures);
        }
    }
}
