//! One member as plain layers for scanning: batch normalisation with running statistics is part of the weights, so that
//! a layer is one pass: multiply, shift, LeakyReLU. Every engine that scans starts from here.

use consilium_common::plan::{Architecture, Norm};

use super::graph::{Block, ConvLayer, Graph, LinearLayer, Stage};
use super::norm::{NormParameters, frozen_affine};
use super::weights::MemberWeights;

/// All layers of a member, in the order of their use.
#[derive(Debug)]
pub(crate) struct Folded {
    /// What comes before the first stage of a residual encoder.
    pub(crate) stem: Option<FoldedConv>,
    /// Stages, finest first; the output of each but the last is also a skip.
    pub(crate) encoder: Vec<FoldedStage>,
    /// Levels, deepest first.
    pub(crate) decoder: Vec<FoldedLevel>,
    /// The finest segmentation layer, 1x1.
    pub(crate) head: FoldedLinear,
}

/// One stage of the encoder.
#[derive(Debug)]
pub(crate) enum FoldedStage {
    Convs(Vec<FoldedConv>),
    Blocks(Vec<FoldedBlock>),
}

/// Two convolutions around which the input, averaged over the stride and projected, is added; LeakyReLU follows the sum.
#[derive(Debug)]
pub(crate) struct FoldedBlock {
    pub(crate) first: FoldedConv,
    pub(crate) second: FoldedConv,
    pub(crate) projection: Option<FoldedConv>,
}

/// Up-sampling, then convolutions of up-sampled and skipped features.
#[derive(Debug)]
pub(crate) struct FoldedLevel {
    pub(crate) up: FoldedLinear,
    pub(crate) convs: Vec<FoldedConv>,
}

/// A convolution, 3x3 with padding 1 or 1x1 without, and mostly a LeakyReLU.
#[derive(Debug)]
pub(crate) struct FoldedConv {
    /// `[outputs, inputs, kernel, kernel]`
    pub(crate) weight: Vec<f32>,
    pub(crate) kernel: usize,
    /// Slope for negative results; 1 where there is no LeakyReLU.
    pub(crate) slope: f32,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) stride: usize,
    pub(crate) bias: Option<Vec<f32>>,
    /// Where statistics are those of each image: gamma and beta of the normalisation between the two.
    pub(crate) image_norm: Option<(Vec<f32>, Vec<f32>)>,
}

/// A transposed convolution whose kernel is its stride, `[inputs, outputs, stride, stride]`, or a 1x1 convolution,
/// `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) struct FoldedLinear {
    pub(crate) weight: Vec<f32>,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) stride: usize,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Folded {
    /// The layers of a member, which must be of this architecture.
    pub(crate) fn new(arch: &Architecture, weights: &MemberWeights) -> Self {
        let graph = Graph::new(arch);
        let shapes = arch.tensors();
        let value = |i: usize| weights.get(&shapes[i].name).map_or(&[][..], |t| t.values.as_slice());
        let conv = |layer: &ConvLayer| fold(layer, &value, arch.norm);
        let linear = |layer: &LinearLayer, inputs: usize| FoldedLinear {
            weight: value(layer.weight).to_vec(),
            inputs,
            outputs: layer.outputs,
            stride: layer.stride,
            bias: layer.bias.map(|i| value(i).to_vec()),
        };
        let mut inputs = arch.features.last().copied().unwrap_or(0);
        let mut decoder = Vec::new();
        for level in &graph.decoder {
            decoder.push(FoldedLevel { up: linear(&level.up, inputs), convs: level.convs.iter().map(conv).collect() });
            inputs = level.up.outputs;
        }
        let head = linear(&graph.decoder[graph.decoder.len() - 1].head, inputs);
        let block = |b: &Block| FoldedBlock {
            first: conv(&b.first),
            second: conv(&b.second),
            projection: b.projection.as_ref().map(conv),
        };
        let stage = |stage: &Stage| match stage {
            Stage::Convs(layers) => FoldedStage::Convs(layers.iter().map(conv).collect()),
            Stage::Blocks(blocks) => FoldedStage::Blocks(blocks.iter().map(block).collect()),
        };
        Self { stem: graph.stem.as_ref().map(conv), encoder: graph.encoder.iter().map(stage).collect(), decoder, head }
    }
}

/// Batch normalisation becomes part of the weights; instance normalisation stays, and makes the bias pointless.
fn fold<'a>(layer: &ConvLayer, value: &impl Fn(usize) -> &'a [f32], norm: Norm) -> FoldedConv {
    let parameters = NormParameters {
        gamma: value(layer.gamma),
        beta: value(layer.beta),
        conv_bias: layer.bias.map(value),
        running: layer.running.map(|(m, v)| (value(m), value(v))),
    };
    let mut weight = value(layer.weight).to_vec();
    let (bias, image_norm) = match (norm, frozen_affine(&parameters)) {
        (Norm::Batch, Some((scale, shift))) => {
            let each = weight.len() / layer.outputs.max(1);
            weight.chunks_exact_mut(each).zip(&scale).for_each(|(w, s)| w.iter_mut().for_each(|w| *w *= s));
            (Some(shift), None)
        }
        _ => (None, Some((parameters.gamma.to_vec(), parameters.beta.to_vec()))),
    };
    let ConvLayer { kernel, slope, inputs, outputs, stride, .. } = *layer;
    FoldedConv { weight, kernel, slope, inputs, outputs, stride, bias, image_norm }
}
