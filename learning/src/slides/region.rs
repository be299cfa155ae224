//! Rectangles of pixels: white ones to start from, clipping, and copying one into another.

use consilium_common::limits;
use image::RgbImage;

use super::SlideReader;
use super::error::SlideError;

/// A white region of the size asked for, if level and size are acceptable.
pub(super) fn white_level(slide: &dyn SlideReader, level: usize, w: u32, h: u32) -> Result<RgbImage, SlideError> {
    let levels = slide.levels().len();
    if level >= levels {
        return Err(SlideError::NoSuchLevel { path: slide.path().to_owned(), level, levels });
    }
    white(slide, w, h)
}

/// A white image, if it is not larger than one read may be.
pub(super) fn white(slide: &dyn SlideReader, w: u32, h: u32) -> Result<RgbImage, SlideError> {
    let pixels = u64::from(w) * u64::from(h);
    if pixels > limits::MAX_FLAT_IMAGE_PX {
        return Err(SlideError::RegionTooLarge { path: slide.path().to_owned(), pixels });
    }
    let mut image = RgbImage::new(w, h);
    image.fill(255);
    Ok(image)
}

/// The part of `start .. start + length` inside `0 .. side`, as a half-open range that may be empty.
pub(super) fn inside(start: i64, length: u32, side: u32) -> (u32, u32) {
    let clamp = |at: i64| at.clamp(0, i64::from(side)) as u32;
    (clamp(start), clamp(start.saturating_add(i64::from(length))))
}

/// Copies `part` into `region` with its corner at `x, y`; what falls outside is lost.
pub(super) fn paste(region: &mut RgbImage, part: &RgbImage, x: i64, y: i64) {
    let (left, right) = inside(x, part.width(), region.width());
    let (top, bottom) = inside(y, part.height(), region.height());
    if left >= right {
        return;
    }
    let (to_stride, from_stride) = (region.width() as usize * 3, part.width() as usize * 3);
    let bytes = (right - left) as usize * 3;
    for line in top..bottom {
        let to = line as usize * to_stride + left as usize * 3;
        let from = (i64::from(line) - y) as usize * from_stride + (i64::from(left) - x) as usize * 3;
        region.as_mut()[to..to + bytes].copy_from_slice(&part.as_raw()[from..from + bytes]);
    }
}
