//! Band by band equals the whole image at once.

use consilium_common::plan::ScanSettings;
use image::{GrayImage, RgbImage, imageops};
use proptest::prelude::*;

use super::super::{Maps, Resources, ScanJob, gaussian_weights, tile_starts};
use super::fakes::{Fake, picture, spacing, task};
use super::{everywhere, scan, slide};
use crate::slides::FlatSlide;
use crate::testing::predicted;
use crate::tissue::TissueMask;
use crate::uncertainty::{predictive_entropy, quantise, uncertainty};

/// Member probabilities `[members, classes, pixels]` of an image at least as large as a tile, all in memory, in f64.
fn whole_image(image: &RgbImage, fake: &Fake, settings: &ScanSettings) -> Vec<f32> {
    let ((width, height), tile) = (image.dimensions(), settings.tile_px);
    let pixels = (width * height) as usize;
    let weights = gaussian_weights(tile);
    let mut sums = vec![0.0f64; fake.members * fake.classes * pixels];
    let mut total = vec![0.0f64; pixels];
    for y0 in tile_starts(height, tile, settings.step) {
        for x0 in tile_starts(width, tile, settings.step) {
            let cut = imageops::crop_imm(image, x0, y0, tile, tile).to_image();
            for member in 0..fake.members {
                let p = predicted(fake, member, std::slice::from_ref(&cut));
                for (i, &value) in p.iter().enumerate() {
                    let (class, place) = (i / weights.len(), i % weights.len());
                    let (x, y) = (place as u32 % tile, place as u32 / tile);
                    let at = ((y0 + y) * width + x0 + x) as usize;
                    let weight = f64::from(weights[place]);
                    sums[(member * fake.classes + class) * pixels + at] += f64::from(value) * weight;
                    if member == 0 && class == 0 {
                        total[at] += weight;
                    }
                }
            }
        }
    }
    sums.iter().enumerate().map(|(i, sum)| (sum / total[i % pixels]) as f32).collect()
}

fn agree(got: &[f32], expected: &[f32], within: f32) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), expected.len());
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        prop_assert!((g - e).abs() < within, "pixel {}: {} is not {}", i, g, e);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn bands_equal_the_whole_image(
        extra_width in 0u32..60, extra_height in 0u32..60, tile in prop::sample::select(vec![8u32, 12, 20]),
        step in 0.2f64..1.0, members in 1usize..4, classes in 2usize..4,
    ) {
        let (width, height) = (tile + extra_width, tile + extra_height);
        let settings = ScanSettings { tile_px: tile, step, min_tissue: 0.0, ..ScanSettings::default() };
        let fake = Fake::new(members, classes);
        let (scan, _) = scan(
            &slide(width, height), everywhere(width, height), &fake, &task(classes), &settings, &|_, _| true,
        ).unwrap();
        let expected = whole_image(&picture(width, height), &fake, &settings);
        // Maps are kept in steps of 1/3060 nat.
        agree(&scan.uncertainty, &uncertainty(&expected, members, classes), 4e-4)?;
        agree(&scan.entropy, &predictive_entropy(&expected, members, classes), 2e-4)?;
        let pixels = (width * height) as usize;
        let mean = |c: usize, i: usize| (0..members).map(|m| expected[(m * classes + c) * pixels + i]).sum::<f32>() / members as f32;
        for i in 0..pixels {
            let best = mean(usize::from(scan.labels[i]), i);
            prop_assert!((0..classes).all(|c| mean(c, i) <= best + 2e-5));
            prop_assert!((scan.confidence(i) - best).abs() < 6e-5);
            for c in 1..classes {
                prop_assert!((scan.probabilities[c - 1][i] - mean(c, i)).abs() < 3e-5);
            }
        }
    }
}

#[test]
fn one_tile_equals_the_network_itself() {
    let (fake, image) = (Fake::new(3, 4), picture(16, 16));
    let settings = ScanSettings { tile_px: 16, step: 0.5, min_tissue: 0.0, ..ScanSettings::default() };
    let (scan, _) = scan(&slide(16, 16), everywhere(16, 16), &fake, &task(4), &settings, &|_, _| true).unwrap();
    let direct: Vec<f32> = (0..3).flat_map(|m| predicted(&fake, m, std::slice::from_ref(&image))).collect();
    let eight_bit = |nats: &[f32]| nats.iter().map(|&nats| quantise(nats)).collect::<Vec<_>>();
    assert_eq!(eight_bit(&scan.uncertainty), eight_bit(&uncertainty(&direct, 3, 4)), "no weights, so no rounding");
    for (got, expected) in scan.entropy.iter().zip(predictive_entropy(&direct, 3, 4)) {
        assert!((got - expected).abs() < 2e-4);
    }
}

#[test]
fn cores_readers_and_memory_change_nothing() {
    let tissue = GrayImage::from_fn(90, 70, |x, y| image::Luma([u8::from((x / 9 + y / 7) % 3 != 0)]));
    let tissue = TissueMask::from_image(tissue);
    let (slide, fake, task) = (FlatSlide::new(picture(90, 70), spacing()), Fake::new(3, 3), task(3));
    let settings = ScanSettings { tile_px: 16, step: 0.5, min_tissue: 0.05, ..ScanSettings::default() };
    let scan = |threads: usize, readers: usize, memory_bytes: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let resources = Resources { memory_bytes, readers };
        let job =
            ScanJob { slide: &slide, tissue: &tissue, predictor: &fake, task: &task, settings: &settings, resources };
        let maps = pool.install(|| job.in_memory(&|_, _| true).unwrap());
        maps.read(0..90, 0..70).unwrap()
    };
    let reference = scan(1, 1, 1 << 20);
    for (threads, readers, memory_bytes) in [(4, 1, 1 << 20), (2, 3, 1), (1, 2, 16 * 41 * 50)] {
        assert_eq!(
            scan(threads, readers, memory_bytes),
            reference,
            "{threads} threads, {readers} readers, {memory_bytes}"
        );
    }
}
