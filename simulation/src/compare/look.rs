//! What an ensemble says of one field, member by member: tiles, weights and sums are those of a scan, kept apart by member
//! because every rule wants other figures of them. Fields are at least as large as a tile, which [`super::fields`] checks.

use consilium_common::plan::ScanSettings;
use consilium_learning::engine::{Engine, predict_all};
use consilium_learning::network::InputScale;
use consilium_learning::scan::{Strip, gaussian_weights, tile_starts};
use consilium_learning::uncertainty::{predictive_entropy, uncertainty};
use image::{Rgb, RgbImage, imageops};

use super::fields::Field;
use crate::experiment::ExperimentError;

/// A field as an ensemble sees it.
pub(super) struct Look {
    pub(super) members: usize,
    pub(super) classes: usize,
    /// `[members, classes, height, width]`; background where there is no tissue.
    pub(super) probabilities: Vec<f32>,
    /// Labels, UGA's uncertainty, entropy and probabilities, as a scan gives them.
    pub(super) strip: Strip,
}

/// Predicts a field with all members.
pub(super) fn look(engine: &Engine, settings: &ScanSettings, field: &Field) -> Result<Look, ExperimentError> {
    let predictor = engine.predictor();
    let (members, classes) = (predictor.members(), predictor.classes());
    let (width, height) = field.image.dimensions();
    let (wide, pixels) = (width as usize, width as usize * height as usize);
    let tile = settings.tile_px;
    let (side, weights) = (tile as usize, gaussian_weights(tile));
    let (mut sums, mut total) = (vec![0.0f32; members * classes * pixels], vec![0.0f32; pixels]);
    let mut outputs = vec![Vec::new(); members];
    for y in tile_starts(height, tile, settings.step) {
        for x in tile_starts(width, tile, settings.step) {
            let shown = (tile.min(width - x) as usize, tile.min(height - y) as usize);
            let at = |row: usize| (y as usize + row) * wide + x as usize;
            let on_tissue: usize =
                (0..shown.1).map(|row| field.tissue[at(row)..][..shown.0].iter().filter(|&&t| t != 0).count()).sum();
            if (on_tissue as f64) < settings.min_tissue * (side * side) as f64 || on_tissue == 0 {
                continue;
            }
            let pixels_here = cut(&field.image, x, y, tile);
            predict_all(predictor, &[pixels_here], &InputScale::RGB_TO_01, &mut outputs)?;
            for row in 0..shown.1 {
                let weights = &weights[row * side..][..shown.0];
                add(&mut total[at(row)..][..shown.0], weights.iter().copied());
                for (plane, sums) in sums.chunks_exact_mut(pixels).enumerate() {
                    let said = &outputs[plane / classes][(plane % classes) * side * side + row * side..][..shown.0];
                    add(&mut sums[at(row)..][..shown.0], said.iter().zip(weights).map(|(p, w)| p * w));
                }
            }
        }
    }
    let seen: Vec<bool> = total.iter().zip(&field.tissue).map(|(&w, &t)| w > 0.0 && t != 0).collect();
    for (plane, sums) in sums.chunks_exact_mut(pixels).enumerate() {
        let background = if plane % classes == 0 { 1.0 } else { 0.0 };
        for ((sum, weight), &seen) in sums.iter_mut().zip(&total).zip(&seen) {
            *sum = if seen { *sum / weight } else { background };
        }
    }
    if sums.iter().any(|p| !p.is_finite()) {
        let why = format!("the networks say no number of field {}; lower the learning rate", field.name);
        return Err(ExperimentError::Usage(why));
    }
    let strip = strip(field, &sums, &seen, members, classes);
    Ok(Look { members, classes, probabilities: sums, strip })
}

fn add(to: &mut [f32], values: impl Iterator<Item = f32>) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}

/// A tile; white beyond the field.
fn cut(image: &RgbImage, x: u32, y: u32, side: u32) -> RgbImage {
    let inside = imageops::crop_imm(image, x, y, side.min(image.width() - x), side.min(image.height() - y)).to_image();
    if inside.dimensions() == (side, side) {
        return inside;
    }
    let mut tile = RgbImage::from_pixel(side, side, Rgb([255; 3]));
    imageops::replace(&mut tile, &inside, 0, 0);
    tile
}

fn strip(field: &Field, probabilities: &[f32], seen: &[bool], members: usize, classes: usize) -> Strip {
    let (width, height) = field.image.dimensions();
    let pixels = seen.len();
    let mut strip = Strip::background(0, height, width, classes);
    strip.colour.clone_from(&field.colour);
    strip.tissue = seen.iter().map(|&seen| u8::from(seen)).collect();
    strip.uncertainty = uncertainty(probabilities, members, classes);
    strip.entropy = predictive_entropy(probabilities, members, classes);
    let mean = |class: usize, i: usize| {
        (0..members).map(|member| probabilities[(member * classes + class) * pixels + i]).sum::<f32>() / members as f32
    };
    for i in (0..pixels).filter(|&i| seen[i]) {
        let mut best = (0, mean(0, i));
        for class in 1..classes {
            let p = mean(class, i);
            strip.probabilities[class - 1][i] = p;
            if p > best.1 {
                best = (class, p);
            }
        }
        strip.labels[i] = u8::try_from(best.0).unwrap_or(u8::MAX);
    }
    strip
}
