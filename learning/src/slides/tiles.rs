//! What all readers of stored tiles have in common: decoded tiles are kept, a tile that was never stored is white, and one
//! that cannot be decoded is white and remembered as a hole. A format only says how its tiles lie and how one is decoded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use consilium_common::Mpp;
use image::RgbImage;

use super::about::Holes;
use super::cache::{Tile, TileCache};
use super::error::SlideError;
use super::grid::Grid;
use super::{About, Hole, Level, SlideReader};

/// The stored tiles of a slide, for several threads at once.
pub(super) trait TileSource: Send + Sync {
    /// How the tiles of a level lie; `None` if there is no such level.
    fn grid(&self, level: usize) -> Option<Grid>;

    /// RGB of a tile of a level that exists; `None` for one that was never stored.
    ///
    /// # Errors
    /// The tile is damaged, or the file cannot be read.
    fn rgb(&self, path: &Path, level: usize, index: u64) -> Result<Option<Vec<u8>>, SlideError>;
}

/// A slide of stored tiles. Tiles of a large read are decoded on all cores.
#[derive(Debug)]
pub(super) struct TileReader<S> {
    path: PathBuf,
    source: S,
    levels: Vec<Level>,
    mpp: Mpp,
    about: About,
    cache: TileCache,
    holes: Holes,
}

impl<S: TileSource> TileReader<S> {
    pub(super) fn new(path: &Path, source: S, levels: Vec<Level>, mpp: Mpp, about: About) -> Self {
        let (cache, holes) = (TileCache::default(), Holes::default());
        Self { path: path.to_owned(), source, levels, mpp, about, cache, holes }
    }

    fn tile(&self, grid: &Grid, level: usize, index: u64) -> Result<Tile, SlideError> {
        if let Some(tile) = self.cache.get((level, index)) {
            return Ok(tile);
        }
        let blank = || vec![255; grid.tile_pixels() * 3];
        let rgb = match self.source.rgb(&self.path, level, index) {
            Ok(rgb) => rgb.unwrap_or_else(blank),
            Err(SlideError::Damaged { why, .. }) => {
                let hole = grid.hole(index, level, self.levels[level].downsample, why).within(self.levels[0]);
                self.holes.add(&self.path, index, hole, grid.tiles())?;
                blank()
            }
            Err(other) => return Err(other),
        };
        let tile = Arc::new(rgb);
        self.cache.put((level, index), Arc::clone(&tile));
        Ok(tile)
    }
}

impl<S: TileSource> SlideReader for TileReader<S> {
    fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn mpp(&self) -> Mpp {
        self.mpp
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn about(&self) -> About {
        self.about.clone()
    }

    fn holes(&self) -> Vec<Hole> {
        self.holes.all()
    }

    fn read_level(&self, level: usize, x: i64, y: i64, w: u32, h: u32) -> Result<RgbImage, SlideError> {
        let Some(grid) = self.source.grid(level) else {
            return Err(SlideError::NoSuchLevel { path: self.path.clone(), level, levels: self.levels.len() });
        };
        grid.read(self, level, (x, y), (w, h), |index| self.tile(&grid, level, index))
    }
}
