//! The layers of a PlainConvUNet in order, each with the places of its tensors in `Architecture::tensors()`.

use std::collections::BTreeMap;

use consilium_common::plan::{Architecture, Norm};

/// Convolution, normalisation, LeakyReLU.
#[derive(Clone, Debug)]
pub(crate) struct ConvLayer {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) stride: usize,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) gamma: usize,
    pub(crate) beta: usize,
    /// Running mean and variance, for batch normalisation.
    pub(crate) running: Option<(usize, usize)>,
}

/// A layer of weights and a bias: a transposed convolution or a segmentation head.
#[derive(Clone, Debug)]
pub(crate) struct LinearLayer {
    pub(crate) outputs: usize,
    pub(crate) stride: usize,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
}

/// One level of the decoder, deepest first: up-sampling, convolutions of up-sampled and skipped features, head.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    pub(crate) up: LinearLayer,
    pub(crate) convs: Vec<ConvLayer>,
    pub(crate) head: LinearLayer,
    /// Pixels of the input for one pixel here.
    pub(crate) factor: usize,
}

/// All layers.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub(crate) encoder: Vec<Vec<ConvLayer>>,
    pub(crate) decoder: Vec<Level>,
    pub(crate) norm: Norm,
}

impl Graph {
    pub(crate) fn new(arch: &Architecture) -> Self {
        let names: BTreeMap<String, usize> =
            arch.tensors().into_iter().enumerate().map(|(index, t)| (t.name, index)).collect();
        let find = |name: String| names.get(&name).copied();
        let at = |name: String| find(name).unwrap_or(0);
        let conv = |prefix: String, inputs: usize, outputs: usize, stride: usize| ConvLayer {
            inputs,
            outputs,
            stride,
            weight: at(format!("{prefix}.conv.weight")),
            bias: find(format!("{prefix}.conv.bias")),
            gamma: at(format!("{prefix}.norm.weight")),
            beta: at(format!("{prefix}.norm.bias")),
            running: find(format!("{prefix}.norm.running_mean")).zip(find(format!("{prefix}.norm.running_var"))),
        };
        let linear = |prefix: String, outputs: usize, stride: usize| LinearLayer {
            outputs,
            stride,
            weight: at(format!("{prefix}.weight")),
            bias: find(format!("{prefix}.bias")),
        };
        let (stages, features) = (arch.stages(), &arch.features);
        let encoder = (0..stages).map(|stage| {
            let before = if stage == 0 { arch.input_channels } else { features[stage - 1] };
            let layer = |i: usize| {
                let (inputs, stride) = if i == 0 { (before, arch.strides[stage]) } else { (features[stage], 1) };
                conv(format!("encoder.stages.{stage}.0.convs.{i}"), inputs, features[stage], stride)
            };
            (0..arch.convs[stage]).map(layer).collect()
        });
        let decoder = (0..stages - 1).map(|level| {
            let stage = stages - 2 - level;
            let width = features[stage];
            let layer = |i: usize| {
                let inputs = if i == 0 { 2 * width } else { width };
                conv(format!("decoder.stages.{level}.convs.{i}"), inputs, width, 1)
            };
            Level {
                up: linear(format!("decoder.transpconvs.{level}"), width, arch.strides[stage + 1]),
                convs: (0..arch.decoder_convs[level]).map(layer).collect(),
                head: linear(format!("decoder.seg_layers.{level}"), arch.classes, 1),
                factor: arch.strides[..=stage].iter().product(),
            }
        });
        Self { encoder: encoder.collect(), decoder: decoder.collect(), norm: arch.norm }
    }

    /// Places of the tensors that are statistics, not parameters.
    pub(crate) fn statistics(&self) -> Vec<usize> {
        let layers = self.encoder.iter().flatten().chain(self.decoder.iter().flat_map(|l| &l.convs));
        layers.filter_map(|l| l.running).flat_map(|(mean, variance)| [mean, variance]).collect()
    }
}
