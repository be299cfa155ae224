//! The scan against a whole-image computation, its skipping and padding, its errors and its files.

mod fakes;
mod merge;
mod networks;

use consilium_common::plan::ScanSettings;
use image::{GrayImage, Luma, RgbImage};

use super::{BLACK, ORDINARY, ScanError, WHITE, colour_class, scan_within, write_outputs};
use crate::slides::{FlatSlide, SlideReader};
use fakes::{Broken, Fake, Fault, SPACING, picture, spacing, task};

fn settings(tile_px: u32) -> ScanSettings {
    ScanSettings { tile_px, step: 0.5, min_tissue: 0.0 }
}

fn slide(width: u32, height: u32) -> FlatSlide {
    FlatSlide::new(picture(width, height), spacing())
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
    let result = scan_within(&slide(64, 40), tissue, &fake, &task(3), &settings(16), &|_, _| ()).unwrap();
    // Columns start at 0, 8 .. 48, rows at 0, 8 .. 24: three columns reach into the tissue.
    assert_eq!((result.timing.tiles, result.timing.skipped), (12, 16));
    assert_eq!(fake.tiles_seen(), 12 * 2);
    for (x, y, tissue) in result.tissue.enumerate_pixels() {
        let i = (y * 64 + x) as usize;
        assert_eq!(tissue.0[0], u8::from(x < 20));
        if x < 20 {
            assert!(result.uncertainty.data[i] > 0.0 && result.confidence.data[i] < 1.0);
        } else {
            assert_eq!(result.labels.as_raw()[i], 0);
            assert_eq!((result.uncertainty.data[i], result.entropy.data[i]), (0.0, 0.0));
            assert_eq!((result.foreground.data[i], result.confidence.data[i]), (0.0, 1.0));
        }
    }
    assert_eq!(result.colour.get_pixel(63, 0).0[0], WHITE, "what was not read counts as glass");
}

#[test]
fn too_little_tissue_in_a_tile_is_left_out_of_the_result() {
    let mut tissue = GrayImage::new(32, 16);
    tissue.put_pixel(0, 0, Luma([1]));
    let sparing = ScanSettings { min_tissue: 0.1, ..settings(16) };
    let fake = Fake::new(1, 2);
    let result = scan_within(&slide(32, 16), tissue, &fake, &task(2), &sparing, &|_, _| ()).unwrap();
    assert_eq!(fake.tiles_seen(), 0);
    assert!(result.tissue.iter().all(|&t| t == 0), "tissue that was not scanned is not reported as scanned");
}

#[test]
fn a_slide_smaller_than_the_tile_is_padded_with_white_on_both_sides() {
    let fake = Fake::new(1, 2);
    scan_within(&slide(5, 9), everywhere(5, 9), &fake, &task(2), &settings(16), &|_, _| ()).unwrap();
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
    let listen = |done, total| heard.lock().unwrap().push((done, total));
    let fake = Fake::new(1, 2);
    scan_within(&slide(40, 40), everywhere(40, 40), &fake, &task(2), &settings(16), &listen).unwrap();
    let heard = heard.into_inner().unwrap();
    assert_eq!((heard.first(), heard.last()), (Some(&(0, 16)), Some(&(16, 16))));
    assert!(heard.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn faults_of_a_network_are_errors() {
    let scan = |fault, classes| {
        let fake = Fake::new(2, 3).with(fault);
        scan_within(&slide(40, 40), everywhere(40, 40), &fake, &task(classes), &settings(16), &|_, _| ()).unwrap_err()
    };
    assert!(matches!(scan(Fault::NotANumber, 3), ScanError::NotProbabilities { member: 1 }));
    assert!(matches!(scan(Fault::WrongSize, 3), ScanError::Shape { member: 1, .. }));
    assert!(matches!(scan(Fault::None, 2), ScanError::Classes { ensemble: 3, task: 2 }));
    let none = scan_within(&slide(9, 9), everywhere(9, 9), &Fake::new(1, 2), &task(2), &settings(0), &|_, _| ());
    assert!(matches!(none, Err(ScanError::Tile { tile: 0, .. })));
    let none = scan_within(&slide(9, 9), everywhere(9, 9), &Fake::new(0, 2), &task(2), &settings(8), &|_, _| ());
    assert!(matches!(none, Err(ScanError::NoMembers)));
}

#[test]
fn a_slide_that_breaks_on_the_way_is_an_error_and_not_a_hang() {
    for from_row in [0, 20, 47] {
        let broken = Broken { inside: slide(48, 48), from_row };
        let fake = Fake::new(1, 2);
        let outcome = scan_within(&broken, everywhere(48, 48), &fake, &task(2), &settings(16), &|_, _| ());
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
    let message = super::checked_size(&Huge, &task(2)).unwrap_err().to_string();
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
fn outputs_hold_the_maps_and_nothing_half_written_stays() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("out");
    let (slide, fake, task) = (slide(70, 50), Fake::new(2, 3), task(3));
    let result = scan_within(&slide, everywhere(70, 50), &fake, &task, &settings(16), &|_, _| ()).unwrap();
    let files = write_outputs(&result, &slide, &task, &dir, "case-1").unwrap();
    let read = |path: &std::path::Path| image::open(path).unwrap();
    assert_eq!(read(&files.labels).into_luma8(), result.labels);
    assert_eq!(read(&files.uncertainty).into_luma8(), result.uncertainty.to_gray8());
    let overlay = read(&files.overlay).into_rgb8();
    assert!(overlay.width() > 70 && overlay.height() >= 50);
    let names = |dir: &std::path::Path| std::fs::read_dir(dir).unwrap().count();
    assert_eq!(names(&dir), 3);
    for bad in ["", "../x", "a/b", "a\\b", ".hidden"] {
        assert!(matches!(write_outputs(&result, &slide, &task, &dir, bad), Err(ScanError::Name(_))));
    }
    let file = dir.join("case-1-labels.png");
    let blocked = write_outputs(&result, &slide, &task, &file, "x").unwrap_err().to_string();
    assert!(blocked.contains("case-1-labels.png") && blocked.contains("free space"), "{blocked}");
}

#[test]
fn the_spacing_of_the_task_is_used() {
    let fake = Fake::new(1, 2);
    let mut coarse = task(2);
    coarse.spacing_um = consilium_common::Mpp::new(SPACING * 2.0).unwrap();
    let slide = slide(64, 48);
    assert_eq!(super::checked_size(&slide, &coarse).unwrap(), (32, 24));
    let result = scan_within(&slide, everywhere(32, 24), &fake, &coarse, &settings(16), &|_, _| ()).unwrap();
    assert_eq!((result.width, result.height), (32, 24));
}
