//! Engines: whatever computes the networks of a scan, chosen at run time among those that the machine has.
//!
//! `cpu` is our own code and always there; `onnx` is ONNX Runtime, loaded when its library is found, on the processor or
//! on a CUDA card. On the processor they give the same probabilities to within rounding; a
//! card has not been compared yet, and may use TF32. A library or card that is missing is an error that
//! names what was looked for and where; [`Device::Auto`] takes the next best engine and says why.

mod device;
mod error;
#[cfg(feature = "libtorch")]
pub(crate) mod libtorch;
#[cfg(not(feature = "libtorch"))]
#[path = "no_libtorch.rs"]
mod libtorch;
mod onnx;
mod predictor;
mod runs;
mod sources;
mod survey;

use consilium_common::bundle::Conventions;
use consilium_common::plan::{Architecture, ScanSettings};
use image::RgbImage;

pub use device::{Device, Precision, UnknownDevice};
pub use error::EngineError;
pub use onnx::{onnx_library, set_onnx_library};
pub use predictor::{TilePredictor, predict_all};
pub use survey::{EngineState, speed, survey};

pub use crate::native::{LibraryError, LibraryInfo};

use crate::network::{Ensemble, InputScale, MemberWeights, Predictor};
use onnx::{Onnx, Place};

/// An ensemble on the engine that was chosen for it.
pub struct Engine {
    name: String,
    why: String,
    predictor: Box<dyn TilePredictor>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("name", &self.name).field("why", &self.why).finish_non_exhaustive()
    }
}

impl Engine {
    /// The engine's name, such as `cpu`, `onnx` or `libtorch on cuda:0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What computes.
    pub fn predictor(&self) -> &dyn TilePredictor {
        self.predictor.as_ref()
    }

    /// What was chosen and why, and what was looked for and not found: one sentence.
    pub fn why(&self) -> &str {
        &self.why
    }
}

/// Prepares an ensemble on a device, for the tiles of a scan; one is tried. Mirrored tiles and dropout, where the settings
/// ask for them, count as more members.
///
/// # Errors
/// The device's library is not there or unsuitable, or it cannot compute this ensemble. [`Device::Auto`] and
/// [`Device::Cpu`] do not fail.
pub fn open(device: Device, ensemble: &Ensemble, settings: &ScanSettings) -> Result<Engine, EngineError> {
    let manifest = &ensemble.manifest;
    open_for(device, &manifest.architecture, &ensemble.members, manifest.conventions(), settings)
}

/// As [`open`], for members that are not in a bundle (yet), to be used as our own, and tiles of `tile_px` x `tile_px`
/// pixels. They must be of this architecture.
///
/// # Errors
/// As [`open`].
pub fn open_members(
    device: Device,
    arch: &Architecture,
    members: &[MemberWeights],
    tile_px: u32,
) -> Result<Engine, EngineError> {
    let settings = ScanSettings { tile_px, ..ScanSettings::default() };
    open_for(device, arch, members, Conventions::default(), &settings)
}

/// As [`open`], for members that are not in a bundle.
///
/// # Errors
/// As [`open`].
pub fn open_for(
    device: Device,
    arch: &Architecture,
    members: &[MemberWeights],
    conventions: Conventions,
    settings: &ScanSettings,
) -> Result<Engine, EngineError> {
    let members = sources::with_dropout(arch, members, settings.dropout.as_ref());
    let engine = open_as(device, arch, &members, conventions, settings.tile_px)?;
    Ok(if settings.mirror {
        let why = format!("{}; each tile is also seen mirrored", engine.why);
        Engine { predictor: Box::new(sources::Mirrored(engine.predictor)), why, ..engine }
    } else {
        engine
    })
}

fn open_as(
    device: Device,
    arch: &Architecture,
    members: &[MemberWeights],
    conventions: Conventions,
    tile_px: u32,
) -> Result<Engine, EngineError> {
    let onnx = |place| on_onnx(place, arch, members, conventions, tile_px);
    let libtorch = |card, precision| on_libtorch(card, precision, arch, members, conventions, tile_px);
    let on_cpu = |why| on_cpu(arch, members, conventions, why);
    let asked = || format!("{device} was asked for");
    match device {
        Device::Cpu => return Ok(on_cpu(asked())),
        Device::Onnx => onnx(Place::Processor),
        Device::Libtorch(precision) => libtorch(None, precision),
        // ONNX Runtime knows cards too, in float32.
        Device::Cuda(card, precision) => match libtorch(Some(card), precision) {
            Err(EngineError::NotBuilt | EngineError::NoCard { .. }) if precision == Precision::Fp32 => {
                onnx(Place::Card(card))
            }
            result => result,
        },
        Device::Auto => return Ok(automatic(|| libtorch(Some(0), Precision::Fp32), onnx, on_cpu)),
    }
    .map(|engine| engine.because(asked()))
}

/// The first that works of a CUDA card, ONNX Runtime on the processor and our own kernels. On the processor libtorch is
/// slower at scanning than ONNX Runtime and only taken when asked for.
fn automatic(
    card: impl FnOnce() -> Result<Engine, EngineError>,
    onnx: impl Fn(Place) -> Result<Engine, EngineError>,
    cpu: impl FnOnce(String) -> Engine,
) -> Engine {
    let best = "auto takes the fastest that is there";
    let passed = match card() {
        Ok(engine) => return engine.because(best.into()),
        // Neither is news.
        Err(EngineError::NotBuilt | EngineError::NoCard { cards: 0, .. }) => String::new(),
        Err(why) => format!("; the card cannot be used: {why}"),
    };
    let card = match onnx(Place::Card(0)) {
        Ok(engine) => return engine.because(best.into()),
        Err(EngineError::Library(why)) => return cpu(format!("auto found no faster engine: {why}")),
        // A library without CUDA is the usual case and no news.
        Err(EngineError::NoCuda { .. }) => passed,
        Err(why) => format!("{passed}; the card cannot be used: {why}"),
    };
    match onnx(Place::Processor) {
        Ok(engine) => engine.because(format!("{best}{card}")),
        Err(why) => cpu(format!("auto found no faster engine that works: {why}")),
    }
}

fn on_cpu(arch: &Architecture, members: &[MemberWeights], conventions: Conventions, why: String) -> Engine {
    let engine = Engine {
        name: "cpu".into(),
        why: "our own kernels".into(),
        predictor: Box::new(Predictor::of_members(arch, members).used_as(conventions)),
    };
    engine.because(why)
}

fn on_onnx(
    place: Place,
    arch: &Architecture,
    members: &[MemberWeights],
    conventions: Conventions,
    tile_px: u32,
) -> Result<Engine, EngineError> {
    let predictor = Onnx::open(place, arch, members, conventions)?;
    try_one(&predictor, tile_px)?;
    let info = onnx_library().map_err(Box::new)?;
    let why = format!("ONNX Runtime {} ({})", info.version, info.path.display());
    Ok(Engine { name: predictor.name().into(), why, predictor: Box::new(predictor) })
}

fn on_libtorch(
    card: Option<u32>,
    precision: Precision,
    arch: &Architecture,
    members: &[MemberWeights],
    conventions: Conventions,
    tile_px: u32,
) -> Result<Engine, EngineError> {
    let (name, predictor) = libtorch::open(card, precision, arch, members, conventions)?;
    try_one(predictor.as_ref(), tile_px)?;
    Ok(Engine { name, why: libtorch::about()?, predictor })
}

/// Predicts one tile: a card without enough memory, or a driver that does not fit, shows only then.
fn try_one(predictor: &dyn TilePredictor, tile_px: u32) -> Result<(), EngineError> {
    if predictor.members() == 0 {
        return Ok(());
    }
    predictor.predict(0, &[RgbImage::new(tile_px, tile_px)], &InputScale::RGB_TO_01, &mut Vec::new())
}

/// Threads that this program may use.
pub(crate) fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Engine {
    fn because(self, why: String) -> Self {
        let why = format!("{}: {}, for {why}", self.name, self.why);
        Self { why, ..self }
    }
}

#[cfg(test)]
mod tests;
