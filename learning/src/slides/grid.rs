//! A level cut into equal tiles: which of them a region needs, how they are put together, and where a damaged one lies.
//!
//! The tiles of a large region are decoded on all cores. What a tile holds beyond the level's edge is never shown.

use std::ops::RangeInclusive;
use std::path::Path;

use consilium_common::limits;
use image::RgbImage;
use rayon::prelude::*;

use super::cache::Tile;
use super::error::SlideError;
use super::region::{inside, white_level};
use super::{Hole, SlideReader};

/// Reads of so many tiles are decoded on all cores. Smaller ones come from many threads at once, and to hand their tiles
/// to other threads would cost more than it gains.
const PARALLEL_FROM: usize = 64;

/// The tiles of one level, numbered row by row; all sides are at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) tile_width: u32,
    pub(super) tile_height: u32,
}

impl Grid {
    pub(super) fn columns(&self) -> u32 {
        self.width.div_ceil(self.tile_width)
    }

    pub(super) fn tiles(&self) -> u64 {
        u64::from(self.columns()) * u64::from(self.height.div_ceil(self.tile_height))
    }

    /// Pixels of one tile.
    pub(super) fn tile_pixels(&self) -> usize {
        self.tile_width as usize * self.tile_height as usize
    }

    /// Column and row of a tile.
    pub(super) fn place(&self, index: u64) -> (u32, u32) {
        let columns = u64::from(self.columns());
        ((index % columns) as u32, (index / columns) as u32)
    }

    /// The box of tile `index` in level-0 pixels as far as it is on the level, given the level's downsample.
    pub(super) fn hole(&self, index: u64, level: usize, downsample: f64, why: String) -> Hole {
        let (column, row) = self.place(index);
        let span = |tile: u32, side: u32, end: u32| {
            let start = u64::from(tile) * u64::from(side);
            let past = (start + u64::from(side)).min(u64::from(end));
            let (start, past) = ((start as f64 * downsample).floor() as u32, (past as f64 * downsample).ceil() as u32);
            (start, past.saturating_sub(start))
        };
        let (x, w) = span(column, self.tile_width, self.width);
        let (y, h) = span(row, self.tile_height, self.height);
        Hole { x, y, w, h, level, why }
    }

    /// A region of the level, made of its tiles' RGB bytes; what lies outside the level is white.
    pub(super) fn read(
        &self,
        slide: &dyn SlideReader,
        level: usize,
        (x, y): (i64, i64),
        (w, h): (u32, u32),
        tile: impl Fn(u64) -> Result<Tile, SlideError> + Sync,
    ) -> Result<RgbImage, SlideError> {
        let mut region = white_level(slide, level, w, h)?;
        if self.tiles() > limits::MAX_SLIDE_TILES {
            return Err(too_many_tiles(slide.path()));
        }
        let (left, right) = inside(x, w, self.width);
        let (top, bottom) = inside(y, h, self.height);
        if left >= right || top >= bottom {
            return Ok(region);
        }
        let columns = left / self.tile_width..=(right - 1) / self.tile_width;
        let rows = top / self.tile_height..=(bottom - 1) / self.tile_height;
        let wanted = self.indices(rows, &columns);
        let tiles: Vec<Tile> = match wanted.as_slice() {
            few if few.len() < PARALLEL_FROM => few.iter().map(|&index| tile(index)).collect::<Result<_, _>>()?,
            many => many.par_iter().map(|&index| tile(index)).collect::<Result<_, _>>()?,
        };
        for (&index, tile) in wanted.iter().zip(&tiles) {
            let (column, row) = self.place(index);
            let (x0, y0) = (column * self.tile_width, row * self.tile_height);
            let columns = x0.max(left)..(x0 + self.tile_width).min(right);
            for line in y0.max(top)..(y0 + self.tile_height).min(bottom) {
                let from = ((line - y0) as usize * self.tile_width as usize + (columns.start - x0) as usize) * 3;
                let to = (i64::from(line) - y) as usize * w as usize + (i64::from(columns.start) - x) as usize;
                let bytes = columns.len() * 3;
                region.as_mut()[to * 3..to * 3 + bytes].copy_from_slice(&tile[from..from + bytes]);
            }
        }
        Ok(region)
    }

    fn indices(&self, rows: RangeInclusive<u32>, columns: &RangeInclusive<u32>) -> Vec<u64> {
        let width = u64::from(self.columns());
        rows.flat_map(|row| columns.clone().map(move |column| u64::from(row) * width + u64::from(column))).collect()
    }
}

/// What is said of a slide in more than [`limits::MAX_SLIDE_TILES`] tiles.
pub(super) fn too_many_tiles(path: &Path) -> SlideError {
    SlideError::unsupported(path, format!("a slide cut into more than {} tiles", limits::MAX_SLIDE_TILES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slides::{FlatSlide, Level, tests::mpp};

    #[test]
    fn holes_end_where_the_slide_ends() {
        // Level 1 of a slide of 201 x 99 px: 101 x 50 in tiles of 64 px.
        let grid = Grid { width: 101, height: 50, tile_width: 64, tile_height: 64 };
        let hole = grid.hole(1, 1, 2.0, String::new());
        assert_eq!((hole.x, hole.y, hole.w, hole.h), (128, 0, 74, 100));
        let hole = hole.within(Level { width: 201, height: 99, downsample: 1.0 });
        assert_eq!((hole.x, hole.y, hole.w, hole.h), (128, 0, 73, 99));
    }

    #[test]
    fn tiles_without_number_are_refused_before_any_is_read() {
        let slide = FlatSlide::new(RgbImage::new(1, 1), mpp(0.5));
        let grid = Grid { width: 1 << 20, height: 1 << 20, tile_width: 1, tile_height: 1 };
        let read = grid.read(&slide, 0, (0, 0), (1, 1), |_| panic!("a tile was asked for"));
        let message = read.unwrap_err().to_string();
        assert!(message.contains("more than 16777216 tiles is not supported; convert it"), "{message}");
    }
}
