//! The plan of a slide before any pixel is painted: where tissue, tumour, fat, lymphocytes and glands lie, and which way
//! the fibres run. Everything is a smooth field in level-0 pixels; lengths below are pixels at 0.5 um/px.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::areas::{self, Area, Ground};
use super::deposits;
use super::glands::{Gland, outline};
use super::noise::{Field, fbm, rng_of, seed_of, smoothstep};
use super::scene::Scene;

/// The fields of one slide. Signed fields are positive inside, in about pixels from the border.
pub(crate) struct Layout {
    pub(crate) size: usize,
    pub(crate) tissue: Field,
    pub(crate) tumour: Field,
    pub(crate) fat: Field,
    pub(crate) lymph: Field,
    /// Coordinates across and along the fibres; their level sets are the fibres.
    pub(crate) across: Field,
    pub(crate) along: Field,
    /// Density of the collagen, 0..1.
    pub(crate) collagen: Field,
    /// Thickness of the section relative to its mean, -1..1.
    pub(crate) thickness: Field,
    pub(crate) glands: Vec<Gland>,
    pub(crate) look_alikes: Vec<Area>,
}

impl Layout {
    /// Lays out a square slide of this size; `seed` names it.
    pub(crate) fn new(seed: &str, size: usize, scene: &Scene) -> Self {
        let mut rng = rng_of(&format!("{seed}/layout"));
        let field = |f: &dyn Fn(f32, f32) -> f32| Field::sample(size, size, f);
        let salt = |name: &str| seed_of(&format!("{seed}/{name}"));
        let mut tissue = tissue(&mut rng, seed, size);
        let tumour = match scene.stage {
            None => tumour(&mut rng, seed, size, &tissue),
            Some(stage) => deposits::lay(seed, size, stage, &mut tissue),
        };
        let (fat_salt, lymph_salt, follicle_salt) = (salt("fat"), salt("lymph"), salt("follicle"));
        let mut fat = field(&|x, y| {
            let rim = smoothstep(520.0, 0.0, tissue.at(x, y));
            fbm(fat_salt, x / 700.0, y / 700.0, 3) + 0.22 * rim - 0.3 * smoothstep(-160.0, 0.0, tumour.at(x, y))
        });
        fat.positive_on(rng.random_range(0.02..0.14), &tissue, 620.0);
        let mut lymph = field(&|x, y| {
            let beside_tumour = smoothstep(330.0, 30.0, tumour.at(x, y).abs());
            let follicles = fbm(follicle_salt, x / 300.0, y / 300.0, 2);
            let haze = fbm(lymph_salt, x / 900.0, y / 900.0, 2);
            follicles + 0.4 * haze + 0.10 * beside_tumour - 0.5 * smoothstep(-30.0, 10.0, tumour.at(x, y))
        });
        lymph.positive_on(rng.random_range(0.05..0.10), &tissue, 300.0);
        let angle: f32 = rng.random_range(0.0..std::f32::consts::PI);
        let (dx, dy) = (angle.cos(), angle.sin());
        let (wave, bend) = (salt("wave"), salt("bend"));
        let sway = |x: f32, y: f32| 620.0 * (fbm(wave, x / 760.0, y / 760.0, 2) - 0.5) * 2.0;
        let ripple = |x: f32, y: f32| 26.0 * (fbm(bend, x / 90.0, y / 90.0, 2) - 0.5) * 2.0;
        let across = field(&|x, y| x * dx + y * dy + sway(x, y) + ripple(x, y));
        let along = field(&|x, y| -x * dy + y * dx + 0.6 * sway(y, x));
        let (collagen_salt, thickness_salt) = (salt("collagen"), salt("thickness"));
        let collagen = field(&|x, y| fbm(collagen_salt, x / 420.0, y / 420.0, 3));
        let thickness = field(&|x, y| (fbm(thickness_salt, x / 1500.0, y / 1500.0, 2) - 0.5) * 2.0);
        let ground = Ground { size, tissue: &tissue, fat: &fat, tumour: &tumour };
        let (glands, look_alikes) = (Vec::new(), areas::place(seed, &scene.look_alikes, &ground));
        let mut layout =
            Self { size, tissue, tumour, fat, lymph, across, along, collagen, thickness, glands, look_alikes };
        layout.glands = self::glands(&mut rng, salt("lobule"), &layout);
        let areas = &layout.look_alikes;
        layout.glands.retain(|gland| areas.iter().all(|area| area.depth(gland.x, gland.y) < -gland.radius));
        layout
    }
}

/// One large piece of tissue, sometimes with one or two small ones beside it, and a few clefts.
fn tissue(rng: &mut ChaCha8Rng, seed: &str, size: usize) -> Field {
    let side = size as f32;
    let mut pieces = vec![(
        side * rng.random_range(0.44..0.56),
        side * rng.random_range(0.44..0.56),
        side * rng.random_range(0.42..0.48),
        side * rng.random_range(0.33..0.42),
        rng.random_range(0.0..std::f32::consts::PI),
    )];
    for _ in 0..rng.random_range(0..3) {
        let corner = rng.random_range(0..4u32);
        let place = |far: bool| side * if far { 0.90 } else { 0.10 };
        pieces.push((
            place(corner & 1 == 1),
            place(corner & 2 == 2),
            side * rng.random_range(0.06..0.10),
            side * rng.random_range(0.05..0.08),
            rng.random_range(0.0..std::f32::consts::PI),
        ));
    }
    let turned: Vec<_> = pieces.iter().map(|p| (p.0, p.1, p.2, p.3, p.4.cos(), p.4.sin())).collect();
    let (coarse, fine, cleft) =
        (seed_of(&format!("{seed}/edge")), seed_of(&format!("{seed}/fray")), seed_of(&format!("{seed}/cleft")));
    Field::sample(size, size, |x, y| {
        let mut inside = f32::MIN;
        for &(cx, cy, rx, ry, cos, sin) in &turned {
            let (u, v) = ((x - cx) * cos + (y - cy) * sin, (y - cy) * cos - (x - cx) * sin);
            inside = inside.max((1.0 - ((u / rx).powi(2) + (v / ry).powi(2)).sqrt()) * rx.min(ry));
        }
        let border =
            620.0 * (fbm(coarse, x / 1000.0, y / 1000.0, 3) - 0.5) + 60.0 * (fbm(fine, x / 110.0, y / 110.0, 2) - 0.5);
        let ridge = (fbm(cleft, x / 1150.0, y / 1150.0, 4) - 0.5).abs() * 1150.0;
        let open = smoothstep(0.52, 0.66, fbm(cleft ^ 0x55AA, x / 1400.0, y / 1400.0, 2));
        let margin = (x.min(y).min(side - x).min(side - y)) * 0.9 - 60.0;
        (inside + border).min(margin).min(ridge - 14.0 * open + 0.5)
    })
}

/// Solid tumour in the middle of a region, breaking up into islands towards its border. The threshold is the quantile
/// that gives this slide its share of tumour in tissue.
fn tumour(rng: &mut ChaCha8Rng, seed: &str, size: usize, tissue: &Field) -> Field {
    let share: f32 = rng.random_range(0.20..0.34);
    let (bulk, island, edge) =
        (seed_of(&format!("{seed}/bulk")), seed_of(&format!("{seed}/island")), seed_of(&format!("{seed}/edge-t")));
    let mut field = Field::sample(size, size, |x, y| {
        let wx = x + 120.0 * (fbm(edge, x / 210.0, y / 210.0, 2) - 0.5);
        let wy = y + 120.0 * (fbm(edge ^ 0x77, x / 210.0, y / 210.0, 2) - 0.5);
        let region = fbm(bulk, wx / 1700.0, wy / 1700.0, 2);
        let lumps = fbm(island, wx / 360.0, wy / 360.0, 2);
        // Septa of stroma divide the nests.
        let septum = smoothstep(0.055, 0.0, (fbm(island ^ 0x3D, wx / 430.0, wy / 430.0, 2) - 0.5).abs());
        1.25 * region + 0.62 * lumps - 0.20 * septum
    });
    field.positive_on(share, tissue, 380.0);
    for (value, t) in field.data.iter_mut().zip(&tissue.data) {
        *value = value.min(*t - 14.0);
    }
    field
}

/// Lobules of benign glands, away from tumour and from the tissue's border.
fn glands(rng: &mut ChaCha8Rng, salt: u32, layout: &Layout) -> Vec<Gland> {
    let mut out: Vec<Gland> = Vec::new();
    let pitch = 132.0f32;
    let cells = (layout.size as f32 / pitch) as usize;
    for j in 0..cells {
        for i in 0..cells {
            let x = (i as f32 + rng.random_range(0.1..0.9f32)) * pitch;
            let y = (j as f32 + rng.random_range(0.1..0.9f32)) * pitch;
            let radius = rng.random_range(44.0..100.0f32);
            let outline = outline(rng);
            let lobule = fbm(salt, x / 800.0, y / 800.0, 2) > 0.49;
            let free = layout.tissue.at(x, y) > radius + 30.0 && layout.tumour.at(x, y) < -radius - 40.0;
            let clear =
                out.iter().rev().take(2 * cells).all(|g| (g.x - x).hypot(g.y - y) > (g.radius + radius) * 0.98 + 6.0);
            if lobule && free && clear && layout.fat.at(x, y) < -30.0 {
                out.push(Gland { x, y, radius, wall: rng.random_range(19.0..29.0), outline });
            }
        }
    }
    out
}
