//! Weighted sums of the members' probabilities for the rows that tiles still touch.
//!
//! The band is as high as a tile. When the next row of tiles starts lower, the rows above it are final: they are combined
//! into the result, the others move up. Each member has its own part of the memory, so members can be added side by side
//! and the sums are the same on any number of cores.

use rayon::prelude::*;

use super::error::ScanError;
use super::result::ScanResult;
use super::window::Frame;
use crate::uncertainty::{Combiner, RowOutput};

pub(super) struct Bands {
    members: usize,
    classes: usize,
    width: usize,
    height: u32,
    rows: usize,
    frame: Frame,
    /// First row of the band in the image.
    top: u32,
    /// `[member, class, row, x]`.
    sums: Vec<f32>,
    /// `[row, x]`, the same for every member.
    weights: Vec<f32>,
}

impl Bands {
    pub(super) fn new(members: usize, classes: usize, width: u32, height: u32, frame: &Frame) -> Self {
        let (width, rows) = (width as usize, frame.shown_y as usize);
        let sums = vec![0.0; members * classes * rows * width];
        let weights = vec![0.0; rows * width];
        Self { members, classes, width, height, rows, frame: frame.clone(), top: 0, sums, weights }
    }

    /// Adds tiles whose first row is the band's: `outputs[member]` is `[columns, classes, tile, tile]`.
    pub(super) fn add(&mut self, columns: &[u32], outputs: &[Vec<f32>]) -> Result<(), ScanError> {
        let expected = columns.len() * self.classes * self.frame.tile as usize * self.frame.tile as usize;
        for (member, output) in outputs.iter().enumerate() {
            if output.len() != expected {
                return Err(ScanError::Shape { member, expected, got: output.len() });
            }
            // No shortcut, so that the loop is branch-free; a NaN compares false.
            if !output.iter().fold(true, |ok, &p| ok & (-1e-3..=1.001).contains(&p)) {
                return Err(ScanError::NotProbabilities { member });
            }
        }
        let (classes, width, rows, frame) = (self.classes, self.width, self.rows, &self.frame);
        let member_sums = self.sums.par_chunks_mut(classes * rows * width);
        member_sums.zip(outputs).for_each(|(sums, output)| add_member(sums, output, columns, classes, width, frame));
        for &x in columns {
            for row in 0..rows {
                let weights = &mut self.weights[row * width + x as usize..][..frame.shown_x as usize];
                for (sum, weight) in weights.iter_mut().zip(frame.line(row)) {
                    *sum += weight;
                }
            }
        }
        Ok(())
    }

    /// Moves the band down to `y`; rows above are final and go into the result.
    pub(super) fn advance(&mut self, y: u32, result: &mut ScanResult) {
        let done = (y.saturating_sub(self.top) as usize).min(self.rows);
        if done == 0 {
            return;
        }
        self.combine(done, result);
        let (width, kept) = (self.width, (self.rows - done) * self.width);
        for plane in self.sums.chunks_exact_mut(self.rows * width).chain([self.weights.as_mut_slice()]) {
            plane.copy_within(done * width.., 0);
            plane[kept..].fill(0.0);
        }
        self.top = y;
    }

    /// Puts all that is left into the result.
    pub(super) fn finish(&mut self, result: &mut ScanResult) {
        self.combine((self.height - self.top.min(self.height)) as usize, result);
    }

    /// Combines the first `rows` rows of the band.
    fn combine(&self, rows: usize, result: &mut ScanResult) {
        let rows = rows.min(self.rows);
        if self.width == 0 || rows == 0 {
            return;
        }
        let width = self.width;
        let span = self.top as usize * width..(self.top as usize + rows) * width;
        let labels = result.labels.as_mut()[span.clone()].par_chunks_mut(width);
        let tissue = result.tissue.as_mut()[span.clone()].par_chunks_mut(width);
        let uncertainty = result.uncertainty.data[span.clone()].par_chunks_mut(width);
        let entropy = result.entropy.data[span.clone()].par_chunks_mut(width);
        let foreground = result.foreground.data[span.clone()].par_chunks_mut(width);
        let confidence = result.confidence.data[span].par_chunks_mut(width);
        let lines = labels.zip(tissue).zip(uncertainty).zip(entropy).zip(foreground).zip(confidence).enumerate();
        let start = || (Combiner::new(self.members, self.classes), vec![0.0; width]);
        lines.for_each_init(start, |(combiner, scale), (row, line)| {
            let (((((labels, tissue), uncertainty), entropy), foreground), confidence) = line;
            let weights = &self.weights[row * width..][..width];
            let mut any = false;
            for x in 0..width {
                tissue[x] = u8::from(tissue[x] != 0 && weights[x] > 0.0);
                scale[x] = if weights[x] > 0.0 { weights[x].recip() } else { 0.0 };
                any |= tissue[x] != 0;
            }
            if any {
                let mut out = RowOutput { labels, uncertainty, entropy, foreground, confidence };
                let plane = |member, class| self.line(member, class, row);
                combiner.run(plane, scale, tissue, &mut out);
            }
        });
    }

    fn line(&self, member: usize, class: usize, row: usize) -> &[f32] {
        &self.sums[((member * self.classes + class) * self.rows + row) * self.width..][..self.width]
    }
}

impl Frame {
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

fn add_member(sums: &mut [f32], output: &[f32], columns: &[u32], classes: usize, width: usize, frame: &Frame) {
    let (area, rows) = (frame.tile as usize * frame.tile as usize, frame.shown_y as usize);
    for (plane, values) in output.chunks_exact(area).enumerate() {
        let (x, class) = (columns[plane / classes] as usize, plane % classes);
        for row in 0..rows {
            let target = &mut sums[(class * rows + row) * width + x..][..frame.shown_x as usize];
            let (values, weights) = (frame.shown(values, row), frame.line(row));
            for i in 0..target.len() {
                target[i] += values[i] * weights[i];
            }
        }
    }
}
