//! The engine `libtorch`: PyTorch's library driven directly, on the processor or on a CUDA card, in float32 or with
//! bfloat16 between the layers. Only in programs built with the feature `libtorch`.
//!
//! A member is a list of steps with its tensors, made from the folded layers; a scan runs them without recording
//! gradients. On the processor each tile is a run of its own, as it is in the engine `onnx`.

pub(crate) mod calls;

use std::sync::{Mutex, PoisonError};

use consilium_common::bundle::{Averaging, Conventions};
use consilium_common::plan::Architecture;
use image::RgbImage;
use tch::{Kind, Tensor};

use super::{EngineError, Precision, TilePredictor, available_threads};
use crate::network::folded::{Folded, FoldedConv, FoldedLinear, FoldedStage};
use crate::network::norm::EPSILON;
use crate::network::{InputScale, MemberWeights};
use calls::{Place, Torch, VERSION, average, cards, channels_last, conv, copy, raise, tensor, use_threads};

/// Most pixels of a run on a card, whose memory bounds them. Not measured on a card yet.
const CARD_RUN_PX: usize = 16 * 512 * 512;

/// The library that this program was built with: one part of a sentence.
pub(super) fn about() -> Result<String, EngineError> {
    Ok(format!("libtorch {VERSION}, built in"))
}

/// CUDA cards that it sees.
pub(super) fn cuda_cards() -> u32 {
    u32::try_from(cards()).unwrap_or(0)
}

/// Prepares all members on the processor or on a card.
pub(super) fn open(
    card: Option<u32>,
    precision: Precision,
    arch: &Architecture,
    members: &[MemberWeights],
    conventions: Conventions,
) -> Result<(String, Box<dyn TilePredictor>), EngineError> {
    let place = place(card, precision)?;
    let name = match card {
        None => format!("libtorch{}", precision.suffix()),
        Some(card) => format!("libtorch on cuda:{card}{}", precision.suffix()),
    };
    let prepare = |(member, weights)| {
        Net::new(&Folded::new(arch, weights), place).map(Mutex::new).map_err(|why| EngineError::Prepare {
            engine: name.clone(),
            member,
            why: said(&why),
        })
    };
    let nets = members.iter().enumerate().map(prepare).collect::<Result<_, EngineError>>()?;
    let engine = Libtorch {
        name: name.clone(),
        place,
        threads: available_threads().div_ceil(members.len().clamp(1, available_threads())),
        classes: arch.classes,
        total_stride: arch.total_stride(),
        conventions,
        members: nets,
    };
    Ok((name, Box::new(engine)))
}

/// Where to compute, if it is there.
pub(crate) fn place(card: Option<u32>, precision: Precision) -> Result<Place, EngineError> {
    let place = Place { card, precision };
    match card {
        Some(card) if !place.is_there() => Err(EngineError::NoCard { card, cards: cuda_cards() }),
        _ => Ok(place),
    }
}

/// The first line of what libtorch says; the rest are places in its own code.
fn said(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

struct Libtorch {
    name: String,
    place: Place,
    /// Threads of each member, all running side by side.
    threads: usize,
    classes: usize,
    total_stride: u32,
    conventions: Conventions,
    members: Vec<Mutex<Net>>,
}

impl TilePredictor for Libtorch {
    fn members(&self) -> usize {
        self.members.len()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn total_stride(&self) -> u32 {
        self.total_stride
    }

    fn conventions(&self) -> Conventions {
        self.conventions
    }

    fn predict(
        &self,
        member: usize,
        tiles: &[RgbImage],
        input: &InputScale,
        out: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let members = self.members.len();
        let net = self.members.get(member).ok_or(EngineError::NoSuchMember { member, members })?;
        // A run that failed leaves nothing half done that the next one reads.
        let mut net = net.lock().unwrap_or_else(PoisonError::into_inner);
        let pixels = tiles.first().map_or(0, |tile| tile.width() as usize * tile.height() as usize).max(1);
        out.resize(tiles.len() * self.classes * pixels, 0.0);
        let each = if self.place.card.is_some() { (CARD_RUN_PX / pixels).max(1) } else { 1 };
        use_threads(self.threads);
        for (tiles, out) in tiles.chunks(each).zip(out.chunks_mut(each * self.classes * pixels)) {
            tch::no_grad(|| self.run(&mut net, tiles, input, out)).map_err(|why| EngineError::Run {
                engine: self.name.clone(),
                member,
                why: said(&why),
            })?;
        }
        Ok(())
    }
}

impl Libtorch {
    /// What one member says of tiles of one size.
    fn run(&self, net: &mut Net, tiles: &[RgbImage], input: &InputScale, out: &mut [f32]) -> Torch<()> {
        let (width, height) = tiles.first().map_or((0, 0), RgbImage::dimensions);
        let padded =
            (width.next_multiple_of(self.total_stride) as usize, height.next_multiple_of(self.total_stride) as usize);
        let (area, beyond) = (padded.0 * padded.1, input.beyond(self.conventions.padding));
        net.input.resize(tiles.len() * 3 * area, 0.0);
        for (tile, planes) in tiles.iter().zip(net.input.chunks_exact_mut((3 * area).max(1))) {
            input.fill(tile, padded, beyond, planes);
        }
        let z = tensor(&net.input, &[tiles.len(), 3, padded.1, padded.0], self.place.device())?;
        let logits = net.logits(channels_last(&z)?.f_to_kind(self.place.kind())?)?.f_to_kind(Kind::Float)?;
        let logits = logits.f_narrow(2, 0, height.into())?.f_narrow(3, 0, width.into())?;
        match self.conventions.averaging {
            Averaging::Logits => copy(&logits, out),
            Averaging::Probabilities => copy(&logits.f_softmax(1, Kind::Float)?, out),
        }
    }
}

/// The steps of a member, and memory for its input that is used again.
struct Net {
    steps: Vec<Step>,
    input: Vec<f32>,
}

enum Step {
    Conv(Conv),
    /// Two convolutions around which the input is added again.
    Block {
        first: Conv,
        second: Conv,
        projection: Option<Conv>,
    },
    /// Keeps what there is for the decoder.
    Keep,
    /// Up-samples, and joins what was kept last.
    Raise(Conv),
}

/// A convolution with what follows it.
struct Conv {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: usize,
    /// Scale and shift of the normalisation with statistics of each image.
    image_norm: Option<(Tensor, Tensor)>,
    leaky: bool,
}

impl Net {
    fn new(folded: &Folded, place: Place) -> Torch<Self> {
        let mut steps = Vec::new();
        if let Some(stem) = &folded.stem {
            steps.push(Step::Conv(Conv::new(stem, place)?));
        }
        for (index, stage) in folded.encoder.iter().enumerate() {
            match stage {
                FoldedStage::Convs(layers) => {
                    for layer in layers {
                        steps.push(Step::Conv(Conv::new(layer, place)?));
                    }
                }
                FoldedStage::Blocks(blocks) => {
                    for block in blocks {
                        let projection = block.projection.as_ref().map(|layer| Conv::new(layer, place)).transpose()?;
                        let (first, second) = (Conv::new(&block.first, place)?, Conv::new(&block.second, place)?);
                        steps.push(Step::Block { first, second, projection });
                    }
                }
            }
            // The deepest stage's output is no skip: it is where the decoder begins.
            if index + 1 < folded.encoder.len() {
                steps.push(Step::Keep);
            }
        }
        for level in &folded.decoder {
            let up = &level.up;
            steps.push(Step::Raise(Conv::linear(up, [up.inputs, up.outputs, up.stride, up.stride], place)?));
            for layer in &level.convs {
                steps.push(Step::Conv(Conv::new(layer, place)?));
            }
        }
        let head = &folded.head;
        steps.push(Step::Conv(Conv::linear(head, [head.outputs, head.inputs, 1, 1], place)?));
        Ok(Self { steps, input: Vec::new() })
    }

    fn logits(&self, mut z: Tensor) -> Torch<Tensor> {
        let mut kept = Vec::new();
        for step in &self.steps {
            z = match step {
                Step::Conv(conv) => conv.apply(&z)?,
                Step::Block { first, second, projection } => {
                    let inner = second.apply(&first.apply(&z)?)?;
                    let mut around = if first.stride > 1 { average(&z, first.stride)? } else { z };
                    if let Some(projection) = projection {
                        around = projection.apply(&around)?;
                    }
                    inner.f_add(&around)?.f_leaky_relu_()?
                }
                Step::Keep => {
                    kept.push(z.shallow_clone());
                    z
                }
                Step::Raise(up) => {
                    let raised = raise(&z, &up.weight, up.bias.as_ref(), up.stride)?;
                    match kept.pop() {
                        Some(skip) => Tensor::f_cat(&[raised, skip], 1)?,
                        None => raised,
                    }
                }
            };
        }
        Ok(z)
    }
}

impl Conv {
    fn new(layer: &FoldedConv, place: Place) -> Torch<Self> {
        let shape = [layer.outputs, layer.inputs, layer.kernel, layer.kernel];
        let weight = channels_last(&tensor(&layer.weight, &shape, place.device())?)?.f_to_kind(place.kind())?;
        let vector = |values: &Vec<f32>| tensor(values, &[values.len()], place.device());
        let bias = layer.bias.as_ref().map(|bias| vector(bias)?.f_to_kind(place.kind())).transpose()?;
        let norm = |(gamma, beta): &(Vec<f32>, Vec<f32>)| Ok::<_, tch::TchError>((vector(gamma)?, vector(beta)?));
        let image_norm = layer.image_norm.as_ref().map(norm).transpose()?;
        Ok(Self { weight, bias, stride: layer.stride, image_norm, leaky: layer.slope != 1.0 })
    }

    fn linear(layer: &FoldedLinear, shape: [usize; 4], place: Place) -> Torch<Self> {
        let weight = channels_last(&tensor(&layer.weight, &shape, place.device())?)?.f_to_kind(place.kind())?;
        let vector = |values: &Vec<f32>| tensor(values, &[values.len()], place.device())?.f_to_kind(place.kind());
        let bias = layer.bias.as_ref().map(vector).transpose()?;
        Ok(Self { weight, bias, stride: layer.stride, image_norm: None, leaky: false })
    }

    fn apply(&self, z: &Tensor) -> Torch<Tensor> {
        let mut z = conv(z, &self.weight, self.bias.as_ref(), self.stride)?;
        if let Some((gamma, beta)) = &self.image_norm {
            z = z.f_instance_norm(Some(gamma), Some(beta), None, None, true, 0.1, EPSILON, true)?;
        }
        if self.leaky { z.f_leaky_relu_() } else { Ok(z) }
    }
}
