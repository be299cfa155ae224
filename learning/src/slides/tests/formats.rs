//! Every way of storing a slide that is promised to be read.

use image::{Rgb, RgbImage};

use super::{Stored, difference, mpp, noise, picture};
use crate::slides::{FlatSlide, SlideReader, TiledSlide, open_slide, read_at, size_at};

fn read_whole(slide: &dyn SlideReader) -> RgbImage {
    let level = slide.levels()[0];
    slide.read_level(0, 0, 0, level.width, level.height).unwrap()
}

#[test]
fn lossless_codings_come_back_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    let image = noise(200, 150);
    for big in [false, true] {
        for (compression, predictor) in [(1, 1), (5, 1), (5, 2), (8, 1), (8, 2)] {
            for samples in [3, 4] {
                let stored = Stored { big, compression, predictor, samples, ..Stored::default() };
                stored.write(&path, std::slice::from_ref(&image));
                let slide = open_slide(&path, None).unwrap();
                assert_eq!(slide.mpp().um_per_px(), 0.25);
                assert_eq!(read_whole(slide.as_ref()), image, "{stored:?}");
            }
        }
    }
    let grey = Stored { samples: 1, photometric: 1, ..Stored::default() };
    grey.write(&path, std::slice::from_ref(&image));
    let red = RgbImage::from_fn(200, 150, |x, y| Rgb([image.get_pixel(x, y).0[0]; 3]));
    assert_eq!(read_whole(open_slide(&path, None).unwrap().as_ref()), red);
}

#[test]
fn the_container_decides_about_colour_not_the_jpeg() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.svs");
    let image = picture(192, 128);
    // Components that any JPEG decoder takes for YCbCr, in a container that says RGB: Aperio's way.
    let rgb = Stored { compression: 7, ..Stored::default() };
    rgb.write(&path, std::slice::from_ref(&image));
    assert!(difference(&read_whole(open_slide(&path, None).unwrap().as_ref()), &image) <= 8);
    // The same bytes in a container that says YCbCr.
    Stored { photometric: 6, ..rgb }.write(&path, std::slice::from_ref(&image));
    let converted = RgbImage::from_fn(192, 128, |x, y| {
        let [y, cb, cr] = image.get_pixel(x, y).0.map(f64::from);
        let (cb, cr) = (cb - 128.0, cr - 128.0);
        Rgb([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
            .map(|v| v.round().clamp(0.0, 255.0) as u8))
    });
    assert!(difference(&read_whole(open_slide(&path, None).unwrap().as_ref()), &converted) <= 16);
}

#[test]
fn label_macro_and_foreign_images_are_no_levels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.svs");
    let base = picture(512, 256);
    let images = [base.clone(), picture(256, 128), picture(128, 64), picture(64, 32), picture(100, 100), base];
    let stored = Stored {
        subfile: vec![0, 0, 1, 9, 0, 0],
        description: vec!["Aperio x|MPP = 0.5", "Aperio x", "Aperio x\r\nlabel 128x64", "Aperio x\r\nmacro", "", ""],
        ..Stored::default()
    };
    stored.write(&path, &images);
    let slide = open_slide(&path, None).unwrap();
    let sizes: Vec<_> = slide.levels().iter().map(|l| (l.width, l.height, l.downsample)).collect();
    assert_eq!(sizes, [(512, 256, 1.0), (256, 128, 2.0)]);
    assert_eq!(slide.mpp().um_per_px(), 0.5, "Aperio's MPP wins over the resolution tags");
    assert_eq!(open_slide(&path, Some(mpp(0.3))).unwrap().mpp().um_per_px(), 0.3, "an override wins over both");
}

#[test]
fn images_of_other_colours_are_no_levels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    for (samples, photometric, levels) in [(3, 2, 3), (1, 1, 2), (1, 3, 2), (4, 2, 2)] {
        Stored::default().write(&path, &[picture(512, 256), picture(256, 128), picture(128, 64)]);
        // The middle image becomes another kind: its tiles are not touched.
        let mut bytes = std::fs::read(&path).unwrap();
        let number = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let next = |bytes: &[u8], list: usize| {
            number(bytes, list + 2 + 12 * usize::from(u16::from_le_bytes(bytes[list..list + 2].try_into().unwrap())))
        };
        let list = next(&bytes, number(&bytes, 4));
        for (tag, value) in [(262u16, photometric), (277, samples)] {
            let at = (list + 2..).step_by(12).find(|&at| bytes[at..at + 2] == tag.to_le_bytes()).unwrap();
            bytes[at + 8] = value;
        }
        std::fs::write(&path, &bytes).unwrap();
        let slide = open_slide(&path, None).unwrap();
        assert_eq!(slide.levels().len(), levels, "{samples} samples, colour {photometric}");
    }
}

#[test]
fn tiles_that_were_never_scanned_are_white() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    let image = noise(128, 128);
    Stored { sparse: Some(1), ..Stored::default() }.write(&path, std::slice::from_ref(&image));
    let read = read_whole(open_slide(&path, None).unwrap().as_ref());
    for (x, y, pixel) in read.enumerate_pixels() {
        let expected = if x >= 64 && y < 64 { Rgb([255; 3]) } else { *image.get_pixel(x, y) };
        assert_eq!(*pixel, expected, "({x}, {y})");
    }
}

#[test]
fn flat_images_need_a_spacing_and_turn_transparency_white() {
    let folder = tempfile::tempdir().unwrap();
    let image = noise(90, 70);
    for name in ["slide.png", "slide.jpg"] {
        let path = folder.path().join(name);
        image.save(&path).unwrap();
        assert!(open_slide(&path, None).is_err_and(|e| e.to_string().contains("column `mpp` of slides.csv")));
        assert_eq!(size_at(open_slide(&path, Some(mpp(0.5))).unwrap().as_ref(), mpp(1.0)), (45, 35));
    }
    let path = folder.path().join("slide.png");
    assert_eq!(read_whole(open_slide(&path, Some(mpp(0.5))).unwrap().as_ref()), image);
    let glass = image::RgbaImage::from_fn(4, 4, |x, _| image::Rgba([0, 0, 0, if x < 2 { 0 } else { 255 }]));
    glass.save(&path).unwrap();
    let read = read_whole(&FlatSlide::open(&path, Some(mpp(0.5))).unwrap());
    assert_eq!((read.get_pixel(0, 0).0, read.get_pixel(3, 0).0), ([255; 3], [0; 3]));
}

#[test]
fn several_threads_read_one_slide() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    let image = noise(600, 500);
    Stored { compression: 8, ..Stored::default() }.write(&path, std::slice::from_ref(&image));
    let slide = TiledSlide::open(&path, None).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (slide, image) = (&slide, &image);
            scope.spawn(move || {
                for step in 0..20 {
                    let (x, y) = ((thread * 53 + step * 31) % 400, (thread * 71 + step * 17) % 300);
                    let read = read_at(slide, slide.mpp(), x.into(), y.into(), 200, 200).unwrap();
                    assert_eq!(read, image::imageops::crop_imm(image, x, y, 200, 200).to_image());
                }
            });
        }
    });
}
