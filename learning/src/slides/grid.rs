//! A level cut into equal tiles: which of them a region needs, how they are put together, and where a damaged one lies.
//!
//! The tiles of one region are decoded on all cores. What a tile holds beyond the level's edge is never shown.

use std::ops::RangeInclusive;

use image::RgbImage;
use rayon::prelude::*;

use super::cache::Tile;
use super::error::SlideError;
use super::region::{inside, white_level};
use super::{Hole, SlideReader};

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

    /// The box of tile `index` in level-0 pixels, given the level's downsample.
    pub(super) fn hole(&self, index: u64, level: usize, downsample: f64, why: String) -> Hole {
        let (column, row) = self.place(index);
        let at = |tile: u32, side: u32| (f64::from(tile) * f64::from(side) * downsample).floor() as u32;
        let length = |side: u32| (f64::from(side) * downsample).ceil() as u32;
        Hole {
            x: at(column, self.tile_width),
            y: at(row, self.tile_height),
            w: length(self.tile_width),
            h: length(self.tile_height),
            level,
            why,
        }
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
        let (left, right) = inside(x, w, self.width);
        let (top, bottom) = inside(y, h, self.height);
        if left >= right || top >= bottom {
            return Ok(region);
        }
        let columns = left / self.tile_width..=(right - 1) / self.tile_width;
        let rows = top / self.tile_height..=(bottom - 1) / self.tile_height;
        let wanted = self.indices(rows, &columns);
        let tiles: Vec<Tile> = match wanted.as_slice() {
            [one] => vec![tile(*one)?],
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
