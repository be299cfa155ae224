//! Where the tissue is: one mask for the whole slide at a fixed spacing, found or drawn, and asked at any size.
//!
//! Found by a threshold on how much darker than glass a pixel is, without pen marks; or read from GeoJSON that a person
//! edited. Read strip by strip, two bytes a pixel of 8 um of which one is kept: memory is bounded by the glass slide,
//! whatever the slide's pixels. Deterministic. Sharpness is measured and reported; nothing is left out for
//! it.

pub(crate) mod blur;
mod components;
mod error;
mod find;
mod geojson;
mod morphology;
mod outline;
mod pen;
mod raster;
mod read;
mod view;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use consilium_common::limits;
use image::{GrayImage, Luma};
use serde::{Deserialize, Serialize};

use crate::slides::{SlideError, SlideReader};
use read::{Grid, Planes};

pub use blur::Blur;
pub use error::{GeoJsonError, TissueError};
pub use geojson::{Polygons, parse_geojson};
pub use view::TissueView;

/// How pale tissue may be. Otsu's threshold counts only between two bounds, in grey levels by which a pixel's darkest
/// channel is darker than the slide's glass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    /// 20 to 45: for dirty glass and thick mounting medium; loses pale stroma.
    Low,
    /// 10 to 25.
    #[default]
    Normal,
    /// 4 to 6: finds mucin, faint fat and pale stroma; takes uneven glass for tissue.
    High,
}

/// How tissue is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TissueSettings {
    /// How pale tissue may be.
    pub sensitivity: Sensitivity,
    /// Whether pen marks are left out of the tissue.
    pub exclude_pen: bool,
    /// Whether the sharpness of the tissue is measured: reads up to 400 blocks of 128 um more.
    pub measure_blur: bool,
}

impl Default for TissueSettings {
    fn default() -> Self {
        Self { sensitivity: Sensitivity::Normal, exclude_pen: true, measure_blur: true }
    }
}

/// Where a mask comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Found on the slide.
    Found,
    /// Read from outlines that a person drew or edited.
    GeoJson,
}

/// What there is to say about a mask.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TissueStats {
    /// Where the mask comes from.
    pub source: Source,
    /// Side of a mask pixel, um.
    pub spacing_um: f64,
    /// Area of the tissue, mm2.
    pub tissue_mm2: f64,
    /// Share of tissue in the whole slide, 0 to 1.
    pub tissue_share: f64,
    /// Area that was left out as pen marks, on tissue and on glass, mm2.
    pub pen_mm2: f64,
    /// The darkest channel of the slide's glass, 0 to 255; none for outlines.
    pub glass: Option<u8>,
    /// How much darker than glass tissue is at least, in grey levels; none for outlines.
    pub threshold: Option<u8>,
    /// How pale tissue might be; none for outlines.
    pub sensitivity: Option<Sensitivity>,
    /// How sharp the tissue is; none where it was not measured or there is too little to measure.
    pub blur: Option<Blur>,
}

/// A mask with what there is to say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The tissue.
    pub mask: TissueMask,
    /// Areas, thresholds and sharpness.
    pub stats: TissueStats,
}

impl Found {
    /// Reads the mask from outlines that a person edited, as [`TissueMask::from_geojson`]; of the settings only
    /// `measure_blur` matters.
    ///
    /// # Errors
    /// The outlines cannot be used, or the slide cannot be read.
    pub fn from_geojson(path: &Path, slide: &dyn SlideReader, settings: &TissueSettings) -> Result<Self, TissueError> {
        let mask = TissueMask::from_geojson(path, slide)?;
        let grid = Grid::of(slide)?;
        let blur = if settings.measure_blur { blur::measure(slide, &mask)? } else { None };
        let stats = TissueStats { blur, ..TissueStats::of(&mask, grid, Source::GeoJson) };
        Ok(Self { mask, stats })
    }
}

impl TissueStats {
    fn of(mask: &TissueMask, grid: Grid, source: Source) -> Self {
        Self {
            source,
            spacing_um: grid.spacing.um_per_px(),
            tissue_mm2: grid.mm2(mask.pixels()),
            tissue_share: mask.fraction(),
            pen_mm2: 0.0,
            glass: None,
            threshold: None,
            sensitivity: None,
            blur: None,
        }
    }
}

/// The tissue of one slide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TissueMask {
    /// 0 glass, 1 tissue.
    mask: GrayImage,
}

impl TissueMask {
    /// Finds the tissue of a slide with the default settings, sharpness not measured.
    ///
    /// # Errors
    /// The slide cannot be read.
    pub fn of(slide: &dyn SlideReader) -> Result<Self, SlideError> {
        Ok(Self::find(slide, &TissueSettings { measure_blur: false, ..TissueSettings::default() })?.mask)
    }

    /// Finds the tissue of a slide.
    ///
    /// # Errors
    /// The slide cannot be read.
    pub fn find(slide: &dyn SlideReader, settings: &TissueSettings) -> Result<Found, SlideError> {
        let found = find::find(Planes::read(slide)?, settings.sensitivity, settings.exclude_pen);
        let mask = Self { mask: found.mask };
        let stats = TissueStats {
            pen_mm2: found.grid.mm2(found.pen_pixels),
            glass: Some(found.glass),
            threshold: Some(found.threshold),
            sensitivity: Some(settings.sensitivity),
            blur: if settings.measure_blur { blur::measure(slide, &mask)? } else { None },
            ..TissueStats::of(&mask, found.grid, Source::Found)
        };
        Ok(Found { mask, stats })
    }

    /// A mask that is given instead of found: pixels other than 0 are tissue; it spans the whole slide.
    pub fn from_image(mut mask: GrayImage) -> Self {
        mask.pixels_mut().for_each(|p| p.0[0] = u8::from(p.0[0] != 0));
        Self { mask }
    }

    /// Reads the mask from a GeoJSON file that a person edited, in level-0 pixels of the slide: see [`parse_geojson`]. A
    /// mask pixel is tissue when its centre lies in an outline that adds and in none that takes away; what lies outside
    /// the slide is cut off.
    ///
    /// # Errors
    /// The file cannot be read or is no usable GeoJSON, or its outlines leave no tissue on this slide.
    pub fn from_geojson(path: &Path, slide: &dyn SlideReader) -> Result<Self, TissueError> {
        let unreadable = |source| TissueError::Unreadable { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(limits::MAX_GEOJSON_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::from_geojson_bytes(path, &bytes, slide)
    }

    /// The same from the bytes of such a file; `path` is what errors call them.
    ///
    /// # Errors
    /// The bytes are no usable GeoJSON, or its outlines leave no tissue on this slide.
    pub fn from_geojson_bytes(path: &Path, bytes: &[u8], slide: &dyn SlideReader) -> Result<Self, TissueError> {
        let refused = |source| TissueError::GeoJson { path: path.to_owned(), source };
        let polygons = parse_geojson(bytes).map_err(refused)?;
        let (grid, base) = (Grid::of(slide)?, slide.levels()[0]);
        let mask = raster::fill(&polygons, (base.width, base.height), (grid.width, grid.height)).map_err(refused)?;
        let mask = Self { mask };
        if mask.pixels() == 0 {
            return Err(TissueError::NoTissue { path: path.to_owned(), width: base.width, height: base.height });
        }
        Ok(mask)
    }

    /// The mask as GeoJSON for editing in QuPath: a FeatureCollection of Polygons with holes, class "Tissue", closed
    /// simple rings in level-0 pixels. [`TissueMask::from_geojson`] gives the same mask back, where this one was made for
    /// the same slide and has any tissue.
    pub fn to_geojson(&self, slide: &dyn SlideReader) -> String {
        let base = slide.levels()[0];
        outline::to_geojson(&self.mask, (base.width, base.height))
    }

    /// The whole slide as 0 (glass) and 1 (tissue) at the size `w` x `h` that it has at a spacing
    /// ([`crate::slides::size_at`]). For small images; [`TissueMask::on`] does not need memory for the whole.
    pub fn at(&self, w: u32, h: u32) -> GrayImage {
        let columns: Vec<u32> = view::nearest(w, self.mask.width()).collect();
        let rows: Vec<u32> = view::nearest(h, self.mask.height()).collect();
        let value = |x: u32, y: u32| self.mask.get_pixel_checked(columns[x as usize], rows[y as usize]);
        GrayImage::from_fn(w, h, |x, y| value(x, y).copied().unwrap_or(Luma([0])))
    }

    /// The same, row by row and box by box.
    pub fn on(&self, w: u32, h: u32) -> TissueView<'_> {
        TissueView::new(&self.mask, w, h)
    }

    /// Share of tissue in the whole slide, 0 to 1.
    pub fn fraction(&self) -> f64 {
        self.pixels() as f64 / (self.mask.as_raw().len() as f64).max(1.0)
    }

    /// Number of mask pixels that are tissue.
    fn pixels(&self) -> u64 {
        self.mask.as_raw().iter().map(|&tissue| u64::from(tissue)).sum()
    }
}

#[cfg(test)]
mod tests;
