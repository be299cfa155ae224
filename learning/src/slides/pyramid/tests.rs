//! Pyramids of all kinds: their bytes, their values, and what they cost.

use std::fs;
use std::path::Path;

use consilium_common::Mpp;

use super::{PyramidKind, PyramidWriter, pixels_per_cm, sizes};
use crate::slides::{FlatSlide, open_slide, read_mask_at};

const LABELS: PyramidKind = PyramidKind::Labels { colours: Vec::new() };

fn mpp() -> Mpp {
    Mpp::new(0.5).unwrap()
}

/// Pixels without a pattern that halving or tiling could hide.
fn noise(bytes: usize, values: u32) -> Vec<u8> {
    (0..bytes as u32).map(|i| ((i.wrapping_mul(2_654_435_761) >> 13) % values) as u8).collect()
}

fn write(path: &Path, (w, h): (u32, u32), kind: &PyramidKind, pixels: &[u8], rows: usize) {
    let mut writer = PyramidWriter::create(path, w, h, mpp(), kind.clone()).unwrap();
    let stride = pixels.len() / h as usize;
    pixels.chunks(stride * rows).for_each(|part| writer.push_rows(part).unwrap());
    writer.finish().unwrap();
}

#[test]
fn bytes_depend_on_neither_pushes_nor_threads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tif");
    let kinds = [PyramidKind::Jpeg { quality: 80 }, LABELS, PyramidKind::Grey];
    for kind in kinds {
        let (w, h) = (777u32, 1111u32);
        let pixels = noise((w * h) as usize * kind.samples(), 5);
        let mut seen: Option<Vec<u8>> = None;
        for (threads, rows) in [(1, 1111), (2, 1), (3, 100), (4, 256), (1, 700)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| write(&path, (w, h), &kind, &pixels, rows));
            let bytes = fs::read(&path).unwrap();
            assert!(*seen.get_or_insert_with(|| bytes.clone()) == bytes, "{kind:?}, {threads} threads, {rows} rows");
        }
    }
}

#[test]
fn grey_and_labels_come_back_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let (w, h) = (600, 523);
    let pixels = noise(w * h, 6);
    for (name, kind) in [
        ("grey.tif", PyramidKind::Grey),
        ("labels.tif", LABELS),
        ("colours.tif", PyramidKind::Labels { colours: vec![[255; 3], [200, 0, 0]] }),
    ] {
        let path = folder.path().join(name);
        write(&path, (w as u32, h as u32), &kind, &pixels, 7);
        let like = FlatSlide::new(image::RgbImage::new(w as u32, h as u32), mpp());
        assert_eq!(read_mask_at(&path, &like, mpp(), 6).unwrap().as_raw(), &pixels, "{name}");
        if name != "colours.tif" {
            let slide = open_slide(&path, None).unwrap();
            assert_eq!(slide.mpp(), mpp());
            let level = slide.read_level(1, 0, 0, 300, 261).unwrap();
            let four = |x: usize, y: usize| [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(i, j)| pixels[(y + j) * w + x + i]);
            for (x, y, pixel) in level.enumerate_pixels() {
                let four = four(2 * x as usize, 2 * y as usize);
                let mean = (four.iter().map(|&v| u32::from(v)).sum::<u32>() + 2) / 4;
                let ok = if name == "grey.tif" { u32::from(pixel.0[0]) == mean } else { four.contains(&pixel.0[0]) };
                assert!(ok, "{name} at {x}, {y}: {pixel:?} of {four:?}");
            }
        }
    }
}

#[test]
fn plain_tiles_are_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("glass.tif");
    let (w, h) = (4000, 3000);
    let white = vec![255; w * 3];
    let mut writer =
        PyramidWriter::create(&path, w as u32, h as u32, mpp(), PyramidKind::Jpeg { quality: 85 }).unwrap();
    (0..h).for_each(|_| writer.push_rows(&white).unwrap());
    writer.finish().unwrap();
    let bytes = fs::metadata(&path).unwrap().len();
    assert!(bytes < 8 * 300 + 5000, "{bytes} bytes for 300 tiles of glass");
    let slide = open_slide(&path, None).unwrap();
    assert!(slide.read_level(0, 3500, 2900, 500, 100).unwrap().iter().all(|&v| v == 255));
}

#[test]
fn wrong_rows_are_refused_and_nothing_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tif");
    let start = || PyramidWriter::create(&path, 10, 4, mpp(), PyramidKind::Grey).unwrap();
    assert!(start().push_rows(&[0; 15]).unwrap_err().to_string().contains("15 bytes"));
    assert!(start().push_rows(&[0; 50]).unwrap_err().to_string().contains("4 rows of 10 bytes"));
    let mut short = start();
    short.push_rows(&[0; 30]).unwrap();
    assert!(short.finish().unwrap_err().to_string().contains("3 of 4 rows"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn levels_halve_to_the_last() {
    assert_eq!(sizes(1300, 911).collect::<Vec<_>>(), [(1300, 911), (650, 455), (325, 227)]);
    assert_eq!(sizes(3000, 1).collect::<Vec<_>>(), [(3000, 1)]);
    assert_eq!(sizes(1, 1).count(), 1);
}

#[test]
fn resolution_gives_the_spacing_back() {
    for um in [0.25, 0.499, 0.2527, 0.5, 1.0, 2.0, 0.31415, 7.77, 0.11] {
        let (n, d) = pixels_per_cm(um);
        let back = 10_000.0 / (f64::from(n) / f64::from(d));
        assert!((back - um).abs() < 1e-9, "{um}: {n}/{d} = {back}");
    }
}
