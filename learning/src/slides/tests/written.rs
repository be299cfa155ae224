//! Slides written here: what another reader needs to find in them, and that they come back.

use image::imageops;

use super::{difference, mpp, picture};
use crate::slides::{open_slide, read_at, write_pyramid};

#[test]
fn a_pyramid_comes_back_at_every_level() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    let image = picture(1300, 911);
    write_pyramid(&path, &image, mpp(0.499), 90).unwrap();
    let slide = open_slide(&path, None).unwrap();
    assert_eq!(slide.mpp().um_per_px(), 0.499);
    let sizes: Vec<_> = slide.levels().iter().map(|l| (l.width, l.height, l.downsample)).collect();
    assert_eq!(sizes, [(1300, 911, 1.0), (650, 455, 2.0), (325, 227, 4.0)]);
    let whole = slide.read_level(0, 0, 0, 1300, 911).unwrap();
    assert!(difference(&whole, &image) < 24, "{}", difference(&whole, &image));
    // A reduced level lies exactly on the finer one, luma and chroma alike: any shift makes it worse.
    let half = read_at(slide.as_ref(), mpp(0.998), 1, 1, 600, 400).unwrap();
    let error = |dx: u32, dy: u32| {
        let moved = imageops::crop_imm(&image, 1 + dx, 1 + dy, 1200, 800).to_image();
        let moved = imageops::thumbnail(&moved, 600, 400);
        let sum: f64 = half.as_raw().iter().zip(moved.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        sum / half.as_raw().len() as f64
    };
    let there = error(1, 1);
    assert!(there < 1.5, "mean error {there}");
    for (dx, dy) in [(0, 1), (2, 1), (1, 0), (1, 2)] {
        assert!(error(dx, dy) > there * 1.5, "({dx}, {dy}): {} against {there}", error(dx, dy));
    }
}

#[test]
fn the_same_pixels_give_the_same_bytes_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.tif", "b.tif"].map(|name| folder.path().join(name));
    for path in &paths {
        write_pyramid(path, &picture(600, 530), mpp(0.25), 85).unwrap();
    }
    assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    let message = write_pyramid(&folder.path().join("no/such.tif"), &picture(9, 9), mpp(0.25), 85).unwrap_err();
    assert!(message.to_string().contains("check that the folder exists"), "{message}");
}

#[test]
fn tiny_and_narrow_slides_are_written_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    for (width, height) in [(1, 1), (3000, 1), (257, 2)] {
        write_pyramid(&path, &picture(width, height), mpp(0.25), 90).unwrap();
        let slide = open_slide(&path, None).unwrap();
        assert_eq!((slide.levels()[0].width, slide.levels()[0].height), (width, height));
        slide.read_level(slide.levels().len() - 1, 0, 0, 4, 4).unwrap();
    }
}
