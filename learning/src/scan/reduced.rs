//! The maps of a scan at thumbnail scale, made from strips as they come.
//!
//! Every output pixel stands for the map pixels under it, at least one: the mean uncertainty of their tissue, and the
//! mean colour and share of their foreground. Only one row of sums is kept beside the result.

use super::Strip;
use super::palette::class_colour;

/// What the map pixels under an output pixel have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cell {
    /// Mean uncertainty of the tissue; `None` where less than half is tissue.
    pub(super) nats: Option<f32>,
    /// Share of the pixels that are foreground.
    pub(super) share: f32,
    /// Mean colour of the foreground's classes.
    pub(super) colour: [u8; 3],
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    pixels: u32,
    tissue: u32,
    nats: f64,
    foreground: u32,
    colour: [u64; 3],
}

impl Sums {
    fn cell(&self) -> Cell {
        let mean = |sum: u64| (sum / u64::from(self.foreground.max(1))) as u8;
        Cell {
            nats: (self.tissue > 0 && 2 * self.tissue >= self.pixels)
                .then(|| (self.nats / f64::from(self.tissue)) as f32),
            share: self.foreground as f32 / self.pixels.max(1) as f32,
            colour: self.colour.map(mean),
        }
    }
}

/// A scan at thumbnail scale.
#[derive(Clone, Debug)]
pub(super) struct Reduced {
    columns: Vec<(u32, u32)>,
    rows: Vec<(u32, u32)>,
    /// Colours of all labels.
    colours: Vec<[u8; 3]>,
    sums: Vec<Sums>,
    cells: Vec<Cell>,
}

impl Reduced {
    /// Of maps of `map_width` x `map_height` pixels to `width` x `height`, the thumbnail's size.
    pub(super) fn new(map_width: u32, map_height: u32, width: u32, height: u32) -> Self {
        Self {
            columns: spans(width, map_width),
            rows: spans(height, map_height),
            colours: (0..=usize::from(u8::MAX)).map(class_colour).collect(),
            sums: vec![Sums::default(); width as usize],
            cells: Vec::with_capacity(width as usize * height as usize),
        }
    }

    /// Adds the next rows, from the top.
    pub(super) fn add(&mut self, strip: &Strip) {
        for row in 0..strip.rows {
            let y = strip.y + row;
            // More than one where the thumbnail is finer than the maps.
            while let Some(&(top, bottom)) = self.next_row() {
                if y < top {
                    break;
                }
                self.add_row(strip, row as usize);
                if y + 1 < bottom {
                    break;
                }
                self.cells.extend(self.sums.iter().map(Sums::cell));
                self.sums.fill(Sums::default());
            }
        }
    }

    fn next_row(&self) -> Option<&(u32, u32)> {
        self.rows.get(self.cells.len() / self.columns.len().max(1))
    }

    fn add_row(&mut self, strip: &Strip, row: usize) {
        let line = row * strip.width as usize;
        for (sums, &(left, right)) in self.sums.iter_mut().zip(&self.columns) {
            for i in line + left as usize..line + right as usize {
                sums.pixels += 1;
                if strip.tissue[i] != 0 {
                    sums.tissue += 1;
                    sums.nats += f64::from(strip.uncertainty[i]);
                }
                let label = usize::from(strip.labels[i]);
                if label != 0 {
                    sums.foreground += 1;
                    for (sum, c) in sums.colour.iter_mut().zip(self.colours[label]) {
                        *sum += u64::from(c);
                    }
                }
            }
        }
    }

    /// The cell of an output pixel; empty for rows that did not come.
    pub(super) fn cell(&self, x: u32, y: u32) -> Cell {
        let width = self.columns.len();
        let inside = (x as usize) < width;
        self.cells.get(y as usize * width + x as usize).filter(|_| inside).copied().unwrap_or_default()
    }
}

/// For each of `parts` output pixels the map pixels that it stands for: at least one.
fn spans(parts: u32, length: u32) -> Vec<(u32, u32)> {
    let edge = |i: u32| (u64::from(i) * u64::from(length) / u64::from(parts.max(1))) as u32;
    let last = length.saturating_sub(1);
    (0..parts).map(|i| (edge(i).min(last), edge(i + 1).max(edge(i) + 1).min(length))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(y: u32, rows: u32, width: u32) -> Strip {
        let at = |i: u32| (i % width, y + i / width);
        let pixels = || 0..rows * width;
        let n = (rows * width) as usize;
        Strip {
            y,
            rows,
            width,
            labels: pixels().map(|i| u8::from(at(i).0 % 4 == 0)).collect(),
            tissue: pixels().map(|i| u8::from(at(i).1 >= 4)).collect(),
            colour: vec![0; n],
            uncertainty: pixels().map(|i| (at(i).0 + at(i).1) as f32).collect(),
            entropy: vec![0.0; n],
            probabilities: vec![vec![0.0; n]],
        }
    }

    #[test]
    fn cells_are_means_however_rows_come() {
        let mut whole = Reduced::new(16, 12, 4, 3);
        whole.add(&strip(0, 12, 16));
        let mut parts = Reduced::new(16, 12, 4, 3);
        for (y, rows) in [(0, 3), (3, 3), (6, 6)] {
            parts.add(&strip(y, rows, 16));
        }
        for (x, y) in (0..4).flat_map(|x| (0..3).map(move |y| (x, y))) {
            let cell = whole.cell(x, y);
            assert_eq!(cell, parts.cell(x, y));
            let mean = (4 * x) as f32 + 1.5 + (4 * y) as f32 + 1.5;
            assert_eq!(cell.nats, (y > 0).then_some(mean), "no tissue in the first four rows");
            assert_eq!((cell.share, cell.colour), (0.25, class_colour(1)));
        }
        assert_eq!(whole.cell(4, 0), Cell::default());
        assert_eq!(whole.cell(0, 3), Cell::default());
    }

    #[test]
    fn a_thumbnail_finer_than_the_maps_repeats_them() {
        let mut reduced = Reduced::new(2, 6, 5, 11);
        reduced.add(&strip(0, 6, 2));
        assert_eq!(reduced.cells.len(), 55);
        assert_eq!(reduced.cell(4, 10).nats, Some(6.0));
        assert_eq!(reduced.cell(0, 8).nats, Some(4.0));
    }
}
