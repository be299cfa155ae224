//! Benign areas that a network may take for tumour: lymphoid follicles with germinal centres, crowded glands, crushed
//! tissue. They lie where `areas` has placed them and are never in the mask.

use std::f32::consts::{PI, TAU};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::areas::{Area, Kind};
use super::film::{Body, Film, Textures};
use super::glands::{self, Gland, outline};
use super::layout::Layout;
use super::noise::{fbm, rng_of, salt, smoothstep, turn};

/// Paints all areas over what lies there.
pub(crate) fn stamp_all(film: &mut Film, layout: &Layout, textures: &Textures, seed: &str) {
    for (index, area) in layout.look_alikes.iter().enumerate() {
        let rng = &mut rng_of(&format!("{seed}/look-alike-{index}"));
        match area.kind {
            Kind::Follicle => follicle(film, area, layout, textures, rng),
            Kind::CrowdedGlands => crowded_glands(film, area, layout, textures, rng),
            Kind::Crushed => crushed(film, area, layout, textures, rng),
        }
    }
}

/// Covers the area's ground: haematoxylin and eosin by depth.
fn cover(film: &mut Film, area: &Area, layout: &Layout, textures: &Textures, stain: impl Fn(f32) -> (f32, f32)) {
    let (xs, ys) = film.window(area.x, area.y, area.axes.0 * 1.3);
    for y in ys {
        for x in xs.clone() {
            let (px, py) = (x as f32, y as f32);
            let depth = area.depth(px, py) + 5.0 * textures.wave.at(x as i32, y as i32);
            let share = smoothstep(-20.0, 12.0, depth) * smoothstep(0.0, 10.0, layout.tissue.at(px, py));
            if share > 0.0 {
                let grain = 1.0 + 0.22 * textures.grain.at(x as i32, y as i32);
                let (h, e) = stain(depth);
                film.cover(y * film.size + x, h * grain, e * grain, share);
            }
        }
    }
}

/// Calls `f` with jittered points of a hexagonal grid that lie in the area and on tissue, and their depth.
fn within(
    area: &Area,
    layout: &Layout,
    pitch: f32,
    rng: &mut ChaCha8Rng,
    mut f: impl FnMut((f32, f32), f32, &mut ChaCha8Rng),
) {
    let (reach, rise) = (area.axes.0 * 1.3, pitch * 0.866);
    let (columns, rows) = ((2.0 * reach / pitch) as usize, (2.0 * reach / rise) as usize);
    for row in 0..rows {
        for column in 0..columns {
            let (dx, dy) = (rng.random_range(-0.33..0.33f32), rng.random_range(-0.33..0.33f32));
            let shift = if row % 2 == 0 { 0.0 } else { 0.5 };
            let x = area.x - reach + (column as f32 + shift + dx) * pitch;
            let y = area.y - reach + (row as f32 + dy) * rise;
            let depth = area.depth(x, y);
            if depth > 0.0 && layout.tissue.at(x, y) > 8.0 {
                f((x, y), depth, rng);
            }
        }
    }
}

/// A mantle of small dark lymphocytes around a germinal centre of larger, paler, uneven cells.
fn follicle(film: &mut Film, area: &Area, layout: &Layout, textures: &Textures, rng: &mut ChaCha8Rng) {
    let mantle = area.axes.1 * rng.random_range(0.30..0.44f32);
    let dark: f32 = rng.random_range(0.66..1.0);
    let inner = |depth: f32| smoothstep(mantle - 22.0, mantle + 22.0, depth);
    cover(film, area, layout, textures, |depth| {
        let inner = inner(depth);
        (0.13 + 0.05 * inner * dark, 0.20 + 0.08 * inner)
    });
    within(area, layout, 12.0, rng, |(x, y), depth, rng| {
        if rng.random_bool(f64::from(0.94 * (1.0 - inner(depth)))) {
            let (radius, haematoxylin) = (rng.random_range(5.2..6.6f32), rng.random_range(1.15..1.55));
            let body = Body { clumped: 0.16, rim: 0.12, ragged: 0.10, ..cell((x, y), radius, 0.93, rng) };
            film.stamp(&Body { haematoxylin, ..body }, textures);
        }
    });
    within(area, layout, 18.0, rng, |(x, y), depth, rng| {
        let kind: f32 = rng.random_range(0.0..1.0);
        if rng.random_bool(f64::from(1.0 - inner(depth))) || kind < 0.05 {
            return;
        }
        let radius = rng.random_range(6.6..9.4f32);
        let round = rng.random_range(0.74..0.98);
        let haematoxylin = dark * if kind < 0.6 { rng.random_range(0.70..0.92) } else { rng.random_range(0.9..1.2) };
        let body = Body { clumped: 0.24, rim: 0.36, ragged: 0.2, ..cell((x, y), radius, round, rng) };
        film.stamp(&Body { haematoxylin, ..body }, textures);
    });
    // Macrophages with clear cytoplasm: the starry sky.
    within(area, layout, 105.0, rng, |(x, y), depth, rng| {
        if depth > mantle + 30.0 && rng.random_bool(0.6) {
            let clear =
                Body { haematoxylin: 0.03, eosin: 0.14, ..cell((x, y), rng.random_range(13.0..19.0), 0.9, rng) };
            film.stamp(&clear, textures);
            let crumb = Body { haematoxylin: 1.3, ..cell((x + 4.0, y - 3.0), 3.2, 0.9, rng) };
            film.stamp(&crumb, textures);
        }
    });
}

/// A round pale cell without texture.
fn cell((x, y): (f32, f32), radius: f32, round: f32, rng: &mut ChaCha8Rng) -> Body {
    Body {
        x,
        y,
        axes: (radius, radius * round),
        direction: turn(rng),
        haematoxylin: 0.8,
        eosin: 0.22,
        ragged: 0.1,
        clumped: 0.1,
        rim: 0.0,
        salt: salt(rng),
    }
}

/// Small glands back to back, with dark, crowded nuclei and narrow lumens, in a thin stroma.
fn crowded_glands(film: &mut Film, area: &Area, layout: &Layout, textures: &Textures, rng: &mut ChaCha8Rng) {
    cover(film, area, layout, textures, |_| (0.10, 0.40));
    let dark = rng.random_range(1.0..1.35f32);
    let mut glands: Vec<Gland> = Vec::new();
    within(area, layout, 47.0, rng, |(x, y), depth, rng| {
        let radius = rng.random_range(27.0..41.0f32);
        let wall = radius * rng.random_range(0.58..0.78);
        let clear = glands.iter().rev().take(160).all(|g| (g.x - x).hypot(g.y - y) > 0.70 * (g.radius + radius));
        if depth > 20.0 && clear {
            glands.push(Gland { x, y, radius, wall, outline: outline(rng) });
        }
    });
    for gland in &glands {
        glands::stamp(film, gland, textures, rng);
        // A crowded second layer, as in hyperplasia.
        let count = (TAU * gland.radius * 0.62 / 10.5) as usize;
        for index in 0..count {
            let (sin, cos) = ((index as f32 + rng.random_range(-0.3..0.3f32)) / count as f32 * TAU).sin_cos();
            let reach = gland.reach(cos, sin) - gland.wall * rng.random_range(0.2..0.7f32);
            let at = (gland.x + cos * reach, gland.y + sin * reach);
            let body = Body { clumped: 0.2, rim: 0.2, ..cell(at, rng.random_range(5.6..8.0), 0.68, rng) };
            let haematoxylin = dark * rng.random_range(0.75..1.05);
            film.stamp(&Body { haematoxylin, direction: (cos, sin), ..body }, textures);
        }
    }
}

/// Nuclei smeared to dark streaks in one direction, in smudged, glassy stroma.
fn crushed(film: &mut Film, area: &Area, layout: &Layout, textures: &Textures, rng: &mut ChaCha8Rng) {
    cover(film, area, layout, textures, |_| (0.22, 0.54));
    let (cos, sin) = area.direction;
    within(area, layout, 17.0, rng, |(x, y), depth, rng| {
        let lean: f32 = rng.random_range(-0.16..0.16) + 0.25 * (y / 170.0 + x / 230.0).sin() * PI / 4.0;
        let (long, thin) = (rng.random_range(14.0..38.0f32), rng.random_range(2.4..4.6f32));
        let haematoxylin = rng.random_range(0.75..1.35f32) * smoothstep(0.0, 30.0, depth).max(0.5);
        // Nuclei burst in clouds.
        let cloud = smoothstep(0.30, 0.55, fbm(area.salt ^ 0x5A, x / 150.0, y / 150.0, 2));
        if rng.random_bool(f64::from(1.0 - 0.85 * cloud)) {
            return;
        }
        let body = Body {
            axes: (long, thin),
            direction: (cos - lean * sin, sin + lean * cos),
            haematoxylin,
            eosin: 0.34,
            ragged: 0.35,
            ..cell((x, y), long, 1.0, rng)
        };
        film.stamp(&body, textures);
    });
}
