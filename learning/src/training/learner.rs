//! What computes a training, and the seam that it is behind.

use consilium_common::plan::{Architecture, Training};

use super::TrainingError;
use super::loss::{downsample_labels, level_weights, loss_and_gradient};
use super::optimiser::Sgd;
use super::sampler::{Batch, Part};
use crate::engine::{Device, EngineError};
use crate::network::MemberWeights;
use crate::network::net::Network;
use crate::network::planes::Grid;

/// What computes a training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trainer {
    /// Our own kernels: the same bytes whatever the number of threads.
    #[default]
    Cpu,
    /// libtorch: the same bytes on the same machine and number of threads.
    #[cfg(feature = "libtorch")]
    Libtorch {
        /// Where and how exactly.
        place: crate::engine::libtorch::calls::Place,
        /// Threads of one training on the processor.
        threads: usize,
    },
}

impl Trainer {
    /// The trainer that goes with a device, and why it is that: one sentence.
    ///
    /// # Errors
    /// The device is not there. [`Device::Auto`] does not fail; [`Device::Onnx`] scans only, so our own kernels train.
    pub fn on(device: Device) -> Result<(Self, String), EngineError> {
        match device {
            Device::Cpu => Ok((Self::Cpu, "cpu was asked for".into())),
            Device::Onnx => Ok((Self::Cpu, "onnx is for scans only; training is on cpu".into())),
            _ => Self::on_libtorch(device),
        }
    }

    #[cfg(feature = "libtorch")]
    fn on_libtorch(device: Device) -> Result<(Self, String), EngineError> {
        use crate::engine::{Precision, libtorch::place};
        let place = match device {
            Device::Libtorch(precision) => place(None, precision)?,
            Device::Cuda(card, precision) => place(Some(card), precision)?,
            _ => place(Some(0), Precision::Fp32).or_else(|_| place(None, Precision::Fp32))?,
        };
        let name = place.card.map_or("libtorch".to_owned(), |card| format!("libtorch on cuda:{card}"));
        let threads = crate::engine::available_threads();
        Ok((Self::Libtorch { place, threads }, format!("{name} trains: {device} was asked for")))
    }

    #[cfg(not(feature = "libtorch"))]
    fn on_libtorch(device: Device) -> Result<(Self, String), EngineError> {
        match device {
            Device::Libtorch(_) => Err(EngineError::NotBuilt),
            Device::Cuda(..) => Ok((Self::Cpu, "without libtorch a card is for scans only; training is on cpu".into())),
            _ => Ok((Self::Cpu, "training is on cpu, for this program was built without libtorch".into())),
        }
    }

    /// The same for one of some trainings side by side, which share the processor's cores.
    #[cfg_attr(not(feature = "libtorch"), expect(unused_variables, reason = "our own kernels share a pool of threads"))]
    pub fn beside(self, trainings: usize) -> Self {
        match self {
            Self::Cpu => self,
            #[cfg(feature = "libtorch")]
            Self::Libtorch { place, threads } => {
                Self::Libtorch { place, threads: threads.div_ceil(trainings.clamp(1, threads)) }
            }
        }
    }

    /// A network that learns.
    pub(super) fn learner<'a>(
        self,
        arch: &Architecture,
        start: &MemberWeights,
        settings: &'a Training,
    ) -> Result<Box<dyn Learner + 'a>, TrainingError> {
        match self {
            Self::Cpu => Ok(Box::new(OwnLearner::new(arch, start, settings))),
            #[cfg(feature = "libtorch")]
            Self::Libtorch { place, threads } => {
                let learner = super::libtorch::TorchLearner::new(place, threads, arch, start, settings);
                Ok(Box::new(learner.map_err(super::libtorch::failed)?))
            }
        }
    }
}

/// A network that learns.
pub(crate) trait Learner {
    /// One step on a batch; returns its loss, that of all levels in their weights.
    fn step(&mut self, batch: &Batch, rate: f64) -> Result<f32, TrainingError>;

    /// Takes a batch into batch-normalisation statistics that are estimated anew: the plain mean of all batches so far.
    fn estimate_statistics(&mut self, batch: &Batch) -> Result<(), TrainingError>;

    /// The weights as they are now.
    fn weights(&self) -> Result<MemberWeights, TrainingError>;
}

/// Learning on our own kernels.
#[derive(Debug)]
pub(crate) struct OwnLearner<'a> {
    network: Network,
    optimiser: Sgd,
    settings: &'a Training,
    classes: usize,
    /// Weight of each decoder level, finest first.
    weights: Vec<f64>,
    /// Batches in statistics that are estimated anew.
    estimated: u32,
}

impl<'a> OwnLearner<'a> {
    pub(crate) fn new(arch: &Architecture, start: &MemberWeights, settings: &'a Training) -> Self {
        let network = Network::from_weights(arch, start);
        let optimiser = Sgd::new(network.trainable(), &network.values, settings);
        let weights = level_weights(arch.decoder_convs.len(), settings.deep_supervision);
        Self { network, optimiser, settings, classes: arch.classes, weights, estimated: 0 }
    }

    /// The loss and its gradients by all tensors.
    fn gradients(&mut self, batch: &Part<'_>) -> (f64, Vec<Vec<f32>>) {
        let side = self.settings.patch_px as usize;
        let samples = batch.labels.len() / (side * side);
        let mode = self.network.mode(self.settings.freeze_norm_statistics);
        let wanted = |above: usize| self.weights[above] > 0.0;
        let (trace, mut levels) = self.network.forward(batch.pixels, samples, Grid::new(side, side), mode, wanted);
        let mut total = 0.0;
        for level in &mut levels {
            let labels = downsample_labels(batch.labels, side, level.factor);
            let (loss, mut gradient) = loss_and_gradient(&level.logits, &labels, self.classes, samples);
            let weight = self.weights[self.weights.len() - 1 - level.level];
            gradient.iter_mut().for_each(|g| *g *= weight as f32);
            total += weight * loss;
            level.logits = gradient;
        }
        (total, self.network.backward(trace, &levels))
    }
}

impl Learner for OwnLearner<'_> {
    fn step(&mut self, batch: &Batch, rate: f64) -> Result<f32, TrainingError> {
        let parts = self.settings.accumulation;
        let (mut loss, mut mean) = (0.0, Vec::new());
        for part in batch.parts(parts) {
            let (more, gradients) = self.gradients(&part);
            loss += more / f64::from(parts);
            if mean.is_empty() {
                mean = gradients;
            } else {
                let pairs = mean.iter_mut().flatten().zip(gradients.iter().flatten());
                pairs.for_each(|(sum, more)| *sum += more);
            }
        }
        if parts > 1 {
            mean.iter_mut().flatten().for_each(|sum| *sum /= parts as f32);
        }
        self.optimiser.step(&mut self.network.values, &mean, self.settings, rate);
        Ok(loss as f32)
    }

    fn estimate_statistics(&mut self, batch: &Batch) -> Result<(), TrainingError> {
        let side = self.settings.patch_px as usize;
        let mode = self.network.mode(false);
        for part in batch.parts(self.settings.accumulation) {
            self.estimated += 1;
            self.network.momentum = f64::from(self.estimated).recip();
            let samples = part.labels.len() / (side * side);
            self.network.forward(part.pixels, samples, Grid::new(side, side), mode, |_| false);
        }
        Ok(())
    }

    fn weights(&self) -> Result<MemberWeights, TrainingError> {
        Ok(self.network.to_weights())
    }
}
