//! Slides stored as tiled TIFF: generic pyramids, BigTIFF, Aperio SVS, OME-TIFF.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use consilium_common::Mpp;
use image::RgbImage;

use super::about::Holes;
use super::cache::{Tile, TileCache};
use super::decode::{self, Photometric};
use super::error::SlideError;
use super::file::SharedFile;
use super::pages::{self, Page};
use super::{About, Hole, Level, SlideReader, spacing};

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
                let hole = page.grid().hole(index, level, self.levels[level].downsample, why);
                let hole = hole.within(self.levels[0]);
                self.holes.add(&self.path, index, hole, page.grid().tiles())?;
                blank()
            }
            Err(other) => return Err(other),
        };
        let tile = Arc::new(rgb);
        self.cache.put((level, index), Arc::clone(&tile));
        Ok(tile)
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
        let Some(page) = self.pages.get(level) else {
            return Err(SlideError::NoSuchLevel { path: self.path.clone(), level, levels: self.levels.len() });
        };
        page.grid().read(self, level, (x, y), (w, h), |index| self.tile(level, index))
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
