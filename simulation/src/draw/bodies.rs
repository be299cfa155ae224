//! Everything that has an outline of its own: glands, vessels, and the nuclei of fibroblasts, epithelium, lymphocytes and
//! tumour. Later ones lie over earlier ones.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::SIDE_PX;
use super::film::{Body, Film, Textures};
use super::layout::Layout;
use super::noise::{rng_of, salt, smoothstep, turn};
use super::{glands, look_alikes};

/// Stamps all bodies of a slide in the order in which they lie.
pub(crate) fn stamp_all(film: &mut Film, layout: &Layout, textures: &Textures, seed: &str) {
    let rng = |name: &str| rng_of(&format!("{seed}/{name}"));
    fibroblasts(film, layout, textures, &mut rng("fibroblasts"));
    vessels(film, layout, textures, &mut rng("vessels"));
    lymphocytes(film, layout, textures, &mut rng("lymphocytes"));
    let mut gland_rng = rng("glands");
    for gland in &layout.glands {
        glands::stamp(film, gland, textures, &mut gland_rng);
    }
    look_alikes::stamp_all(film, layout, textures, seed);
    tumour_cells(film, layout, textures, &mut rng("tumour"));
}

/// Calls `f` with one jittered point in each cell of a hexagonal grid over the slide.
fn scatter(size: usize, pitch: f32, jitter: f32, rng: &mut ChaCha8Rng, mut f: impl FnMut(f32, f32, &mut ChaCha8Rng)) {
    let rise = pitch * 0.866;
    let (columns, rows) = ((size as f32 / pitch) as usize, (size as f32 / rise) as usize);
    for j in 0..rows {
        let shift = if j % 2 == 0 { 0.0 } else { 0.5 };
        for i in 0..columns {
            let dx = rng.random_range(-jitter..jitter);
            let dy = rng.random_range(-jitter..jitter);
            f((i as f32 + shift + 0.25 + dx) * pitch, (j as f32 + 0.5 + dy) * rise, rng);
        }
    }
}

/// Spindle nuclei along the fibres.
fn fibroblasts(film: &mut Film, layout: &Layout, textures: &Textures, rng: &mut ChaCha8Rng) {
    scatter(film.size, 37.0, 0.48, rng, |x, y, rng| {
        let keep = rng.random_bool(0.62);
        let (half, thin, dark) =
            (rng.random_range(8.0..15.0f32), rng.random_range(2.2..3.8f32), rng.random_range(0.55..0.95f32));
        let salt = salt(rng);
        if !keep || layout.tissue.at(x, y) < 10.0 || layout.tumour.at(x, y) > 4.0 || film.eosin_at(x, y) < 0.14 {
            return;
        }
        let gx = layout.across.at(x + 12.0, y) - layout.across.at(x - 12.0, y);
        let gy = layout.across.at(x, y + 12.0) - layout.across.at(x, y - 12.0);
        let norm = gx.hypot(gy).max(1e-3);
        let body = Body {
            x,
            y,
            axes: (half, thin),
            direction: (-gy / norm, gx / norm),
            haematoxylin: dark,
            eosin: 0.25,
            ragged: 0.25,
            clumped: 0.15,
            rim: 0.1,
            salt,
        };
        film.stamp(&body, textures);
    });
}

/// Small vessels: a wall of flat cells around red blood cells; a slide of more than the usual side has more of them.
fn vessels(film: &mut Film, layout: &Layout, textures: &Textures, rng: &mut ChaCha8Rng) {
    let sides = (film.size / SIDE_PX as usize).max(1);
    for _ in 0..46 * sides * sides {
        let (x, y) = (rng.random_range(0.0..film.size as f32), rng.random_range(0.0..film.size as f32));
        let radius = rng.random_range(13.0..44.0f32);
        let direction = turn(rng);
        let flat = rng.random_range(0.55..1.0f32);
        let free = layout.tissue.at(x, y) > radius + 20.0 && layout.tumour.at(x, y) < -radius - 10.0;
        if !free || layout.fat.at(x, y) > -20.0 {
            continue;
        }
        let round = |axes: (f32, f32), haematoxylin, eosin, salt| Body {
            x,
            y,
            axes,
            direction,
            haematoxylin,
            eosin,
            ragged: 0.18,
            clumped: 0.2,
            rim: 0.0,
            salt,
        };
        let wall = 5.0 + 0.16 * radius;
        let whorl = salt(rng);
        film.stamp(&round((radius + wall, (radius + wall) * flat), 0.07, 0.56, whorl), textures);
        film.stamp(&round((radius, radius * flat), 0.01, 0.03, whorl), textures);
        let cells = (radius * radius * flat / 46.0) as usize;
        for _ in 0..cells {
            let ((cos, sin), reach) = (turn(rng), rng.random_range(0.0..1.0f32).sqrt() * (radius - 6.0).max(1.0));
            let (u, v) = (cos * reach, sin * reach * flat);
            let (px, py) = (x + u * direction.0 - v * direction.1, y + u * direction.1 + v * direction.0);
            let red = Body {
                x: px,
                y: py,
                axes: (6.6, rng.random_range(5.0..6.6)),
                direction: turn(rng),
                haematoxylin: 0.02,
                eosin: rng.random_range(0.85..1.15),
                ragged: 0.05,
                clumped: 0.0,
                rim: 0.0,
                salt: 0,
            };
            film.stamp(&red, textures);
        }
        for step in 0..(radius / 3.4) as usize {
            let angle = step as f32 * 3.4 * 6.0 / radius + rng.random_range(0.0..0.5);
            let (u, v) = (angle.cos() * (radius + 2.0), angle.sin() * (radius + 2.0) * flat);
            let lining = Body {
                x: x + u * direction.0 - v * direction.1,
                y: y + u * direction.1 + v * direction.0,
                axes: (rng.random_range(7.0..10.0), 2.6),
                direction: (
                    -angle.sin() * direction.0 - angle.cos() * direction.1,
                    -angle.sin() * direction.1 + angle.cos() * direction.0,
                ),
                haematoxylin: rng.random_range(0.7..1.0),
                eosin: 0.25,
                ragged: 0.2,
                clumped: 0.15,
                rim: 0.0,
                salt: salt(rng),
            };
            film.stamp(&lining, textures);
        }
    }
}

/// Small, round, dark nuclei: dense in follicles, a haze around them, single ones everywhere.
fn lymphocytes(film: &mut Film, layout: &Layout, textures: &Textures, rng: &mut ChaCha8Rng) {
    scatter(film.size, 13.2, 0.30, rng, |x, y, rng| {
        let draw: f32 = rng.random_range(0.0..1.0);
        let (radius, round, dark) =
            (rng.random_range(5.0..6.5f32), rng.random_range(0.86..1.0f32), rng.random_range(1.05..1.5f32));
        let (direction, salt) = (turn(rng), salt(rng));
        let crowd = layout.lymph.at(x, y);
        let keep = 0.93 * smoothstep(-10.0, 10.0, crowd) + 0.30 * smoothstep(-70.0, 0.0, crowd) + 0.008;
        if draw > keep || layout.tissue.at(x, y) < 8.0 || layout.tumour.at(x, y) > 0.0 || film.eosin_at(x, y) < 0.10 {
            return;
        }
        let body = Body {
            x,
            y,
            axes: (radius, radius * round),
            direction,
            haematoxylin: dark,
            eosin: 0.18,
            ragged: 0.10,
            clumped: 0.16,
            rim: 0.12,
            salt,
        };
        film.stamp(&body, textures);
    });
}

/// Crowded, large, uneven, dark nuclei: some vesicular with a nucleolus, some hyperchromatic, a few giant.
fn tumour_cells(film: &mut Film, layout: &Layout, textures: &Textures, rng: &mut ChaCha8Rng) {
    scatter(film.size, 18.6, 0.36, rng, |x, y, rng| {
        let kind: f32 = rng.random_range(0.0..1.0);
        let size = rng.random_range(6.6..10.4f32) * if kind > 0.975 { 1.45 } else { 1.0 };
        let round = rng.random_range(0.62..0.98f32);
        let dark = if kind < 0.40 { rng.random_range(0.72..0.98f32) } else { rng.random_range(1.0..1.45f32) };
        let (direction, salt) = (turn(rng), salt(rng));
        if kind < 0.05 || layout.tumour.at(x, y) < 3.0 {
            return;
        }
        let body = Body {
            x,
            y,
            axes: (size, size * round),
            direction,
            haematoxylin: dark,
            eosin: 0.24,
            ragged: 0.30,
            clumped: 0.26,
            rim: if kind < 0.40 { 0.42 } else { 0.12 },
            salt,
        };
        film.stamp(&body, textures);
        if (0.05..0.30).contains(&kind) {
            let dot = Body {
                axes: (2.0, 1.9),
                haematoxylin: 1.25,
                eosin: 0.45,
                ragged: 0.0,
                clumped: 0.0,
                rim: 0.0,
                x: x + direction.0 * size * 0.25,
                y: y + direction.1 * size * 0.2,
                ..body
            };
            film.stamp(&dot, textures);
        }
    });
}
