//! Slides stored as tiled TIFF: generic pyramids, BigTIFF, Aperio SVS, OME-TIFF.

use std::fs::File;
use std::path::Path;

use consilium_common::Mpp;

use super::decode::{self, Photometric};
use super::error::SlideError;
use super::file::SharedFile;
use super::grid::Grid;
use super::pages::{self, Page};
use super::tiles::{TileReader, TileSource};
use super::{About, spacing};

/// A tiled TIFF slide. Reads share one open file without a lock.
pub(super) type TiledSlide = TileReader<TiffTiles>;

/// The tiles of a TIFF file.
#[derive(Debug)]
pub(super) struct TiffTiles {
    file: SharedFile,
    pages: Vec<Page>,
}

impl TiledSlide {
    /// Opens the file and checks all its tags; no pixel is decoded yet.
    ///
    /// # Errors
    /// See [`super::open_slide`].
    pub(super) fn open(path: &Path, mpp: Option<Mpp>) -> Result<Self, SlideError> {
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
        Ok(Self::new(path, TiffTiles { file, pages: found.pages }, found.levels, mpp, about))
    }
}

impl TileSource for TiffTiles {
    fn grid(&self, level: usize) -> Option<Grid> {
        self.pages.get(level).map(Page::grid)
    }

    fn rgb(&self, path: &Path, level: usize, index: u64) -> Result<Option<Vec<u8>>, SlideError> {
        decoded(path, &self.file, &self.pages[level], index, decode::rgb)
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
