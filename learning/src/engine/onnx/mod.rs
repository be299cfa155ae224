//! The engine `onnx`: ONNX Runtime, loaded at run time, on the processor or on a CUDA card. For scanning only.
//!
//! Every member is a session of its own, made in memory from the folded layers ([`graph`]). Whatever goes wrong in the
//! library, even a panic of its binding, comes back as an error.

mod ffi;
mod graph;
mod library;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use consilium_common::bundle::{Averaging, Conventions};
use consilium_common::plan::Architecture;
use image::RgbImage;
use ort::ep::{CUDA, ExecutionProvider};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::TensorRef;

pub use library::{onnx_library, set_onnx_library};

use super::runs::{Run, in_runs, threads_beside};
use super::{EngineError, TilePredictor};
use crate::network::folded::Folded;
use crate::network::{EnsembleForm, InputScale, MemberWeights, softmax};
use library::Loaded;

/// Where the networks are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Processor,
    /// The CUDA card of this number.
    Card(u32),
}

/// An ensemble in sessions of ONNX Runtime.
#[derive(Debug)]
pub(super) struct Onnx {
    name: String,
    place: Place,
    form: EnsembleForm,
    members: Vec<Mutex<Member>>,
}

/// A session and memory for its input, which is used again.
#[derive(Debug)]
struct Member {
    session: Session,
    planes: Vec<f32>,
}

impl Onnx {
    /// Prepares all members.
    pub(super) fn open(
        place: Place,
        arch: &Architecture,
        members: &[MemberWeights],
        conventions: Conventions,
    ) -> Result<Self, EngineError> {
        let loaded = library::loaded().map_err(Box::new)?;
        if place != Place::Processor && !has_cuda() {
            let info = &loaded.info;
            return Err(EngineError::NoCuda { path: info.path.display().to_string(), version: info.version.clone() });
        }
        let name = match place {
            Place::Processor => "onnx".to_owned(),
            Place::Card(card) => format!("onnx on cuda:{card}"),
        };
        let threads = if place == Place::Processor { threads_beside(members.len()) } else { 1 };
        let open = |(member, weights)| {
            let session = quietly(|| session(loaded, place, threads, arch, weights));
            let session = session.map_err(|why| EngineError::Prepare { engine: name.clone(), member, why })?;
            Ok(Mutex::new(Member { session, planes: Vec::new() }))
        };
        let form = EnsembleForm::new(arch, members.len(), conventions);
        let members = members.iter().enumerate().map(open).collect::<Result<_, EngineError>>()?;
        Ok(Self { name, place, form, members })
    }

    /// Its name, with the card.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl TilePredictor for Onnx {
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
        let EnsembleForm { members, classes, conventions, .. } = self.form;
        let place = self.members.get(member).ok_or(EngineError::NoSuchMember { member, members })?;
        // A run that failed leaves nothing half done that the next one reads.
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        let Member { session, planes } = &mut *place;
        in_runs(&self.form, self.place != Place::Processor, tiles, input, planes, out, |one, out| {
            quietly(|| run(session, one, classes, out)).map_err(|why| EngineError::Run {
                engine: self.name.clone(),
                member,
                why,
            })?;
            if conventions.averaging == Averaging::Probabilities {
                let pixels = (one.part.0 * one.part.1).max(1);
                out.chunks_exact_mut(classes * pixels).for_each(|one| {
                    softmax(one, classes, pixels);
                });
            }
            Ok(())
        })
    }
}

/// Writes the logits of a run.
fn run(session: &mut Session, one: &Run<'_>, classes: usize, out: &mut [f32]) -> ort::Result<()> {
    let ([tiles, _, height, width], part) = (one.shape, one.part);
    let outputs = session.run(ort::inputs![TensorRef::from_array_view((one.shape, one.planes))?])?;
    let (shape, logits) = outputs[0].try_extract_tensor::<f32>()?;
    if logits.len() != tiles * classes * height * width || out.len() != tiles * classes * part.0 * part.1 {
        return Err(ort::Error::new(format!("an output of {shape:?}")));
    }
    let planes = logits.chunks_exact((height * width).max(1));
    for (plane, out) in planes.zip(out.chunks_exact_mut((part.0 * part.1).max(1))) {
        for (row, out) in plane.chunks_exact(width).zip(out.chunks_exact_mut(part.0)) {
            out.copy_from_slice(&row[..part.0]);
        }
    }
    Ok(())
}

fn session(
    loaded: &Loaded,
    place: Place,
    threads: usize,
    arch: &Architecture,
    weights: &MemberWeights,
) -> ort::Result<Session> {
    let mut builder: SessionBuilder = Session::builder(&loaded.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // Threads that wait in a loop would take the cores of those that read slides.
        .with_intra_op_spinning(false)?
        // It plans for inputs of one size, and was no faster.
        .with_memory_pattern(false)?;
    if let Place::Card(card) = place {
        let card = i32::try_from(card).map_err(|_| ort::Error::new("a card's number is too large"))?;
        CUDA::default().with_device_id(card).register(&mut builder)?;
    }
    let folded = Folded::new(arch, weights);
    graph::model(&folded, arch.input_channels, arch.classes)?.into_session(&builder)
}

/// Whether the library was built with CUDA; it must be loaded.
pub(super) fn has_cuda() -> bool {
    quietly(<CUDA as ExecutionProvider>::is_available).unwrap_or(false)
}

/// Calls into the binding: errors and panics alike as what was said.
fn quietly<T>(call: impl FnOnce() -> ort::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.message().to_owned()),
        Err(_) => Err("its binding stopped; the log above names the place".into()),
    }
}
