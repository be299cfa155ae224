//! What an ensemble says of one field, member by member: tiles, weights and sums are those of a scan, kept apart by member
//! because every rule wants other figures of them. Fields are at least as large as a tile, which [`crate::fields`] checks.

use consilium_common::Plan;
use consilium_common::bundle::Averaging;
use consilium_common::plan::ScanSettings;
use consilium_learning::engine::{self, Device, Engine, predict_all};
use consilium_learning::network::{InputScale, MemberWeights};
use consilium_learning::scan::{Strip, gaussian_weights, tile_starts};
use consilium_learning::uncertainty::{Combiner, RowOutput};
use image::imageops;

use crate::experiment::ExperimentError;
use crate::fields::Field;

/// A field as an ensemble sees it.
pub(crate) struct Look {
    pub(crate) members: usize,
    pub(crate) classes: usize,
    /// `[members, classes, height, width]`; background where there is no tissue.
    pub(crate) probabilities: Vec<f32>,
    /// Labels, UGA's uncertainty, entropy and probabilities, as a scan gives them.
    pub(crate) strip: Strip,
}

/// What predicts on a device: engines differ in the last bits.
pub(crate) fn engine_name(device: Device, plan: &Plan) -> Result<String, ExperimentError> {
    let member = [MemberWeights::initialise(&plan.architecture, 0)];
    let engine = engine::open_members(device, &plan.architecture, &member, plan.scan.tile_px)?;
    Ok(engine.name().to_owned())
}

/// Predicts a field with all members.
pub(crate) fn look(engine: &Engine, settings: &ScanSettings, field: &Field) -> Result<Look, ExperimentError> {
    let predictor = engine.predictor();
    let (members, classes) = (predictor.members(), predictor.classes());
    let (width, height) = field.image.dimensions();
    let (wide, pixels) = (width as usize, width as usize * height as usize);
    let tile = settings.tile_px;
    let (rows, columns) = (tile_starts(height, tile, settings.step), tile_starts(width, tile, settings.step));
    let side = tile as usize;
    let weights = if rows.len() * columns.len() > 1 { gaussian_weights(tile) } else { vec![1.0; side * side] };
    let (mut sums, mut total) = (vec![0.0f32; members * classes * pixels], vec![0.0f32; pixels]);
    let mut outputs = vec![Vec::new(); members];
    for &y in &rows {
        for &x in &columns {
            let at = |row: usize| (y as usize + row) * wide + x as usize;
            let on_tissue: usize =
                (0..side).map(|row| field.tissue[at(row)..][..side].iter().filter(|&&t| t != 0).count()).sum();
            if (on_tissue as f64) < settings.min_tissue * (side * side) as f64 || on_tissue == 0 {
                continue;
            }
            let pixels_here = imageops::crop_imm(&field.image, x, y, tile, tile).to_image();
            predict_all(predictor, &[pixels_here], &InputScale::RGB_TO_01, &mut outputs)?;
            for row in 0..side {
                let weights = &weights[row * side..][..side];
                add(&mut total[at(row)..][..side], weights.iter().copied());
                for (plane, sums) in sums.chunks_exact_mut(pixels).enumerate() {
                    let said = &outputs[plane / classes][(plane % classes) * side * side + row * side..][..side];
                    add(&mut sums[at(row)..][..side], said.iter().zip(weights).map(|(p, w)| p * w));
                }
            }
        }
    }
    let seen: Vec<u8> = total.iter().zip(&field.tissue).map(|(&w, &t)| u8::from(w > 0.0 && t != 0)).collect();
    let scale: Vec<f32> = total.iter().map(|&weight| if weight > 0.0 { weight.recip() } else { 0.0 }).collect();
    let strip = strip(field, &sums, &scale, &seen, members, classes);
    for (plane, sums) in sums.chunks_exact_mut(pixels).enumerate() {
        let background = if plane % classes == 0 { 1.0 } else { 0.0 };
        for ((sum, scale), &seen) in sums.iter_mut().zip(&scale).zip(&seen) {
            *sum = if seen != 0 { *sum * scale } else { background };
        }
    }
    if sums.iter().any(|p| !p.is_finite()) {
        let why = format!("the networks say no number of field {}; lower the learning rate", field.name);
        return Err(ExperimentError::Usage(why));
    }
    Ok(Look { members, classes, probabilities: sums, strip })
}

fn add(to: &mut [f32], values: impl Iterator<Item = f32>) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}

/// What a scan keeps of the field: `sums` are the members' weighted probabilities, `scale` undoes the weights.
fn strip(field: &Field, sums: &[f32], scale: &[f32], seen: &[u8], members: usize, classes: usize) -> Strip {
    let (width, height) = field.image.dimensions();
    let pixels = seen.len();
    let mut strip = Strip::background(0, height, width, classes);
    strip.colour.clone_from(&field.colour);
    strip.tissue.copy_from_slice(seen);
    let mut probabilities = vec![0.0; (classes - 1) * pixels];
    let mut out = RowOutput {
        labels: &mut strip.labels,
        uncertainty: &mut strip.uncertainty,
        entropy: &mut strip.entropy,
        probabilities: &mut probabilities,
    };
    let plane = |member: usize, class: usize| &sums[(member * classes + class) * pixels..][..pixels];
    Combiner::new(members, classes, Averaging::Probabilities).run(plane, scale, seen, &mut out);
    for (plane, values) in strip.probabilities.iter_mut().zip(probabilities.chunks_exact(pixels)) {
        plane.copy_from_slice(values);
    }
    strip.as_stored()
}
