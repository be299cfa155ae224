//! What of a slide the search for tissue looks at: two bytes for each mask pixel, read strip by strip.
//!
//! The spacing is fixed, so that the same tissue gives the same mask whatever the scanner and however large the slide.

use consilium_common::{Mpp, limits};
use rayon::prelude::*;

use super::pen;
use crate::slides::{SlideError, SlideReader, read_at, size_at};

/// Spacing of the mask: about one cell. The smallest thing that matters (a speck of 50 um) is six pixels wide, a whole
/// glass slide of 75 x 25 mm is 29 MB, and pyramids have a level near it.
pub(super) const SPACING_UM: f64 = 8.0;
/// Slides shorter than this many mask pixels get a finer mask, down to their own spacing: a field of 250 um would be 31
/// pixels a side, too few for closing and specks.
const LEAST_SIDE_PX: f64 = 64.0;
/// Rows that are read at once; a strip of the longest mask is 7 MB.
const STRIP_ROWS: usize = 256;

/// Spacing and size of the mask of a slide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) spacing: Mpp,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Grid {
    /// The grid for a slide. Beyond the area of a glass slide the mask gets coarser.
    pub(super) fn of(slide: &dyn SlideReader) -> Result<Self, SlideError> {
        let base = slide.levels()[0];
        let um = slide.mpp().um_per_px();
        let (wide, tall) = (f64::from(base.width) * um, f64::from(base.height) * um);
        let fitting = SPACING_UM.min(wide.min(tall) / LEAST_SIDE_PX);
        let affordable = (wide * tall / limits::MAX_TISSUE_MASK_PX as f64).sqrt();
        let spacing = fitting.max(affordable).max(um).clamp(limits::MIN_MPP, limits::MAX_MPP);
        let spacing = Mpp::new(spacing).unwrap_or(slide.mpp());
        let (width, height) = size_at(slide, spacing);
        let pixels = u64::from(width) * u64::from(height);
        // A slide of many metres: the coarsest spacing there is does not suffice.
        if pixels > 2 * limits::MAX_TISSUE_MASK_PX {
            return Err(SlideError::RegionTooLarge { path: slide.path().to_owned(), pixels });
        }
        Ok(Self { spacing, width, height })
    }

    /// Number of pixels that an area has.
    pub(super) fn pixels(&self, um2: f64) -> u64 {
        (um2 / self.spacing.um_per_px().powi(2)).round() as u64
    }

    /// Number of pixels that a length has.
    pub(super) fn length(&self, um: f64) -> u32 {
        (um / self.spacing.um_per_px()).round() as u32
    }

    /// The area of so many pixels in mm2.
    pub(super) fn mm2(&self, pixels: u64) -> f64 {
        pixels as f64 * self.spacing.um_per_px().powi(2) / 1e6
    }
}

/// What is known of each mask pixel, row by row.
pub(super) struct Planes {
    pub(super) grid: Grid,
    /// The darkest of the three channels: glass is near-white and unsaturated, so that it is bright there.
    pub(super) darkest: Vec<u8>,
    /// Which ink the colour could be: see [`pen::code`].
    pub(super) ink: Vec<u8>,
}

impl Planes {
    /// Reads the slide at the mask's spacing, by all threads.
    pub(super) fn read(slide: &dyn SlideReader) -> Result<Self, SlideError> {
        let grid = Grid::of(slide)?;
        let width = grid.width as usize;
        let mut darkest = vec![0; width * grid.height as usize];
        let mut ink = darkest.clone();
        let strips = darkest.par_chunks_mut(width * STRIP_ROWS).zip(ink.par_chunks_mut(width * STRIP_ROWS));
        strips.enumerate().try_for_each(|(strip, (darkest, ink))| {
            let rows = (darkest.len() / width) as u32;
            let image = read_at(slide, grid.spacing, 0, (strip * STRIP_ROWS) as i64, grid.width, rows)?;
            for ((pixel, darkest), ink) in image.pixels().zip(darkest).zip(ink) {
                *darkest = pixel.0[0].min(pixel.0[1]).min(pixel.0[2]);
                *ink = pen::code(pixel.0);
            }
            Ok::<_, SlideError>(())
        })?;
        Ok(Self { grid, darkest, ink })
    }
}
