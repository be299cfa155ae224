//! The ground: what lies between the nuclei. Collagen fibres, loose and dense stroma, the cytoplasm of tumour nests, fat
//! and glass, for every pixel, row by row, from interpolated fields and texture tiles.

use super::film::{Film, Textures, level};
use super::layout::Layout;
use super::noise::{Field, floor, hash2, smoothstep, unit};

/// The fields of the ground in the order in which a row reads them.
const FIELDS: usize = 7;

/// Paints every pixel of the ground.
pub(crate) fn paint(film: &mut Film, layout: &Layout, textures: &Textures, seed: u32) {
    let fields: [&Field; FIELDS] =
        [&layout.tissue, &layout.tumour, &layout.fat, &layout.lymph, &layout.across, &layout.along, &layout.collagen];
    let mut rows: [Vec<f32>; FIELDS] = Default::default();
    let size = film.size;
    for y in 0..size {
        for (field, row) in fields.iter().zip(&mut rows) {
            field.row(y, row);
        }
        let line = &mut film.stain[y * size..(y + 1) * size];
        for (i, segment) in line.chunks_mut(Field::STEP).enumerate() {
            let start: [f32; FIELDS] = std::array::from_fn(|f| rows[f][i]);
            let end: [f32; FIELDS] = std::array::from_fn(|f| rows[f][i + 1]);
            if start[0] < -12.0 && end[0] < -12.0 {
                continue;
            }
            let slope: [f32; FIELDS] = std::array::from_fn(|f| (end[f] - start[f]) / Field::STEP as f32);
            for (k, pixel) in segment.iter_mut().enumerate() {
                let at: [f32; FIELDS] = std::array::from_fn(|f| start[f] + slope[f] * k as f32);
                *pixel = ground(&at, (i * Field::STEP + k) as i32, y as i32, textures, seed);
            }
        }
    }
}

/// Stain of one pixel from the fields at it.
#[inline]
fn ground(at: &[f32; FIELDS], x: i32, y: i32, textures: &Textures, seed: u32) -> [u8; 2] {
    let [tissue, tumour, fat, lymph, across, along, collagen] = *at;
    let wave = textures.wave.at(x, y);
    let inside = tissue + 4.0 * wave;
    if inside <= 0.0 {
        return [0, 0];
    }
    let grain = textures.grain.at(x, y);
    let fibre = textures.strand.linear(across * 1.15, along * 0.085);
    let dense = smoothstep(0.30, 0.72, collagen);
    // Loose stroma tears between its fibres: there the glass shines through.
    let torn = smoothstep(-0.95 - 0.5 * dense, -0.15 - 0.75 * dense, fibre);
    let mut e = (0.25 + 0.27 * dense + 0.15 * fibre + 0.03 * grain) * (0.25 + 0.75 * torn);
    let mut h = (0.055 + 0.02 * fibre + 0.015 * grain) * (0.3 + 0.7 * torn);
    if fat > -10.0 && tumour < 20.0 {
        let vacuoles = adipose(x as f32, y as f32, seed);
        let share = smoothstep(-6.0, 6.0, fat) * smoothstep(20.0, 8.0, tumour);
        e += (vacuoles - e) * share;
        h += (0.01 - h) * share;
    }
    let nest = smoothstep(-2.0, 7.0, tumour + 7.0 * wave);
    if nest > 0.0 {
        // Nests are separated by thin clefts, and their cytoplasm is amphophilic: some of both stains.
        let cleft = smoothstep(0.75, 1.2, textures.strand.linear(x as f32 * 0.33 + 91.0, y as f32 * 0.33).abs());
        e += ((0.31 + 0.07 * grain) * (1.0 - 0.7 * cleft) - e) * nest;
        h += ((0.20 + 0.06 * grain) * (1.0 - 0.8 * cleft) - h) * nest;
    }
    let crowd = smoothstep(-6.0, 14.0, lymph) * (1.0 - nest);
    e += (0.20 + 0.03 * grain - e) * crowd * 0.8;
    h += (0.13 + 0.03 * grain - h) * crowd * 0.8;
    let edge = smoothstep(0.0, 7.0, inside);
    [level((h * edge).max(0.0)), level((e * edge).max(0.0))]
}

/// Fat cells: a jittered Voronoi mosaic of empty vacuoles with thin walls. Gives the eosin.
fn adipose(x: f32, y: f32, seed: u32) -> f32 {
    const PITCH: f32 = 98.0;
    let (gx, gy) = (floor(x / PITCH), floor(y / PITCH));
    let (mut first, mut second) = (f32::MAX, f32::MAX);
    for j in gy - 1..=gy + 1 {
        for i in gx - 1..=gx + 1 {
            let h = hash2(seed, i, j);
            let cx = (i as f32 + 0.5 + 0.55 * (unit(h) - 0.5)) * PITCH;
            let cy = (j as f32 + 0.5 + 0.55 * (unit(h.rotate_left(16)) - 0.5)) * PITCH;
            let d = (cx - x) * (cx - x) + (cy - y) * (cy - y);
            if d < first {
                (first, second) = (d, first);
            } else if d < second {
                second = d;
            }
        }
    }
    let (first, second) = (first.sqrt(), second.sqrt());
    let wall = smoothstep(6.5, 2.0, second - first).max(smoothstep(0.50 * PITCH, 0.60 * PITCH, first));
    0.015 + 0.36 * wall
}
