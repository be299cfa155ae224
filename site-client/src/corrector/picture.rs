//! Patches as PNG files: label maps in plain grey for programs and in colour for people, uncertainty as heat, overlays.
//! Reads a label map back in either form.

use std::io::Cursor;
use std::path::Path;

use consilium_common::plan::UNLABELLED;
use consilium_learning::acquisition::PatchBox;
use consilium_learning::scan;
use consilium_learning::uncertainty::QUANTISATION_NATS;
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};

use crate::error::SiteError;

/// The colour of a class: 0 black, classes as in every picture of a scan, not labelled white. No other class is a grey, so
/// grey values and colours never mean two things.
pub(crate) fn class_colour(class: u8) -> [u8; 3] {
    match class {
        UNLABELLED => [255, 255, 255],
        0 => [0, 0, 0],
        1..64 => scan::class_colour(usize::from(class)),
        // Distinct by construction: blue is 1, which no class before has.
        _ => [class, 255 - class / 2, 1],
    }
}

/// Cuts a box out of a label map; what lies outside is not labelled.
pub(crate) fn crop_labels(map: &GrayImage, patch: PatchBox) -> GrayImage {
    GrayImage::from_fn(patch.side, patch.side, |x, y| {
        map.get_pixel_checked(patch.x + x, patch.y + y).copied().unwrap_or(Luma([UNLABELLED]))
    })
}

pub(crate) fn read_grey(path: &Path) -> Result<GrayImage, SiteError> {
    Ok(read(path)?.into_luma8())
}

pub(crate) fn read_rgb(path: &Path) -> Result<RgbImage, SiteError> {
    Ok(read(path)?.into_rgb8())
}

fn read(path: &Path) -> Result<DynamicImage, SiteError> {
    let bytes = crate::files::read(path)?;
    image::load_from_memory_with_format(&bytes, ImageFormat::Png)
        .map_err(|e| SiteError::Damaged { path: path.to_owned(), why: format!("is not the PNG that was written: {e}") })
}

/// PNG bytes of a picture.
pub(crate) fn png(picture: impl Into<DynamicImage>) -> Result<Vec<u8>, SiteError> {
    let mut bytes = Cursor::new(Vec::new());
    picture
        .into()
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| SiteError::Usage(format!("a picture cannot be written as PNG: {e}")))?;
    Ok(bytes.into_inner())
}

/// A label map as PNG with a palette: colours for people, class indices for programs.
pub(crate) fn palette_png(labels: &GrayImage) -> Result<Vec<u8>, SiteError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, labels.width(), labels.height());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette((0..=255).flat_map(class_colour).collect::<Vec<u8>>());
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(labels.as_raw())?;
        writer.finish()
    });
    written.map_err(|e| SiteError::Usage(format!("a label map cannot be written as PNG: {e}")))?;
    Ok(bytes)
}

/// The image with the labels' colours over it, outlines at full strength.
pub(crate) fn overlay(image: &RgbImage, labels: &GrayImage) -> RgbImage {
    let label = |x: i64, y: i64| -> Option<u8> {
        let (x, y) = (u32::try_from(x).ok()?, u32::try_from(y).ok()?);
        labels.get_pixel_checked(x, y).map(|p| p.0[0])
    };
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let pixel = *image.get_pixel(x, y);
        let (x, y) = (i64::from(x), i64::from(y));
        let own = label(x, y).unwrap_or(0);
        if own == 0 {
            return pixel;
        }
        let edge = [(1, 0), (-1, 0), (0, 1), (0, -1)]
            .iter()
            .any(|(dx, dy)| label(x + dx, y + dy).is_some_and(|other| other != own));
        let share = if edge { 1.0 } else { 0.3 };
        let colour = class_colour(own);
        Rgb(std::array::from_fn(|c| {
            (f32::from(pixel.0[c]) * (1.0 - share) + f32::from(colour[c]) * share).round() as u8
        }))
    })
}

/// Uncertainty as heat, black over red and yellow to white; white is what total ignorance between `classes` gives.
pub(crate) fn heat(quantised: &GrayImage, classes: usize) -> RgbImage {
    let full = (classes.max(2) as f32).ln() / QUANTISATION_NATS * 255.0;
    RgbImage::from_fn(quantised.width(), quantised.height(), |x, y| {
        let t = (f32::from(quantised.get_pixel(x, y).0[0]) / full).min(1.0) * 3.0;
        Rgb([t, t - 1.0, t - 2.0].map(|c| (c.clamp(0.0, 1.0) * 255.0) as u8))
    })
}

/// Why a picture is no label map.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotLabels {
    /// It ends too early or is no PNG: perhaps it is still being written.
    Unreadable(String),
    /// It is whole and wrong.
    Wrong(String),
}

/// Reads a label map that a person saved: grey values as class indices, or the colours of the palette.
pub(crate) fn labels_from(bytes: &[u8], side: u32, classes: usize) -> Result<GrayImage, NotLabels> {
    let picture = image::load_from_memory_with_format(bytes, ImageFormat::Png)
        .map_err(|e| NotLabels::Unreadable(format!("it cannot be read as a PNG file ({e}); save it again as PNG")))?;
    if (picture.width(), picture.height()) != (side, side) {
        return Err(NotLabels::Wrong(format!(
            "it is {} x {} pixels and must be {side} x {side}; save it without scaling or cropping",
            picture.width(),
            picture.height()
        )));
    }
    match picture {
        DynamicImage::ImageLuma8(grey) => from_grey(grey, classes),
        DynamicImage::ImageLumaA8(_) | DynamicImage::ImageRgba8(_) => {
            let rgba = picture.into_rgba8();
            if rgba.pixels().any(|p| p.0[3] != 255) {
                let why = "it has transparent pixels; remove the transparency (flatten the image) and save it again";
                return Err(NotLabels::Wrong(why.to_owned()));
            }
            from_colours(&DynamicImage::ImageRgba8(rgba).into_rgb8(), classes)
        }
        DynamicImage::ImageRgb8(rgb) => from_colours(&rgb, classes),
        _ => Err(NotLabels::Wrong("it has more than 8 bits a channel; save it as an 8-bit PNG".to_owned())),
    }
}

fn known(value: u8, classes: usize) -> bool {
    usize::from(value) < classes || value == UNLABELLED
}

fn from_grey(grey: GrayImage, classes: usize) -> Result<GrayImage, NotLabels> {
    if let Some((x, y, p)) = grey.enumerate_pixels().find(|(_, _, p)| !known(p.0[0], classes)) {
        let last = classes - 1;
        return Err(NotLabels::Wrong(format!(
            "the pixel at ({x}, {y}) has the value {}; values are 0 to {last} for the classes and 255 for not labelled",
            p.0[0]
        )));
    }
    let any = |value: u8| grey.as_raw().contains(&value);
    if any(0) && any(UNLABELLED) && grey.as_raw().iter().all(|v| matches!(*v, 0 | UNLABELLED)) {
        let why = "it holds only 0 and 255, and 255 means not labelled; give the foreground its class value (1 for the \
                   first class)";
        return Err(NotLabels::Wrong(why.to_owned()));
    }
    Ok(grey)
}

fn from_colours(rgb: &RgbImage, classes: usize) -> Result<GrayImage, NotLabels> {
    let count = u8::try_from(classes).unwrap_or(u8::MAX - 1);
    let palette: Vec<([u8; 3], u8)> =
        (0..count).chain([UNLABELLED]).map(|class| (class_colour(class), class)).collect();
    let mut labels = GrayImage::new(rgb.width(), rgb.height());
    for (x, y, pixel) in rgb.enumerate_pixels() {
        let [r, g, b] = pixel.0;
        let by_colour = palette.iter().find(|(colour, _)| *colour == pixel.0).map(|(_, class)| *class);
        let by_grey = (r == g && g == b && known(r, classes)).then_some(r);
        let Some(class) = by_colour.or(by_grey) else {
            return Err(NotLabels::Wrong(format!(
                "the pixel at ({x}, {y}) has the colour #{r:02x}{g:02x}{b:02x}, which is no class; use the colours of \
                 README.txt exactly, without soft brushes"
            )));
        };
        labels.put_pixel(x, y, Luma([class]));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn map() -> GrayImage {
        GrayImage::from_fn(4, 4, |x, y| Luma([if y == 3 { UNLABELLED } else { (x % 3) as u8 }]))
    }

    #[test]
    fn colours_are_distinct_and_only_background_and_unlabelled_are_grey() {
        let colours: BTreeSet<[u8; 3]> = (0..=255).map(class_colour).collect();
        assert_eq!(colours.len(), 256);
        assert_eq!(colours.iter().filter(|[r, g, b]| r == g && g == b).count(), 2);
    }

    #[test]
    fn a_label_map_comes_back_from_grey_palette_and_colour() {
        let labels = map();
        let colour = RgbImage::from_fn(4, 4, |x, y| Rgb(class_colour(labels.get_pixel(x, y).0[0])));
        for bytes in [png(labels.clone()).unwrap(), palette_png(&labels).unwrap(), png(colour).unwrap()] {
            assert_eq!(labels_from(&bytes, 4, 3).unwrap(), labels);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let whole = png(map()).unwrap();
        assert!(matches!(labels_from(&whole[..whole.len() - 20], 4, 3), Err(NotLabels::Unreadable(_))));
        let wrong = |bytes: &[u8], side, classes| match labels_from(bytes, side, classes) {
            Err(NotLabels::Wrong(why)) => why,
            other => panic!("{other:?}"),
        };
        insta::assert_snapshot!(
            [
                wrong(&whole, 5, 3),
                wrong(&whole, 4, 2),
                wrong(&png(GrayImage::from_fn(4, 4, |x, _| Luma([if x == 0 { 255 } else { 0 }]))).unwrap(), 4, 2),
                wrong(&png(RgbImage::from_pixel(4, 4, Rgb([10, 20, 30]))).unwrap(), 4, 3),
                wrong(&png(image::RgbaImage::new(4, 4)).unwrap(), 4, 3),
            ]
            .join("\n"),
            @r"
        it is 4 x 4 pixels and must be 5 x 5; save it without scaling or cropping
        the pixel at (2, 0) has the value 2; values are 0 to 1 for the classes and 255 for not labelled
        it holds only 0 and 255, and 255 means not labelled; give the foreground its class value (1 for the first class)
        the pixel at (0, 0) has the colour #0a141e, which is no class; use the colours of README.txt exactly, without soft brushes
        it has transparent pixels; remove the transparency (flatten the image) and save it again
        "
        );
    }
}
