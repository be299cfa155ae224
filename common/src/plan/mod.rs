//! The plan: the immutable, hashed description of a study. People write it as TOML; it travels and is hashed as
//! canonical JSON. Unknown keys are refused, contradictions are named, all of them at once.

mod acquisition;
mod architecture;
mod settings;

use serde::{Deserialize, Serialize};

pub use acquisition::{Acquisition, Rehearsal, Score};
pub use architecture::{Architecture, Encoder, Norm, TensorShape};
pub use settings::{
    Aggregation, AggregationRule, Augmentation, Dropout, Gate, Quorum, ScanSettings, Training, Weighting,
};

use crate::digest::Digest;
use crate::error::Invalid;
use crate::limits;
use crate::units::Mpp;

/// The plan schema that this code writes and reads.
pub const SCHEMA: u32 = 1;

/// Pixels of a label map with this value are not labelled: they count neither in a loss nor in a metric.
pub const UNLABELLED: u8 = 255;

/// The immutable description of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this document, [`SCHEMA`].
    pub schema: u32,
    /// What the study is about, for people.
    pub title: String,
    /// Every random choice of the study derives from it.
    pub seed: u64,
    /// Rounds of learning.
    pub rounds: u32,
    /// Networks in the ensemble.
    pub members: usize,
    /// Classes and spacing.
    pub task: Task,
    /// The network that all members share.
    pub architecture: Architecture,
    /// How slides are scanned.
    #[serde(default)]
    pub scan: ScanSettings,
    /// How patches are chosen.
    pub acquisition: Acquisition,
    /// How the first ensemble is trained, centrally.
    pub initial_training: Training,
    /// How a site fine-tunes each member in a round.
    pub fine_tuning: Training,
    /// What a site learns beside its corrections.
    #[serde(default, skip_serializing_if = "Rehearsal::is_default")]
    pub rehearsal: Rehearsal,
    /// How updates become a generation.
    #[serde(default)]
    pub aggregation: Aggregation,
    /// When a round closes.
    pub quorum: Quorum,
    /// When a candidate generation is refused.
    #[serde(default)]
    pub gate: Gate,
}

/// What is segmented, and at which resolution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Class names; the index is the value in a label map and 0 is the background.
    pub classes: Vec<String>,
    /// The spacing at which the network works, um/px.
    pub spacing_um: Mpp,
}

impl Task {
    /// Checks the class list.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.classes.len() < 2 || self.classes.len() > limits::MAX_CLASSES {
            return Err(Invalid::new("task.classes", format!("needs 2 to {} names", limits::MAX_CLASSES)));
        }
        for (index, name) in self.classes.iter().enumerate() {
            if name.trim().is_empty() || name.len() > limits::MAX_NAME_LEN || self.classes[..index].contains(name) {
                return Err(Invalid::new("task.classes", format!("`{name}` is empty, too long or there twice")));
            }
        }
        Ok(())
    }
}

impl Plan {
    /// Parses the TOML that people write and validates it for a study.
    pub fn from_toml(text: &str) -> Result<Self, PlanError> {
        let plan = Self::parsed(text)?;
        plan.check()?;
        Ok(plan)
    }

    /// The same for a comparison, which knows settings that a study refuses.
    pub fn from_toml_for_comparison(text: &str) -> Result<Self, PlanError> {
        let plan = Self::parsed(text)?;
        let problems = plan.problems();
        if problems.is_empty() { Ok(plan) } else { Err(PlanError::Invalid(problems)) }
    }

    fn parsed(text: &str) -> Result<Self, PlanError> {
        if text.len() > limits::MAX_DOCUMENT_BYTES {
            return Err(PlanError::TooLarge(text.len()));
        }
        toml::from_str(text).map_err(|e| PlanError::Syntax(e.to_string()))
    }

    /// Parses canonical bytes and validates them.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, PlanError> {
        if bytes.len() > limits::MAX_DOCUMENT_BYTES {
            return Err(PlanError::TooLarge(bytes.len()));
        }
        let plan: Self = serde_json::from_slice(bytes).map_err(|e| PlanError::Syntax(e.to_string()))?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan as TOML, for people.
    pub fn to_toml(&self) -> Result<String, Invalid> {
        toml::to_string(self).map_err(|e| Invalid::new("plan", e.to_string()))
    }

    /// The bytes that are hashed and sent: compact JSON in field order with shortest round-trip numbers.
    pub fn canonical_bytes(&self) -> Result<Vec<u8>, Invalid> {
        serde_json::to_vec(self).map_err(|e| Invalid::new("plan", e.to_string()))
    }

    /// BLAKE3 of the canonical bytes.
    pub fn digest(&self) -> Result<Digest, Invalid> {
        Ok(Digest::of(&self.canonical_bytes()?))
    }

    fn check(&self) -> Result<(), PlanError> {
        let mut problems = self.problems();
        if let Err(refused) = self.acquisition.validate_for_study() {
            problems.retain(|problem| problem.what != refused.what);
            problems.push(refused);
        }
        if problems.is_empty() { Ok(()) } else { Err(PlanError::Invalid(problems)) }
    }

    /// Everything that is wrong with the plan; empty for a valid one, which may be one for comparisons only.
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        let mut require = |ok: bool, what: &str, why: String| {
            if !ok {
                found.push(Invalid::new(what, why));
            }
        };
        require(
            self.schema == SCHEMA,
            "schema",
            format!("{} is not {SCHEMA}, the one that this version reads", self.schema),
        );
        require(!self.title.trim().is_empty() && self.title.len() <= 200, "title", "needs 1 to 200 characters".into());
        require(
            (1..=limits::MAX_ROUNDS).contains(&self.rounds),
            "rounds",
            format!("needs 1 to {}", limits::MAX_ROUNDS),
        );
        require(
            (1..=limits::MAX_MEMBERS).contains(&self.members),
            "members",
            format!("needs 1 to {}", limits::MAX_MEMBERS),
        );
        let classes = self.task.classes.len();
        require(
            self.architecture.classes == classes,
            "architecture.classes",
            format!("is {} but task.classes has {classes} names", self.architecture.classes),
        );
        let factor = self.architecture.total_stride();
        for (what, side) in [
            ("scan.tile_px", self.scan.tile_px),
            ("initial_training.patch_px", self.initial_training.patch_px),
            ("fine_tuning.patch_px", self.fine_tuning.patch_px),
        ] {
            let fits = side > 0 && side <= limits::MAX_TILE_PX && side % factor.max(1) == 0;
            let why = format!(
                "{side} must be a multiple of {factor}, the network's total stride, and at most {}",
                limits::MAX_TILE_PX
            );
            require(fits, what, why);
        }
        require(
            self.fine_tuning.patch_px <= self.acquisition.patch_px,
            "fine_tuning.patch_px",
            format!("{} is larger than acquisition.patch_px {}", self.fine_tuning.patch_px, self.acquisition.patch_px),
        );
        let snapshots = self.initial_training.snapshots;
        let divided = usize::try_from(snapshots).is_ok_and(|n| n > 0 && self.members.is_multiple_of(n));
        require(divided, "initial_training.snapshots", format!("{snapshots} must divide the {} members", self.members));
        require(
            self.fine_tuning.snapshots == 1,
            "fine_tuning.snapshots",
            "must be 1: every member is there already".into(),
        );
        require(
            self.initial_training.proximal == 0.0,
            "initial_training.proximal",
            "must be 0: it would pull back to weights that were drawn at random".into(),
        );
        found.extend(self.task.validate().err());
        found.extend(self.architecture.validate().err());
        found.extend(self.scan.validate().err());
        found.extend(self.acquisition.validate().err());
        found.extend(self.initial_training.validate("initial_training").err());
        found.extend(self.fine_tuning.validate("fine_tuning").err());
        found.extend(self.rehearsal.validate().err());
        found.extend(self.quorum.validate().err());
        found.extend(self.gate.validate().err());
        found
    }
}

/// A plan that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// It is not text of the right form; the message names line and key.
    #[error("the plan cannot be read: {0}")]
    Syntax(String),
    /// It is too long to be a plan.
    #[error("the plan is {0} bytes long, more than a plan may be")]
    TooLarge(usize),
    /// It contradicts itself or a limit.
    #[error("the plan contradicts itself or a limit: {}", list(.0))]
    Invalid(Vec<Invalid>),
}

fn list(problems: &[Invalid]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(crate) mod tests;
