//! Training of one member, step by step.

use consilium_common::plan::{Architecture, Training};

use super::loss::{downsample_labels, level_weights, loss_and_gradient};
use super::optimiser::{Sgd, learning_rate};
use super::sampler::{Batch, Sampler};
use super::{TrainedMember, TrainingError, TrainingImage, check};
use crate::network::MemberWeights;
use crate::network::net::Network;
use crate::network::planes::Grid;

/// Trains one member. `progress(steps done, loss)` is called after each step and stops the training by answering false.
///
/// # Errors
/// Images, labels or sizes that do not fit, a training that diverges, or a caller that stops it.
pub fn train_member(
    arch: &Architecture,
    start: &MemberWeights,
    images: &[TrainingImage],
    settings: &Training,
    seed: u64,
    progress: &(dyn Fn(u32, f32) -> bool + Sync),
) -> Result<TrainedMember, TrainingError> {
    check(arch, images, settings)?;
    if !start.fits(arch) {
        return Err(TrainingError::Start);
    }
    let sampler = Sampler::new(images, arch.classes);
    let mut learner = Learner::new(arch, start, settings);
    let mut losses = Vec::with_capacity(settings.iterations as usize);
    for step in 0..settings.iterations {
        let loss = learner.step(&sampler.batch(settings, seed, step), learning_rate(settings, step));
        if !loss.is_finite() {
            return Err(TrainingError::Diverged { step, what: "the loss" });
        }
        losses.push(loss);
        if !progress(step + 1, loss) {
            return Err(TrainingError::Stopped(step + 1));
        }
    }
    let weights = learner.network.to_weights();
    match weights.first_bad_value() {
        Some(_) => Err(TrainingError::Diverged { step: settings.iterations, what: "a weight" }),
        None => Ok(TrainedMember { weights, losses }),
    }
}

/// A network, its optimiser and the settings of its training.
#[derive(Debug)]
pub(crate) struct Learner<'a> {
    pub(crate) network: Network,
    optimiser: Sgd,
    settings: &'a Training,
    classes: usize,
    /// Weight of each decoder level, finest first.
    weights: Vec<f64>,
}

impl<'a> Learner<'a> {
    pub(crate) fn new(arch: &Architecture, start: &MemberWeights, settings: &'a Training) -> Self {
        let network = Network::from_weights(arch, start);
        let optimiser = Sgd::new(network.trainable());
        let weights = level_weights(arch.decoder_convs.len(), settings.deep_supervision);
        Self { network, optimiser, settings, classes: arch.classes, weights }
    }

    /// One step on a batch; returns its loss, that of all levels in their weights.
    pub(crate) fn step(&mut self, batch: &Batch, rate: f64) -> f32 {
        let (loss, gradients) = self.gradients(batch);
        self.optimiser.step(&mut self.network.values, &gradients, self.settings, rate);
        loss
    }

    fn gradients(&mut self, batch: &Batch) -> (f32, Vec<Vec<f32>>) {
        let side = self.settings.patch_px as usize;
        let samples = batch.labels.len() / (side * side);
        let mode = self.network.mode(self.settings.freeze_norm_statistics);
        let wanted = |above: usize| self.weights[above] > 0.0;
        let (trace, mut levels) = self.network.forward(&batch.pixels, samples, Grid::new(side, side), mode, wanted);
        let mut total = 0.0;
        for level in &mut levels {
            let labels = downsample_labels(&batch.labels, side, level.factor);
            let (loss, mut gradient) = loss_and_gradient(&level.logits, &labels, self.classes, samples);
            let weight = self.weights[self.weights.len() - 1 - level.level];
            gradient.iter_mut().for_each(|g| *g *= weight as f32);
            total += weight * loss;
            level.logits = gradient;
        }
        (total as f32, self.network.backward(trace, &levels))
    }
}
