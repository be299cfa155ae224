use consilium_common::plan::Augmentation;
use image::{GrayImage, Luma, Rgb, RgbImage};
use proptest::prelude::*;

use super::*;

fn image(width: u32, height: u32, label: impl Fn(u32, u32) -> u8) -> TrainingImage {
    TrainingImage {
        image: RgbImage::from_fn(width, height, |x, y| {
            Rgb([(x * 5) as u8, (y * 3) as u8, label(x, y).wrapping_mul(40)])
        }),
        labels: GrayImage::from_fn(width, height, |x, y| Luma([label(x, y)])),
        input: InputScale::RGB_TO_01,
    }
}

fn plain(side: u32, batch: u32) -> Training {
    let augmentation = Augmentation { flips: false, rotate_scale: false, colour: false, hed: 0.0 };
    Training { augmentation, ..Training::new(10, batch, side, 0.01) }
}

#[test]
fn pixels_are_normalised_as_their_slide_is() {
    let images = [image(64, 64, |x, _| u8::from(x > 30))];
    let input = InputScale { mean: [120.0, 100.0, 3.0], deviation: [50.0, 20.0, 7.0], shown: None };
    let scored = [TrainingImage { input, ..images[0].clone() }];
    let settings = Training { augmentation: Augmentation::default(), ..plain(32, 4) };
    let (plain, scored) =
        (Sampler::new(&images, 2).batch(&settings, 1, 3), Sampler::new(&scored, 2).batch(&settings, 1, 3));
    assert_eq!(plain.labels, scored.labels);
    for (i, (a, b)) in plain.pixels.iter().zip(&scored.pixels).enumerate() {
        let c = i / (32 * 32) % 3;
        assert!(((a * 255.0 - input.mean[c]) / input.deviation[c] - b).abs() < 1e-4, "{i}: {a} {b}");
    }
}

#[test]
fn the_last_patches_of_a_batch_are_centred_on_foreground() {
    // One foreground pixel in a large image: only a forced patch is likely to hold it, at its middle.
    let images = [image(400, 300, |x, y| u8::from(x == 250 && y == 120))];
    let sampler = Sampler::new(&images, 2);
    for (share, forced) in [(0.33, 1), (0.5, 2), (0.0, 0), (1.0, 4)] {
        let settings = Training { foreground_share: share, ..plain(32, 4) };
        let batch = sampler.batch(&settings, 1, 0);
        let middle = 16 * 32 + 16;
        let at_middle = |i: usize| batch.labels[i * 32 * 32 + middle] == 1;
        assert!((4 - forced..4).all(at_middle), "share {share}");
        assert!((0..4 - forced).filter(|i| at_middle(*i)).count() == 0, "share {share}");
    }
}

#[test]
fn every_foreground_class_gets_its_turn() {
    // Class 2 has one pixel, class 1 thousands.
    let images = [image(100, 100, |x, y| if x == 50 && y == 50 { 2 } else { u8::from(y < 60) })];
    let sampler = Sampler::new(&images, 3);
    let settings = Training { foreground_share: 1.0, ..plain(16, 32) };
    let batch = sampler.batch(&settings, 5, 0);
    let centred = (0..32).filter(|i| batch.labels[i * 256 + 8 * 16 + 8] == 2).count();
    assert!((8..=24).contains(&centred), "{centred} of 32");
}

#[test]
fn a_small_image_is_surrounded_by_white_that_is_not_labelled() {
    let images = [image(10, 6, |_, _| 1)];
    let sampler = Sampler::new(&images, 2);
    let batch = sampler.batch(&plain(16, 2), 3, 0);
    for (labels, pixels) in batch.labels.chunks_exact(256).zip(batch.pixels.chunks_exact(3 * 256)) {
        assert_eq!(labels.iter().filter(|l| **l == 1).count(), 60);
        for (i, &label) in labels.iter().enumerate() {
            let white = (0..3).all(|c| pixels[c * 256 + i] == 1.0);
            assert_eq!(white, label == UNLABELLED, "pixel {i}");
        }
    }
}

#[test]
fn a_batch_is_a_function_of_seed_and_step() {
    let images = [image(90, 70, |x, _| (x / 30) as u8), image(40, 50, |_, y| (y / 25) as u8)];
    let sampler = Sampler::new(&images, 3);
    let settings = Training::new(10, 4, 32, 0.01);
    let batch = sampler.batch(&settings, 11, 3);
    assert_eq!(batch, sampler.batch(&settings, 11, 3));
    assert_ne!(batch, sampler.batch(&settings, 11, 4));
    assert_ne!(batch, sampler.batch(&settings, 12, 3));
}

#[test]
fn warp_without_turn_and_scale_is_the_crop() {
    let source = image(60, 50, |x, y| ((x + y) % 3) as u8);
    for (x, y) in [(5, 7), (-4, 30), (50, 45)] {
        let (a, b) = (crop(&source, x, y, 16), warp(&source, x, y, 16, 0.0, 1.0));
        assert_eq!(a.labels, b.labels);
        assert!(a.pixels.iter().zip(&b.pixels).all(|(a, b)| (a - b).abs() < 1e-4));
    }
    // Half a turn is mirroring both axes.
    let (mut mirrored, turned) = (crop(&source, 5, 7, 16), warp(&source, 5, 7, 16, std::f32::consts::PI, 1.0));
    augment::flip(&mut mirrored, 16, 3);
    assert_eq!(mirrored.labels, turned.labels);
}

#[test]
fn many_positions_are_thinned_evenly() {
    let source = image(300, 200, |_, _| 1);
    let found = positions(&source, 2);
    assert!(found[0].len() <= MAX_POSITIONS && found[0].len() > MAX_POSITIONS / 2);
    assert!(*found[0].last().unwrap() > 59_000);
}

proptest! {
    #[test]
    fn augmentation_invents_no_label_and_keeps_the_range(
        seed in any::<u64>(), width in 8u32..80, height in 8u32..80, classes in 2u32..5, hed in 0.0f64..0.3,
    ) {
        let images = [image(width, height, |x, y| if x % 7 == 0 { UNLABELLED } else { ((x / 9 + y / 5) % classes) as u8 })];
        let sampler = Sampler::new(&images, classes as usize);
        let mut settings = Training::new(10, 4, 32, 0.01);
        settings.augmentation.hed = hed;
        let batch = sampler.batch(&settings, seed, 0);
        prop_assert_eq!(batch.pixels.len(), 4 * 3 * 32 * 32);
        prop_assert!(batch.pixels.iter().all(|v| (0.0..=1.0).contains(v)));
        prop_assert!(batch.labels.iter().all(|l| *l == UNLABELLED || u32::from(*l) < classes));
    }
}
