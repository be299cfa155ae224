//! The rules for empty masks, pooling and merging.

use image::GrayImage;
use proptest::prelude::*;

use super::{Calibration, Confusion, Pooled, SlideEvaluation, compare};

fn confusion(prediction: &[u8], truth: &[u8]) -> Confusion {
    let mut counts = Confusion::new(3);
    counts.add(prediction, truth);
    counts
}

fn slide(prediction: &[u8], truth: &[u8]) -> SlideEvaluation {
    SlideEvaluation { confusion: confusion(prediction, truth), calibration: Calibration::default() }
}

#[test]
fn dice_of_present_and_absent_classes() {
    let counts = confusion(&[0, 1, 1, 0], &[0, 1, 0, 1]);
    assert_eq!(counts.dice(1), Some(0.5));
    assert_eq!(counts.dice(2), None, "in neither: no Dice");
    assert_eq!(counts.mean_foreground_dice(), Some(0.5), "the absent class takes no part");
    assert_eq!(confusion(&[2], &[0]).dice(2), Some(0.0), "predicted where there is none");
    assert_eq!(confusion(&[0], &[2]).dice(2), Some(0.0), "missed altogether");
    assert_eq!(confusion(&[0, 0], &[0, 0]).mean_foreground_dice(), None);
    assert_eq!(counts.dice(7), None);
}

#[test]
fn unlabelled_pixels_never_count() {
    let counts = confusion(&[1, 1, 2], &[255, 1, 255]);
    assert_eq!(counts.pixels(), 1);
    assert_eq!(counts.dice(1), Some(1.0));
    assert_eq!(counts.dice(2), None);
}

#[test]
fn pooling_weighs_slides_in_one_mean_and_pixels_in_the_other() {
    let mut pool = Pooled::new(3);
    pool.add(&slide(&[1, 1, 1, 1], &[1, 1, 1, 1]));
    pool.add(&slide(&[0], &[1]));
    pool.add(&slide(&[0], &[0]));
    assert_eq!(pool.slides(), 3);
    assert_eq!(pool.mean_dice(), Some(0.5), "1 and 0; the slide without foreground takes no part");
    assert_eq!(pool.pooled_dice(), vec![Some(8.0 / 9.0), None]);
    assert_eq!(pool.ece(), None);
    assert_eq!(Pooled::new(3).mean_dice(), None);
}

#[test]
fn patches_are_compared_over_what_both_have() {
    let prediction = GrayImage::from_pixel(4, 4, image::Luma([1]));
    let reference = GrayImage::from_pixel(3, 5, image::Luma([1]));
    assert_eq!(compare(&prediction, &reference, 2).pixels(), 12);
    assert_eq!(compare(&prediction, &prediction, 2).dice(1), Some(1.0));
}

#[test]
fn calibration_error_of_known_cases() {
    let mut perfect = Calibration::default();
    for i in 0..4 {
        perfect.add(0.75, i != 0);
    }
    assert_eq!(perfect.ece(), Some(0.0));
    let mut sure_and_wrong = Calibration::default();
    sure_and_wrong.add(1.0, false);
    assert_eq!(sure_and_wrong.ece(), Some(1.0));
    assert_eq!(Calibration::default().ece(), None);
    let mut odd = Calibration::default();
    odd.add(0.0, false);
    odd.add(f32::NAN, false);
    assert_eq!(odd.pixels(), 2);
}

proptest! {
    #[test]
    fn merging_equals_adding_all(
        pixels in prop::collection::vec((0u8..3, prop_oneof![0u8..3, Just(255u8)], 0.34f32..1.0), 1..200), cut in 0usize..200,
    ) {
        let cut = cut.min(pixels.len());
        let fill = |part: &[(u8, u8, f32)]| {
            let mut counts = Confusion::new(3);
            let mut calibration = Calibration::default();
            for &(p, t, confidence) in part {
                counts.add(&[p], &[t]);
                calibration.add(confidence, p == t);
            }
            (counts, calibration)
        };
        let all = fill(&pixels);
        let (mut first, second) = (fill(&pixels[cut..]), fill(&pixels[..cut]));
        first.0.merge(&second.0);
        first.1.merge(&second.1);
        prop_assert_eq!(first, all);
    }
}
