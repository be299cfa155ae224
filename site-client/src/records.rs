//! What the journal and the round folder hold: selected patches, corrections, finished members, evaluations.

use consilium_common::{Digest, GenerationNumber, Mpp};
use consilium_learning::acquisition::ScoredPatch;
use serde::{Deserialize, Serialize};

use crate::corrector::Provenance;

/// A selected patch and the files that go with it, in the round folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Selected {
    /// `patch-01` and so on: the stem of its files.
    pub(crate) name: String,
    /// The generation whose prediction it shows.
    pub(crate) generation: GenerationNumber,
    pub(crate) scored: ScoredPatch,
    /// Drawn at random and kept aside: corrected, but never trained on.
    #[serde(default)]
    pub(crate) control: bool,
    /// Level-0 pixels of the top-left corner.
    pub(crate) level0_x: i64,
    pub(crate) level0_y: i64,
}

impl Selected {
    pub(crate) fn image(&self) -> String {
        format!("{}-image.png", self.name)
    }
    pub(crate) fn prediction(&self) -> String {
        format!("{}-prediction.png", self.name)
    }
    pub(crate) fn uncertainty(&self) -> String {
        format!("{}-uncertainty.png", self.name)
    }
    pub(crate) fn correction(&self) -> String {
        format!("{}-correction.png", self.name)
    }
}

/// A box that is rehearsed, and the files that go with it, in the round folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rehearsed {
    /// `rehearsal-01` and so on: the stem of its files.
    pub(crate) name: String,
    pub(crate) slide: String,
    /// BLAKE3 of the label map's pixels, row by row.
    pub(crate) labels: Digest,
}

impl Rehearsed {
    pub(crate) fn image(&self) -> String {
        format!("{}-image.png", self.name)
    }
    pub(crate) fn label_map(&self) -> String {
        format!("{}-labels.png", self.name)
    }
}

/// A correction that was taken in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CorrectionRecord {
    /// BLAKE3 of the label map's pixels, row by row.
    pub(crate) labels: Digest,
    pub(crate) provenance: Provenance,
    /// Mean foreground Dice of the prediction against the correction, if either has foreground.
    pub(crate) dice_before: Option<f64>,
}

/// What a round's fine-tuning draws from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrainingSet {
    /// (round, index of the patch in its selection).
    pub(crate) corrections: Vec<(u32, u32)>,
    /// Whole slides of the train split.
    pub(crate) slides: Vec<String>,
    /// Names of boxes that are rehearsed.
    #[serde(default)]
    pub(crate) rehearsed: Vec<String>,
    /// Patches that all of it amounts to; also the weight that the update asks for.
    pub(crate) patches: u32,
}

/// A fine-tuned member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemberRecord {
    pub(crate) delta: Digest,
    pub(crate) loss_first: f64,
    pub(crate) loss_last: f64,
}

/// An entry of `patches.json`: for people and for the simulator's report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PatchReport {
    /// The slide's name; it stays at this site.
    pub slide: String,
    /// Level-0 pixels of the left edge.
    pub x: i64,
    /// Level-0 pixels of the upper edge.
    pub y: i64,
    /// Side in pixels at the plan's spacing.
    pub side_px: u32,
    /// The plan's spacing.
    pub spacing_um: Mpp,
    /// The acquisition's score.
    pub score: f64,
    /// Mean uncertainty over its tissue, in nats.
    pub mean_uncertainty: f64,
    /// Drawn at random as a control: corrected, but never trained on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
    /// Mean foreground Dice of the prediction against the correction; `null` without either's foreground, or before.
    pub dice_before: Option<f64>,
    /// RGB.
    pub image: String,
    /// Label map, 8-bit grey, value = class.
    pub prediction: String,
    /// 8-bit grey, 0 to 4 nats.
    pub uncertainty: String,
    /// Label map, 8-bit grey, value = class, 255 = not labelled; absent until it is there.
    pub correction: Option<String>,
    /// Who corrected, when, from which generation; absent until it is there.
    pub provenance: Option<Provenance>,
}

/// `evaluation.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// The candidate's number.
    pub generation: GenerationNumber,
    /// The candidate's manifest.
    pub manifest: Digest,
    /// The held-out slides.
    pub slides: Vec<SlideReport>,
    /// Mean over slides.
    pub mean_dice: Option<f64>,
    /// Of each foreground class, all pixels pooled.
    pub pooled_dice: Vec<Option<f64>>,
    /// Expected calibration error.
    pub ece: Option<f64>,
}

/// One slide of `evaluation.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlideReport {
    /// The slide's name; it stays at this site.
    pub name: String,
    /// Of each foreground class, class 1 first.
    pub dice: Vec<Option<f64>>,
    /// Mean over the classes that are there.
    pub mean_dice: Option<f64>,
}
