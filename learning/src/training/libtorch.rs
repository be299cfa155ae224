//! Learning on libtorch: its forward pass, autograd and memory, nnU-Net's loss and optimiser. Only in programs built with
//! the feature `libtorch`.
//!
//! All parameters lie one after the other in one tensor, of which each layer's are a view, so that a step of the
//! optimiser is a handful of calls whatever the number of layers. With bfloat16 the layers compute on rounded copies; the
//! parameters, their gradients, statistics and the loss stay float32.

use std::collections::BTreeMap;

use consilium_common::plan::{Architecture, Norm, TensorShape, Training, UNLABELLED};
use tch::{Kind, Reduction, Tensor};

use super::TrainingError;
use super::learner::Learner;
use super::loss::{SMOOTH, downsample_labels, level_weights};
use super::sampler::{Batch, Part};
use crate::engine::libtorch::calls::{
    Place, Torch, average, channels_last, conv, copy, raise, said, tensor, use_threads,
};
use crate::network::graph::{Block, ConvLayer, Graph, Stage};
use crate::network::norm::{EPSILON, MOMENTUM};
use crate::network::{MemberWeights, WeightTensor};

/// A network, its optimiser and the settings of its training.
pub(super) struct TorchLearner<'a> {
    place: Place,
    threads: usize,
    settings: &'a Training,
    classes: i64,
    graph: Graph,
    shapes: Vec<TensorShape>,
    /// Weight of each decoder level, finest first.
    weights: Vec<f64>,
    /// All parameters.
    parameters: Tensor,
    /// What they were at the beginning, where they are pulled back to it.
    start: Option<Tensor>,
    /// Their momentum, after the first step.
    velocity: Option<Tensor>,
    /// Every tensor of the architecture: views of the parameters, and statistics.
    values: Vec<Tensor>,
    /// Which of them are parameters, in the order in which they lie.
    trained: Vec<usize>,
    /// Statistics stay as they are, or a batch's share in new ones.
    frozen: bool,
    momentum: f64,
    /// Batches in statistics that are estimated anew.
    estimated: u32,
}

impl<'a> TorchLearner<'a> {
    pub(super) fn new(
        place: Place,
        threads: usize,
        arch: &Architecture,
        start: &MemberWeights,
        settings: &'a Training,
    ) -> Torch<Self> {
        let (graph, shapes) = (Graph::new(arch), arch.tensors());
        let statistics = graph.statistics();
        let given = |shape: &TensorShape| {
            let values = start.get(&shape.name).map_or(&[][..], |t| t.values.as_slice());
            channels_last(&tensor(values, &shape.shape, place.device())?)
        };
        let mut values = shapes.iter().map(given).collect::<Torch<Vec<_>>>()?;
        let trained: Vec<usize> = (0..values.len()).filter(|index| !statistics.contains(index)).collect();
        let parts = trained.iter().map(|&index| stored(&values[index])).collect::<Torch<Vec<_>>>()?;
        let parameters = Tensor::f_cat(&parts, 0)?;
        let start = if settings.proximal > 0.0 { Some(parameters.f_mul_scalar(1.0)?) } else { None };
        let mut at = 0;
        for &index in &trained {
            let (shape, n) = (values[index].size(), values[index].numel() as i64);
            let part = parameters.f_narrow(0, at, n)?;
            let view = match shape.as_slice() {
                &[o, i, h, w] => part.f_view([o, h, w, i])?.f_permute([0, 3, 1, 2])?,
                _ => part.f_view(shape.as_slice())?,
            };
            values[index] = view.f_detach()?.f_set_requires_grad(true)?;
            at += n;
        }
        let weights = level_weights(arch.decoder_convs.len(), settings.deep_supervision);
        let classes = arch.classes as i64;
        Ok(Self {
            place,
            threads,
            settings,
            classes,
            graph,
            shapes,
            weights,
            parameters,
            start,
            velocity: None,
            values,
            trained,
            frozen: settings.freeze_norm_statistics,
            momentum: MOMENTUM,
            estimated: 0,
        })
    }

    fn try_step(&mut self, batch: &Batch, rate: f64) -> Torch<f32> {
        use_threads(self.threads);
        let parts = self.settings.accumulation;
        let (mut total, mut sums) = (0.0, Vec::new());
        for part in batch.parts(parts) {
            let Some(loss) = self.loss(&part)? else { continue };
            let loss = loss.f_div_scalar(f64::from(parts))?;
            let parameters: Vec<&Tensor> = self.trained.iter().map(|&index| &self.values[index]).collect();
            let gradients = Tensor::f_run_backward(&[&loss], &parameters, false, false)?;
            sums = if sums.is_empty() { gradients } else { added(sums, &gradients)? };
            total += loss.f_double_value(&[])?;
        }
        tch::no_grad(|| self.update(&sums, rate))?;
        Ok(total as f32)
    }

    fn try_estimate(&mut self, batch: &Batch) -> Torch<()> {
        use_threads(self.threads);
        self.frozen = false;
        for part in batch.parts(self.settings.accumulation) {
            self.estimated += 1;
            self.momentum = f64::from(self.estimated).recip();
            let x = self.input(&part)?;
            tch::no_grad(|| self.forward(x))?;
        }
        Ok(())
    }

    /// A batch's pixels, as the network takes them.
    fn input(&self, batch: &Part<'_>) -> Torch<Tensor> {
        let side = self.settings.patch_px as usize;
        let samples = batch.labels.len() / (side * side);
        let channels = batch.pixels.len() / batch.labels.len().max(1);
        let x = tensor(batch.pixels, &[samples, channels, side, side], self.place.device())?;
        channels_last(&x)?.f_to_kind(self.place.kind())
    }

    /// The loss of all levels in their weights; none where nothing is labelled.
    fn loss(&self, batch: &Part<'_>) -> Torch<Option<Tensor>> {
        let side = self.settings.patch_px as usize;
        let samples = batch.labels.len() / (side * side);
        let mut total: Option<Tensor> = None;
        for (above, factor, logits) in self.forward(self.input(batch)?)? {
            let labels = downsample_labels(batch.labels, side, factor);
            if labels.iter().all(|&label| label == UNLABELLED) {
                continue;
            }
            let side = (side / factor) as i64;
            let labels = Tensor::f_from_slice(&labels)?.f_view([samples as i64, side, side])?;
            let loss = self.level_loss(&logits, &labels.f_to_device(self.place.device())?)?;
            let loss = loss.f_mul_scalar(self.weights[above])?;
            total = Some(match total {
                Some(total) => total.f_add(&loss)?,
                None => loss,
            });
        }
        Ok(total)
    }

    /// Cross-entropy minus soft Dice of the foreground over the whole batch, as [`super::loss`] computes them.
    fn level_loss(&self, logits: &Tensor, labels: &Tensor) -> Torch<Tensor> {
        let log_p = logits.f_to_kind(Kind::Float)?.f_log_softmax(1, Kind::Float)?;
        let (ignored, none) = (i64::from(UNLABELLED), None::<Tensor>);
        let entropy = log_p.f_nll_loss_nd(&labels.f_to_kind(Kind::Int64)?, none, Reduction::Mean, ignored)?;
        let p = log_p.f_narrow(1, 1, self.classes - 1)?.f_exp()?;
        let labels = labels.f_unsqueeze(1)?;
        let classes = Tensor::f_arange_start(1, self.classes, (Kind::Uint8, self.place.device()))?;
        let hit = labels.f_eq_tensor(&classes.f_view([1, self.classes - 1, 1, 1])?)?.f_to_kind(Kind::Float)?;
        let labelled = labels.f_ne(ignored)?.f_to_kind(Kind::Float)?;
        let sum = |t: &Tensor| t.f_sum_dim_intlist([0i64, 2, 3].as_slice(), false, Kind::Float);
        let (both, predicted, present) = (sum(&p.f_mul(&hit)?)?, sum(&p.f_mul(&labelled)?)?, sum(&hit)?);
        let numerator = both.f_mul_scalar(2.0)?.f_add_scalar(SMOOTH)?;
        let denominator = predicted.f_add(&present)?.f_add_scalar(SMOOTH)?.f_clamp_min(1e-8)?;
        entropy.f_sub(&numerator.f_div(&denominator)?.f_mean(Kind::Float)?)
    }

    /// One step of [`super::optimiser`]: global clipping, weight decay, Nesterov momentum. A tensor that has no gradient
    /// still decays.
    fn update(&mut self, gradients: &[Tensor], rate: f64) -> Torch<()> {
        let Training { momentum, weight_decay, clip_norm, proximal, .. } = *self.settings;
        let part = |(&index, place): (&usize, usize)| match gradients.get(place) {
            Some(gradient) if gradient.defined() => stored(&gradient.f_to_kind(Kind::Float)?),
            _ => Tensor::f_zeros([self.values[index].numel() as i64], (Kind::Float, self.place.device())),
        };
        let parts = self.trained.iter().zip(0..).map(part).collect::<Torch<Vec<_>>>()?;
        let mut gradient = Tensor::f_cat(&parts, 0)?;
        let clip = gradient.f_norm()?.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(clip_norm)?.f_clamp_max(1.0)?;
        gradient = gradient.f_mul_(&clip)?.f_add_(&self.parameters.f_mul_scalar(weight_decay)?)?;
        if let Some(start) = &self.start {
            gradient = gradient.f_add_(&self.parameters.f_sub(start)?.f_mul_scalar(proximal)?)?;
        }
        let velocity = match self.velocity.take() {
            // A copy: the gradient changes below.
            None => gradient.f_mul_scalar(1.0)?,
            Some(mut velocity) => velocity.f_mul_scalar_(momentum)?.f_add_(&gradient)?,
        };
        let step = gradient.f_add_(&velocity.f_mul_scalar(momentum)?)?.f_mul_scalar_(rate)?;
        self.velocity = Some(velocity);
        self.parameters.f_sub_(&step).map(drop)
    }

    /// Logits of the levels that have a weight: steps above the finest, pixels of the input for one pixel, logits.
    fn forward(&self, mut z: Tensor) -> Torch<Vec<(usize, usize, Tensor)>> {
        if let Some(stem) = &self.graph.stem {
            z = self.layer(stem, &z)?;
        }
        let mut skips = Vec::new();
        for stage in &self.graph.encoder {
            match stage {
                Stage::Convs(layers) => z = self.convs(layers, z)?,
                Stage::Blocks(blocks) => {
                    for block in blocks {
                        z = self.block(block, &z)?;
                    }
                }
            }
            skips.push(z.shallow_clone());
        }
        // The deepest stage's output is no skip: it is where the decoder begins.
        skips.pop();
        let (levels, mut logits) = (self.graph.decoder.len(), Vec::new());
        for (level, layers) in self.graph.decoder.iter().enumerate() {
            let up = &layers.up;
            let raised = raise(&z, &self.weight(up.weight)?, self.optional(up.bias)?.as_ref(), up.stride)?;
            let joined = match skips.pop() {
                Some(skip) => Tensor::f_cat(&[raised, skip], 1)?,
                None => raised,
            };
            z = self.convs(&layers.convs, joined)?;
            let above = levels - 1 - level;
            if self.weights[above] > 0.0 {
                let head = &layers.head;
                let (weight, bias) = (self.weight(head.weight)?, self.optional(head.bias)?);
                logits.push((above, layers.factor, conv(&z, &weight, bias.as_ref(), 1)?));
            }
        }
        Ok(logits)
    }

    fn convs(&self, layers: &[ConvLayer], mut z: Tensor) -> Torch<Tensor> {
        for layer in layers {
            z = self.layer(layer, &z)?;
        }
        Ok(z)
    }

    fn block(&self, block: &Block, z: &Tensor) -> Torch<Tensor> {
        let inner = self.layer(&block.second, &self.layer(&block.first, z)?)?;
        let mut around = if block.first.stride > 1 { average(z, block.first.stride)? } else { z.shallow_clone() };
        if let Some(projection) = &block.projection {
            around = self.layer(projection, &around)?;
        }
        inner.f_add(&around)?.f_leaky_relu_()
    }

    fn layer(&self, layer: &ConvLayer, z: &Tensor) -> Torch<Tensor> {
        let y = conv(z, &self.weight(layer.weight)?, self.optional(layer.bias)?.as_ref(), layer.stride)?;
        let (gamma, beta) = (Some(&self.values[layer.gamma]), Some(&self.values[layer.beta]));
        let (mean, variance) =
            (layer.running.map(|(m, _)| &self.values[m]), layer.running.map(|(_, v)| &self.values[v]));
        let mut y = match self.graph.norm {
            Norm::Instance => y.f_instance_norm(gamma, beta, None, None, true, MOMENTUM, EPSILON, true)?,
            Norm::Batch => y.f_batch_norm(gamma, beta, mean, variance, !self.frozen, self.momentum, EPSILON, true)?,
        };
        if layer.slope == 1.0 { Ok(y) } else { y.f_leaky_relu_() }
    }

    /// A kernel in the precision of the layers.
    fn weight(&self, index: usize) -> Torch<Tensor> {
        self.values[index].f_to_kind(self.place.kind())
    }

    fn optional(&self, index: Option<usize>) -> Torch<Option<Tensor>> {
        index.map(|index| self.weight(index)).transpose()
    }
}

/// Sums of gradients; of a level without labels there is none.
fn added(sums: Vec<Tensor>, more: &[Tensor]) -> Torch<Vec<Tensor>> {
    let add = |(sum, more): (Tensor, &Tensor)| match (sum.defined(), more.defined()) {
        (true, true) => sum.f_add(more),
        (true, false) => Ok(sum),
        (false, _) => Ok(more.shallow_clone()),
    };
    sums.into_iter().zip(more).map(add).collect()
}

/// The numbers of a parameter, or of its gradient, in the order in which they lie among the parameters.
fn stored(t: &Tensor) -> Torch<Tensor> {
    let t = if t.dim() == 4 { t.f_permute([0, 2, 3, 1])? } else { t.shallow_clone() };
    t.f_reshape([-1i64])
}

impl Learner for TorchLearner<'_> {
    fn step(&mut self, batch: &Batch, rate: f64) -> Result<f32, TrainingError> {
        self.try_step(batch, rate).map_err(failed)
    }

    fn estimate_statistics(&mut self, batch: &Batch) -> Result<(), TrainingError> {
        self.try_estimate(batch).map_err(failed)
    }

    fn weights(&self) -> Result<MemberWeights, TrainingError> {
        let mut tensors = BTreeMap::new();
        for (shape, value) in self.shapes.iter().zip(&self.values) {
            let mut values = vec![0.0; shape.elements()];
            copy(&value.detach(), &mut values).map_err(failed)?;
            tensors.insert(shape.name.clone(), WeightTensor { shape: shape.shape.clone(), values });
        }
        Ok(MemberWeights::from_tensors(tensors))
    }
}

pub(super) fn failed(error: tch::TchError) -> TrainingError {
    TrainingError::Engine(said(&error))
}
