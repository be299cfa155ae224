//! The best boxes of a site, without overlap.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use consilium_common::plan::{Acquisition, Score};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{PatchBox, ScoredPatch};

/// At most `settings.budget` patches from the candidates of all the site's slides, best first: each time the highest
/// score that overlaps none taken before. Under the random rule the order is drawn from `seed` (ChaCha8 from the BLAKE3
/// of the text) and does not depend on the order of `all`.
pub fn select(mut all: Vec<ScoredPatch>, settings: &Acquisition, seed: &str) -> Vec<ScoredPatch> {
    match settings.score {
        Score::Random => {
            all.sort_by(by_place);
            shuffle(&mut all, seed);
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

/// Fisher and Yates' shuffle, spelled out so that no library version can change a study's draw.
fn shuffle(patches: &mut [ScoredPatch], seed: &str) {
    let mut rng = ChaCha8Rng::from_seed(*blake3::hash(seed.as_bytes()).as_bytes());
    for last in (1..patches.len()).rev() {
        // The high half of a 64 x 64 bit product: uniform to within 2^-40 for any possible count.
        let drawn = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        patches.swap(last, drawn as usize);
    }
}
