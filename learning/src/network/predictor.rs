//! Inference with all members of an ensemble. Normalisation with running statistics is folded into the convolutions, so a
//! layer is one pass: multiply, shift, LeakyReLU. Tiles are independent and computed in parallel.

use consilium_common::bundle::{Averaging, Conventions};
use consilium_common::plan::Architecture;
use image::RgbImage;
use rayon::prelude::*;

use super::convolution::{Epilogue, conv, pack_conv, pack_pointwise, pack_transposed, pointwise, transposed};
use super::ensemble::Ensemble;
use super::features::Features;
use super::folded::{Folded, FoldedBlock, FoldedConv, FoldedLevel, FoldedLinear, FoldedStage};
use super::form::EnsembleForm;
use super::input::InputScale;
use super::kernels::Packed;
use super::norm::{Mode, NormParameters, normalise, statistics};
use super::planes::{Grid, Planes};
use super::residual::{add_leaky, average};
use super::softmax::softmax;
use super::weights::MemberWeights;

/// One ensemble, ready to predict.
#[derive(Debug)]
pub struct Predictor {
    form: EnsembleForm,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    stem: Option<Conv>,
    encoder: Vec<Layers>,
    decoder: Vec<Level>,
    head: Linear,
}

/// One stage of the encoder.
#[derive(Debug)]
enum Layers {
    Convs(Vec<Conv>),
    Blocks(Vec<Residual>),
}

#[derive(Debug)]
struct Residual {
    first: Conv,
    second: Conv,
    projection: Option<Conv>,
}

#[derive(Debug)]
struct Level {
    up: Linear,
    convs: Vec<Conv>,
}

/// Packed weights, a bias and, where statistics are those of each image, the normalisation that follows.
#[derive(Debug)]
struct Conv {
    packed: Packed,
    kernel: usize,
    outputs: usize,
    stride: usize,
    slope: f32,
    bias: Option<Vec<f32>>,
    image_norm: Option<(Vec<f32>, Vec<f32>)>,
}

#[derive(Debug)]
struct Linear {
    packed: Packed,
    outputs: usize,
    stride: usize,
    bias: Option<Vec<f32>>,
}

impl Predictor {
    /// Prepares all members of an ensemble.
    pub fn new(ensemble: &Ensemble) -> Self {
        let manifest = &ensemble.manifest;
        Self::of_members(&manifest.architecture, &ensemble.members).used_as(manifest.conventions())
    }

    /// The same members used in another way.
    #[must_use]
    pub fn used_as(self, conventions: Conventions) -> Self {
        Self { form: EnsembleForm { conventions, ..self.form }, ..self }
    }

    /// Prepares members that are not in a bundle (yet), to be used as our own. They must be of this architecture.
    pub fn of_members(arch: &Architecture, members: &[MemberWeights]) -> Self {
        Self {
            form: EnsembleForm::new(arch, members.len(), Conventions::default()),
            members: members.iter().map(|weights| Member::new(arch, weights)).collect(),
        }
    }

    /// What is computed. A tile whose sides are no multiples of the stride is padded at the right and bottom,
    /// and the result is cut back.
    pub fn form(&self) -> EnsembleForm {
        self.form
    }

    /// What is averaged, probabilities or logits, of one member for tiles of one size: `[n, classes, h, w]`, in memory that
    /// is used again.
    pub fn predict(&self, member: usize, tiles: &[RgbImage], input: &InputScale, out: &mut Vec<f32>) {
        self.each_tile(member, tiles, input, out, |values| {
            if self.form.conventions.averaging == Averaging::Probabilities {
                softmax(values, self.form.classes, values.len() / self.form.classes);
            }
        });
    }

    /// Logits of one member for tiles of one size, `[n, classes, h, w]`.
    pub fn logits(&self, member: usize, tiles: &[RgbImage], input: &InputScale) -> Vec<f32> {
        let mut out = Vec::new();
        self.each_tile(member, tiles, input, &mut out, |_| {});
        out
    }

    /// What the deepest stage of one member says of an image, whose parts are then compared: statistics of the image are
    /// those of all of it.
    pub fn features(&self, member: usize, tile: &RgbImage, input: &InputScale) -> Features {
        let padded = |side: u32| side.next_multiple_of(self.form.total_stride) as usize;
        let (grid, beyond) =
            (Grid::new(padded(tile.height()), padded(tile.width())), input.beyond(self.form.conventions.padding));
        match self.members[member].encode(planes_of(tile, grid, input, beyond)).pop() {
            Some(deepest) => Features {
                stride: self.form.total_stride,
                width: deepest.grid.width,
                height: deepest.grid.height,
                planes: deepest.to_compact(),
            },
            None => Features { stride: self.form.total_stride, width: 0, height: 0, planes: Vec::new() },
        }
    }

    fn each_tile(
        &self,
        member: usize,
        tiles: &[RgbImage],
        input: &InputScale,
        out: &mut Vec<f32>,
        then: impl Fn(&mut [f32]) + Sync,
    ) {
        let beyond = input.beyond(self.form.conventions.padding);
        let (width, height) = tiles.first().map_or((0, 0), RgbImage::dimensions);
        let one = self.form.classes * width as usize * height as usize;
        out.resize(tiles.len() * one, 0.0);
        tiles.par_iter().zip(out.par_chunks_exact_mut(one.max(1))).for_each(|(tile, out)| {
            let (height, width) = (tile.height(), tile.width());
            let padded = |side: u32| side.next_multiple_of(self.form.total_stride) as usize;
            let pixels = planes_of(tile, Grid::new(padded(height), padded(width)), input, beyond);
            self.members[member].logits(pixels, Grid::new(height as usize, width as usize), out);
            then(out);
        });
    }
}

impl Member {
    fn new(arch: &Architecture, weights: &MemberWeights) -> Self {
        let folded = Folded::new(arch, weights);
        let block = |block: FoldedBlock| Residual {
            first: Conv::new(block.first),
            second: Conv::new(block.second),
            projection: block.projection.map(Conv::new),
        };
        let stage = |stage: FoldedStage| match stage {
            FoldedStage::Convs(layers) => Layers::Convs(layers.into_iter().map(Conv::new).collect()),
            FoldedStage::Blocks(blocks) => Layers::Blocks(blocks.into_iter().map(block).collect()),
        };
        let level = |level: FoldedLevel| Level {
            up: Linear::new(level.up, |up| pack_transposed(&up.weight, up.inputs, up.outputs, up.stride)),
            convs: level.convs.into_iter().map(Conv::new).collect(),
        };
        Self {
            stem: folded.stem.map(Conv::new),
            encoder: folded.encoder.into_iter().map(stage).collect(),
            decoder: folded.decoder.into_iter().map(level).collect(),
            head: Linear::new(folded.head, |head| pack_pointwise(&head.weight, head.outputs, head.inputs)),
        }
    }

    /// What every stage of the encoder says, the deepest last.
    fn encode(&self, pixels: Planes) -> Vec<Planes> {
        let input = match &self.stem {
            Some(stem) => stem.run(&pixels),
            None => pixels,
        };
        let mut skips: Vec<Planes> = Vec::with_capacity(self.encoder.len());
        for stage in &self.encoder {
            let input = skips.last().unwrap_or(&input);
            skips.push(match stage {
                Layers::Convs(layers) => run(layers, input),
                Layers::Blocks(blocks) => run_blocks(blocks, input),
            });
        }
        skips
    }

    /// Writes the logits of the top left part of a tile.
    fn logits(&self, pixels: Planes, part: Grid, out: &mut [f32]) {
        let mut skips = self.encode(pixels);
        let Some(mut z) = skips.pop() else { return };
        for level in &self.decoder {
            let up = &level.up;
            let raised = transposed(&z, &up.packed, up.outputs, up.stride, up.bias.as_deref());
            let mut joined = Planes::blank(1, 2 * up.outputs, raised.grid);
            joined.put_channels(0, &raised);
            if let Some(skip) = skips.pop() {
                joined.put_channels(up.outputs, &skip);
            }
            z = run(&level.convs, &joined);
        }
        pointwise(&z, &self.head.packed, self.head.outputs, self.head.bias.as_deref()).copy_top_left(part, out);
    }
}

/// A tile as network input, with what is beyond its right and bottom edges.
fn planes_of(tile: &RgbImage, grid: Grid, input: &InputScale, beyond: [f32; 3]) -> Planes {
    let mut compact = vec![0.0f32; 3 * grid.pixels()];
    input.fill(tile, (grid.width, grid.height), beyond, &mut compact);
    Planes::from_compact(&compact, 1, 3, grid)
}

/// The convolutions of one stage, of which there is at least one.
fn run(layers: &[Conv], input: &Planes) -> Planes {
    let mut out: Option<Planes> = None;
    for layer in layers {
        out = Some(layer.run(out.as_ref().unwrap_or(input)));
    }
    out.unwrap_or_else(|| Planes::zeros(input.samples, input.channels, input.grid))
}

/// The blocks of one stage, of which there is at least one.
fn run_blocks(blocks: &[Residual], input: &Planes) -> Planes {
    let mut out: Option<Planes> = None;
    for block in blocks {
        let input = out.as_ref().unwrap_or(input);
        let mut sum = block.second.run(&block.first.run(input));
        let averaged = (block.first.stride > 1).then(|| average(input, block.first.stride));
        let added = averaged.as_ref().unwrap_or(input);
        match &block.projection {
            Some(projection) => add_leaky(&mut sum, &projection.run(added)),
            None => add_leaky(&mut sum, added),
        }
        out = Some(sum);
    }
    out.unwrap_or_else(|| Planes::zeros(input.samples, input.channels, input.grid))
}

impl Linear {
    fn new(layer: FoldedLinear, pack: impl FnOnce(&FoldedLinear) -> Packed) -> Self {
        Self { packed: pack(&layer), outputs: layer.outputs, stride: layer.stride, bias: layer.bias }
    }
}

impl Conv {
    fn new(layer: FoldedConv) -> Self {
        // A 1x1 layer has no LeakyReLU behind it: its sum with another has.
        let pack = if layer.kernel == 1 { pack_pointwise } else { pack_conv };
        let packed = pack(&layer.weight, layer.outputs, layer.inputs);
        let FoldedConv { kernel, outputs, stride, slope, bias, image_norm, .. } = layer;
        Self { packed, kernel, outputs, stride, slope, bias, image_norm }
    }

    fn run(&self, input: &Planes) -> Planes {
        let bias = self.bias.as_deref();
        let y = if self.kernel == 1 {
            pointwise(input, &self.packed, self.outputs, bias)
        } else {
            let slope = if self.image_norm.is_some() { 1.0 } else { self.slope };
            conv(input, &self.packed, self.outputs, self.stride, Epilogue { bias, slope })
        };
        match &self.image_norm {
            None => y,
            Some((gamma, beta)) => {
                let parameters = NormParameters { gamma, beta, conv_bias: None, running: None };
                normalise(&y, &parameters, &statistics(&y, &parameters, Mode::Image), self.slope)
            }
        }
    }
}
