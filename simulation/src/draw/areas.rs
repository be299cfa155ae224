//! Where benign areas lie that a network may take for tumour: apart from tumour and from each other.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::noise::{Field, fbm, rng_of, turn};
use super::scene::LookAlikes;

/// Places that are tried for an area.
const TRIES: usize = 400;
/// Pixels at least between an area and tumour.
const APART_PX: f32 = 120.0;
/// Distance of the points at which an area is compared with the tumour.
const POINTS_PX: f32 = 20.0;

/// What an area shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Follicle,
    CrowdedGlands,
    Crushed,
}

/// One area: an ellipse with a wavy border.
pub(crate) struct Area {
    pub(crate) kind: Kind,
    pub(crate) x: f32,
    pub(crate) y: f32,
    /// Half axes in pixels; `(cos, sin)` is the direction of the first.
    pub(crate) axes: (f32, f32),
    pub(crate) direction: (f32, f32),
    pub(crate) salt: u32,
}

impl Area {
    /// Pixels inside the border, negative outside.
    pub(crate) fn depth(&self, x: f32, y: f32) -> f32 {
        let (a, b) = self.axes;
        let (dx, dy) = (x - self.x, y - self.y);
        let (u, v) = (dx * self.direction.0 + dy * self.direction.1, dy * self.direction.0 - dx * self.direction.1);
        let bare = (1.0 - (u / a).hypot(v / b)) * b;
        if bare.abs() > b {
            return bare;
        }
        let (wave, height) = self.border();
        bare + height * b * (fbm(self.salt, x / wave, y / wave, 2) - 0.5)
    }

    /// Wavelength in pixels and height, relative to the short half axis, of the border's waves.
    fn border(&self) -> (f32, f32) {
        match self.kind {
            Kind::Crushed => (90.0, 0.9),
            Kind::CrowdedGlands => (260.0, 0.5),
            Kind::Follicle => (260.0, 0.3),
        }
    }

    /// Whether two areas lie too close to each other.
    fn near(&self, other: &Self) -> bool {
        (self.x - other.x).hypot(self.y - other.y) < 0.9 * (self.axes.0 + other.axes.0)
    }
}

/// What decides where there is room.
pub(crate) struct Ground<'a> {
    /// Side of the slide in pixels.
    pub(crate) size: usize,
    pub(crate) tissue: &'a Field,
    pub(crate) fat: &'a Field,
    pub(crate) tumour: &'a Field,
}

/// Finds places for all areas that have room.
pub(crate) fn place(seed: &str, wanted: &LookAlikes, ground: &Ground<'_>) -> Vec<Area> {
    let kinds = [
        (Kind::Crushed, wanted.crushed, 800.0..1500.0, 0.14..0.24),
        (Kind::CrowdedGlands, wanted.crowded_glands, 450.0..950.0, 0.62..0.95),
        (Kind::Follicle, wanted.follicles, 380.0..720.0, 0.78..0.98),
    ];
    let mut out = Vec::new();
    for (kind, count, long, flat) in kinds {
        let mut rng = rng_of(&format!("{seed}/{kind:?}"));
        for _ in 0..count {
            out.extend((0..TRIES).find_map(|_| found(kind, &long, &flat, ground, &out, &mut rng)));
        }
    }
    out
}

/// A random place, if it is free.
fn found(
    kind: Kind,
    long: &Range<f32>,
    flat: &Range<f32>,
    ground: &Ground<'_>,
    others: &[Area],
    rng: &mut ChaCha8Rng,
) -> Option<Area> {
    let side = ground.size as f32;
    let (x, y) = (rng.random_range(0.0..side), rng.random_range(0.0..side));
    let a = rng.random_range(long.clone());
    let axes = (a, a * rng.random_range(flat.clone()));
    let (turned, salt) = (turn(rng), rng.random_range(0..u32::MAX));
    let direction = if kind == Kind::Crushed { along_border(ground.tissue, x, y) } else { turned };
    let area = Area { kind, x, y, axes, direction, salt };
    let deep = ground.tissue.at(x, y);
    // Forceps crush the outside of a piece; follicles and glands lie within it.
    let fits = match kind {
        Kind::Crushed => deep > 0.5 * axes.1 && deep < 2.0 * axes.1,
        _ => deep > 0.6 * axes.1 && ground.fat.at(x, y) < -20.0,
    };
    let free = |(x, y)| ground.tumour.at(x, y) < -APART_PX;
    (fits && !others.iter().any(|other| area.near(other)) && all_over(&area).all(free)).then_some(area)
}

/// Points all over an area and a little beyond its border, whatever its waves; the smallest clusters lie over some.
fn all_over(area: &Area) -> impl Iterator<Item = (f32, f32)> + '_ {
    let ((a, b), (dx, dy)) = (area.axes, area.direction);
    let outside = 1.0 + 0.5 * area.border().1;
    let along = move |half: f32| {
        let steps = (half * outside / POINTS_PX).ceil() as i32;
        (-steps..=steps).map(move |step| step as f32 * POINTS_PX)
    };
    let inside = move |&(u, v): &(f32, f32)| (u / a).hypot(v / b) <= outside;
    let points = along(a).flat_map(move |u| along(b).map(move |v| (u, v)));
    points.filter(inside).map(move |(u, v)| (area.x + u * dx - v * dy, area.y + u * dy + v * dx))
}

/// The direction of the tissue's border nearby.
fn along_border(tissue: &Field, x: f32, y: f32) -> (f32, f32) {
    let gx = tissue.at(x + 100.0, y) - tissue.at(x - 100.0, y);
    let gy = tissue.at(x, y + 100.0) - tissue.at(x, y - 100.0);
    let norm = gx.hypot(gy).max(1e-3);
    (-gy / norm, gx / norm)
}
