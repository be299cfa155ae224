//! The boxes of one slide that may be asked for, and their scores.

use consilium_common::plan::{Acquisition, Score};

use super::grid::starts;
use super::sums::StripSums;
use super::uga::UgaCounts;
use super::{PatchBox, ScoredPatch};
use crate::scan::{Maps, ScanError, Strip};

/// Rows of the maps that are held at once.
const ROWS: u32 = 32;

/// Boxes of a slide on a grid, scored by the plan's rule, from top to bottom and left to right.
///
/// The grid lies inside the slide. UGA's rule uses its own, side by side; the others step by half a patch and also reach
/// the far edges. Left out are boxes with too little tissue, boxes that overlap one of `exclude` (corrected before), and,
/// under UGA's rule, those that UGA's filters drop. A slide smaller than a patch has no candidates. The maps are read row
/// of boxes by row of boxes.
///
/// # Errors
/// The maps cannot be read.
pub fn candidates(
    maps: &dyn Maps,
    slide: &str,
    settings: &Acquisition,
    exclude: &[PatchBox],
) -> Result<Vec<ScoredPatch>, ScanError> {
    let side = settings.patch_px;
    let own = settings.score == Score::Uga;
    let along = |length| starts(length, side, if own { side } else { side / 2 }, !own);
    let (columns, rows) = (along(maps.width()), along(maps.height()));
    let mut found = Vec::new();
    for y in rows {
        let boxes = columns.iter().map(|&x| PatchBox { x, y, side });
        let boxes: Vec<PatchBox> = boxes.filter(|patch| !exclude.iter().any(|other| other.overlaps(patch))).collect();
        if !boxes.is_empty() {
            let row = BoxRow::read(maps, settings, &boxes)?;
            let scored = boxes.iter().enumerate().filter_map(|(i, patch)| row.scored(i, *patch, slide, settings));
            found.extend(scored);
        }
    }
    Ok(found)
}

/// What the rules need of one row of boxes.
struct BoxRow {
    tissue: StripSums,
    uncertainty: StripSums,
    entropy: StripSums,
    /// Of each box, under UGA's rule.
    uga: Vec<UgaCounts>,
}

impl BoxRow {
    fn read(maps: &dyn Maps, settings: &Acquisition, boxes: &[PatchBox]) -> Result<Self, ScanError> {
        let sums = || StripSums::new(maps.width() as usize);
        let (mut tissue, mut uncertainty, mut entropy) = (sums(), sums(), sums());
        let mut uga = vec![UgaCounts::default(); if settings.score == Score::Uga { boxes.len() } else { 0 }];
        let (y, classes) = (boxes[0].y, maps.classes());
        maps.each_strip(y..y + settings.patch_px, ROWS, &mut |strip: &Strip| {
            let here = |i: usize| strip.tissue[i] != 0;
            let on_tissue = |map: &[f32], i: usize| if here(i) { f64::from(map[i]) } else { 0.0 };
            let rows = strip.rows as usize;
            tissue.add(rows, |i| f64::from(u8::from(here(i))));
            uncertainty.add(rows, |i| on_tissue(&strip.uncertainty, i));
            entropy.add(rows, |i| on_tissue(&strip.entropy, i));
            for (counts, patch) in uga.iter_mut().zip(boxes) {
                for row in 0..rows {
                    let start = row * strip.width as usize + patch.x as usize;
                    let line = start..start + patch.side as usize;
                    let (nats, colour) = (&strip.uncertainty[line.clone()], &strip.colour[line.clone()]);
                    counts.add(nats, colour, &strip.labels[line], classes);
                }
            }
            Ok(())
        })?;
        Ok(Self { tissue: tissue.closed(), uncertainty: uncertainty.closed(), entropy: entropy.closed(), uga })
    }

    fn scored(&self, number: usize, patch: PatchBox, slide: &str, settings: &Acquisition) -> Option<ScoredPatch> {
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
            Score::Uga => self.uga.get(number)?.key()? as f64,
            Score::MeanUncertainty => mean_uncertainty,
            Score::MeanEntropy => mean(&self.entropy),
            Score::Random => 0.0,
        };
        let sound = score.is_finite() && mean_uncertainty.is_finite();
        sound.then(|| ScoredPatch { slide: slide.to_owned(), patch, score, mean_uncertainty, tissue })
    }
}
