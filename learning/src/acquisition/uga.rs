//! UGA's own patch score and filters (spec 1.5), kept exact as the rule to compare with.
//!
//! Its threshold is relative to the patch's own maximum, so a patch that is barely uncertain everywhere can win; the
//! float rules do not have that defect.

use crate::scan::{BLACK, HOLE, WHITE};
use crate::uncertainty::quantise;

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
    let mut counts = UgaCounts::default();
    patch.iter().for_each(|&value| counts.histogram[usize::from(value)] += 1);
    counts.score()
}

/// What UGA's score and filters need to know of a box, added up piece by piece.
#[derive(Clone, Debug)]
pub(super) struct UgaCounts {
    histogram: [u64; 256],
    pixels: u64,
    black: u64,
    white: u64,
    /// The last class is predicted somewhere.
    tumour: bool,
}

impl Default for UgaCounts {
    fn default() -> Self {
        Self { histogram: [0; 256], pixels: 0, black: 0, white: 0, tumour: false }
    }
}

impl UgaCounts {
    /// Adds pixels: nats, classes of [`crate::scan::colour_class`], labels.
    pub(super) fn add(&mut self, nats: &[f32], colour: &[u8], labels: &[u8], classes: usize) {
        nats.iter().for_each(|&nats| self.histogram[usize::from(quantise(nats))] += 1);
        let of = |class: u8| colour.iter().filter(|&&c| c == class).count() as u64;
        self.pixels += colour.len() as u64;
        self.black += of(BLACK);
        // What cannot be decoded is no more to look at than glass.
        self.white += of(WHITE) + of(HOLE);
        self.tumour |= labels.iter().any(|&label| label > 0 && usize::from(label) + 1 == classes);
    }

    fn score(&self) -> Option<UgaScore> {
        let max = (1..=255u8).rev().find(|&value| self.histogram[usize::from(value)] > 0)?;
        // In f64, as NumPy compares: at a maximum of 5, 4 is not above 0.8 * 5.
        let threshold = 0.8 * f64::from(max);
        let mut score = UgaScore::default();
        for (value, count) in (0u8..=255).zip(self.histogram) {
            score.uncertainty_score += u64::from(value) * count;
            if f64::from(value) > threshold {
                score.max_uncertain += count;
            }
        }
        Some(score)
    }

    /// UGA's filters: at least 60 % of the pixels are not black, and 70 % are not white unless tumour (the last class) is
    /// predicted somewhere.
    pub(super) fn keeps(&self) -> bool {
        let rest = |unwanted: u64| 1.0 - unwanted as f64 / self.pixels as f64;
        rest(self.black) >= MIN_NON_BLACK && (self.tumour || rest(self.white) >= MIN_NON_WHITE)
    }

    /// The sorting key; `None` where UGA drops the box.
    pub(super) fn key(&self) -> Option<u64> {
        self.score().filter(|_| self.keeps()).map(UgaScore::key)
    }
}
