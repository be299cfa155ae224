//! The maps of a finished scan, read by parts: what scores, figures, outlines and pictures are made from, from the top of
//! a slide to its bottom, so that none of them needs the slide in memory.

use std::ops::Range;

use super::{ScanError, slab};
use crate::uncertainty::UncertaintyMap;

/// The maps of one scanned slide, at the plan's spacing.
pub trait Maps: Sync {
    /// Pixels in a row.
    fn width(&self) -> u32;

    /// Rows.
    fn height(&self) -> u32;

    /// Classes of the task, background included.
    fn classes(&self) -> usize;

    /// A part of all maps; what lies outside the slide is left out.
    ///
    /// # Errors
    /// The maps are on a disk that cannot be read.
    fn read(&self, x: Range<u32>, y: Range<u32>) -> Result<Strip, ScanError>;

    /// Calls `each` with strips of at most `rows` rows over the whole width, from the top to the bottom.
    ///
    /// # Errors
    /// The maps cannot be read, or `each` failed.
    fn each_strip(
        &self,
        y: Range<u32>,
        rows: u32,
        each: &mut dyn FnMut(&Strip) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        let end = y.end.min(self.height());
        for top in (y.start..end).step_by(rows.max(1) as usize) {
            each(&self.read(0..self.width(), top..top.saturating_add(rows).min(end))?)?;
        }
        Ok(())
    }
}

/// Consecutive rows of all maps of a scan. Every plane has `rows * width` values, row by row. Outside the tissue that was
/// scanned the label, the uncertainties and the foreground probabilities are 0: background by rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strip {
    /// First row, in pixels at the plan's spacing.
    pub y: u32,
    /// How many rows.
    pub rows: u32,
    /// Pixels in a row.
    pub width: u32,
    /// Most probable class.
    pub labels: Vec<u8>,
    /// 1 where there is tissue and a tile covered it, else 0.
    pub tissue: Vec<u8>,
    /// Colour class of each pixel, see [`super::colour_class`]; white where nothing was read.
    pub colour: Vec<u8>,
    /// UGA's uncertainty, nats.
    pub uncertainty: Vec<f32>,
    /// Entropy of the mean prediction, nats.
    pub entropy: Vec<f32>,
    /// Mean probability of each foreground class, class 1 first.
    pub probabilities: Vec<Vec<f32>>,
}

impl Strip {
    /// All background, nothing scanned.
    pub fn background(y: u32, rows: u32, width: u32, classes: usize) -> Self {
        let pixels = rows as usize * width as usize;
        Self {
            y,
            rows,
            width,
            labels: vec![0; pixels],
            tissue: vec![0; pixels],
            colour: vec![super::WHITE; pixels],
            uncertainty: vec![0.0; pixels],
            entropy: vec![0.0; pixels],
            probabilities: vec![vec![0.0; pixels]; classes.saturating_sub(1)],
        }
    }

    /// Probability of the predicted class of pixel `i`.
    pub fn confidence(&self, i: usize) -> f32 {
        match usize::from(self.labels[i]) {
            0 => self.background_probability(i),
            class => self.probabilities.get(class - 1).map_or(0.0, |plane| plane[i]),
        }
    }

    /// As a finished scan gives it back: with the values that its slabs can hold.
    #[must_use]
    pub fn as_stored(&self) -> Self {
        let size = (self.rows, self.width);
        let mut stored = Self::background(self.y, self.rows, self.width, self.probabilities.len() + 1);
        // What was just encoded is whole.
        if let Some(slab) = slab::unpack("", &slab::encode("", self), size, self.probabilities.len() + 1) {
            let (columns, rows) = (0..self.width as usize, 0..self.rows as usize);
            slab::fill(&mut stored, &[slab::Piece { slab, columns, rows, to: (0, 0) }]);
        }
        stored
    }

    /// One of the maps that follow from what a scan keeps; none for those that need every member's own answer.
    pub fn map(&self, kind: UncertaintyMap) -> Option<Vec<f32>> {
        let classes = self.probabilities.len() + 1;
        let pixels = 0..self.labels.len();
        Some(match kind {
            UncertaintyMap::Uga => self.uncertainty.clone(),
            UncertaintyMap::Entropy => self.entropy.clone(),
            UncertaintyMap::Kl => {
                let kl = |(u, h): (&f32, &f32)| (u - h).max(0.0) / classes as f32;
                self.uncertainty.iter().zip(&self.entropy).map(kl).collect()
            }
            UncertaintyMap::Margin => pixels
                .map(|i| {
                    let (first, second) = self.largest(i);
                    1.0 - (first - second)
                })
                .collect(),
            UncertaintyMap::LeastConfidence => pixels.map(|i| 1.0 - self.largest(i).0).collect(),
            UncertaintyMap::MutualInformation | UncertaintyMap::Variance => return None,
        })
    }

    /// The ensemble's probabilities of all classes, background included, `[classes, pixels]`.
    pub fn mean(&self) -> Vec<f32> {
        let mut planes: Vec<f32> = (0..self.labels.len()).map(|i| self.background_probability(i)).collect();
        self.probabilities.iter().for_each(|plane| planes.extend_from_slice(plane));
        planes
    }

    fn background_probability(&self, i: usize) -> f32 {
        (1.0 - self.probabilities.iter().map(|plane| plane[i]).sum::<f32>()).max(0.0)
    }

    /// The two largest probabilities of a pixel.
    fn largest(&self, i: usize) -> (f32, f32) {
        let foreground = self.probabilities.iter().map(|plane| plane[i]);
        foreground.fold((self.background_probability(i), 0.0), |(first, second), p| {
            if p > first { (p, first) } else { (first, f32::max(second, p)) }
        })
    }

    /// Copies columns `from` of `rows` rows, starting at row `from_row`, of `part` to column `x` and row `row` of this one.
    pub(super) fn paste(
        &mut self,
        part: &Self,
        from: Range<usize>,
        from_row: usize,
        rows: usize,
        x: usize,
        row: usize,
    ) {
        fn plane<T: Copy>(to: &mut [T], wide: usize, from: &[T], narrow: usize, at: [usize; 5]) {
            let [start, count, from_row, x, row] = at;
            to[row * wide + x..][..count].copy_from_slice(&from[from_row * narrow + start..][..count]);
        }
        let (wide, narrow) = (self.width as usize, part.width as usize);
        for k in 0..rows {
            let at = [from.start, from.len(), from_row + k, x, row + k];
            plane(&mut self.labels, wide, &part.labels, narrow, at);
            plane(&mut self.tissue, wide, &part.tissue, narrow, at);
            plane(&mut self.colour, wide, &part.colour, narrow, at);
            plane(&mut self.uncertainty, wide, &part.uncertainty, narrow, at);
            plane(&mut self.entropy, wide, &part.entropy, narrow, at);
            for (to, from) in self.probabilities.iter_mut().zip(&part.probabilities) {
                plane(to, wide, from, narrow, at);
            }
        }
    }
}

/// A strip that starts at row 0 is the maps of a small slide, in memory.
impl Maps for Strip {
    fn width(&self) -> u32 {
        self.width
    }

    fn height(&self) -> u32 {
        self.rows
    }

    fn classes(&self) -> usize {
        self.probabilities.len() + 1
    }

    fn read(&self, x: Range<u32>, y: Range<u32>) -> Result<Strip, ScanError> {
        let (x, y) = (x.start.min(self.width)..x.end.min(self.width), y.start.min(self.rows)..y.end.min(self.rows));
        let mut out = Self::background(y.start, y.len() as u32, x.len() as u32, self.classes());
        out.paste(self, x.start as usize..x.end as usize, y.start as usize, y.len(), 0, 0);
        Ok(out)
    }
}
