//! One member while it learns: forward with everything that the backward pass needs, and the backward pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use consilium_common::plan::{Architecture, Norm, TensorShape};

use super::convolution::{
    Epilogue, channel_sums, conv, conv_input_gradient, conv_weight_gradient, pack_conv, pack_pointwise,
    pack_transposed, pointwise, pointwise_gradients, transposed, transposed_gradients,
};
use super::graph::{Block, ConvLayer, Graph, Stage};
use super::norm::{
    MOMENTUM, Mode, NormParameters, Statistics, normalise, normalise_backward, statistics, update_running,
};
use super::planes::{Grid, Planes};
use super::residual::{add_leaky, average, average_gradient, leaky_gradient};
use super::weights::{MemberWeights, WeightTensor};

/// A network in memory: its tensors in the order of `Architecture::tensors()`.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    shapes: Vec<TensorShape>,
    graph: Graph,
    /// The values of every tensor.
    pub(crate) values: Vec<Vec<f32>>,
    /// Share of a batch in new running statistics.
    pub(crate) momentum: f64,
}

/// What one convolution layer leaves behind for its backward pass.
#[derive(Debug)]
struct ConvTrace {
    input: Arc<Planes>,
    y: Planes,
    statistics: Statistics,
}

/// What one residual block leaves behind.
#[derive(Debug)]
struct BlockTrace {
    first: ConvTrace,
    second: ConvTrace,
    projection: Option<ConvTrace>,
    output: Arc<Planes>,
}

/// What one stage of the encoder leaves behind.
#[derive(Debug)]
enum StageTrace {
    Convs(Vec<ConvTrace>),
    Blocks(Vec<BlockTrace>),
}

/// What a forward pass leaves behind.
#[derive(Debug)]
pub(crate) struct Trace {
    stem: Option<(ConvTrace, Arc<Planes>)>,
    /// In order; the backward pass takes them from the end.
    encoder: Vec<StageTrace>,
    /// Output of every encoder stage.
    skips: Vec<Arc<Planes>>,
    decoder: Vec<Vec<ConvTrace>>,
    /// Output of every decoder level, deepest first.
    outputs: Vec<Arc<Planes>>,
}

/// Logits of one decoder level.
#[derive(Debug)]
pub(crate) struct LevelLogits {
    /// The level, deepest first.
    pub(crate) level: usize,
    /// Pixels of the input for one pixel here.
    pub(crate) factor: usize,
    /// `[n, classes, h, w]`.
    pub(crate) logits: Vec<f32>,
}

impl Network {
    /// Takes over weights. They must be of this architecture, which is checked where they are read.
    pub(crate) fn from_weights(arch: &Architecture, weights: &MemberWeights) -> Self {
        let shapes = arch.tensors();
        let value =
            |s: &TensorShape| weights.get(&s.name).map_or_else(|| vec![0.0; s.elements()], |t| t.values.clone());
        let values = shapes.iter().map(value).collect();
        Self { shapes, graph: Graph::new(arch), values, momentum: MOMENTUM }
    }

    /// The weights as they are now.
    pub(crate) fn to_weights(&self) -> MemberWeights {
        let tensors: BTreeMap<String, WeightTensor> = self
            .shapes
            .iter()
            .zip(&self.values)
            .map(|(s, v)| (s.name.clone(), WeightTensor { shape: s.shape.clone(), values: v.clone() }))
            .collect();
        MemberWeights::from_tensors(tensors)
    }

    /// Which tensors a step changes: all but running statistics.
    pub(crate) fn trainable(&self) -> Vec<bool> {
        let statistics = self.graph.statistics();
        (0..self.values.len()).map(|index| !statistics.contains(&index)).collect()
    }

    /// The statistics that a training uses.
    pub(crate) fn mode(&self, frozen: bool) -> Mode {
        match self.graph.norm {
            Norm::Instance => Mode::Image,
            Norm::Batch if frozen => Mode::Frozen,
            Norm::Batch => Mode::Batch,
        }
    }

    /// Forward pass of `[n, channels, h, w]`, whose sides are multiples of the total stride. `wanted(i)` says whether
    /// logits of the level i steps above the finest are needed. In batch mode the running statistics move.
    pub(crate) fn forward(
        &mut self,
        x: &[f32],
        samples: usize,
        grid: Grid,
        mode: Mode,
        wanted: impl Fn(usize) -> bool,
    ) -> (Trace, Vec<LevelLogits>) {
        let graph = self.graph.clone();
        let channels = x.len() / (samples * grid.pixels()).max(1);
        let mut z = Arc::new(Planes::from_compact(x, samples, channels, grid));
        let (encoder, skips, decoder, outputs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut trace = Trace { stem: None, encoder, skips, decoder, outputs };
        if let Some(stem) = &graph.stem {
            let (left, out) = self.layer(stem, z, mode);
            z = Arc::new(out);
            trace.stem = Some((left, Arc::clone(&z)));
        }
        for stage in &graph.encoder {
            let (left, out) = match stage {
                Stage::Convs(layers) => {
                    let (traces, out) = self.convs(layers, z, mode);
                    (StageTrace::Convs(traces), out)
                }
                Stage::Blocks(blocks) => {
                    let (traces, out) = self.blocks(blocks, z, mode);
                    (StageTrace::Blocks(traces), out)
                }
            };
            trace.encoder.push(left);
            trace.skips.push(Arc::clone(&out));
            z = out;
        }
        let mut logits = Vec::new();
        for (level, layers) in graph.decoder.iter().enumerate() {
            let skip = &trace.skips[graph.decoder.len() - 1 - level];
            let up = &layers.up;
            let packed = pack_transposed(&self.values[up.weight], z.channels, up.outputs, up.stride);
            let raised = transposed(&z, &packed, up.outputs, up.stride, self.optional(up.bias));
            let mut joined = Planes::blank(samples, 2 * up.outputs, skip.grid);
            joined.put_channels(0, &raised);
            joined.put_channels(up.outputs, skip);
            let (traces, out) = self.convs(&layers.convs, Arc::new(joined), mode);
            if wanted(graph.decoder.len() - 1 - level) {
                let head = &layers.head;
                let packed = pack_pointwise(&self.values[head.weight], head.outputs, out.channels);
                let planes = pointwise(&out, &packed, head.outputs, self.optional(head.bias));
                logits.push(LevelLogits { level, factor: layers.factor, logits: planes.to_compact() });
            }
            trace.decoder.push(traces);
            trace.outputs.push(Arc::clone(&out));
            z = out;
        }
        (trace, logits)
    }

    fn optional(&self, index: Option<usize>) -> Option<&[f32]> {
        index.map(|i| self.values[i].as_slice())
    }

    fn norm_parameters(&self, layer: &ConvLayer) -> NormParameters<'_> {
        NormParameters {
            gamma: &self.values[layer.gamma],
            beta: &self.values[layer.beta],
            conv_bias: self.optional(layer.bias),
            running: layer.running.map(|(m, v)| (self.values[m].as_slice(), self.values[v].as_slice())),
        }
    }

    fn convs(&mut self, layers: &[ConvLayer], mut z: Arc<Planes>, mode: Mode) -> (Vec<ConvTrace>, Arc<Planes>) {
        let mut traces = Vec::with_capacity(layers.len());
        for layer in layers {
            let (trace, out) = self.layer(layer, z, mode);
            traces.push(trace);
            z = Arc::new(out);
        }
        (traces, z)
    }

    fn blocks(&mut self, blocks: &[Block], mut z: Arc<Planes>, mode: Mode) -> (Vec<BlockTrace>, Arc<Planes>) {
        let mut traces = Vec::with_capacity(blocks.len());
        for block in blocks {
            let stride = block.first.stride;
            let mut added = if stride > 1 { Arc::new(average(&z, stride)) } else { Arc::clone(&z) };
            let (first, inner) = self.layer(&block.first, z, mode);
            let (second, mut out) = self.layer(&block.second, Arc::new(inner), mode);
            let projection = block.projection.as_ref().map(|layer| {
                let (trace, projected) = self.layer(layer, Arc::clone(&added), mode);
                added = Arc::new(projected);
                trace
            });
            add_leaky(&mut out, &added);
            z = Arc::new(out);
            traces.push(BlockTrace { first, second, projection, output: Arc::clone(&z) });
        }
        (traces, z)
    }

    fn layer(&mut self, layer: &ConvLayer, z: Arc<Planes>, mode: Mode) -> (ConvTrace, Planes) {
        let weight = &self.values[layer.weight];
        let y = if layer.kernel == 1 {
            pointwise(&z, &pack_pointwise(weight, layer.outputs, layer.inputs), layer.outputs, None)
        } else {
            let packed = pack_conv(weight, layer.outputs, layer.inputs);
            conv(&z, &packed, layer.outputs, layer.stride, Epilogue::NONE)
        };
        let parameters = self.norm_parameters(layer);
        let statistics = statistics(&y, &parameters, mode);
        let out = normalise(&y, &parameters, &statistics, layer.slope);
        if let Some((m, v)) = layer.running {
            let (mut mean, mut variance) = (std::mem::take(&mut self.values[m]), std::mem::take(&mut self.values[v]));
            update_running(&statistics, &y, self.optional(layer.bias), self.momentum, &mut mean, &mut variance);
            (self.values[m], self.values[v]) = (mean, variance);
        }
        (ConvTrace { input: z, y, statistics }, out)
    }

    /// Gradients of all tensors, given those by the logits of some levels, each `[n, classes, h, w]`. Consumes the trace.
    pub(crate) fn backward(&self, mut trace: Trace, by_logits: &[LevelLogits]) -> Vec<Vec<f32>> {
        let mut gradients: Vec<Vec<f32>> = self.values.iter().map(|v| vec![0.0; v.len()]).collect();
        let stages = self.graph.encoder.len();
        let mut by_skip: Vec<Option<Planes>> = (0..stages).map(|_| None).collect();
        let mut dz: Option<Planes> = None;
        for (level, layers) in self.graph.decoder.iter().enumerate().rev() {
            let output = &trace.outputs[level];
            for by in by_logits.iter().filter(|by| by.level == level) {
                let head = &layers.head;
                let d = Planes::from_compact(&by.logits, output.samples, head.outputs, output.grid);
                let (dx, dw) = pointwise_gradients(output, &d, &self.values[head.weight]);
                gradients[head.weight] = dw;
                if let Some(bias) = head.bias {
                    gradients[bias] = channel_sums(&d);
                }
                join(&mut dz, dx);
            }
            // A level without gradient from above or from its own head learns nothing.
            let Some(d) = dz.take() else { continue };
            let traces = std::mem::take(&mut trace.decoder[level]);
            let Some(joined) = self.convs_backward(&layers.convs, traces, output, d, true, &mut gradients) else {
                continue;
            };
            let up = &layers.up;
            let raised = joined.take_channels(0, up.outputs);
            by_skip[stages - 2 - level] = Some(joined.take_channels(up.outputs, up.outputs));
            let below = if level == 0 { &trace.skips[stages - 1] } else { &trace.outputs[level - 1] };
            let (dx, dw) = transposed_gradients(below, &raised, &self.values[up.weight], up.stride);
            gradients[up.weight] = dw;
            if let Some(bias) = up.bias {
                gradients[bias] = channel_sums(&raised);
            }
            dz = Some(dx);
        }
        for (stage, layers) in self.graph.encoder.iter().enumerate().rev() {
            if let Some(skip) = by_skip[stage].take() {
                join(&mut dz, skip);
            }
            let (left, d) = (trace.encoder.pop(), dz.take());
            let by_input = stage > 0 || self.graph.stem.is_some();
            dz = match (layers, left, d) {
                (Stage::Convs(layers), Some(StageTrace::Convs(traces)), Some(d)) => {
                    self.convs_backward(layers, traces, &trace.skips[stage], d, by_input, &mut gradients)
                }
                (Stage::Blocks(blocks), Some(StageTrace::Blocks(traces)), Some(d)) => {
                    self.blocks_backward(blocks, traces, d, &mut gradients)
                }
                _ => None,
            };
        }
        if let (Some(layer), Some((left, out)), Some(d)) = (&self.graph.stem, trace.stem, dz) {
            self.layer_backward(layer, &left, &out, d, false, &mut gradients);
        }
        gradients
    }

    /// Backward through the convolutions of a stage; the gradient by their input if it is needed.
    fn convs_backward(
        &self,
        layers: &[ConvLayer],
        traces: Vec<ConvTrace>,
        output: &Planes,
        mut d: Planes,
        by_input: bool,
        gradients: &mut [Vec<f32>],
    ) -> Option<Planes> {
        let mut later: Option<Arc<Planes>> = None;
        for (index, (layer, trace)) in layers.iter().zip(traces).enumerate().rev() {
            let z = later.as_deref().unwrap_or(output);
            d = self.layer_backward(layer, &trace, z, d, index > 0 || by_input, gradients)?;
            later = Some(trace.input);
        }
        Some(d)
    }

    /// Backward through the residual blocks of a stage, down to its input.
    fn blocks_backward(
        &self,
        blocks: &[Block],
        traces: Vec<BlockTrace>,
        mut d: Planes,
        gradients: &mut [Vec<f32>],
    ) -> Option<Planes> {
        for (block, trace) in blocks.iter().zip(traces).rev() {
            leaky_gradient(&mut d, &trace.output);
            let mut added = d.take_channels(0, d.channels);
            d = self.layer_backward(&block.second, &trace.second, &trace.output, d, true, gradients)?;
            d = self.layer_backward(&block.first, &trace.first, &trace.second.input, d, true, gradients)?;
            if let (Some(layer), Some(trace)) = (&block.projection, &trace.projection) {
                added = self.layer_backward(layer, trace, &trace.y, added, true, gradients)?;
            }
            if block.first.stride > 1 {
                added = average_gradient(&added, block.first.stride, trace.first.input.grid);
            }
            d.add(&added);
        }
        Some(d)
    }

    /// Backward through one layer with output `z`; the gradient by its input if it is needed.
    fn layer_backward(
        &self,
        layer: &ConvLayer,
        trace: &ConvTrace,
        z: &Planes,
        mut d: Planes,
        by_input: bool,
        gradients: &mut [Vec<f32>],
    ) -> Option<Planes> {
        let parameters = self.norm_parameters(layer);
        let by = normalise_backward(&mut d, &trace.y, z, &parameters, &trace.statistics, layer.slope);
        gradients[layer.gamma] = by.gamma;
        gradients[layer.beta] = by.beta;
        if let Some(bias) = layer.bias {
            gradients[bias] = by.conv_bias;
        }
        let (input, weight) = (&trace.input, &self.values[layer.weight]);
        if layer.kernel == 1 {
            let (dx, dw) = pointwise_gradients(input, &d, weight);
            gradients[layer.weight] = dw;
            return by_input.then_some(dx);
        }
        gradients[layer.weight] = conv_weight_gradient(input, &d, layer.stride);
        by_input.then(|| conv_input_gradient(&d, weight, layer.inputs, layer.stride, input.grid))
    }
}

fn join(sum: &mut Option<Planes>, more: Planes) {
    match sum {
        Some(sum) => sum.add(&more),
        None => *sum = Some(more),
    }
}
