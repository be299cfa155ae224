//! The engine `libtorch`: PyTorch's library driven directly, on the processor or on a CUDA card, in float32 or with
//! bfloat16 between the layers. Only in programs built with the feature `libtorch`.
//!
//! A member is a list of steps with its tensors, made from the folded layers; a scan runs them without recording
//! gradients.

pub(crate) mod calls;

use std::sync::{Mutex, PoisonError};

use consilium_common::bundle::{Averaging, Conventions};
use consilium_common::plan::Architecture;
use image::RgbImage;
use tch::{Kind, Tensor};

use super::runs::{Run, in_runs, threads_beside};
use super::{EngineError, Precision, TilePredictor};
use crate::network::folded::{Folded, FoldedConv, FoldedLinear, FoldedStage};
use crate::network::norm::EPSILON;
use crate::network::{EnsembleForm, InputScale, MemberWeights};
use calls::{Place, Torch, VERSION, average, cards, channels_last, conv, copy, raise, said, tensor, use_threads};

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
        let net = Net::new(&Folded::new(arch, weights), place);
        let net = net.map_err(|why| EngineError::Prepare { engine: name.clone(), member, why: said(&why) })?;
        Ok(Mutex::new(Member { net, planes: Vec::new() }))
    };
    let nets = members.iter().enumerate().map(prepare).collect::<Result<_, EngineError>>()?;
    let engine = Libtorch {
        name: name.clone(),
        place,
        threads: threads_beside(members.len()),
        form: EnsembleForm::new(arch, members.len(), conventions),
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

struct Libtorch {
    name: String,
    place: Place,
    /// Threads of each member, all running side by side.
    threads: usize,
    form: EnsembleForm,
    members: Vec<Mutex<Member>>,
}

/// A network and memory for its input, which is used again.
struct Member {
    net: Net,
    planes: Vec<f32>,
}

impl TilePredictor for Libtorch {
    fn form(&self) -> EnsembleForm {
        self.form
    }

    fn predict(
        &self,
        member: usize,
        tiles: &[RgbImage],
        input: &InputScale,
        out: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let members = self.form.members;
        let place = self.members.get(member).ok_or(EngineError::NoSuchMember { member, members })?;
        // A run that failed leaves nothing half done that the next one reads.
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        let Member { net, planes } = &mut *place;
        use_threads(self.threads);
        in_runs(&self.form, self.place.card.is_some(), tiles, input, planes, out, |one, out| {
            tch::no_grad(|| self.run(net, one, out)).map_err(|why| EngineError::Run {
                engine: self.name.clone(),
                member,
                why: said(&why),
            })
        })
    }
}

impl Libtorch {
    fn run(&self, net: &Net, one: &Run<'_>, out: &mut [f32]) -> Torch<()> {
        let z = tensor(one.planes, &one.shape, self.place.device())?;
        let logits = net.logits(channels_last(&z)?.f_to_kind(self.place.kind())?)?;
        let logits = logits.f_narrow(2, 0, one.part.1 as i64)?.f_narrow(3, 0, one.part.0 as i64)?;
        match self.form.conventions.averaging {
            Averaging::Logits => copy(&logits, out),
            Averaging::Probabilities => copy(&logits.f_softmax(1, Kind::Float)?, out),
        }
    }
}

/// The steps of a member.
struct Net {
    steps: Vec<Step>,
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
    /// The logits, in float32 whatever the precision: labels hang on their last bits.
    Head(Conv),
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
        let exact = Place { precision: Precision::Fp32, ..place };
        steps.push(Step::Head(Conv::linear(head, [head.outputs, head.inputs, 1, 1], exact)?));
        Ok(Self { steps })
    }

    fn logits(&self, mut z: Tensor) -> Torch<Tensor> {
        let mut kept = Vec::new();
        for step in &self.steps {
            z = match step {
                Step::Conv(conv) => conv.apply(&z)?,
                Step::Head(conv) => conv.apply(&z.f_to_kind(Kind::Float)?)?,
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
