//! Activations as planes with a border of one zero pixel, `[n, c, h + 2, w + 2]`, flat and with some zeros at the end.
//!
//! In this layout a convolution needs no special case at the border, and the pixels of a plane, borders between the rows
//! included, are one run of numbers: the kernels walk it in blocks of equal length whatever the width of the image.

use super::buffer::Buffer;

/// Zeros after the last plane, so that a block may be read beyond the end.
pub(crate) const SLACK: usize = 64;

/// Size of one plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Grid {
    pub(crate) fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// Numbers from one row to the next.
    pub(crate) fn stride(self) -> usize {
        self.width + 2
    }

    /// Numbers of a plane with its border.
    pub(crate) fn plane(self) -> usize {
        (self.height + 2) * self.stride()
    }

    /// Where the first inner pixel is.
    pub(crate) fn inner(self) -> usize {
        self.stride() + 1
    }

    /// From the first inner pixel to the last, the borders between the rows included.
    pub(crate) fn run(self) -> usize {
        self.height * self.stride() - 2
    }

    pub(crate) fn pixels(self) -> usize {
        self.height * self.width
    }

    /// The grid that a stride leaves.
    pub(crate) fn divided(self, stride: usize) -> Self {
        Self::new(self.height / stride, self.width / stride)
    }

    /// The grid that an up-sampling makes.
    pub(crate) fn multiplied(self, stride: usize) -> Self {
        Self::new(self.height * stride, self.width * stride)
    }
}

/// A batch of planes. The border is zero whenever a kernel reads it.
#[derive(Debug)]
pub(crate) struct Planes {
    pub(crate) samples: usize,
    pub(crate) channels: usize,
    pub(crate) grid: Grid,
    pub(crate) data: Buffer,
}

impl Planes {
    pub(crate) fn zeros(samples: usize, channels: usize, grid: Grid) -> Self {
        let mut planes = Self::blank(samples, channels, grid);
        planes.data.fill(0.0);
        planes
    }

    /// Planes whose top and bottom rows and slack are zero, and whose rows between them are to be written by the caller,
    /// the zeros at their ends included.
    pub(crate) fn blank(samples: usize, channels: usize, grid: Grid) -> Self {
        let mut planes = Self { samples, channels, grid, data: Buffer::new(samples * channels * grid.plane() + SLACK) };
        let (stride, plane, len) = (grid.stride(), grid.plane(), planes.len());
        for plane in planes.data[..len].chunks_exact_mut(plane) {
            plane[..stride].fill(0.0);
            plane[(grid.height + 1) * stride..].fill(0.0);
        }
        planes.data[len..].fill(0.0);
        planes
    }

    /// From `[n, c, h, w]` without borders.
    pub(crate) fn from_compact(compact: &[f32], samples: usize, channels: usize, grid: Grid) -> Self {
        let mut planes = Self::zeros(samples, channels, grid);
        let rows = compact.chunks_exact(grid.width);
        planes.rows_mut().zip(rows).for_each(|(inner, row)| inner.copy_from_slice(row));
        planes
    }

    /// As `[n, c, h, w]` without borders.
    pub(crate) fn to_compact(&self) -> Vec<f32> {
        let mut compact = vec![0.0; self.samples * self.channels * self.grid.pixels()];
        self.copy_top_left(self.grid, &mut compact);
        compact
    }

    /// Writes the top left part of every plane, without borders.
    pub(crate) fn copy_top_left(&self, part: Grid, out: &mut [f32]) {
        let grid = self.grid;
        let planes = self.data[..self.len()].chunks_exact(grid.plane());
        for (plane, out) in planes.zip(out.chunks_exact_mut(part.pixels().max(1))) {
            let rows = plane[grid.stride()..].chunks_exact(grid.stride());
            for (row, out) in rows.zip(out.chunks_exact_mut(part.width)) {
                out.copy_from_slice(&row[1..=part.width]);
            }
        }
    }

    /// Numbers without the slack.
    pub(crate) fn len(&self) -> usize {
        self.samples * self.sample()
    }

    /// Numbers of one sample.
    pub(crate) fn sample(&self) -> usize {
        self.channels * self.grid.plane()
    }

    /// From the start of a sample on, to the end of all: kernels may read beyond their sample.
    pub(crate) fn starting_at(&self, index: usize) -> &[f32] {
        &self.data[index * self.sample()..]
    }

    /// The samples, without the slack.
    pub(crate) fn samples_mut(&mut self) -> &mut [f32] {
        let len = self.len();
        &mut self.data[..len]
    }

    fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let grid = self.grid;
        self.samples_mut().chunks_exact_mut(grid.plane()).flat_map(move |plane| {
            plane[grid.stride()..]
                .chunks_exact_mut(grid.stride())
                .take(grid.height)
                .map(move |r| &mut r[1..=grid.width])
        })
    }

    /// Copies channels of `from` to the channels of every sample that begin at `first`.
    pub(crate) fn put_channels(&mut self, first: usize, from: &Planes) {
        let (plane, sample, part) = (self.grid.plane(), self.sample(), from.sample());
        for index in 0..from.samples {
            let to = index * sample + first * plane;
            self.data[to..to + part].copy_from_slice(&from.data[index * part..(index + 1) * part]);
        }
    }

    /// A copy of the channels of every sample that begin at `first`.
    pub(crate) fn take_channels(&self, first: usize, channels: usize) -> Planes {
        let mut out = Self::blank(self.samples, channels, self.grid);
        let (plane, sample, part) = (self.grid.plane(), self.sample(), out.sample());
        for index in 0..self.samples {
            let from = index * sample + first * plane;
            out.data[index * part..(index + 1) * part].copy_from_slice(&self.data[from..from + part]);
        }
        out
    }

    /// Adds number by number.
    pub(crate) fn add(&mut self, other: &Planes) {
        self.data.iter_mut().zip(other.data.iter()).for_each(|(a, b)| *a += b);
    }
}

/// Sets the border of one plane to zero; only the columns, as no kernel writes to the top and bottom rows.
#[inline(always)]
pub(crate) fn clear_columns(plane: &mut [f32], grid: Grid) {
    let stride = grid.stride();
    for row in 1..=grid.height {
        plane[row * stride] = 0.0;
        plane[row * stride + stride - 1] = 0.0;
    }
}

/// Splits one plane into the `s * s` planes of its phases: phase (p, q) holds pixel (s i + p, s j + q), border included, at
/// place (i, j) of a plane of the coarse grid.
pub(crate) fn split_phases(plane: &[f32], fine: Grid, s: usize, coarse: Grid, out: &mut [f32]) {
    let (from_stride, to_stride) = (fine.stride(), coarse.stride());
    for (phase, out) in out.chunks_exact_mut(coarse.plane()).take(s * s).enumerate() {
        let (p, q) = (phase / s, phase % s);
        for (i, row) in out.chunks_exact_mut(to_stride).enumerate() {
            let y = s * i + p;
            if y >= fine.height + 2 {
                row.fill(0.0);
                continue;
            }
            let from = &plane[y * from_stride + q..(y + 1) * from_stride];
            let filled = from.len().div_ceil(s).min(to_stride);
            copy_strided(&mut row[..filled], from, s);
            row[filled..].fill(0.0);
        }
    }
}

#[inline(always)]
fn copy_strided(to: &mut [f32], from: &[f32], s: usize) {
    if s == 2 {
        to.iter_mut().zip(from.chunks(2)).for_each(|(to, pair)| *to = pair[0]);
    } else {
        to.iter_mut().zip(from.iter().step_by(s)).for_each(|(to, from)| *to = *from);
    }
}

/// The inverse of [`split_phases`] for the inner pixels of a plane; its border is left alone.
pub(crate) fn merge_phases(phases: &[f32], coarse: Grid, s: usize, plane: &mut [f32], fine: Grid) {
    for y in 1..=fine.height {
        for x0 in 1..=s.min(fine.width) {
            let phase = (y % s) * s + x0 % s;
            let from = &phases[phase * coarse.plane() + (y / s) * coarse.stride() + x0 / s..];
            let to = &mut plane[y * fine.stride() + x0..=y * fine.stride() + fine.width];
            to.iter_mut().step_by(s).zip(from).for_each(|(to, from)| *to = *from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_and_phases_round_trip() {
        for (h, w, s) in [(4, 6, 2), (8, 8, 2), (6, 9, 3), (8, 4, 4), (5, 3, 1)] {
            let fine = Grid::new(h, w);
            let compact: Vec<f32> = (0..2 * h * w).map(|i| i as f32 + 1.0).collect();
            let planes = Planes::from_compact(&compact, 1, 2, fine);
            assert_eq!(planes.to_compact(), compact);
            let coarse = fine.divided(s);
            let mut phases = vec![9.0; s * s * coarse.plane()];
            split_phases(&planes.data[..fine.plane()], fine, s, coarse, &mut phases);
            let mut back = vec![0.0; fine.plane()];
            merge_phases(&phases, coarse, s, &mut back, fine);
            assert_eq!(back, planes.data[..fine.plane()], "{h}x{w} by {s}");
        }
    }
}
