//! Slides that are one flat image: PNG and JPEG files, and images already in memory.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use consilium_common::{Mpp, limits};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, RgbImage};

use super::error::SlideError;
use super::region::{paste, white_level};
use super::{About, Level, SlideReader};

/// A flat image with a spacing, held in memory.
#[derive(Debug)]
pub struct FlatSlide {
    path: PathBuf,
    image: RgbImage,
    mpp: Mpp,
    levels: [Level; 1],
}

impl FlatSlide {
    /// Decodes a PNG or JPEG of at most [`limits::MAX_FLAT_IMAGE_PX`] pixels; transparency becomes white.
    ///
    /// # Errors
    /// No `mpp` is given (the density in these files is a print size), or the file is missing, damaged or too large.
    pub fn open(path: &Path, mpp: Option<Mpp>) -> Result<Self, SlideError> {
        check(path, mpp)?;
        let mpp = required(path, mpp)?;
        let mut slide = Self::new(flatten(decode(path)?), mpp);
        slide.path = path.to_owned();
        Ok(slide)
    }

    /// A slide from pixels in memory.
    pub fn new(image: RgbImage, mpp: Mpp) -> Self {
        let levels = [Level { width: image.width(), height: image.height(), downsample: 1.0 }];
        Self { path: PathBuf::from("(slide in memory)"), image, mpp, levels }
    }
}

impl SlideReader for FlatSlide {
    fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn mpp(&self) -> Mpp {
        self.mpp
    }

    fn read_level(&self, level: usize, x: i64, y: i64, w: u32, h: u32) -> Result<RgbImage, SlideError> {
        let mut region = white_level(self, level, w, h)?;
        paste(&mut region, &self.image, x.saturating_neg(), y.saturating_neg());
        Ok(region)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn about(&self) -> About {
        About::new("flat image", None, Some(self.mpp))
    }
}

/// Checks size and spacing without decoding pixels; returns width and height.
pub(super) fn check(path: &Path, mpp: Option<Mpp>) -> Result<(u32, u32), SlideError> {
    let (width, height) = reader(path)?.into_dimensions().map_err(|e| failure(path, e))?;
    check_size(path, width, height)?;
    required(path, mpp)?;
    Ok((width, height))
}

/// Refuses flat images that are empty or too large to be decoded whole.
pub(super) fn check_size(path: &Path, width: u32, height: u32) -> Result<(), SlideError> {
    if width == 0 || height == 0 || width.max(height) > limits::MAX_SLIDE_SIDE_PX {
        return Err(SlideError::Dimensions { path: path.to_owned(), width: width.into(), height: height.into() });
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits::MAX_FLAT_IMAGE_PX {
        return Err(SlideError::TooLargeFlat { path: path.to_owned(), pixels });
    }
    Ok(())
}

/// Decodes a PNG or JPEG whole; the caller has checked its size.
pub(super) fn decode(path: &Path) -> Result<DynamicImage, SlideError> {
    let mut reader = reader(path)?;
    // The size is checked by check_size; the decoder's own ceiling is lower than ours.
    reader.no_limits();
    reader.decode().map_err(|e| failure(path, e))
}

/// Size and stored pixel format of a PNG or JPEG, without decoding it.
pub(super) fn header(path: &Path) -> Result<(u32, u32, image::ExtendedColorType), SlideError> {
    let decoder = reader(path)?.into_decoder().map_err(|e| failure(path, e))?;
    let (width, height) = decoder.dimensions();
    Ok((width, height, decoder.original_color_type()))
}

fn reader(path: &Path) -> Result<ImageReader<BufReader<File>>, SlideError> {
    ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(|e| SlideError::read(path, "first bytes", e))
}

fn required(path: &Path, mpp: Option<Mpp>) -> Result<Mpp, SlideError> {
    mpp.ok_or_else(|| SlideError::NoSpacing {
        path: path.to_owned(),
        why: "PNG and JPEG files carry a print density, which is not trusted".to_owned(),
    })
}

fn failure(path: &Path, error: ImageError) -> SlideError {
    match error {
        ImageError::IoError(source) => SlideError::read(path, "last pixel", source),
        ImageError::Unsupported(e) => SlideError::unsupported(path, e.to_string()),
        other => SlideError::damaged(path, other.to_string()),
    }
}

/// RGB over white.
fn flatten(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let rgba = image.into_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0.map(u32::from);
        image::Rgb([r, g, b].map(|c| ((c * a + 255 * (255 - a) + 127) / 255) as u8))
    })
}
