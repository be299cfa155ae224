//! The reading side of a scan: decodes the next batches while the network works, at most a few ahead.

use std::sync::mpsc::SyncSender;
use std::time::Instant;

use consilium_common::Mpp;
use image::{Rgb, RgbImage, imageops};

use super::colour::colour_class;
use super::error::ScanError;
use super::window::{Frame, Window};
use crate::slides::{SlideReader, read_at};

/// One batch as it comes from the slide.
#[derive(Debug)]
pub(super) struct Decoded {
    /// The tiles, padded to full size with white, as in training, where the slide is smaller.
    pub(super) tiles: Vec<RgbImage>,
    /// The box that was read, and the colour class of each of its pixels.
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) colour: Vec<u8>,
}

/// Reads all batches in order and sends them; ends early after an error or when nobody listens any more. Returns the
/// seconds spent on reading.
pub(super) fn read_batches(
    slide: &dyn SlideReader,
    spacing: Mpp,
    window: &Window,
    sender: SyncSender<Result<Decoded, ScanError>>,
) -> f64 {
    let mut seconds = 0.0;
    for row in window.rows() {
        for columns in &row.batches {
            let clock = Instant::now();
            let batch = read_batch(slide, spacing, window.frame(), columns, row.y);
            seconds += clock.elapsed().as_secs_f64();
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return seconds;
            }
        }
    }
    seconds
}

fn read_batch(
    slide: &dyn SlideReader,
    spacing: Mpp,
    frame: &Frame,
    columns: &[u32],
    y: u32,
) -> Result<Decoded, ScanError> {
    let x = columns.first().copied().unwrap_or(0);
    let width = columns.last().map_or(0, |last| last - x) + frame.shown_x;
    // One read for the whole run of touching tiles: half-overlapping tiles would decode every pixel twice.
    let strip = read_at(slide, spacing, i64::from(x), i64::from(y), width, frame.shown_y)?;
    let tiles = columns.iter().map(|&column| cut_tile(&strip, column - x, frame)).collect();
    let colour = strip.pixels().map(|pixel| colour_class(pixel.0)).collect();
    Ok(Decoded { tiles, x, y, width, colour })
}

fn cut_tile(strip: &RgbImage, x: u32, frame: &Frame) -> RgbImage {
    let cut = imageops::crop_imm(strip, x, 0, frame.shown_x, frame.shown_y).to_image();
    if cut.dimensions() == (frame.tile, frame.tile) {
        return cut;
    }
    let mut tile = RgbImage::from_pixel(frame.tile, frame.tile, Rgb([255; 3]));
    imageops::replace(&mut tile, &cut, i64::from(frame.pad_x), i64::from(frame.pad_y));
    tile
}
