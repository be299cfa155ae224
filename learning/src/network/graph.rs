//! The layers of a network in order, each with the places of its tensors in `Architecture::tensors()`.

use std::collections::BTreeMap;

use consilium_common::plan::{Architecture, Encoder, Norm};

use super::weights::LEAKY_SLOPE;

/// Convolution and normalisation, and mostly LeakyReLU.
#[derive(Clone, Debug)]
pub(crate) struct ConvLayer {
    /// Slope for negative results; 1 where there is no LeakyReLU.
    pub(crate) slope: f32,
    /// Side of the kernel, 3 or 1.
    pub(crate) kernel: usize,
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

/// Two convolutions around which the input is added again; LeakyReLU follows the sum.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The first, which has the block's stride.
    pub(crate) first: ConvLayer,
    /// The second, without LeakyReLU.
    pub(crate) second: ConvLayer,
    /// What the input, averaged over the stride, passes where the features change: 1x1, without LeakyReLU.
    pub(crate) projection: Option<ConvLayer>,
}

impl Block {
    fn layers(&self) -> impl Iterator<Item = &ConvLayer> {
        [&self.first, &self.second].into_iter().chain(&self.projection)
    }
}

/// One stage of the encoder.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    Convs(Vec<ConvLayer>),
    Blocks(Vec<Block>),
}

impl Stage {
    fn layers(&self) -> Vec<&ConvLayer> {
        match self {
            Self::Convs(layers) => layers.iter().collect(),
            Self::Blocks(blocks) => blocks.iter().flat_map(Block::layers).collect(),
        }
    }
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
    /// What comes before the first stage of a residual encoder.
    pub(crate) stem: Option<ConvLayer>,
    pub(crate) encoder: Vec<Stage>,
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
            slope: LEAKY_SLOPE,
            kernel: 3,
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
        let residual = arch.encoder == Encoder::Residual;
        let stem = residual.then(|| conv("encoder.stem.convs.0".to_owned(), arch.input_channels, features[0], 1));
        let encoder = (0..stages).map(|stage| {
            let first = if residual { features[0] } else { arch.input_channels };
            let before = if stage == 0 { first } else { features[stage - 1] };
            let sizes = |i: usize| if i == 0 { (before, arch.strides[stage]) } else { (features[stage], 1) };
            let layer = |i: usize| {
                let (inputs, stride) = sizes(i);
                conv(format!("encoder.stages.{stage}.0.convs.{i}"), inputs, features[stage], stride)
            };
            let block = |i: usize| {
                let ((inputs, stride), outputs) = (sizes(i), features[stage]);
                let named = |part: &str| format!("encoder.stages.{stage}.blocks.{i}.{part}");
                let flat = |layer: ConvLayer| ConvLayer { slope: 1.0, ..layer };
                Block {
                    first: conv(named("conv1"), inputs, outputs, stride),
                    second: flat(conv(named("conv2"), outputs, outputs, 1)),
                    projection: arch
                        .projection(stage, i)
                        .map(|name| ConvLayer { kernel: 1, ..flat(conv(name, inputs, outputs, 1)) }),
                }
            };
            let count = 0..arch.convs[stage];
            if residual { Stage::Blocks(count.map(block).collect()) } else { Stage::Convs(count.map(layer).collect()) }
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
        Self { stem, encoder: encoder.collect(), decoder: decoder.collect(), norm: arch.norm }
    }

    /// Places of the tensors that are statistics, not parameters.
    pub(crate) fn statistics(&self) -> Vec<usize> {
        let encoder = self.stem.iter().chain(self.encoder.iter().flat_map(Stage::layers));
        let layers = encoder.chain(self.decoder.iter().flat_map(|l| &l.convs));
        layers.filter_map(|l| l.running).flat_map(|(mean, variance)| [mean, variance]).collect()
    }
}
