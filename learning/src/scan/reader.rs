//! The reading side of a scan: several threads decode the next batches while the network works, a few ahead.
//!
//! Thread t of n decodes batches t, t + n, t + 2n ... and has a short queue of its own, so that the batches come in order
//! without anybody sorting them, and nothing runs further ahead than the queues are long.

use std::sync::mpsc::SyncSender;

use consilium_common::Mpp;
use image::{Rgb, RgbImage, imageops};

use super::colour::{HOLE, colour_class};
use super::error::ScanError;
use super::timing::Clocks;
use super::window::{Frame, Window};
use crate::slides::{Hole, SlideReader, level_at, read_at};

/// One batch as it comes from the slide.
#[derive(Debug)]
pub(super) struct Decoded {
    /// The tiles, padded to full size with white where the slide is smaller.
    pub(super) tiles: Vec<RgbImage>,
    /// The box that was read, and the colour class of each of its pixels.
    pub(super) x: u32,
    pub(super) width: u32,
    pub(super) colour: Vec<u8>,
}

/// What all reading threads of a scan share.
pub(super) struct Reading<'a> {
    pub(super) slide: &'a dyn SlideReader,
    pub(super) spacing: Mpp,
    pub(super) frame: &'a Frame,
    pub(super) windows: &'a [Window],
    /// How many threads read.
    pub(super) threads: usize,
    pub(super) clocks: &'a Clocks,
}

impl Reading<'_> {
    /// Reads the batches of one thread in order and sends them; ends early after an error or when nobody listens.
    pub(super) fn run(&self, thread: usize, sender: &SyncSender<Result<Decoded, ScanError>>) {
        let rows = self.windows.iter().flat_map(|window| &window.rows);
        let batches = rows.flat_map(|row| row.batches.iter().map(|columns| (row.y, columns)));
        for (y, columns) in batches.skip(thread).step_by(self.threads) {
            let batch = self.clocks.read.time(|| self.batch(columns, y));
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    }

    fn batch(&self, columns: &[u32], y: u32) -> Result<Decoded, ScanError> {
        let frame = self.frame;
        let x = columns.first().copied().unwrap_or(0);
        let width = columns.last().map_or(0, |last| last - x) + frame.shown_x;
        // One read for the whole run of touching tiles: half-overlapping tiles would decode every pixel twice.
        let strip = read_at(self.slide, self.spacing, i64::from(x), i64::from(y), width, frame.shown_y)?;
        let tiles = columns.iter().map(|&column| cut_tile(&strip, column - x, frame)).collect();
        let mut colour: Vec<u8> = strip.pixels().map(|pixel| colour_class(pixel.0)).collect();
        let scale = self.slide.mpp().um_per_px() / self.spacing.um_per_px();
        // A damaged tile of another level, met elsewhere, says nothing about these pixels.
        let level = level_at(self.slide, self.spacing);
        for hole in self.slide.holes().iter().filter(|hole| hole.level == level) {
            mark(&mut colour, (x, y, width, frame.shown_y), hole, scale);
        }
        Ok(Decoded { tiles, x, width, colour })
    }
}

/// Marks a hole, given in level-0 pixels of which one is `scale` pixels here, in the colours of a box.
fn mark(colour: &mut [u8], (x, y, w, h): (u32, u32, u32, u32), hole: &Hole, scale: f64) {
    let span = |start: u32, length: u32, from: u32, side: u32| {
        let first = (f64::from(start) * scale).floor() - f64::from(from);
        let last = (f64::from(start.saturating_add(length)) * scale).ceil() - f64::from(from);
        let clip = |at: f64| at.clamp(0.0, f64::from(side)) as usize;
        clip(first)..clip(last)
    };
    let columns = span(hole.x, hole.w, x, w);
    for row in span(hole.y, hole.h, y, h) {
        colour[row * w as usize..][columns.clone()].fill(HOLE);
    }
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
