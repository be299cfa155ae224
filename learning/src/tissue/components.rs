//! Connected parts of a small binary mask, found by runs: drop the small ones, fill the small holes, number them.
//!
//! Memory follows the number of runs (stretches of one value in a row), not of pixels, so that the glass of a whole
//! slide is a few thousand runs.

use std::ops::Range;

use image::GrayImage;

/// Sets parts of tissue (8-connected) with fewer than `least` pixels to glass.
pub(super) fn remove_specks(mask: &mut GrayImage, least: u64) {
    let parts = Parts::of(mask, 1, true);
    for run in parts.runs.iter().filter(|run| parts.sizes[run.part()].pixels < least) {
        paint(mask, run, 0);
    }
}

/// Sets parts of glass (4-connected) with fewer than `least` pixels to tissue, unless they touch the edge.
pub(super) fn fill_holes(mask: &mut GrayImage, least: u64) {
    let parts = Parts::of(mask, 0, false);
    let hole = |size: &Size| size.pixels < least && !size.touches_edge;
    for run in parts.runs.iter().filter(|run| hole(&parts.sizes[run.part()])) {
        paint(mask, run, 1);
    }
}

/// A stretch of one value in one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The row.
    pub(super) y: u32,
    from: u32,
    to: u32,
    part: u32,
}

impl Run {
    /// The number of its part, counted from 0.
    pub(super) fn part(&self) -> usize {
        self.part as usize
    }

    /// Its pixels in a plane of the given width.
    pub(super) fn pixels(&self, width: usize) -> Range<usize> {
        let line = self.y as usize * width;
        line + self.from as usize..line + self.to as usize
    }
}

/// How large a part is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// Number of pixels.
    pub(super) pixels: u64,
    /// Whether one of them lies at the edge of the mask.
    pub(super) touches_edge: bool,
}

/// All connected parts of one value, numbered in reading order of their first pixel.
pub(super) struct Parts {
    /// The runs in reading order.
    pub(super) runs: Vec<Run>,
    /// The size of each part.
    pub(super) sizes: Vec<Size>,
}

impl Parts {
    /// The parts of `value`; `diagonal`: pixels that meet at a corner are connected.
    pub(super) fn of(mask: &GrayImage, value: u8, diagonal: bool) -> Self {
        let (width, height) = mask.dimensions();
        let mut runs: Vec<Run> = Vec::new();
        let mut parents: Vec<u32> = Vec::new();
        let mut above = 0..0;
        for (y, line) in (0..height).zip(mask.as_raw().chunks_exact(width.max(1) as usize)) {
            let start = runs.len();
            for columns in stretches(line, value) {
                parents.push(runs.len() as u32);
                runs.push(Run { y, from: columns.start, to: columns.end, part: 0 });
            }
            join(&runs, above, start..runs.len(), u32::from(diagonal), &mut parents);
            above = start..runs.len();
        }
        let mut sizes: Vec<Size> = Vec::new();
        let mut numbers = vec![u32::MAX; runs.len()];
        for (index, run) in runs.iter_mut().enumerate() {
            // Roots are the first run of their part, so that numbers follow the reading order.
            let root = root(&mut parents, index as u32) as usize;
            if numbers[root] == u32::MAX {
                numbers[root] = sizes.len() as u32;
                sizes.push(Size::default());
            }
            run.part = numbers[root];
            let size = &mut sizes[run.part as usize];
            size.pixels += u64::from(run.to - run.from);
            size.touches_edge |= run.y == 0 || run.y + 1 == height || run.from == 0 || run.to == width;
        }
        Self { runs, sizes }
    }
}

/// The stretches of `value` in a row.
fn stretches(line: &[u8], value: u8) -> Vec<Range<u32>> {
    let mut found = Vec::new();
    let mut start = None;
    for (x, &pixel) in (0u32..).zip(line) {
        match (pixel == value, start) {
            (true, None) => start = Some(x),
            (false, Some(from)) => {
                found.push(from..x);
                start = None;
            }
            _ => {}
        }
    }
    found.extend(start.map(|from| from..line.len() as u32));
    found
}

/// Joins the runs of a row with those of the row above that they touch; `reach` is 1 where corners count.
fn join(runs: &[Run], mut above: Range<usize>, here: Range<usize>, reach: u32, parents: &mut [u32]) {
    for index in here {
        let run = &runs[index];
        while above.start < above.end && runs[above.start].to + reach <= run.from {
            above.start += 1;
        }
        for other in above.clone().take_while(|&other| runs[other].from < run.to + reach) {
            let (a, b) = (root(parents, other as u32), root(parents, index as u32));
            parents[a.max(b) as usize] = a.min(b);
        }
    }
}

/// The first run of a run's part, with the way there shortened.
fn root(parents: &mut [u32], mut at: u32) -> u32 {
    while parents[at as usize] != at {
        let up = parents[parents[at as usize] as usize];
        parents[at as usize] = up;
        at = up;
    }
    at
}

fn paint(mask: &mut GrayImage, run: &Run, value: u8) {
    let width = mask.width() as usize;
    mask.as_mut()[run.pixels(width)].fill(value);
}

#[cfg(test)]
mod tests {
    use image::Luma;

    use super::*;

    fn drawn(picture: &[&str]) -> GrayImage {
        GrayImage::from_fn(picture[0].len() as u32, picture.len() as u32, |x, y| {
            Luma([u8::from(picture[y as usize].as_bytes()[x as usize] == b'#')])
        })
    }

    #[test]
    fn specks_go_and_holes_close() {
        let mut mask = drawn(&["#....", ".###.", ".#.#.", ".###.", "....."]);
        fill_holes(&mut mask, 2);
        assert_eq!(mask.get_pixel(2, 2).0[0], 1, "a hole of one pixel");
        assert_eq!(mask.get_pixel(4, 0).0[0], 0, "the outside is no hole");
        remove_specks(&mut mask, 11);
        assert_eq!(mask.pixels().map(|p| u32::from(p.0[0])).sum::<u32>(), 0, "ten pixels, the corner one connected");
    }

    #[test]
    fn parts_join_late_and_corners_count_only_when_asked() {
        let mask = drawn(&["#.#.#", "#.#..", "###.#", "...#."]);
        let parts = Parts::of(&mask, 1, false);
        assert_eq!(parts.sizes.iter().map(|s| s.pixels).collect::<Vec<_>>(), [7, 1, 1, 1]);
        let parts = Parts::of(&mask, 1, true);
        assert_eq!(parts.sizes.iter().map(|s| s.pixels).collect::<Vec<_>>(), [9, 1]);
        assert!(Parts::of(&GrayImage::new(0, 0), 1, true).sizes.is_empty());
    }
}
