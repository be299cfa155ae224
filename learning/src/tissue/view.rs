//! The mask at another size, row by row and box by box, without making it whole.

use std::ops::Range;

use image::GrayImage;

/// Side in mask pixels of the cells whose sums are kept: their borders cost at most this many rows of additions.
const CELL: usize = 16;

/// A mask as it looks at a size of `w` x `h` pixels. Values and counts are those of [`super::TissueMask::at`].
#[derive(Debug)]
pub struct TissueView<'a> {
    mask: &'a GrayImage,
    /// For each mask column where it begins at this size, and at the end the width.
    columns: Vec<u32>,
    /// The same for rows.
    rows: Vec<u32>,
    sums: Sums,
}

impl<'a> TissueView<'a> {
    pub(super) fn new(mask: &'a GrayImage, w: u32, h: u32) -> Self {
        let columns = starts(w, mask.width());
        let rows = starts(h, mask.height());
        let sums = Sums::new(mask, &columns, &rows);
        Self { mask, columns, rows, sums }
    }

    /// Width and height of the whole at this size.
    pub fn dimensions(&self) -> (u32, u32) {
        (self.columns.last().copied().unwrap_or(0), self.rows.last().copied().unwrap_or(0))
    }

    /// Writes 0 (glass) or 1 (tissue) for the pixels `x` of row `y`; what lies outside the slide is glass. `out` has
    /// one byte for each pixel of `x`.
    pub fn fill(&self, y: u32, x: Range<u32>, out: &mut [u8]) {
        out.fill(0);
        let (width, height) = self.dimensions();
        if y >= height {
            return;
        }
        let row = index_of(&self.rows, y);
        let line = &self.mask.as_raw()[row * self.mask.width() as usize..];
        let mut at = x.start;
        let end = x.end.min(width).min(x.start.saturating_add(out.len().try_into().unwrap_or(u32::MAX)));
        while at < end {
            let column = index_of(&self.columns, at);
            let next = self.columns[column + 1].min(end);
            out[(at - x.start) as usize..(next - x.start) as usize].fill(line[column]);
            at = next;
        }
    }

    /// Number of tissue pixels in a box; what lies outside the slide counts as glass. Exact, and fast: time grows with
    /// the box's outline, in mask pixels.
    pub fn count(&self, x: Range<u32>, y: Range<u32>) -> u64 {
        let (width, height) = self.dimensions();
        let (x, y) = (x.start..x.end.min(width), y.start..y.end.min(height));
        if x.is_empty() || y.is_empty() {
            return 0;
        }
        let columns = index_of(&self.columns, x.start)..index_of(&self.columns, x.end - 1) + 1;
        let rows = index_of(&self.rows, y.start)..index_of(&self.rows, y.end - 1) + 1;
        // Whole cells that the box covers wholly, mask pixels cut by its sides left out.
        let cells_x = whole_cells(&self.columns, &columns, &x);
        let cells_y = whole_cells(&self.rows, &rows, &y);
        let inner_x = (cells_x.start * CELL).max(columns.start)..(cells_x.end * CELL).min(columns.end);
        let inner_y = (cells_y.start * CELL).max(rows.start)..(cells_y.end * CELL).min(rows.end);
        if cells_x.is_empty() || cells_y.is_empty() {
            return self.directly(columns, rows, &x, &y);
        }
        self.sums.of(cells_x, cells_y)
            + self.directly(columns.clone(), rows.start..inner_y.start, &x, &y)
            + self.directly(columns.clone(), inner_y.end..rows.end, &x, &y)
            + self.directly(columns.start..inner_x.start, inner_y.clone(), &x, &y)
            + self.directly(inner_x.end..columns.end, inner_y, &x, &y)
    }

    /// The tissue of some mask pixels inside a box, mask pixel by mask pixel.
    fn directly(&self, columns: Range<usize>, rows: Range<usize>, x: &Range<u32>, y: &Range<u32>) -> u64 {
        let stride = self.mask.width() as usize;
        let mut total = 0;
        for row in rows {
            let line = &self.mask.as_raw()[row * stride..];
            let wide: u64 = columns.clone().map(|at| u64::from(line[at]) * within(&self.columns, at, x)).sum();
            total += wide * within(&self.rows, row, y);
        }
        total
    }
}

/// For each of `count` positions the one of `side` under its centre.
pub(super) fn nearest(count: u32, side: u32) -> impl Iterator<Item = u32> {
    let ratio = f64::from(side) / f64::from(count.max(1));
    (0..count).map(move |i| (((f64::from(i) + 0.5) * ratio).floor() as u32).min(side.saturating_sub(1)))
}

/// Where each of `side` mask positions begins among `count` positions, and at the end `count`.
fn starts(count: u32, side: u32) -> Vec<u32> {
    let mut starts = Vec::with_capacity(side as usize + 1);
    for (position, at) in (0u32..).zip(nearest(count, side)) {
        while starts.len() <= at as usize {
            starts.push(position);
        }
    }
    starts.resize(side as usize + 1, count);
    starts
}

/// The mask position that position `at` shows. Positions that show nothing at this size are empty ranges.
fn index_of(starts: &[u32], at: u32) -> usize {
    starts.partition_point(|&start| start <= at).saturating_sub(1)
}

/// How many positions of a range show mask position `at`.
fn within(starts: &[u32], at: usize, range: &Range<u32>) -> u64 {
    u64::from(starts[at + 1].min(range.end).saturating_sub(starts[at].max(range.start)))
}

/// The cells whose mask positions the range covers wholly.
fn whole_cells(starts: &[u32], positions: &Range<usize>, range: &Range<u32>) -> Range<usize> {
    let side = starts.len() - 1;
    let first = positions.start + usize::from(starts[positions.start] < range.start);
    let last = positions.end - usize::from(starts[positions.end] > range.end);
    // The last cell may be cut short by the mask's end.
    let end = if last == side { side.div_ceil(CELL) } else { last / CELL };
    first.div_ceil(CELL)..end
}

/// Sums of tissue over all cells above and to the left: Crow's summed-area table, one entry a cell.
#[derive(Debug)]
struct Sums {
    stride: usize,
    table: Vec<u64>,
}

impl Sums {
    fn new(mask: &GrayImage, columns: &[u32], rows: &[u32]) -> Self {
        let side = mask.width() as usize;
        let stride = side.div_ceil(CELL) + 1;
        let cells_down = (mask.height() as usize).div_ceil(CELL);
        let mut table = vec![0u64; stride * (cells_down + 1)];
        for (row, line) in mask.as_raw().chunks_exact(side.max(1)).enumerate() {
            let tall = u64::from(rows[row + 1] - rows[row]);
            let sums = &mut table[(row / CELL + 1) * stride..][..stride];
            for (column, _) in line.iter().enumerate().filter(|(_, tissue)| **tissue != 0) {
                sums[column / CELL + 1] += tall * u64::from(columns[column + 1] - columns[column]);
            }
        }
        for row in 1..=cells_down {
            let mut along = 0;
            for column in 0..stride {
                along += table[row * stride + column];
                table[row * stride + column] = along + table[(row - 1) * stride + column];
            }
        }
        Self { stride, table }
    }

    fn of(&self, columns: Range<usize>, rows: Range<usize>) -> u64 {
        let at = |column: usize, row: usize| self.table[row * self.stride + column];
        at(columns.end, rows.end) + at(columns.start, rows.start)
            - at(columns.start, rows.end)
            - at(columns.end, rows.start)
    }
}

#[cfg(test)]
mod tests {
    use image::Luma;
    use proptest::prelude::*;

    use super::super::TissueMask;
    use super::*;

    #[test]
    fn rows_and_boxes_outside_are_glass() {
        let mask = TissueMask::from_image(GrayImage::from_pixel(3, 3, Luma([1])));
        let view = mask.on(30, 20);
        assert_eq!(view.dimensions(), (30, 20));
        let mut row = [7; 6];
        view.fill(19, 27..33, &mut row);
        assert_eq!(row, [1, 1, 1, 0, 0, 0]);
        view.fill(20, 0..6, &mut row);
        assert_eq!(row, [0; 6]);
        view.fill(0, u32::MAX - 1..u32::MAX, &mut row[..1]);
        assert_eq!((row[0], view.count(25..500, 19..u32::MAX), view.count(40..50, 0..5)), (0, 5, 0));
        let nothing = TissueMask::from_image(GrayImage::new(0, 0));
        assert_eq!(nothing.on(30, 20).count(0..30, 0..20), 0);
        nothing.on(30, 20).fill(0, 0..6, &mut row);
        assert_eq!((row, nothing.fraction(), nothing.at(2, 2)), ([0; 6], 0.0, GrayImage::new(2, 2)));
        assert_eq!(mask.on(0, 0).count(0..5, 0..5), 0);
    }

    fn masks() -> impl Strategy<Value = TissueMask> {
        (1u32..70, 1u32..70).prop_flat_map(|(w, h)| {
            proptest::collection::vec(0u8..2, (w * h) as usize)
                .prop_map(move |bytes| TissueMask::from_image(GrayImage::from_raw(w, h, bytes).unwrap()))
        })
    }

    proptest! {
        #[test]
        fn rows_are_those_of_the_whole(mask in masks(), w in 1u32..300, h in 1u32..200, from in 0u32..320, long in 0u32..320) {
            let (whole, view) = (mask.at(w, h), mask.on(w, h));
            prop_assert_eq!(view.dimensions(), (w, h));
            for y in 0..h + 1 {
                let mut row = vec![9; long as usize];
                view.fill(y, from..from + long, &mut row);
                let pixel = |x: u32| whole.get_pixel_checked(x, y).map_or(0, |p| p.0[0]);
                let expected: Vec<u8> = (from..from + long).map(pixel).collect();
                prop_assert_eq!(row, expected);
            }
        }

        #[test]
        fn counts_are_sums_of_rows(
            mask in masks(), w in 1u32..300, h in 1u32..200, x in 0u32..300, y in 0u32..200, wide in 0u32..300, tall in 0u32..200
        ) {
            let view = mask.on(w, h);
            let mut row = vec![0; wide as usize];
            let mut sum = 0;
            for line in y..y + tall {
                view.fill(line, x..x + wide, &mut row);
                sum += row.iter().map(|&v| u64::from(v)).sum::<u64>();
            }
            prop_assert_eq!(view.count(x..x + wide, y..y + tall), sum);
            let whole = mask.at(w, h).pixels().map(|p| u64::from(p.0[0])).sum::<u64>();
            prop_assert_eq!(view.count(0..w, 0..h), whole);
        }
    }
}
