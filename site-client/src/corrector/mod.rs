//! The seam for corrections: who turns a prediction into a label map that can be trained on. An oracle over reference
//! masks, or a person behind a shared folder; a correction page can be added beside them.
//!
//! A corrector is asked again and again. It answers what is new, keeps no state that a restart would lose, and never
//! decides what is trained on.

mod folder;
mod masks;
pub(crate) mod picture;

use std::path::{Path, PathBuf};

use consilium_common::plan::Task;
use consilium_common::{GenerationNumber, RoundNumber, StudyId};
use consilium_learning::acquisition::PatchBox;
use consilium_learning::dataset::SlideEntry;
use image::GrayImage;
use serde::{Deserialize, Serialize};

use crate::config::CorrectorConfig;
use crate::error::SiteError;

pub use folder::FolderCorrector;
pub use masks::MasksCorrector;

/// What became of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Right as it was.
    Accepted,
    /// Changed.
    Edited,
    /// Nothing in it is labelled: not trained on.
    Rejected,
}

/// Who made a correction, when, of what. Stays at the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Who, as far as it is known.
    pub who: String,
    /// When, RFC 3339.
    pub when: String,
    /// The generation whose prediction was corrected.
    pub generation: GenerationNumber,
    /// What became of the prediction.
    pub outcome: Outcome,
    /// Seconds spent, if known.
    pub seconds: Option<u64>,
}

/// A patch that is handed out.
#[derive(Clone, Debug)]
pub struct OfferedPatch {
    /// `patch-01` and so on.
    pub name: String,
    /// The slide it lies in.
    pub slide: String,
    /// Its box at the plan's spacing.
    pub patch: PatchBox,
    /// Level-0 pixels of its top-left corner.
    pub level0: (i64, i64),
    /// RGB image.
    pub image: PathBuf,
    /// Label map, 8-bit grey.
    pub prediction: PathBuf,
    /// 8-bit grey, 0 to 4 nats.
    pub uncertainty: PathBuf,
}

/// The patches of one round.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The study.
    pub study: StudyId,
    /// The round.
    pub round: RoundNumber,
    /// The generation that made the predictions.
    pub generation: GenerationNumber,
    /// Classes and spacing.
    pub task: Task,
    /// The patches.
    pub patches: Vec<OfferedPatch>,
}

/// A correction that came back.
#[derive(Clone, Debug)]
pub struct Correction {
    /// Index into the batch.
    pub patch: usize,
    /// The label map, of the patch's size.
    pub labels: GrayImage,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// Somebody who corrects patches. Called on a thread that may block.
pub trait Corrector: Send + Sync {
    /// Whether patches of this slide can be corrected at all; if not, why.
    fn accepts(&self, slide: &SlideEntry) -> Result<(), String>;
    /// Hands a batch out; doing so again changes nothing.
    fn offer(&self, batch: &Batch) -> Result<(), SiteError>;
    /// The corrections of these patches that are there by now.
    fn poll(&self, batch: &Batch, missing: &[usize]) -> Result<Vec<Correction>, SiteError>;
}

/// The corrector that a configuration names.
pub(crate) fn of(config: &CorrectorConfig, data_dir: &Path) -> Box<dyn Corrector> {
    match config {
        CorrectorConfig::Masks => Box::new(MasksCorrector::new(data_dir)),
        CorrectorConfig::Folder { dir, person } => Box::new(FolderCorrector::new(dir, person.clone())),
    }
}

/// Whether a label map leaves a prediction as it was, changes it, or labels nothing.
pub(crate) fn outcome(labels: &GrayImage, prediction: &GrayImage) -> Outcome {
    if labels.as_raw().iter().all(|&value| value == consilium_common::plan::UNLABELLED) {
        Outcome::Rejected
    } else if labels == prediction {
        Outcome::Accepted
    } else {
        Outcome::Edited
    }
}
