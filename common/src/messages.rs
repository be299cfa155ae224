//! What a site and the coordinator say to each other, as domain types. `Update`, `Evaluation` and `Progress` are the
//! whole allow-list of what a site sends: numbers and digests, no pixel, no name of a slide, no coordinate.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Invalid;
use crate::ids::{GenerationNumber, RoundNumber, StudyId};
use crate::limits;
use crate::units::Timestamp;

/// What a site is asked to do next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Task {
    /// Nothing to do now; `waiting_for` says for whom or what, and since when.
    Wait {
        /// For whom or what the study waits, in one sentence.
        waiting_for: String,
        /// Since when.
        since: Timestamp,
    },
    /// Scan, select, correct and fine-tune from a published generation, then submit an update.
    Learn(WorkOrder),
    /// Evaluate a candidate generation on local held-out slides and report.
    Evaluate(WorkOrder),
}

/// The study, the round and the ensemble that a task is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkOrder {
    /// The study.
    pub study: StudyId,
    /// The digest of its plan.
    pub plan: Digest,
    /// The round.
    pub round: RoundNumber,
    /// The number of the generation to work from, or of the candidate to evaluate.
    pub generation: GenerationNumber,
    /// The blob of its `ensemble.json`.
    pub manifest: Digest,
}

/// A site's contribution to a round. `members` holds the digest of one delta file a member, in member order; a site that
/// had nothing to learn from passes: no members, weight 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// The study.
    pub study: StudyId,
    /// The round.
    pub round: RoundNumber,
    /// The manifest of the generation that the deltas are relative to.
    pub base: Digest,
    /// The weight that the site asks for; 0 for a pass.
    pub weight: f64,
    /// One delta blob a member.
    pub members: Vec<Digest>,
    /// How the update came about, in numbers.
    pub metrics: UpdateMetrics,
}

/// Numbers that go with an update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdateMetrics {
    /// Slides scanned this round.
    pub slides_scanned: u32,
    /// Patches selected and corrected this round.
    pub patches_corrected: u32,
    /// Patches that the fine-tuning drew from, those of earlier rounds included.
    pub patches_trained: u32,
    /// Mean uncertainty (nats) of the selected patches, 0 if none.
    pub mean_uncertainty: f64,
    /// Mean foreground Dice of the prediction against the correction over the patches that the rule chose, if any has foreground.
    pub dice_before_correction: Option<f64>,
    /// The same over the control patches, which were drawn at random and are not trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_dice: Option<f64>,
    /// Mean training loss over the first tenth of the fine-tuning, all members.
    pub loss_first: f64,
    /// The same over the last tenth.
    pub loss_last: f64,
}

impl Update {
    /// Checks sizes and numbers against the limits, `members` being the ensemble size of the plan.
    pub fn validate(&self, members: usize) -> Result<(), Invalid> {
        let pass = self.members.is_empty();
        if !pass && self.members.len() != members {
            return Err(Invalid::new("update.members", format!("{} deltas for {members} members", self.members.len())));
        }
        let range = if pass { 0.0..=0.0 } else { f64::MIN_POSITIVE..=limits::MAX_UPDATE_WEIGHT };
        if !range.contains(&self.weight) {
            return Err(Invalid::new("update.weight", format!("{} is outside {range:?}", self.weight)));
        }
        let m = &self.metrics;
        if [m.dice_before_correction, m.control_dice].iter().flatten().any(|dice| !(0.0..=1.0).contains(dice)) {
            return Err(Invalid::new("update.metrics", "a Dice is not between 0 and 1"));
        }
        if m.patches_corrected > limits::MAX_BUDGET {
            let why =
                format!("{} is more than the {} that a round may ask for", m.patches_corrected, limits::MAX_BUDGET);
            return Err(Invalid::new("update.metrics.patches_corrected", why));
        }
        if m.mean_uncertainty < 0.0 {
            return Err(Invalid::new("update.metrics.mean_uncertainty", format!("{} is negative", m.mean_uncertainty)));
        }
        let numbers = [m.mean_uncertainty, m.loss_first, m.loss_last];
        if numbers.iter().any(|n| !n.is_finite()) {
            return Err(Invalid::new("update.metrics", "a number is not finite"));
        }
        Ok(())
    }

    /// True for a site that had nothing to learn from.
    pub fn is_pass(&self) -> bool {
        self.members.is_empty()
    }

    /// The idempotency key of this update.
    pub fn digest(&self) -> Result<Digest, Invalid> {
        Digest::of_json(self)
    }
}

/// How a generation does on a site's held-out slides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The study.
    pub study: StudyId,
    /// The round whose candidate was evaluated.
    pub round: RoundNumber,
    /// The candidate's manifest.
    pub manifest: Digest,
    /// Held-out slides.
    pub slides: u32,
    /// Mean over slides of the mean foreground Dice; `None` without a held-out slide that has foreground.
    pub mean_dice: Option<f64>,
    /// Dice of each foreground class over all held-out pixels pooled (class 1 first); `None` where it is empty in both.
    pub pooled_dice: Vec<Option<f64>>,
    /// Expected calibration error over all held-out tissue pixels, 15 bins; `None` without held-out slides.
    pub ece: Option<f64>,
}

impl Evaluation {
    /// Checks that every figure is a fraction and that there is one a foreground class.
    pub fn validate(&self, classes: usize) -> Result<(), Invalid> {
        if self.pooled_dice.len() != classes.saturating_sub(1) {
            return Err(Invalid::new("evaluation.pooled_dice", "needs one figure a foreground class"));
        }
        let all = self.pooled_dice.iter().chain([&self.mean_dice, &self.ece]);
        if all.flatten().any(|v| !(0.0..=1.0).contains(v)) {
            return Err(Invalid::new("evaluation", "a figure is outside 0 to 1"));
        }
        Ok(())
    }
}

/// What a site is busy with, for the operator's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Fetching the ensemble.
    Download,
    /// Running the ensemble over slides.
    Scan,
    /// Choosing patches.
    Select,
    /// Waiting for a person, or an oracle, to correct patches.
    Correct,
    /// Fine-tuning the members.
    FineTune,
    /// Sending the update.
    Upload,
    /// Evaluating a candidate.
    Evaluate,
}

/// A sign of life with a figure: how far a stage is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The study.
    pub study: StudyId,
    /// The round.
    pub round: RoundNumber,
    /// The stage.
    pub stage: Stage,
    /// Units done (tiles, patches, iterations, bytes).
    pub done: u64,
    /// Units in all, 0 if not known.
    pub total: u64,
}

/// Shortens a text that people read to the limit, at a character boundary.
pub fn clip_reason(text: &str) -> String {
    text.chars().take(limits::MAX_REASON_LEN).collect()
}

/// The number of a generation and the blob of its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRef {
    /// Its number.
    pub number: GenerationNumber,
    /// The blob of its `ensemble.json`.
    pub manifest: Digest,
}
