//! The scan against a whole-image computation, its skipping and padding, its errors and its files.

mod fakes;
mod merge;
mod networks;
mod resume;

use consilium_common::plan::ScanSettings;
use image::{GrayImage, Luma, RgbImage};

use super::{
    BLACK, HOLE, Maps, ORDINARY, Progress, Resources, ScanError, ScanJob, ScanTiming, Strip, WHITE, colour_class,
};
use crate::engine::{EngineError, TilePredictor};
use crate::slides::{FlatSlide, Hole, SlideReader};
use crate::tissue::TissueMask;
use fakes::{Broken, Fake, Fault, SPACING, picture, spacing, task};

fn settings(tile_px: u32) -> ScanSettings {
    ScanSettings { tile_px, step: 0.5, min_tissue: 0.0, ..ScanSettings::default() }
}

fn slide(width: u32, height: u32) -> FlatSlide {
    FlatSlide::new(picture(width, height), spacing())
}

/// Narrow lanes, so that a small slide has several.
const RESOURCES: Resources = Resources { memory_bytes: 1, readers: 3 };

/// The whole maps of a scan in memory, and its timing.
fn scan(
    slide: &dyn SlideReader,
    tissue: GrayImage,
    predictor: &dyn TilePredictor,
    task: &consilium_common::plan::Task,
    settings: &ScanSettings,
    progress: Progress<'_>,
) -> Result<(Strip, ScanTiming), ScanError> {
    let tissue = TissueMask::from_image(tissue);
    let job = ScanJob { slide, tissue: &tissue, predictor, task, settings, resources: RESOURCES };
    let maps = job.in_memory(progress)?;
    Ok((maps.read(0..maps.width(), 0..maps.height())?, maps.timing))
}

fn everywhere(width: u32, height: u32) -> GrayImage {
    GrayImage::from_pixel(width, height, Luma([1]))
}

#[test]
fn tiles_without_tissue_are_skipped_and_stay_background() {
    let mut tissue = GrayImage::new(64, 40);
    for (x, _, pixel) in tissue.enumerate_pixels_mut() {
        *pixel = Luma([u8::from(x < 20)]);
    }
    let fake = Fake::new(2, 3);
    let (result, timing) = scan(&slide(64, 40), tissue, &fake, &task(3), &settings(16), &|_, _| true).unwrap();
    // Columns start at 0, 8 .. 48, rows at 0, 8 .. 24: three columns reach into the tissue. Lanes begin at 0, 32, 48.
    assert_eq!((timing.tiles, timing.skipped), (12, 16));
    assert_eq!(fake.tiles_seen(), 12 * 2);
    for i in 0..64 * 40 {
        let x = i % 64;
        assert_eq!(result.tissue[i], u8::from(x < 20));
        if x < 20 {
            assert!(result.uncertainty[i] > 0.0 && result.confidence(i) < 1.0);
        } else {
            assert_eq!((result.labels[i], result.uncertainty[i], result.entropy[i]), (0, 0.0, 0.0));
            assert_eq!((result.probabilities[0][i], result.probabilities[1][i]), (0.0, 0.0));
            assert_eq!(result.confidence(i), 1.0);
        }
    }
    assert_eq!(result.colour[63], WHITE, "what was not read counts as glass");
}

#[test]
fn too_little_tissue_in_a_tile_is_left_out_of_the_result() {
    let mut tissue = GrayImage::new(32, 16);
    tissue.put_pixel(0, 0, Luma([1]));
    let sparing = ScanSettings { min_tissue: 0.1, ..settings(16) };
    let fake = Fake::new(1, 2);
    let (result, _) = scan(&slide(32, 16), tissue, &fake, &task(2), &sparing, &|_, _| true).unwrap();
    assert_eq!(fake.tiles_seen(), 0);
    assert!(result.tissue.iter().all(|&t| t == 0), "tissue that was not scanned is not reported as scanned");
}

#[test]
fn a_slide_smaller_than_the_tile_is_padded_with_white_on_both_sides() {
    let fake = Fake::new(1, 2);
    scan(&slide(5, 9), everywhere(5, 9), &fake, &task(2), &settings(16), &|_, _| true).unwrap();
    let tiles = fake.tiles();
    assert_eq!(tiles.len(), 1);
    let source = picture(5, 9);
    for (x, y, pixel) in tiles[0].enumerate_pixels() {
        // 11 missing columns: 5 before, 6 after; 7 missing rows: 3 before, 4 after.
        let inside = (5..10).contains(&x) && (3..12).contains(&y);
        let expected = if inside { *source.get_pixel(x - 5, y - 3) } else { image::Rgb([255; 3]) };
        assert_eq!(*pixel, expected, "at {x}, {y}");
    }
}

#[test]
fn progress_rises_to_the_total() {
    let heard = std::sync::Mutex::new(Vec::new());
    let listen = |done, total| {
        heard.lock().unwrap().push((done, total));
        true
    };
    let fake = Fake::new(1, 2);
    // As wide as one lane of two tiles, so that no tile is computed twice.
    scan(&slide(32, 40), everywhere(32, 40), &fake, &task(2), &settings(16), &listen).unwrap();
    let heard = heard.into_inner().unwrap();
    assert_eq!((heard.first(), heard.last()), (Some(&(0, 12)), Some(&(12, 12))));
    assert!(heard.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn faults_of_a_network_are_errors() {
    let fault = |fault, classes| {
        let fake = Fake::new(2, 3).with(fault);
        scan(&slide(40, 40), everywhere(40, 40), &fake, &task(classes), &settings(16), &|_, _| true).unwrap_err()
    };
    assert!(matches!(fault(Fault::NotANumber, 3), ScanError::NotProbabilities { member: 1 }));
    assert!(matches!(fault(Fault::WrongSize, 3), ScanError::Shape { member: 1, .. }));
    assert!(matches!(fault(Fault::Engine, 3), ScanError::Engine(EngineError::Run { member: 1, .. })));
    assert!(matches!(fault(Fault::None, 2), ScanError::Classes { ensemble: 3, task: 2 }));
    let none = scan(&slide(9, 9), everywhere(9, 9), &Fake::new(1, 2), &task(2), &settings(0), &|_, _| true);
    assert!(matches!(none, Err(ScanError::Tile { tile: 0, .. })));
    let none = scan(&slide(9, 9), everywhere(9, 9), &Fake::new(0, 2), &task(2), &settings(8), &|_, _| true);
    assert!(matches!(none, Err(ScanError::NoMembers)));
}

#[test]
fn a_slide_that_breaks_on_the_way_is_an_error_and_not_a_hang() {
    for from_row in [0, 20, 47] {
        let broken = Broken { inside: slide(48, 48), from_row };
        let fake = Fake::new(1, 2);
        let outcome = scan(&broken, everywhere(48, 48), &fake, &task(2), &settings(16), &|_, _| true);
        assert!(matches!(outcome, Err(ScanError::Slide(_))), "from row {from_row}");
    }
}

#[test]
fn a_slide_beyond_the_limit_is_refused_with_its_size() {
    struct Huge;
    impl SlideReader for Huge {
        fn levels(&self) -> &[crate::slides::Level] {
            &[crate::slides::Level { width: 1 << 20, height: 1 << 20, downsample: 1.0 }]
        }
        fn mpp(&self) -> consilium_common::Mpp {
            spacing()
        }
        fn read_level(&self, _: usize, _: i64, _: i64, _: u32, _: u32) -> Result<RgbImage, crate::slides::SlideError> {
            panic!("nothing is read")
        }
    }
    let tissue = TissueMask::from_image(everywhere(1, 1));
    let (task, settings, fake) = (task(2), settings(16), Fake::new(1, 2));
    let job = ScanJob {
        slide: &Huge,
        tissue: &tissue,
        predictor: &fake,
        task: &task,
        settings: &settings,
        resources: RESOURCES,
    };
    let message = job.tiles().unwrap_err().to_string();
    assert!(message.contains("1048576 x 1048576") && message.contains("coarser spacing"), "{message}");
}

#[test]
fn colours_are_classed_as_opencv_does() {
    assert_eq!(colour_class([30, 10, 0]), BLACK);
    assert_eq!(colour_class([31, 10, 0]), ORDINARY);
    assert_eq!(colour_class([255, 255, 255]), WHITE);
    assert_eq!(colour_class([255, 225, 255]), WHITE, "saturation 30");
    assert_eq!(colour_class([255, 224, 255]), ORDINARY, "saturation 31");
    assert_eq!(colour_class([229, 229, 229]), ORDINARY, "too dark for glass");
}

#[test]
fn the_spacing_of_the_task_is_used() {
    let fake = Fake::new(1, 2);
    let mut coarse = task(2);
    coarse.spacing_um = consilium_common::Mpp::new(SPACING * 2.0).unwrap();
    let slide = slide(64, 48);
    let (result, _) = scan(&slide, everywhere(32, 24), &fake, &coarse, &settings(16), &|_, _| true).unwrap();
    assert_eq!((result.width, result.rows), (32, 24));
}

#[test]
fn a_hole_is_never_tissue() {
    struct Holed(FlatSlide);
    impl SlideReader for Holed {
        fn levels(&self) -> &[crate::slides::Level] {
            self.0.levels()
        }
        fn mpp(&self) -> consilium_common::Mpp {
            self.0.mpp()
        }
        fn read_level(&self, l: usize, x: i64, y: i64, w: u32, h: u32) -> Result<RgbImage, crate::slides::SlideError> {
            self.0.read_level(l, x, y, w, h)
        }
        fn holes(&self) -> Vec<Hole> {
            vec![Hole { x: 20, y: 10, w: 6, h: 8, level: 0, why: "a test".into() }]
        }
    }
    let holed = Holed(FlatSlide::new(picture(40, 32), consilium_common::Mpp::new(SPACING / 2.0).unwrap()));
    let fake = Fake::new(2, 2);
    let (result, _) = scan(&holed, everywhere(20, 16), &fake, &task(2), &settings(8), &|_, _| true).unwrap();
    for i in 0..20 * 16 {
        let inside = (10..13).contains(&(i % 20)) && (5..9).contains(&(i / 20));
        assert_eq!((result.tissue[i] == 0, result.colour[i] == HOLE), (inside, inside), "pixel {i}");
    }
}
