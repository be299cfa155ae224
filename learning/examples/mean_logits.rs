//! What an ensemble says of a whole picture, for comparison with another program: mean logits, or mean probabilities where
//! these are averaged, as float32, little endian, `[classes, height, width]`.
//! `cargo run -p consilium-learning --example mean_logits -- BUNDLE PICTURE TILE_PX FILE` (tests/interop/compare.py runs it).

use std::error::Error;
use std::path::Path;

use consilium_common::bundle::Normalisation;
use consilium_learning::network::{Ensemble, InputScale, Predictor, Shown};
use consilium_learning::scan::{gaussian_weights, tile_starts};
use image::{RgbImage, imageops};

/// Of nnU-Net.
const STEP: f64 = 0.5;

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, picture, tile, file] = given.as_slice() else {
        return Err("say BUNDLE PICTURE TILE_PX FILE".into());
    };
    let (ensemble, tile) = (Ensemble::load(Path::new(bundle))?, tile.parse::<u32>()?);
    let picture = image::open(picture)?.into_rgb8();
    let mut input = scale(&picture, ensemble.manifest.normalisation);
    let predictor = Predictor::new(&ensemble);
    let form = predictor.form();
    let (width, height) = picture.dimensions();
    let mut padded = RgbImage::new(width.max(tile), height.max(tile));
    let (left, top) = ((padded.width() - width) / 2, (padded.height() - height) / 2);
    imageops::replace(&mut padded, &picture, left.into(), top.into());
    // All tiles of a picture that is narrower or lower than a tile show it at the same place.
    let (wide, high) = (width >= tile, height >= tile);
    if !(wide && high) {
        let (x, y) = (if wide { 0 } else { left }, if high { 0 } else { top });
        input.shown = Some(Shown { x, y, width: width.min(tile), height: height.min(tile) });
    }
    let pixels = (padded.width() * padded.height()) as usize;
    let weights = gaussian_weights(tile);
    let (mut sums, mut total) = (vec![0.0f64; form.classes * pixels], vec![0.0f64; pixels]);
    for y0 in tile_starts(padded.height(), tile, STEP) {
        for x0 in tile_starts(padded.width(), tile, STEP) {
            let cut = [imageops::crop_imm(&padded, x0, y0, tile, tile).to_image()];
            let at = |i: usize| ((y0 + i as u32 / tile) * padded.width() + x0 + i as u32 % tile) as usize;
            weights.iter().enumerate().for_each(|(i, weight)| total[at(i)] += f64::from(*weight));
            let mut said = Vec::new();
            for member in 0..form.members {
                predictor.predict(member, &cut, &input, &mut said);
                for (i, value) in said.iter().enumerate() {
                    let (class, i) = (i / weights.len(), i % weights.len());
                    sums[class * pixels + at(i)] += f64::from(*value) * f64::from(weights[i]);
                }
            }
        }
    }
    let mut bytes = Vec::new();
    for class in 0..form.classes {
        for (y, x) in (top..top + height).flat_map(|y| (left..left + width).map(move |x| (y, x))) {
            let i = (y * padded.width() + x) as usize;
            let mean = sums[class * pixels + i] / total[i] / form.members as f64;
            bytes.extend_from_slice(&(mean as f32).to_le_bytes());
        }
    }
    Ok(std::fs::write(file, bytes)?)
}

fn scale(picture: &RgbImage, how: Normalisation) -> InputScale {
    if how == Normalisation::RgbTo01 {
        return InputScale::RGB_TO_01;
    }
    let count = f64::from(picture.width()) * f64::from(picture.height());
    let mean_of =
        |f: &dyn Fn(f64) -> f64, c: usize| picture.pixels().map(|p| f(f64::from(p.0[c]))).sum::<f64>() / count;
    let mean: [f64; 3] = std::array::from_fn(|c| mean_of(&|v| v, c));
    let variance: [f64; 3] = std::array::from_fn(|c| mean_of(&|v| (v - mean[c]).powi(2), c));
    InputScale { mean: mean.map(|m| m as f32), deviation: variance.map(|v| v.sqrt() as f32), shown: None }
}
