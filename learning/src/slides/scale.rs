//! Reading a slide at a spacing instead of at a level.
//!
//! A pixel (i, j) at spacing `s` covers the square of `s` micrometres whose corner lies at (i s, j s) from the slide's
//! top-left corner. It is averaged from the coarsest level that is at least as fine as asked for. Memory stays flat:
//! large reads go block by block.

use std::ops::Range;

use consilium_common::{Mpp, limits};
use image::RgbImage;
use rayon::prelude::*;

use super::error::SlideError;
use super::region::{inside, paste, white};
use super::resample::{resample, span, taps};
use super::{Level, SlideReader};

/// Side of the source area that one block of a large read takes in, in level pixels.
const BLOCK_PX: f64 = 2048.0;
/// Ratios this close to a whole number are meant to be it: below one pixel on the largest slide.
const WHOLE_WITHIN: f64 = 5e-7;

/// Size of the whole slide at a spacing, in pixels: width, height. Only pixels wholly inside the slide count.
pub fn size_at(slide: &dyn SlideReader, spacing: Mpp) -> (u32, u32) {
    scaled_size(slide, ratio(slide, spacing))
}

/// A region of the slide at a spacing; `x, y` are pixels at that spacing, and what lies outside is white.
///
/// Equals the same part of a read of the whole slide, byte by byte.
///
/// # Errors
/// The region has more than [`limits::MAX_FLAT_IMAGE_PX`] pixels, the spacing is so coarse that one pixel would need
/// as many, or the file is damaged there.
pub fn read_at(slide: &dyn SlideReader, spacing: Mpp, x: i64, y: i64, w: u32, h: u32) -> Result<RgbImage, SlideError> {
    read_scaled(slide, ratio(slide, spacing), x, y, w, h)
}

/// The whole slide, scaled down so that no side is longer than `max_side`; never enlarged.
///
/// # Errors
/// As [`read_at`].
pub fn thumbnail(slide: &dyn SlideReader, max_side: u32) -> Result<RgbImage, SlideError> {
    let base = slide.levels()[0];
    let ratio = (f64::from(base.width.max(base.height)) / f64::from(max_side.max(1))).max(1.0);
    let (w, h) = scaled_size(slide, ratio);
    read_scaled(slide, ratio, 0, 0, w, h)
}

/// The level that [`read_at`] reads at a spacing.
pub fn level_at(slide: &dyn SlideReader, spacing: Mpp) -> usize {
    best_level(slide, ratio(slide, spacing)).0
}

/// Level-0 pixels per pixel at `spacing`.
pub(super) fn ratio(slide: &dyn SlideReader, spacing: Mpp) -> f64 {
    whole(spacing.um_per_px() / slide.mpp().um_per_px())
}

fn whole(ratio: f64) -> f64 {
    let nearest = ratio.round();
    if nearest >= 1.0 && (ratio - nearest).abs() <= WHOLE_WITHIN * nearest { nearest } else { ratio }
}

fn scaled_size(slide: &dyn SlideReader, ratio: f64) -> (u32, u32) {
    let base = slide.levels()[0];
    let side = |pixels: u32| ((f64::from(pixels) / ratio + 1e-6).floor() as u32).max(1);
    (side(base.width), side(base.height))
}

fn read_scaled(slide: &dyn SlideReader, ratio: f64, x: i64, y: i64, w: u32, h: u32) -> Result<RgbImage, SlideError> {
    let mut region = white(slide, w, h)?;
    let (width, height) = scaled_size(slide, ratio);
    let (left, right) = inside(x, w, width);
    let (top, bottom) = inside(y, h, height);
    if left >= right || top >= bottom {
        return Ok(region);
    }
    let (number, level) = best_level(slide, ratio);
    let within = whole(ratio / level.downsample);
    if within == 1.0 && right <= level.width && bottom <= level.height {
        let (w, h) = (right - left, bottom - top);
        let part = slide.read_level(number, left.into(), top.into(), w, h)?;
        if part.dimensions() == region.dimensions() {
            return Ok(part);
        }
        paste(&mut region, &part, i64::from(left) - x, i64::from(top) - y);
        return Ok(region);
    }
    let side = (BLOCK_PX / within).floor().max(1.0);
    let source = (side * within + 2.0).powi(2);
    if source > limits::MAX_FLAT_IMAGE_PX as f64 {
        return Err(SlideError::RegionTooLarge { path: slide.path().to_owned(), pixels: source as u64 });
    }
    let blocks = blocks(left..right, top..bottom, side as u32);
    let read = |(columns, rows): &(Range<u32>, Range<u32>)| block(slide, number, within, columns, rows);
    let parts: Vec<RgbImage> = match blocks.as_slice() {
        [one] => vec![read(one)?],
        many => many.par_iter().map(read).collect::<Result<_, _>>()?,
    };
    for ((columns, rows), part) in blocks.iter().zip(&parts) {
        paste(&mut region, part, i64::from(columns.start) - x, i64::from(rows.start) - y);
    }
    Ok(region)
}

/// The coarsest level that is at least as fine as the ratio asks for, with its number.
fn best_level(slide: &dyn SlideReader, ratio: f64) -> (usize, Level) {
    let levels = slide.levels();
    let number = levels.iter().rposition(|level| level.downsample <= ratio * (1.0 + WHOLE_WITHIN)).unwrap_or(0);
    (number, levels[number])
}

/// Cuts a region into blocks of at most `side` pixels a side, row by row.
fn blocks(columns: Range<u32>, rows: Range<u32>, side: u32) -> Vec<(Range<u32>, Range<u32>)> {
    let cut = |range: Range<u32>| -> Vec<Range<u32>> {
        range.clone().step_by(side as usize).map(|start| start..start.saturating_add(side).min(range.end)).collect()
    };
    let columns = cut(columns);
    cut(rows).into_iter().flat_map(|row| columns.iter().map(move |column| (column.clone(), row.clone()))).collect()
}

/// One block, resampled from a level; `ratio` is level pixels per output pixel.
fn block(
    slide: &dyn SlideReader,
    number: usize,
    ratio: f64,
    columns: &Range<u32>,
    rows: &Range<u32>,
) -> Result<RgbImage, SlideError> {
    let level = slide.levels()[number];
    let column_taps = taps(columns.clone(), ratio, level.width);
    let row_taps = taps(rows.clone(), ratio, level.height);
    let (across, down) = (span(&column_taps), span(&row_taps));
    let (w, h) = (across.len() as u32, down.len() as u32);
    let source = slide.read_level(number, across.start.into(), down.start.into(), w, h)?;
    Ok(resample(&source, (across.start, down.start), &column_taps, &row_taps))
}
