//! The plan's settings for what a site asks of its pathologist, and what it rehearses beside the answers.

use serde::{Deserialize, Serialize};

use super::settings::{fraction, half, is_true, is_zero};
use crate::error::Invalid;
use crate::limits;

/// The rule that chooses patches, by the name that it has everywhere. Boxes lie on a grid of half a patch and are scored by
/// the mean of a map over tissue, unless said otherwise; `learning` documents formulas and sources.
/// Plans that were made before two rules had their names of now are read, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// UGA's own: 100 x pixels above 0.8 of the patch's maximum + sum, on the 8-bit map, its own grid and filters.
    Uga,
    /// The highest mean of UGA's uncertainty, in float.
    #[serde(alias = "mean-uncertainty")]
    UgaMean,
    /// The highest mean of the predictive entropy.
    #[serde(alias = "mean-entropy")]
    Entropy,
    /// The same over predicted foreground.
    EntropyForeground,
    /// The same over a band around predicted boundaries.
    EntropyBorder,
    /// The same over the most uncertain tenth.
    EntropyTop,
    /// The highest mean divergence from the ensemble's mean to its members.
    Kl,
    /// The smallest gap between the two most probable classes.
    Margin,
    /// The lowest probability of the most probable class.
    LeastConfidence,
    /// Class-stratified power predictive entropy with a schedule over the rounds.
    ClaspPe,
    /// Uniform random among boxes with enough tissue: the control.
    Random,
    /// Random: from all boxes, by predicted foreground and by its border in equal parts.
    ForegroundRandom,
}

impl Score {
    /// Every rule, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::Uga,
        Self::UgaMean,
        Self::Entropy,
        Self::EntropyForeground,
        Self::EntropyBorder,
        Self::EntropyTop,
        Self::Kl,
        Self::Margin,
        Self::LeastConfidence,
        Self::ClaspPe,
        Self::Random,
        Self::ForegroundRandom,
    ];

    /// Its name in plans and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uga => "uga",
            Self::UgaMean => "uga-mean",
            Self::Entropy => "entropy",
            Self::EntropyForeground => "entropy-foreground",
            Self::EntropyBorder => "entropy-border",
            Self::EntropyTop => "entropy-top",
            Self::Kl => "kl",
            Self::Margin => "margin",
            Self::LeastConfidence => "least-confidence",
            Self::ClaspPe => "clasp-pe",
            Self::Random => "random",
            Self::ForegroundRandom => "foreground-random",
        }
    }

    /// The rule of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|score| score.name() == name)
    }
}

/// How patches are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acquisition {
    /// The rule.
    pub score: Score,
    /// Patches that a site's pathologist is asked to correct in one round.
    pub budget: u32,
    /// Of each slide no more than so many of them in one round; left out: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_slide: Option<u32>,
    /// Share of the budget that is drawn at random instead of chosen, from all boxes that could be asked about and were not
    /// before, and never trained on: the control patches, on which a generation is measured beside what the rule picked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub control_share: f64,
    /// Side of a patch in pixels at the plan's spacing.
    pub patch_px: u32,
    /// Boxes with a smaller share of tissue than this are not candidates.
    #[serde(default = "half")]
    pub min_tissue: f64,
    /// Boxes whose sharpness is a smaller share of the slide's own are not candidates; 0 does not look. The sharpness is
    /// the variance of the Laplacian over the variance of luminance, at about 1 um/px and over tissue; the slide's own is
    /// that which a fifth of (at most 200 of) its candidates exceed. A quarter leaves out what nobody can correct. Boxes
    /// without structure are not judged, nor is anything in plans of more than 2 um/px, where nothing could be blurred.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_sharpness: f64,
    /// Boxes with features nearer to each other than this cosine distance, 0 to 2, are near-duplicates, of which one is
    /// asked about; 0 does not look. For comparisons: a site has no features of its boxes, so a study refuses it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_feature_distance: f64,
}

impl Acquisition {
    /// A rule with its budget, the side of a patch and the least share of tissue; no bound a slide, no control patches,
    /// and blurred boxes and near-duplicates as well.
    pub fn new(score: Score, budget: u32, patch_px: u32, min_tissue: f64) -> Self {
        let (per_slide, control_share, min_sharpness, min_feature_distance) = (None, 0.0, 0.0, 0.0);
        Self { score, budget, per_slide, control_share, patch_px, min_tissue, min_sharpness, min_feature_distance }
    }

    /// Refuses what a comparison can look at and a site cannot.
    pub(super) fn validate_for_study(&self) -> Result<(), Invalid> {
        if self.min_feature_distance == 0.0 {
            return Ok(());
        }
        let why = "is for comparisons only (`consilium-simulate compare`), since a site has no features of its boxes; leave it out";
        Err(Invalid::new("acquisition.min_feature_distance", why))
    }

    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if self.budget > limits::MAX_BUDGET {
            return Err(Invalid::new(
                "acquisition.budget",
                format!("{} is more than {}", self.budget, limits::MAX_BUDGET),
            ));
        }
        if !(16..=limits::MAX_TILE_PX).contains(&self.patch_px) {
            return Err(Invalid::new("acquisition.patch_px", format!("needs 16 to {}", limits::MAX_TILE_PX)));
        }
        if self.per_slide == Some(0) {
            return Err(Invalid::new("acquisition.per_slide", "0 would ask for nothing; leave it out for no bound"));
        }
        fraction("acquisition.control_share", self.control_share)?;
        if self.control_share > 0.0 && self.budget > 0 && (self.control_share * f64::from(self.budget)).round() == 0.0 {
            let why = format!("{} of a budget of {} is no patch; raise one", self.control_share, self.budget);
            return Err(Invalid::new("acquisition.control_share", why));
        }
        fraction("acquisition.min_sharpness", self.min_sharpness)?;
        if !(0.0..=2.0).contains(&self.min_feature_distance) {
            let why = format!("{} must be 0 to 2, a cosine distance", self.min_feature_distance);
            return Err(Invalid::new("acquisition.min_feature_distance", why));
        }
        fraction("acquisition.min_tissue", self.min_tissue)
    }
}

/// Rehearsal: beside its corrections a site learns from boxes of its own slides with the labels of the generation that it
/// begins with, where that is sure, so that a few patches do not make it forget what they do not show. And replay: it also
/// learns again from what was corrected there before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rehearsal {
    /// Boxes a round, as large as patches; 0 is off.
    pub patches: u32,
    /// Pixels whose predictive entropy is a larger share of the largest possible are left unlabelled.
    pub max_entropy: f64,
    /// In every round the corrections of earlier ones are learned from again.
    #[serde(skip_serializing_if = "is_true")]
    pub replay: bool,
}

impl Default for Rehearsal {
    fn default() -> Self {
        Self { patches: 0, max_entropy: half(), replay: true }
    }
}

impl Rehearsal {
    /// True where a plan need not name it.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// True where no boxes are rehearsed.
    pub fn is_off(&self) -> bool {
        self.patches == 0
    }

    /// Whether the corrections of a round are learned from in round `now`.
    pub fn learns_from(&self, round: u32, now: u32) -> bool {
        round == now || (self.replay && round < now)
    }

    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if self.patches > limits::MAX_BUDGET {
            let why = format!("{} is more than {}", self.patches, limits::MAX_BUDGET);
            return Err(Invalid::new("rehearsal.patches", why));
        }
        fraction("rehearsal.max_entropy", self.max_entropy)
    }
}
