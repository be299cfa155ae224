//! Slides stored as tiled TIFF: generic pyramids, BigTIFF, Aperio SVS, OME-TIFF.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use consilium_common::Mpp;
use image::RgbImage;
use rayon::prelude::*;

use super::about::Holes;
use super::cache::{Tile, TileCache};
use super::decode::{self, Photometric};
use super::error::SlideError;
use super::file::SharedFile;
use super::pages::{self, Page};
use super::region::{inside, white_level};
use super::{About, Hole, Level, SlideReader, spacing};

/// Reads of so many tiles are decoded on all cores. Smaller ones come from many threads at once, and to hand their tiles
/// to other threads would cost more than it gains.
const PARALLEL_FROM: usize = 64;

/// A tiled TIFF slide. Reads share one open file without a lock; tiles of a large read are decoded on all cores.
#[derive(Debug)]
pub struct TiledSlide {
    path: PathBuf,
    file: SharedFile,
    pages: Vec<Page>,
    levels: Vec<Level>,
    mpp: Mpp,
    cache: TileCache,
    holes: Holes,
    about: About,
}

impl TiledSlide {
    /// Opens the file and checks all its tags; no pixel is decoded yet.
    ///
    /// # Errors
    /// See [`super::open_slide`].
    pub fn open(path: &Path, mpp: Option<Mpp>) -> Result<Self, SlideError> {
        let mut found = pages::read(path)?;
        if found.pages[0].photometric == Photometric::Palette {
            return Err(SlideError::unsupported(path, "a slide with a colour palette"));
        }
        found.spacing.ome_um = found.ome.as_ref().and_then(|ome| ome.pixel_um);
        let stated = spacing::from_tags(path, &found.spacing);
        let aperio = found.spacing.description.starts_with("Aperio");
        let format = if found.ome.is_some() {
            "OME-TIFF"
        } else if aperio {
            "Aperio SVS"
        } else {
            "tiled TIFF"
        };
        let mut about = About::new(format, stated.as_ref().ok().copied(), mpp);
        about.objective = match &found.ome {
            Some(ome) => ome.objective,
            None => spacing::aperio_objective(&found.spacing.description),
        };
        let mpp = mpp.map_or(stated, Ok)?;
        let file = SharedFile::new(File::open(path).map_err(|e| SlideError::read(path, "header", e))?);
        let (pages, levels) = (found.pages, found.levels);
        Ok(Self {
            path: path.to_owned(),
            file,
            pages,
            levels,
            mpp,
            cache: TileCache::default(),
            holes: Holes::default(),
            about,
        })
    }

    fn tile(&self, level: usize, index: u64) -> Result<Tile, SlideError> {
        if let Some(tile) = self.cache.get((level, index)) {
            return Ok(tile);
        }
        let page = &self.pages[level];
        let blank = || vec![255; page.tile_width as usize * page.tile_height as usize * 3];
        let rgb = match decoded(&self.path, &self.file, page, index, decode::rgb) {
            Ok(Some(rgb)) => rgb,
            Ok(None) => blank(),
            Err(SlideError::Damaged { why, .. }) => {
                self.holes.add(&self.path, index, self.hole(level, index, why), page.chunks.len() as u64)?;
                blank()
            }
            Err(other) => return Err(other),
        };
        let tile = Arc::new(rgb);
        self.cache.put((level, index), Arc::clone(&tile));
        Ok(tile)
    }

    fn hole(&self, level: usize, index: u64, why: String) -> Hole {
        let (page, scale) = (&self.pages[level], self.levels[level].downsample);
        let columns = u64::from(page.columns());
        let (column, row) = ((index % columns) as u32, (index / columns) as u32);
        let at = |tile: u32, side: u32| (f64::from(tile) * f64::from(side) * scale).floor() as u32;
        let side = |side: u32| (f64::from(side) * scale).ceil() as u32;
        let (x, y) = (at(column, page.tile_width), at(row, page.tile_height));
        Hole { x, y, w: side(page.tile_width), h: side(page.tile_height), level, why }
    }
}

impl SlideReader for TiledSlide {
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
        let mut region = white_level(self, level, w, h)?;
        let page = &self.pages[level];
        // The part of the region that lies inside the level.
        let (left, right) = inside(x, w, page.width);
        let (top, bottom) = inside(y, h, page.height);
        if left >= right || top >= bottom {
            return Ok(region);
        }
        let columns = left / page.tile_width..=(right - 1) / page.tile_width;
        let rows = top / page.tile_height..=(bottom - 1) / page.tile_height;
        let wanted: Vec<(u32, u32)> = rows.flat_map(|row| columns.clone().map(move |column| (column, row))).collect();
        let index = |(column, row): (u32, u32)| u64::from(row) * u64::from(page.columns()) + u64::from(column);
        let tiles: Vec<Tile> = match wanted.as_slice() {
            few if few.len() < PARALLEL_FROM => {
                few.iter().map(|&at| self.tile(level, index(at))).collect::<Result<_, _>>()?
            }
            many => many.par_iter().map(|&at| self.tile(level, index(at))).collect::<Result<_, _>>()?,
        };
        for (&(column, row), tile) in wanted.iter().zip(&tiles) {
            let (x0, y0) = (column * page.tile_width, row * page.tile_height);
            let columns = x0.max(left)..(x0 + page.tile_width).min(right);
            for line in y0.max(top)..(y0 + page.tile_height).min(bottom) {
                let from = ((line - y0) as usize * page.tile_width as usize + (columns.start - x0) as usize) * 3;
                let to = (i64::from(line) - y) as usize * w as usize + (i64::from(columns.start) - x) as usize;
                let bytes = columns.len() * 3;
                region.as_mut()[to * 3..to * 3 + bytes].copy_from_slice(&tile[from..from + bytes]);
            }
        }
        Ok(region)
    }
}

/// One tile, decoded as asked for; `None` for a tile that was never written.
pub(super) fn decoded(
    path: &Path,
    file: &SharedFile,
    page: &Page,
    index: u64,
    decode: fn(&Page, Vec<u8>) -> Result<Vec<u8>, String>,
) -> Result<Option<Vec<u8>>, SlideError> {
    let (offset, count) = page.chunks[index as usize];
    if count == 0 {
        return Ok(None);
    }
    let stored =
        file.read_at(offset, count as usize).map_err(|e| SlideError::read(path, &format!("tile {index}"), e))?;
    decode(page, stored)
        .map(Some)
        .map_err(|why| SlideError::damaged(path, format!("tile {index} cannot be decoded: {why}")))
}
