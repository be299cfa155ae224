//! The engine `onnx`: ONNX Runtime, loaded at run time, on the processor or on a CUDA card. For scanning only.
//!
//! Every member is a session of its own, made in memory from the folded layers ([`graph`]). On the processor each tile is
//! a run of its own: larger batches are no faster there, need more memory, and a tile's result would not be free of its
//! neighbours. Whatever goes wrong in the library, even a panic of its binding, comes back as an error.

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

use super::{EngineError, TilePredictor, available_threads};
use crate::network::folded::Folded;
use crate::network::{InputScale, MemberWeights, softmax};
use library::Loaded;

/// Most pixels of a run on a card, whose memory bounds them. Not measured on a card yet.
const CARD_RUN_PX: usize = 16 * 512 * 512;

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
    classes: usize,
    total_stride: u32,
    conventions: Conventions,
    /// Most pixels of a run; at least one tile is taken.
    run_px: usize,
    members: Vec<Mutex<Member>>,
}

/// A session and its input, whose memory is used again.
#[derive(Debug)]
struct Member {
    session: Session,
    input: Vec<f32>,
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
        let threads = threads(place, members.len());
        let open = |(member, weights)| {
            let session = quietly(|| session(loaded, place, threads, arch, weights));
            let session = session.map_err(|why| EngineError::Prepare { engine: name.clone(), member, why })?;
            Ok(Mutex::new(Member { session, input: Vec::new() }))
        };
        let members = members.iter().enumerate().map(open).collect::<Result<_, EngineError>>()?;
        let run_px = if place == Place::Processor { 0 } else { CARD_RUN_PX };
        Ok(Self { classes: arch.classes, total_stride: arch.total_stride(), conventions, run_px, members, name })
    }

    /// Its name, with the card.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl TilePredictor for Onnx {
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
        let place = self.members.get(member).ok_or(EngineError::NoSuchMember { member, members })?;
        // A run that failed leaves nothing half done that the next one reads.
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        let pixels = tiles.first().map_or(0, |tile| tile.width() as usize * tile.height() as usize).max(1);
        out.resize(tiles.len() * self.classes * pixels, 0.0);
        let each = (self.run_px / pixels).max(1);
        let beyond = input.beyond(self.conventions.padding);
        for (tiles, out) in tiles.chunks(each).zip(out.chunks_mut(each * self.classes * pixels)) {
            quietly(|| place.run(tiles, (input, beyond), self.classes, self.total_stride, out))
                .map_err(|why| EngineError::Run { engine: self.name.clone(), member, why })?;
            if self.conventions.averaging == Averaging::Probabilities {
                out.chunks_exact_mut(self.classes * pixels).for_each(|one| {
                    softmax(one, self.classes, pixels);
                });
            }
        }
        Ok(())
    }
}

impl Member {
    /// The logits of tiles of one size.
    fn run(
        &mut self,
        tiles: &[RgbImage],
        (input, beyond): (&InputScale, [f32; 3]),
        classes: usize,
        stride: u32,
        out: &mut [f32],
    ) -> ort::Result<()> {
        let (width, height) = tiles.first().map_or((0, 0), RgbImage::dimensions);
        let padded = (width.next_multiple_of(stride) as usize, height.next_multiple_of(stride) as usize);
        let (width, height) = (width as usize, height as usize);
        let area = padded.0 * padded.1;
        self.input.resize(tiles.len() * 3 * area, 0.0);
        for (tile, planes) in tiles.iter().zip(self.input.chunks_exact_mut((3 * area).max(1))) {
            input.fill(tile, padded, beyond, planes);
        }
        let shape = [tiles.len(), 3, padded.1, padded.0];
        let outputs = self.session.run(ort::inputs![TensorRef::from_array_view((shape, self.input.as_slice()))?])?;
        let (shape, logits) = outputs[0].try_extract_tensor::<f32>()?;
        if logits.len() != tiles.len() * classes * area || out.len() != tiles.len() * classes * width * height {
            return Err(ort::Error::new(format!("an output of {shape:?}")));
        }
        for (plane, out) in logits.chunks_exact(area.max(1)).zip(out.chunks_exact_mut((width * height).max(1))) {
            for (row, out) in plane.chunks_exact(padded.0).zip(out.chunks_exact_mut(width)) {
                out.copy_from_slice(&row[..width]);
            }
        }
        Ok(())
    }
}

/// Threads of each member, all running side by side. On two busy cores (five members, base 16, 256 px) one thread for each
/// was 1.24, 0.98 and 1.10 times as fast in three rounds as two threads for one after the other: a weak preference.
fn threads(place: Place, members: usize) -> usize {
    let cores = available_threads();
    match place {
        Place::Processor => cores.div_ceil(members.clamp(1, cores)),
        Place::Card(_) => 1,
    }
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
