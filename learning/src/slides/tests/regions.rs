//! Geometry: a region is the same part of the whole, at every spacing.

use std::sync::OnceLock;

use image::{Rgb, RgbImage, imageops};
use proptest::prelude::*;

use super::{Stored, mpp, noise};
use crate::slides::{FlatSlide, SlideReader, TiledSlide, read_at, size_at, thumbnail};

/// A pyramid with odd sizes, levels 1, 2 and 4, spacing 0.25.
fn slide() -> &'static TiledSlide {
    static SLIDE: OnceLock<(tempfile::TempDir, TiledSlide)> = OnceLock::new();
    let (_, slide) = SLIDE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slide.tif");
        let base = noise(701, 467);
        let half = imageops::thumbnail(&base, 350, 233);
        let quarter = imageops::thumbnail(&base, 175, 116);
        Stored { compression: 8, ..Stored::default() }.write(&path, &[base, half, quarter]);
        let slide = TiledSlide::open(&path, None).unwrap();
        (folder, slide)
    });
    slide
}

/// The region cut from the whole, white outside.
fn cut(whole: &RgbImage, x: i64, y: i64, w: u32, h: u32) -> RgbImage {
    let mut region = RgbImage::from_pixel(w, h, Rgb([255; 3]));
    imageops::replace(&mut region, whole, -x, -y);
    region
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn a_region_of_a_level_is_a_part_of_it(
        level in 0usize..3, x in -80i64..720, y in -80i64..500, w in 0u32..200, h in 0u32..200,
    ) {
        let size = slide().levels()[level];
        let whole = slide().read_level(level, 0, 0, size.width, size.height).unwrap();
        prop_assert_eq!(slide().read_level(level, x, y, w, h).unwrap(), cut(&whole, x, y, w, h));
    }

    #[test]
    fn a_region_at_a_spacing_is_a_part_of_the_whole(
        um in prop_oneof![Just(0.25), Just(0.5), Just(0.75), Just(1.0), Just(2.0), 0.15f64..3.0],
        x in -40i64..300, y in -40i64..200, w in 0u32..120, h in 0u32..120,
    ) {
        let spacing = mpp(um);
        let (width, height) = size_at(slide(), spacing);
        let whole = read_at(slide(), spacing, 0, 0, width, height).unwrap();
        prop_assert_eq!(read_at(slide(), spacing, x, y, w, h).unwrap(), cut(&whole, x, y, w, h));
    }
}

#[test]
fn blocks_of_a_large_read_leave_no_seam() {
    // Wide enough that one read needs several blocks at this spacing.
    let base = noise(5000, 64);
    let flat = FlatSlide::new(base.clone(), mpp(0.25));
    let (width, height) = size_at(&flat, mpp(0.75));
    let whole = read_at(&flat, mpp(0.75), 0, 0, width, height).unwrap();
    for (x, y, pixel) in whole.enumerate_pixels() {
        for channel in 0..3 {
            let sum: u32 = (0..9).map(|i| u32::from(base.get_pixel(x * 3 + i % 3, y * 3 + i / 3).0[channel])).sum();
            assert!((f64::from(pixel.0[channel]) - f64::from(sum) / 9.0).abs() <= 0.51, "({x}, {y})");
        }
    }
}

#[test]
fn area_means_are_exact_and_nothing_shifts() {
    // A step at column 100 of level 0 lies in the middle of output column 33 at three times the spacing.
    let step =
        RgbImage::from_fn(300, 300, |x, y| Rgb([if x < 100 { 0 } else { 240 }, if y < 50 { 30 } else { 90 }, 7]));
    let flat = FlatSlide::new(step, mpp(0.25));
    let read = read_at(&flat, mpp(0.75), 0, 0, 100, 100).unwrap();
    assert_eq!(read.get_pixel(32, 0).0, [0, 30, 7]);
    assert_eq!(read.get_pixel(33, 0).0, [160, 30, 7], "one third black, two thirds 240");
    assert_eq!(read.get_pixel(34, 16).0, [240, 50, 7], "rows 48, 49 and 50: twice 30, once 90");
}

#[test]
fn sizes_count_whole_pixels_only() {
    let flat = FlatSlide::new(noise(1001, 999), mpp(0.25));
    assert_eq!(size_at(&flat, mpp(0.25)), (1001, 999));
    assert_eq!(size_at(&flat, mpp(0.5)), (500, 499));
    assert_eq!(size_at(&flat, mpp(0.75)), (333, 333));
    assert_eq!(size_at(&flat, mpp(500.0)), (1, 1));
    assert_eq!(thumbnail(&flat, 100).unwrap().dimensions(), (100, 99));
    assert_eq!(thumbnail(&flat, 5000).unwrap().dimensions(), (1001, 999), "never enlarged");
}
