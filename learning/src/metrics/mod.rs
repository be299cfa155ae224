//! Dice and calibration. Counts are kept, not ratios, so that tiles, slides and sites add up exactly and in any order.
//!
//! **Empty masks.** Dice of a class is `2 TP / (2 TP + FP + FN)`. A class that is in neither prediction nor reference has
//! no Dice (`None`): it takes no part in any mean. One that is in only one of them has Dice 0. A slide whose foreground
//! classes are all absent in both has no mean Dice and takes no part in the mean over slides.
//!
//! Unlabelled pixels (255) never count.

mod calibration;
mod confusion;
mod ranking;

use image::GrayImage;

pub use calibration::{BINS, Calibration};
pub use confusion::Confusion;
pub use ranking::{aurc, error_auroc};

use crate::scan::Strip;

/// How a prediction does on one slide: Dice over all labelled pixels, calibration over labelled tissue pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlideEvaluation {
    /// Counts over all labelled pixels.
    pub confusion: Confusion,
    /// Calibration over labelled tissue pixels.
    pub calibration: Calibration,
}

impl SlideEvaluation {
    /// Of no pixels yet.
    pub fn new(classes: usize) -> Self {
        Self { confusion: Confusion::new(classes), calibration: Calibration::default() }
    }

    /// Adds rows of a scan and the same rows of the slide's reference mask.
    pub fn add(&mut self, strip: &Strip, truth: &[u8]) {
        let classes = self.confusion.classes();
        self.confusion.add(&strip.labels, truth);
        for (i, &truth) in truth.iter().enumerate().take(strip.labels.len()) {
            if strip.tissue[i] != 0 && usize::from(truth) < classes {
                self.calibration.add(strip.confidence(i), strip.labels[i] == truth);
            }
        }
    }

    /// Dice of each foreground class, class 1 first.
    pub fn dice(&self) -> Vec<Option<f64>> {
        self.confusion.foreground_dice()
    }

    /// Mean over the foreground classes that have a Dice.
    pub fn mean_dice(&self) -> Option<f64> {
        self.confusion.mean_foreground_dice()
    }

    /// Expected calibration error; `None` without labelled tissue.
    pub fn ece(&self) -> Option<f64> {
        self.calibration.ece()
    }
}

/// Counts of a prediction against a reference of the same size, such as a patch against its correction.
pub fn compare(prediction: &GrayImage, reference: &GrayImage, classes: usize) -> Confusion {
    let mut confusion = Confusion::new(classes);
    if prediction.dimensions() == reference.dimensions() {
        confusion.add(prediction.as_raw(), reference.as_raw());
    } else {
        let (width, rows) = (prediction.width().min(reference.width()), prediction.height().min(reference.height()));
        for y in 0..rows as usize {
            let row = |image: &GrayImage| image.as_raw()[y * image.width() as usize..][..width as usize].to_vec();
            confusion.add(&row(prediction), &row(reference));
        }
    }
    confusion
}

/// Slides pooled: sums of their counts, and the mean over slides of their mean Dice.
#[derive(Clone, Debug, PartialEq)]
pub struct Pooled {
    slides: u32,
    with_dice: u32,
    dice_sum: f64,
    confusion: Confusion,
    calibration: Calibration,
}

impl Pooled {
    /// Of no slides yet.
    pub fn new(classes: usize) -> Self {
        let (confusion, calibration) = (Confusion::new(classes), Calibration::default());
        Self { slides: 0, with_dice: 0, dice_sum: 0.0, confusion, calibration }
    }

    /// Adds a slide.
    pub fn add(&mut self, slide: &SlideEvaluation) {
        self.slides += 1;
        if let Some(dice) = slide.mean_dice() {
            self.with_dice += 1;
            self.dice_sum += dice;
        }
        self.confusion.merge(&slide.confusion);
        self.calibration.merge(&slide.calibration);
    }

    /// Adds the slides of another pool. Only the mean over slides is a sum of floats: merge in a fixed order.
    pub fn merge(&mut self, other: &Self) {
        self.slides += other.slides;
        self.with_dice += other.with_dice;
        self.dice_sum += other.dice_sum;
        self.confusion.merge(&other.confusion);
        self.calibration.merge(&other.calibration);
    }

    /// Slides in the pool.
    pub fn slides(&self) -> u32 {
        self.slides
    }

    /// Mean over slides of the mean foreground Dice; `None` if no slide has one.
    pub fn mean_dice(&self) -> Option<f64> {
        (self.with_dice > 0).then(|| self.dice_sum / f64::from(self.with_dice))
    }

    /// Dice of each foreground class over all pixels of all slides, class 1 first.
    pub fn pooled_dice(&self) -> Vec<Option<f64>> {
        self.confusion.foreground_dice()
    }

    /// Expected calibration error over all labelled tissue pixels of all slides.
    pub fn ece(&self) -> Option<f64> {
        self.calibration.ece()
    }

    /// The pooled counts.
    pub fn confusion(&self) -> &Confusion {
        &self.confusion
    }

    /// The pooled calibration bins.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }
}

#[cfg(test)]
mod tests;
