//! UGA's own patch score and filters (spec 1.5), kept exact as the rule to compare with.
//!
//! Its threshold is relative to the patch's own maximum, so a patch that is barely uncertain everywhere can win; the
//! float rules do not have that defect.

use crate::scan::{BLACK, ScanResult, WHITE};
use crate::uncertainty::quantise;

use super::PatchBox;

/// Share of pixels that must not be black.
const MIN_NON_BLACK: f64 = 0.6;
/// Share of pixels that must not be white, unless tumour is predicted.
const MIN_NON_WHITE: f64 = 0.7;

/// The two columns of UGA's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UgaScore {
    /// Pixels above 0.8 of the patch's maximum.
    pub max_uncertain: u64,
    /// Sum of the 8-bit values.
    pub uncertainty_score: u64,
}

impl UgaScore {
    /// What UGA sorts by: `100 * max_uncertain + uncertainty_score`.
    pub fn key(self) -> u64 {
        100 * self.max_uncertain + self.uncertainty_score
    }
}

/// The score of a patch of the 8-bit uncertainty map; `None` for one that is 0 everywhere, which UGA skips.
pub fn uga_score(patch: &[u8]) -> Option<UgaScore> {
    let max = patch.iter().copied().max().filter(|&max| max > 0)?;
    // In f64, as NumPy compares: at a maximum of 5, 4 is not above 0.8 * 5.
    let threshold = 0.8 * f64::from(max);
    let mut histogram = [0u64; 256];
    for &value in patch {
        histogram[usize::from(value)] += 1;
    }
    let mut score = UgaScore::default();
    for (value, count) in (0u8..=255).zip(histogram) {
        score.uncertainty_score += u64::from(value) * count;
        if f64::from(value) > threshold {
            score.max_uncertain += count;
        }
    }
    Some(score)
}

/// UGA's filters: at least 60 % of the pixels are not black, and 70 % are not white unless tumour (the last class) is
/// predicted somewhere. `colour` holds the classes of [`crate::scan::colour_class`].
pub fn uga_keeps(colour: &[u8], labels: &[u8], classes: usize) -> bool {
    let share = |unwanted: u8| 1.0 - colour.iter().filter(|&&c| c == unwanted).count() as f64 / colour.len() as f64;
    let tumour = labels.iter().any(|&label| label > 0 && usize::from(label) + 1 == classes);
    share(BLACK) >= MIN_NON_BLACK && (tumour || share(WHITE) >= MIN_NON_WHITE)
}

/// The sorting key of a box of a scan; `None` where UGA drops the box.
pub(super) fn key_of(result: &ScanResult, patch: PatchBox) -> Option<u64> {
    let (side, width) = (patch.side as usize, result.width as usize);
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for y in 0..side {
        let line = (patch.y as usize + y) * width + patch.x as usize..;
        let [uncertainty, colour, labels] = &mut parts;
        uncertainty.extend(result.uncertainty.data[line.clone()][..side].iter().map(|&nats| quantise(nats)));
        colour.extend_from_slice(&result.colour.as_raw()[line.clone()][..side]);
        labels.extend_from_slice(&result.labels.as_raw()[line][..side]);
    }
    let [uncertainty, colour, labels] = parts;
    uga_score(&uncertainty).filter(|_| uga_keeps(&colour, &labels, result.classes)).map(UgaScore::key)
}
