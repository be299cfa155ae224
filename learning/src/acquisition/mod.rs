//! Which patches a pathologist is asked to correct: candidate boxes of each slide, scored, and the best of the site.
//!
//! The scored box is the corrected box, boxes never overlap, and none overlaps one that was corrected before. The same
//! maps, settings and seed give the same patches: ties go to the first slide name, then the topmost, then the leftmost.

mod candidates;
mod describe;
mod grid;
mod integral;
mod rehearsal;
mod rules;
mod select;
mod sharp;
mod uga;
mod windows;

use serde::{Deserialize, Serialize};

pub use candidates::{Method, candidates, shortlist};
pub use describe::{Aggregation, Candidate, Field, Layout, describe};
pub use rehearsal::{rehearsal_labels, rehearsal_of_site, rehearsal_of_slide};
pub use rules::{Budget, Rule, Turn, choose, choose_with_control, leave_out_near};
pub use select::{Chosen, select};
pub use sharp::Sight;
pub use uga::{UgaScore, uga_score};

/// A square box; `x`, `y` and `side` are pixels at the plan's spacing, from the slide's top-left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchBox {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width and height.
    pub side: u32,
}

impl PatchBox {
    /// True where the two boxes share a pixel.
    pub fn overlaps(&self, other: &Self) -> bool {
        let apart = |a: u32, a_side: u32, b: u32| u64::from(a) + u64::from(a_side) <= u64::from(b);
        let beside = apart(self.x, self.side, other.x) || apart(other.x, other.side, self.x);
        let above = apart(self.y, self.side, other.y) || apart(other.y, other.side, self.y);
        !(beside || above || self.side == 0 || other.side == 0)
    }
}

/// What is kept of a box that was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredPatch {
    /// The slide's name.
    pub slide: String,
    /// The box.
    pub patch: PatchBox,
    /// By the plan's map and aggregation, or UGA's key.
    pub score: f64,
    /// Mean of UGA's uncertainty over the box's tissue, nats, whatever the rule.
    pub mean_uncertainty: f64,
    /// Share of the box that is tissue.
    pub tissue: f64,
}

impl From<Candidate> for ScoredPatch {
    fn from(candidate: Candidate) -> Self {
        let Candidate { slide, patch, score, mean_uncertainty, tissue, .. } = candidate;
        Self { slide, patch, score, mean_uncertainty, tissue }
    }
}

#[cfg(test)]
mod tests;
