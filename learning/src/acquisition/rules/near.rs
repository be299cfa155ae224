//! Near-duplicates: boxes whose features hardly differ, such as those of neighbouring sections of the same tissue.

use super::Candidate;
use super::features::cosine_distance;

/// Whether two boxes' features have a smaller cosine distance, `1 - cos`. Boxes without features are near nothing.
pub(super) fn is_near(one: &[f32], other: &[f32], least: f64) -> bool {
    cosine_distance(one, other).is_some_and(|between| between < least)
}

/// Leaves out the candidates that are near one of some features, those of what was corrected before.
pub fn leave_out_near(candidates: &mut Vec<Candidate>, others: &[Vec<f32>], least: f64) {
    candidates.retain(|candidate| !others.iter().any(|other| is_near(&candidate.feature, other, least)));
}
