//! The boxes of one slide that may be asked for, and their scores.

use consilium_common::plan::{Acquisition, Score};

use super::sums::StripSums;
use super::{PatchBox, ScoredPatch, uga};
use crate::scan::ScanResult;

/// Boxes of a slide on a grid, scored by the plan's rule, from top to bottom and left to right.
///
/// The grid lies inside the slide. UGA's rule uses its own, side by side; the others step by half a patch and also reach
/// the far edges. Left out are boxes with too little tissue, boxes that overlap one of `exclude` (corrected before), and,
/// under UGA's rule, those that UGA's filters drop. A slide smaller than a patch has no candidates.
pub fn candidates(result: &ScanResult, slide: &str, settings: &Acquisition, exclude: &[PatchBox]) -> Vec<ScoredPatch> {
    let side = settings.patch_px;
    let (columns, rows) = match settings.score {
        Score::Uga => (grid(result.width, side, side, false), grid(result.height, side, side, false)),
        Score::MeanUncertainty | Score::MeanEntropy | Score::Random => {
            let step = (side / 2).max(1);
            (grid(result.width, side, step, true), grid(result.height, side, step, true))
        }
    };
    let mut found = Vec::new();
    for y in rows {
        let strip = Strip::new(result, y, side);
        for &x in &columns {
            let patch = PatchBox { x, y, side };
            if !exclude.iter().any(|other| other.overlaps(&patch)) {
                found.extend(strip.scored(result, slide, settings, patch));
            }
        }
    }
    found
}

/// First pixels of the boxes along one axis; with `to_edge` a last one ends at the far edge.
fn grid(length: u32, side: u32, step: u32, to_edge: bool) -> Vec<u32> {
    let Some(last) = length.checked_sub(side).filter(|_| side > 0) else { return Vec::new() };
    let mut starts: Vec<u32> = (0..=last).step_by(step as usize).collect();
    if to_edge && starts.last() != Some(&last) {
        starts.push(last);
    }
    starts
}

/// The sums that the float rules need, over the rows of one row of boxes.
struct Strip {
    tissue: StripSums,
    uncertainty: StripSums,
    entropy: StripSums,
}

impl Strip {
    fn new(result: &ScanResult, y: u32, side: u32) -> Self {
        let (width, y, rows) = (result.width as usize, y as usize, side as usize);
        let tissue = result.tissue.as_raw();
        let on_tissue = |map: &[f32], i: usize| if tissue[i] != 0 { f64::from(map[i]) } else { 0.0 };
        Self {
            tissue: StripSums::of(width, y, rows, |i| f64::from(u8::from(tissue[i] != 0))),
            uncertainty: StripSums::of(width, y, rows, |i| on_tissue(&result.uncertainty.data, i)),
            entropy: StripSums::of(width, y, rows, |i| on_tissue(&result.entropy.data, i)),
        }
    }

    fn scored(&self, result: &ScanResult, slide: &str, settings: &Acquisition, patch: PatchBox) -> Option<ScoredPatch> {
        let (x, side) = (patch.x as usize, patch.side as usize);
        let pixels = self.tissue.sum(x, side);
        let tissue = pixels / (side * side) as f64;
        if pixels == 0.0 || tissue < settings.min_tissue {
            return None;
        }
        // Differences of prefix sums can be off by a rounding below zero; what is no number stays none.
        let mean = |sums: &StripSums| match sums.sum(x, side) / pixels {
            rounded if rounded < 0.0 => 0.0,
            mean => mean,
        };
        let mean_uncertainty = mean(&self.uncertainty);
        let score = match settings.score {
            Score::Uga => uga::key_of(result, patch)? as f64,
            Score::MeanUncertainty => mean_uncertainty,
            Score::MeanEntropy => mean(&self.entropy),
            Score::Random => 0.0,
        };
        let sound = score.is_finite() && mean_uncertainty.is_finite();
        sound.then(|| ScoredPatch { slide: slide.to_owned(), patch, score, mean_uncertainty, tissue })
    }
}
