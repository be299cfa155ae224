//! Weighted sums of the members' probabilities for the rows of a lane that tiles still touch.
//!
//! The band is as high as a tile and as wide as the lane. When the next row of tiles starts lower, the rows above it are
//! final: they are combined into labels and maps, the others move up. Each member has its own part of the memory, so
//! members can be added side by side and the sums are the same on any number of cores; and as every pixel hears its tiles
//! in the same order, they are the same in lanes of any width.

use std::ops::Range;

use consilium_common::bundle::Averaging;
use rayon::prelude::*;

use super::colour::{HOLE, WHITE};
use super::error::ScanError;
use super::reader::Decoded;
use super::slab::SLAB_ROWS;
use super::strip::Strip;
use super::window::Frame;
use crate::network::Shown;
use crate::tissue::TissueView;
use crate::uncertainty::{Combiner, RowOutput};

/// Rows that are combined at once: the maps of a whole tile's height would be a third of the sums again.
const AT_ONCE: usize = 2 * SLAB_ROWS as usize;

/// How many members and classes there are, and what of them is averaged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) members: usize,
    pub(super) classes: usize,
    pub(super) averaging: Averaging,
}

pub(super) struct Bands<'a> {
    counts: Counts,
    lane: Range<u32>,
    height: u32,
    rows: usize,
    frame: &'a Frame,
    tissue: &'a TissueView<'a>,
    /// First row of the band in the slide.
    top: u32,
    /// `[member, class, row, x]`.
    sums: Vec<f32>,
    /// `[row, x]`, the same for every member.
    weights: Vec<f32>,
    /// Colour classes, `[row, x]`.
    colour: Vec<u8>,
}

impl<'a> Bands<'a> {
    pub(super) fn new(
        counts: Counts,
        (start, end): (u32, u32),
        (height, top): (u32, u32),
        frame: &'a Frame,
        tissue: &'a TissueView<'a>,
    ) -> Self {
        let area = (end - start) as usize * frame.shown_y as usize;
        let Counts { members, classes, .. } = counts;
        let (sums, weights, colour) = (vec![0.0; members * classes * area], vec![0.0; area], vec![WHITE; area]);
        let rows = frame.shown_y as usize;
        Self { counts, lane: start..end, height, rows, frame, tissue, top, sums, weights, colour }
    }

    /// Bytes of the sums a column of the lane.
    pub(super) fn bytes_per_column(members: usize, classes: usize, tile: u32) -> u64 {
        (members * classes * 4 + 5) as u64 * u64::from(tile)
    }

    fn width(&self) -> usize {
        self.lane.len()
    }

    /// The part of `length` pixels from `x` on that lies in the lane: its first pixel, counted from `x`, its place in the
    /// lane and its length.
    fn clip(&self, x: u32, length: u32) -> (usize, usize, usize) {
        let (from, to) = (x.max(self.lane.start), (x + length).min(self.lane.end));
        ((from - x) as usize, (from - self.lane.start) as usize, to.saturating_sub(from) as usize)
    }

    /// Adds tiles whose first row is the band's: `outputs[member]` is `[columns, classes, tile, tile]`.
    pub(super) fn add(&mut self, columns: &[u32], outputs: &[Vec<f32>]) -> Result<(), ScanError> {
        let area = self.frame.tile as usize * self.frame.tile as usize;
        let Counts { classes, averaging, .. } = self.counts;
        let expected = columns.len() * classes * area;
        let range = match averaging {
            Averaging::Probabilities => -1e-3..=1.001,
            // Far beyond any trained network, and far enough inside f32 for the sums.
            Averaging::Logits => -1e9..=1e9,
        };
        for (member, output) in outputs.iter().enumerate() {
            if output.len() != expected {
                return Err(ScanError::Shape { member, expected, got: output.len() });
            }
            // No shortcut, so that the loop is branch-free; a NaN compares false.
            if !output.par_chunks(area).all(|plane| plane.iter().fold(true, |ok, p| ok & range.contains(p))) {
                return Err(ScanError::NotProbabilities { member });
            }
        }
        let (width, rows, frame) = (self.width(), self.rows, self.frame);
        let places: Vec<_> = columns.iter().map(|&x| self.clip(x, frame.shown_x)).collect();
        self.sums.par_chunks_mut(rows * width).enumerate().for_each(|(plane, sums)| {
            let (member, class) = (plane / classes, plane % classes);
            for (tile, &place) in places.iter().enumerate() {
                let values = &outputs[member][(tile * classes + class) * area..][..area];
                add_plane(sums, values, place, width, frame);
            }
        });
        for &(skip, to, length) in &places {
            for row in 0..rows {
                let weights = &mut self.weights[row * width + to..][..length];
                for (sum, weight) in weights.iter_mut().zip(&frame.line(row)[skip..]) {
                    *sum += weight;
                }
            }
        }
        Ok(())
    }

    /// Notes the colours of a batch whose first row is the band's.
    pub(super) fn colour(&mut self, batch: &Decoded) {
        let (width, box_width) = (self.width(), batch.width as usize);
        let (skip, to, length) = self.clip(batch.x, batch.width);
        for (row, line) in batch.colour.chunks_exact(box_width.max(1)).enumerate() {
            self.colour[row * width + to..][..length].copy_from_slice(&line[skip..skip + length]);
        }
    }

    /// The rows that are final when no tile starts above `y`, in runs short enough to be kept at once.
    pub(super) fn done(&self, y: u32) -> impl Iterator<Item = Range<usize>> + use<> {
        let done = (y.min(self.height).saturating_sub(self.top) as usize).min(self.rows);
        (0..done).step_by(AT_ONCE).map(move |row| row..(row + AT_ONCE).min(done))
    }

    /// Moves the band down to `y`; the rows above are forgotten.
    pub(super) fn advance(&mut self, y: u32) {
        let done = (y.saturating_sub(self.top) as usize).min(self.rows);
        if done == 0 {
            return;
        }
        let (width, kept) = (self.width(), (self.rows - done) * self.width());
        self.sums.par_chunks_mut(self.rows * width).chain([self.weights.as_mut_slice()]).for_each(|plane| {
            plane.copy_within(done * width.., 0);
            plane[kept..].fill(0.0);
        });
        self.colour.copy_within(done * width.., 0);
        self.colour[kept..].fill(WHITE);
        self.top = y;
    }

    /// Combines rows of the band.
    pub(super) fn combine(&self, rows: Range<usize>) -> Strip {
        let (first, rows, width) = (rows.start, rows.len(), self.width());
        let top = self.top + first as u32;
        let mut strip = Strip::background(top, rows as u32, width as u32, self.counts.classes);
        strip.colour.copy_from_slice(&self.colour[first * width..][..rows * width]);
        let Counts { members, classes, averaging } = self.counts;
        let foreground = classes - 1;
        let mut means = vec![0.0; rows * width * foreground];
        let labels = strip.labels.par_chunks_mut(width);
        let tissue = strip.tissue.par_chunks_mut(width);
        let uncertainty = strip.uncertainty.par_chunks_mut(width);
        let entropy = strip.entropy.par_chunks_mut(width);
        let means_by_row = means.par_chunks_mut((width * foreground).max(1));
        let lines = labels.zip(tissue).zip(uncertainty).zip(entropy).zip(means_by_row).enumerate();
        let start = || (Combiner::new(members, classes, averaging), vec![0.0; width]);
        lines.for_each_init(start, |(combiner, scale), (row, line)| {
            let ((((labels, tissue), uncertainty), entropy), probabilities) = line;
            let row = first + row;
            let (weights, colour) = (&self.weights[row * width..][..width], &self.colour[row * width..][..width]);
            self.tissue.fill(self.top + row as u32, self.lane.clone(), tissue);
            let mut any = false;
            for x in 0..width {
                tissue[x] = u8::from(tissue[x] != 0 && weights[x] > 0.0 && colour[x] != HOLE);
                scale[x] = if weights[x] > 0.0 { weights[x].recip() } else { 0.0 };
                any |= tissue[x] != 0;
            }
            if any {
                let mut out = RowOutput { labels, uncertainty, entropy, probabilities };
                let plane = |member, class| self.line(member, class, row);
                combiner.run(plane, scale, tissue, &mut out);
            }
        });
        for (row, line) in means.chunks_exact((width * foreground).max(1)).enumerate() {
            for (plane, values) in strip.probabilities.iter_mut().zip(line.chunks_exact(width.max(1))) {
                plane[row * width..][..width].copy_from_slice(values);
            }
        }
        strip
    }

    fn line(&self, member: usize, class: usize, row: usize) -> &[f32] {
        let width = self.width();
        &self.sums[((member * self.counts.classes + class) * self.rows + row) * width..][..width]
    }
}

impl Frame {
    /// The shown part of every tile, if it is not all.
    pub(super) fn part(&self) -> Option<Shown> {
        let part = Shown { x: self.pad_x, y: self.pad_y, width: self.shown_x, height: self.shown_y };
        (part.width < self.tile || part.height < self.tile).then_some(part)
    }

    /// The weights of the shown part of a row of the tile.
    fn line(&self, row: usize) -> &[f32] {
        self.shown(&self.weights, row)
    }

    /// The shown part of a row of a plane of the tile's size.
    fn shown<'p>(&self, plane: &'p [f32], row: usize) -> &'p [f32] {
        let start = (row + self.pad_y as usize) * self.tile as usize + self.pad_x as usize;
        &plane[start..][..self.shown_x as usize]
    }
}

/// Adds one class of one tile, weighted, to the band of that class.
fn add_plane(sums: &mut [f32], values: &[f32], (skip, to, length): (usize, usize, usize), width: usize, frame: &Frame) {
    for row in 0..frame.shown_y as usize {
        let target = &mut sums[row * width + to..][..length];
        let (values, weights) = (&frame.shown(values, row)[skip..][..length], &frame.line(row)[skip..][..length]);
        for i in 0..length {
            target[i] += values[i] * weights[i];
        }
    }
}
