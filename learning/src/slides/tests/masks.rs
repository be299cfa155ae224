//! Reference masks: geometry, forms, refusals.

use std::path::Path;

use consilium_common::plan::UNLABELLED;
use image::{GrayImage, Luma, Rgb, RgbImage};

use super::{Stored, mpp};
use crate::slides::{FlatSlide, MaskReader, SlideError, check_mask, read_mask_at, size_at};

fn labels(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| Luma([[0, 1, 2, UNLABELLED][((x / 7 + y / 5) % 4) as usize]]))
}

fn slide(width: u32, height: u32) -> FlatSlide {
    FlatSlide::new(RgbImage::new(width, height), mpp(0.5))
}

/// Writes the label map as PNG, tiled TIFF and striped TIFF.
fn forms(folder: &Path, mask: &GrayImage) -> [std::path::PathBuf; 4] {
    let paths = ["m.png", "tiled.tif", "lzw.tif", "striped.tif"].map(|name| folder.join(name));
    mask.save(&paths[0]).unwrap();
    let rgb = RgbImage::from_fn(mask.width(), mask.height(), |x, y| Rgb([mask.get_pixel(x, y).0[0]; 3]));
    let tiled = Stored { samples: 1, photometric: 1, resolution: 0, ..Stored::default() };
    tiled.write(&paths[1], std::slice::from_ref(&rgb));
    Stored { compression: 5, photometric: 3, ..tiled }.write(&paths[2], &[rgb]);
    let mut encoder = tiff::encoder::TiffEncoder::new(std::fs::File::create(&paths[3]).unwrap()).unwrap();
    let (width, height) = mask.dimensions();
    encoder.write_image::<tiff::encoder::colortype::Gray8>(width, height, mask.as_raw()).unwrap();
    paths
}

#[test]
fn every_form_gives_the_same_labels() {
    let folder = tempfile::tempdir().unwrap();
    let mask = labels(150, 100);
    let slide = slide(150, 100);
    for path in forms(folder.path(), &mask) {
        check_mask(&path, (150, 100)).unwrap();
        assert_eq!(read_mask_at(&path, &slide, mpp(0.5), 3).unwrap(), mask, "{path:?}");
        let coarse = read_mask_at(&path, &slide, mpp(1.5), 3).unwrap();
        assert_eq!(coarse.dimensions(), size_at(&slide, mpp(1.5)));
        assert!(coarse.enumerate_pixels().all(|(x, y, p)| p == mask.get_pixel(x * 3 + 1, y * 3 + 1)), "{path:?}");
    }
}

#[test]
fn bands_of_rows_are_the_rows_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let slide = slide(300, 260);
    for path in forms(folder.path(), &labels(150, 130)) {
        for spacing in [0.25, 0.5, 1.3, 40.0] {
            let whole = read_mask_at(&path, &slide, mpp(spacing), 3).unwrap();
            let reader = MaskReader::open(&path, &slide, mpp(spacing), 3).unwrap();
            let (w, h) = reader.size();
            assert_eq!(whole.dimensions(), (w, h));
            for rows in [1, 7, 64, h] {
                let mut joined: Vec<u8> =
                    (0..h).step_by(rows as usize).flat_map(|y| reader.rows(y, rows).unwrap()).collect();
                let below = joined.split_off(whole.len());
                assert_eq!(&joined, whole.as_raw(), "{path:?} at {spacing} by {rows}");
                assert!(below.iter().all(|&v| v == UNLABELLED));
            }
            let backwards = reader.rows(h / 2, 1).unwrap();
            assert_eq!(backwards, whole.as_raw()[(h / 2 * w) as usize..][..w as usize]);
            assert!(matches!(reader.rows(0, u32::MAX), Err(SlideError::RegionTooLarge { .. })));
        }
    }
}

#[test]
fn bands_check_the_pixels_that_the_spacing_skips() {
    let folder = tempfile::tempdir().unwrap();
    for at in [0, 100, 255] {
        let mut mask = labels(256, 256);
        mask.put_pixel(3, at, Luma([9]));
        for path in forms(folder.path(), &mask) {
            let reader = MaskReader::open(&path, &slide(256, 256), mpp(64.0), 3);
            let bands = reader.and_then(|reader| (0..reader.size().1).try_for_each(|y| reader.rows(y, 1).map(drop)));
            let found = bands.is_err_and(|e| matches!(e, SlideError::MaskValue { value: 9, x: 3, y, .. } if y == at));
            assert!(found, "{path:?}, row {at}");
        }
    }
}

#[test]
fn a_mask_of_the_same_shape_is_scaled_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let mask = labels(150, 100);
    let path = folder.path().join("m.png");
    mask.save(&path).unwrap();
    let big = slide(600, 400);
    let whole = read_mask_at(&path, &big, mpp(0.5), 3).unwrap();
    assert!(whole.enumerate_pixels().all(|(x, y, p)| p == mask.get_pixel(x / 4, y / 4)));
    // 1001 x 667 scaled to 150 wide is 99.95 high: rounding, not another shape.
    assert!(read_mask_at(&path, &slide(1001, 667), mpp(1.0), 3).is_ok());
}

#[test]
fn what_is_no_mask_of_this_slide_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.png");
    labels(150, 100).save(&path).unwrap();
    let refused = |slide: &FlatSlide, classes| read_mask_at(&path, slide, mpp(0.5), classes).unwrap_err().to_string();
    let message = refused(&slide(150, 102), 3);
    assert!(message.contains("150 x 100 and its slide 150 x 102") && message.contains("export the mask"), "{message}");
    let message = refused(&slide(150, 100), 2);
    assert!(message.contains("pixel (14, 0) of the mask is 2") && message.contains("0 to 1 and 255"), "{message}");
    RgbImage::new(150, 100).save(&path).unwrap();
    let message = refused(&slide(150, 100), 3);
    assert!(message.contains("8-bit greyscale PNG whose pixel values are class indices"), "{message}");
    assert!(check_mask(&path, (150, 100)).is_err());
    let missing = read_mask_at(&folder.path().join("none.png"), &slide(9, 9), mpp(0.5), 2);
    assert!(matches!(missing, Err(SlideError::Missing { .. })));
    let jpeg = folder.path().join("m.jpg");
    labels(150, 100).save(&jpeg).unwrap();
    assert!(read_mask_at(&jpeg, &slide(150, 100), mpp(0.5), 3).unwrap_err().to_string().contains("JPEG changes"));
}

#[test]
fn wrong_values_are_found_in_every_tile() {
    let folder = tempfile::tempdir().unwrap();
    let mut mask = labels(150, 100);
    mask.put_pixel(149, 99, Luma([9]));
    for path in forms(folder.path(), &mask) {
        // Not even at a spacing that would skip the pixel.
        let message = read_mask_at(&path, &slide(150, 100), mpp(5.0), 3).unwrap_err().to_string();
        assert!(message.contains("pixel (149, 99) of the mask is 9"), "{message}");
    }
}

#[test]
fn other_pixels_than_labels_are_named_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.png");
    image::DynamicImage::new_luma16(4, 4).save(&path).unwrap();
    let message = check_mask(&path, (4, 4)).unwrap_err().to_string();
    assert!(message.contains("(its pixels have 1 sample of 16 bits)"), "{message}");
    let path = folder.path().join("mask.tif");
    let mut encoder = tiff::encoder::TiffEncoder::new(std::fs::File::create(&path).unwrap()).unwrap();
    encoder.write_image::<tiff::encoder::colortype::RGB8>(2, 1, &[0; 6]).unwrap();
    let slide = FlatSlide::new(image::RgbImage::new(2, 1), mpp(0.5));
    let message = read_mask_at(&path, &slide, mpp(0.5), 2).unwrap_err().to_string();
    assert!(message.contains("(its pixels have 3 samples of 8 bits)"), "{message}");
}
