//! Slides: what is read from and written to image files of a site.
//!
//! A [`SlideReader`] gives pixels of any level; [`read_at`] gives pixels at a spacing. Readers may be used by several
//! threads at once, keep a bounded number of decoded tiles, and check every size and offset of the file against
//! [`consilium_common::limits`] before they believe it. Geometry is exact: an output pixel is the mean of the slide's
//! area that it covers, computed from its absolute position, so reading a region equals cropping the whole.
//! Vendor formats other than Aperio SVS are read through the OpenSlide library where a site has it.
//! Not read: striped TIFF; the error says how to convert.

mod about;
mod cache;
mod decode;
mod dicom;
mod error;
mod file;
mod flat;
mod grid;
mod jpeg;
mod jpeg2000;
mod mask;
mod ome;
mod openslide;
mod pages;
mod pyramid;
mod region;
mod resample;
mod scale;
mod spacing;
mod tiled;
mod tiles;
mod zarr;

use std::path::Path;

use consilium_common::Mpp;
use image::RgbImage;

pub use about::{About, Hole};
pub use error::SlideError;
pub use flat::FlatSlide;
pub use mask::{MaskReader, check_mask, read_mask_at};
pub use openslide::{OpenSlideSlide, openslide_library, set_openslide_library};

pub use crate::native::{LibraryError, LibraryInfo};
pub use pyramid::{PyramidKind, PyramidWriter, write_pyramid};
pub use scale::{level_at, read_at, size_at, thumbnail};

pub(crate) use dicom::series_of;
pub use file::is_zarr;
pub(crate) use file::{SharedFile, holds_dicom, is_dicom};

use dicom::DicomSlide;
use file::Kind;
use tiled::TiledSlide;
use zarr::ZarrSlide;

/// One resolution of a slide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Width in pixels of this level.
    pub width: u32,
    /// Height in pixels of this level.
    pub height: u32,
    /// Side of one pixel of this level in level-0 pixels; 1 for the finest level.
    pub downsample: f64,
}

/// A slide that can be read by several threads at once.
pub trait SlideReader: Send + Sync {
    /// All levels, the finest first; never empty.
    fn levels(&self) -> &[Level];

    /// Spacing of level 0.
    fn mpp(&self) -> Mpp;

    /// A region in pixels of `level`; what lies outside the level is white.
    ///
    /// # Errors
    /// The region is absurdly large, the level does not exist, or the file is damaged there.
    fn read_level(&self, level: usize, x: i64, y: i64, w: u32, h: u32) -> Result<RgbImage, SlideError>;

    /// Where the slide comes from, for messages.
    fn path(&self) -> &Path {
        Path::new("(slide in memory)")
    }

    /// What the file says about itself.
    fn about(&self) -> About {
        About::default()
    }

    /// The parts that reads so far could not decode; they are white in what was read.
    fn holes(&self) -> Vec<Hole> {
        Vec::new()
    }
}

/// Opens a slide: tiled TIFF (BigTIFF too), Aperio SVS, DICOM (an instance or a folder of them), OME-Zarr (a folder), PNG
/// or JPEG, told apart by content, not by name; any other format through OpenSlide.
///
/// `mpp` overrides what the file says; without it the file's own tags must give the spacing (never so for PNG and
/// JPEG, whose density is a print size).
///
/// # Errors
/// The file is missing, no slide, damaged, or does not say its spacing.
pub fn open_slide(path: &Path, mpp: Option<Mpp>) -> Result<Box<dyn SlideReader>, SlideError> {
    let own = || {
        Ok(match file::kind(path)? {
            Kind::Tiff => Box::new(TiledSlide::open(path, mpp)?) as Box<dyn SlideReader>,
            Kind::Dicom => Box::new(DicomSlide::open(path, mpp)?),
            Kind::Zarr => Box::new(ZarrSlide::open(path, mpp)?),
            Kind::Png | Kind::Jpeg => Box::new(FlatSlide::open(path, mpp)?),
        })
    };
    openslide::open_or(path, own, || Ok(Box::new(OpenSlideSlide::open(path, mpp)?)))
}

/// Checks a slide without decoding its pixels and returns its level-0 size: width, height.
///
/// # Errors
/// As [`open_slide`], except for damage inside the pixel data.
pub fn check_slide(path: &Path, mpp: Option<Mpp>) -> Result<(u32, u32), SlideError> {
    let size = |slide: &dyn SlideReader| (slide.levels()[0].width, slide.levels()[0].height);
    let own = || match file::kind(path)? {
        Kind::Tiff => Ok(size(&TiledSlide::open(path, mpp)?)),
        Kind::Dicom => Ok(size(&DicomSlide::open(path, mpp)?)),
        Kind::Zarr => Ok(size(&ZarrSlide::open(path, mpp)?)),
        Kind::Png | Kind::Jpeg => flat::check(path, mpp),
    };
    openslide::open_or(path, own, || Ok(size(&OpenSlideSlide::open(path, mpp)?)))
}

#[cfg(test)]
mod tests;
