//! The best boxes of a site, without overlap.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use consilium_common::plan::{Acquisition, Score};

use super::{PatchBox, ScoredPatch};

/// At most `settings.budget` patches from the candidates of all the site's slides, best first: each time the highest
/// score that overlaps none taken before. Under the random rule a box's place in the order is the BLAKE3 of `seed`, slide
/// and corner: uniform, and the same whatever the other candidates are.
///
/// Overlaps are within a slide, so what is selected over all slides is, of each slide, a prefix of what is selected over
/// that slide alone.
pub fn select(mut all: Vec<ScoredPatch>, settings: &Acquisition, seed: &str) -> Vec<ScoredPatch> {
    match settings.score {
        Score::Random => {
            let key = |p: &ScoredPatch| {
                let place = format!("{seed}/{}/{}/{}", p.slide, p.patch.y, p.patch.x);
                *blake3::hash(place.as_bytes()).as_bytes()
            };
            all.sort_by_cached_key(key);
        }
        Score::Uga | Score::MeanUncertainty | Score::MeanEntropy => {
            all.retain(|patch| patch.score.is_finite());
            all.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| by_place(a, b)));
        }
    }
    let mut taken: BTreeMap<String, Vec<PatchBox>> = BTreeMap::new();
    let mut chosen = Vec::new();
    for candidate in all {
        if chosen.len() >= settings.budget as usize {
            break;
        }
        let boxes = taken.entry(candidate.slide.clone()).or_default();
        if !boxes.iter().any(|other| other.overlaps(&candidate.patch)) {
            boxes.push(candidate.patch);
            chosen.push(candidate);
        }
    }
    chosen
}

fn by_place(a: &ScoredPatch, b: &ScoredPatch) -> Ordering {
    let place = |patch: &ScoredPatch| (patch.patch.y, patch.patch.x, patch.patch.side);
    a.slide.cmp(&b.slide).then_with(|| place(a).cmp(&place(b)))
}
