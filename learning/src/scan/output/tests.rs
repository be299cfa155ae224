//! The files of a scan hold the maps, however these come.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use consilium_common::Mpp;
use consilium_common::plan::Task;
use image::RgbImage;

use super::{Writers, class_words};
use crate::scan::{ScanError, Strip};
use crate::slides::{FlatSlide, open_slide, read_mask_at};

const SIZE: (u32, u32) = (700, 600);

fn task() -> Task {
    Task { classes: ["glass", "a", "b/c"].map(str::to_owned).into(), spacing_um: Mpp::new(0.5).unwrap() }
}

/// Rows of a scan with discs of two classes.
fn strip(y: u32, rows: u32) -> Strip {
    let width = SIZE.0;
    let at = |i: u32| (i % width, y + i / width);
    let pixels = || 0..rows * width;
    let label = |(x, y): (u32, u32)| {
        let (dx, dy) = (f64::from(x % 100) - 50.0, f64::from(y % 100) - 50.0);
        if dx * dx + dy * dy < 1200.0 { 1 + (x / 100 % 2) as u8 } else { 0 }
    };
    let labels: Vec<u8> = pixels().map(|i| label(at(i))).collect();
    let plane = |class: u8| labels.iter().map(|&l| if l == class { 0.9 } else { 0.05 }).collect();
    Strip {
        y,
        rows,
        width,
        tissue: vec![1; labels.len()],
        colour: vec![0; labels.len()],
        uncertainty: pixels().map(|i| (at(i).0 as f32) / 500.0).collect(),
        entropy: pixels().map(|i| (at(i).1 as f32) / 800.0).collect(),
        probabilities: vec![plane(1), plane(2)],
        labels,
    }
}

fn thumbnail() -> RgbImage {
    RgbImage::from_pixel(350, 300, image::Rgb([230, 200, 220]))
}

/// By strips of so many rows, with so many pyramids at once; and how many passes it took.
fn write(dir: &Path, portion: u32, at_once: usize) -> (super::ScanFiles, u32) {
    let mut writers = Writers::create_for(dir, "case-1", &task(), SIZE, 2.0, thumbnail(), at_once).unwrap();
    let mut passes = 0;
    loop {
        for y in (0..SIZE.1).step_by(portion as usize) {
            writers.add(&strip(y, portion.min(SIZE.1 - y))).unwrap();
        }
        passes += 1;
        if !writers.next_pass().unwrap() {
            return (writers.finish().unwrap(), passes);
        }
    }
}

#[test]
fn files_hold_the_maps() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("out");
    let (files, passes) = write(&dir, 64, 9);
    assert_eq!(passes, 1);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 8, "nothing half written stays");
    let whole = strip(0, SIZE.1);
    let like = FlatSlide::new(RgbImage::new(SIZE.0, SIZE.1), task().spacing_um);
    let values = |path: &Path| read_mask_at(path, &like, task().spacing_um, 255).unwrap().into_raw();
    assert_eq!(values(&files.labels), whole.labels);
    assert_eq!(values(&files.uncertainty), whole.uncertainty.iter().map(|&u| super::quantise(u)).collect::<Vec<_>>());
    assert_eq!(values(&files.entropy), whole.entropy.iter().map(|&u| super::quantise(u)).collect::<Vec<_>>());
    for (class, path) in (1..).zip(&files.probabilities) {
        let expected: Vec<u8> = whole.labels.iter().map(|&l| if l == class { 230 } else { 13 }).collect();
        assert_eq!(values(path), expected, "0.9 and 0.05 of 255, rounded");
    }
    assert!(files.probabilities[1].ends_with("case-1-probability-b_c.tif"));
    let slide = open_slide(&files.uncertainty, None).unwrap();
    assert_eq!((slide.mpp(), slide.levels().len()), (task().spacing_um, 2));
    assert_eq!(files.outline_counts.objects, 42);
    let outlines: serde_json::Value = serde_json::from_slice(&fs::read(&files.outlines).unwrap()).unwrap();
    assert_eq!(outlines["features"].as_array().unwrap().len(), 42);
    let rgb = |path: &Path| image::open(path).unwrap().into_rgb8();
    for picture in [rgb(&files.overlay), rgb(&files.labels_overlay)] {
        assert!(picture.width() > 350 && picture.height() >= 300);
    }
    assert_eq!(rgb(&files.labels_overlay).get_pixel(365, 20).0, super::class_colour(1), "the legend");
}

#[test]
fn bytes_depend_on_neither_strips_nor_passes() {
    let read = |dir: &Path| -> BTreeMap<_, _> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut seen = None;
    for (portion, at_once, passes) in [(600, 5, 1), (1, 5, 1), (97, 0, 5), (256, 2, 3), (31, 3, 2)] {
        let dir = folder.path().join(portion.to_string());
        assert_eq!(write(&dir, portion, at_once).1, passes, "{at_once} of 5 pyramids at once");
        let files = read(&dir);
        assert!(*seen.get_or_insert_with(|| files.clone()) == files, "strips of {portion}, {at_once} at once");
    }
}

#[test]
fn bad_names_and_missing_rows_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let start = |name| Writers::create(folder.path(), name, &task(), SIZE, 2.0, thumbnail());
    for bad in ["", "../x", "a/b", "a\\b", ".hidden"] {
        assert!(matches!(start(bad), Err(ScanError::Name(_))));
    }
    let mut short = start("x").unwrap();
    short.add(&strip(0, 100)).unwrap();
    assert!(short.finish().unwrap_err().to_string().contains("100 of 600 rows"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn classes_get_names_of_their_own() {
    let classes = ["bg", "a b", "a/b", "A_B", "\u{3b1}", "c"].map(str::to_owned);
    let words: Vec<String> = class_words(&classes).collect();
    assert_eq!(words, ["a_b-1", "a_b-2", "A_B-3", "\u{3b1}-4", "c-5"]);
}
