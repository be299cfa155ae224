//! Slides stored as DICOM whole slide images: a series of instances, each a level or a part of one.
//!
//! A slide is a folder of instances or one of them; its series in the same folder belongs to it. Tissue alone is read
//! (image type VOLUME), in frames of 8 bits: native, JPEG, JPEG 2000 or run-length coded. Tiles that do not exist are
//! white. Headers are walked without reading pixels or anything about a patient.

mod facts;
mod frames;
mod header;
mod pixels;
mod series;

use std::fs::File;
use std::path::{Path, PathBuf};

use consilium_common::{Mpp, limits};

use super::error::SlideError;
use super::file::SharedFile;
use super::grid::Grid;
use super::pages::downsample;
use super::tiles::{TileReader, TileSource};
use super::{About, Level, spacing};
use facts::{Facts, Syntax};
use frames::Frames;
use pixels::{Coding, Photometric};
use series::{Group, Instance, Tiling};

pub(crate) use series::series_of;

/// A DICOM slide. Reads share the open files without a lock.
pub(super) type DicomSlide = TileReader<DicomTiles>;

/// The frames of all levels.
#[derive(Debug)]
pub(super) struct DicomTiles {
    images: Vec<Image>,
}

/// The frames of one level.
#[derive(Debug)]
struct Image {
    grid: Grid,
    tiling: Tiling,
    sources: Vec<Source>,
}

/// One open instance.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    file: SharedFile,
    frames: Frames,
    coding: Coding,
}

impl DicomSlide {
    /// Opens all instances of the slide and finds their frames; no pixel is read yet.
    ///
    /// # Errors
    /// See [`super::open_slide`].
    pub(super) fn open(path: &Path, mpp: Option<Mpp>) -> Result<Self, SlideError> {
        let mut warnings = Vec::new();
        let mut groups = series::groups(series::gather(path)?, &mut warnings)?;
        if groups.len() > limits::MAX_LEVELS {
            return Err(SlideError::unsupported(path, format!("a stack of more than {} images", limits::MAX_LEVELS)));
        }
        let (levels, groups) = select(&mut groups, &mut warnings);
        let base = &groups[0].instances[0].facts;
        if base.focal_planes > 1 || base.optical_paths > 1 {
            warnings.push("it has several planes of focus or optical paths, of which the first is read".to_owned());
        }
        let stated = stated_spacing(path, base);
        let mut about = About::new("DICOM", stated.as_ref().ok().copied(), mpp);
        about.objective = base.objective.filter(|power| power.is_finite() && *power > 0.0);
        about.warnings.append(&mut warnings);
        let mpp = mpp.map_or(stated, Ok)?;
        let images = groups.into_iter().map(image).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(path, DicomTiles { images }, levels, mpp, about))
    }
}

impl TileSource for DicomTiles {
    fn grid(&self, level: usize) -> Option<Grid> {
        self.images.get(level).map(|image| image.grid)
    }

    fn rgb(&self, _: &Path, level: usize, index: u64) -> Result<Option<Vec<u8>>, SlideError> {
        let image = &self.images[level];
        image.tiling.frame(index).map(|(source, frame)| image.sources[source].rgb(frame)).transpose()
    }
}

impl Source {
    fn open(instance: Instance) -> Result<Self, SlideError> {
        let Instance { path, facts } = instance;
        let coding = coding(&path, &facts)?;
        let native = matches!(coding.syntax, Syntax::ImplicitNative | Syntax::ExplicitNative);
        let failed = |e| SlideError::read(&path, "header", e);
        let file = File::open(&path).map_err(failed)?;
        let end = file.metadata().map_err(failed)?.len();
        let file = SharedFile::new(file);
        let frames = Frames::find(&path, &file, end, &facts, native.then_some(coding.bytes() as u64))?;
        Ok(Self { path, file, frames, coding })
    }

    fn rgb(&self, frame: u64) -> Result<Vec<u8>, SlideError> {
        // No coding inflates a frame beyond a few times its size.
        let most = self.coding.bytes() as u64 * 4 + (1 << 20);
        let stored = self.frames.read(&self.path, &self.file, frame, most)?;
        let rgb = self.coding.rgb(stored);
        rgb.map_err(|why| SlideError::damaged(&self.path, format!("frame {frame} cannot be decoded: {why}")))
    }
}

/// The widest image, and every smaller one of the same shape.
fn select(groups: &mut Vec<Group>, warnings: &mut Vec<String>) -> (Vec<Level>, Vec<Group>) {
    let base = (groups[0].grid.width, groups[0].grid.height);
    let mut levels: Vec<Level> = Vec::new();
    let mut kept = Vec::new();
    for group in groups.drain(..) {
        let size @ (width, height) = (group.grid.width, group.grid.height);
        let smaller = levels.last().is_none_or(|level| width < level.width);
        match downsample(base, size) {
            Some(downsample) if smaller => {
                levels.push(Level { width, height, downsample });
                kept.push(group);
            }
            _ => warnings.push(format!("its image of {width} x {height} has another shape and is not read")),
        }
    }
    (levels, kept)
}

fn image(group: Group) -> Result<Image, SlideError> {
    let tiling = series::tiling(&group)?;
    let sources = group.instances.into_iter().map(Source::open).collect::<Result<Vec<_>, _>>()?;
    Ok(Image { grid: group.grid, tiling, sources })
}

/// How the frames are stored, if that can be read here.
fn coding(path: &Path, facts: &Facts) -> Result<Coding, SlideError> {
    let syntax = facts.syntax(path)?;
    if facts.bits != 8 || !matches!(facts.samples, 1 | 3) {
        let what = format!("an image of {} samples of {} bits", facts.samples, facts.bits);
        return Err(SlideError::unsupported(path, what));
    }
    let photometric = Photometric::from_keyword(&facts.photometric, facts.samples, syntax);
    let Some(photometric) = photometric else {
        let word: String = facts.photometric.chars().filter(char::is_ascii_graphic).take(16).collect();
        return Err(SlideError::unsupported(path, format!("a DICOM image of colours `{word}`")));
    };
    let (width, height) = (facts.columns as usize, facts.rows as usize);
    Ok(Coding { syntax, photometric, samples: facts.samples as usize, planar: facts.planar, width, height })
}

/// The spacing of an image in its own words.
fn stated_spacing(path: &Path, facts: &Facts) -> Result<Mpp, SlideError> {
    let across = facts.imaged_width_mm.map(|mm| mm / facts.width as f64);
    match facts.spacing_mm.or(across.map(|mm| (mm, mm))) {
        Some((y, x)) => spacing::from_sides(path, x * 1000.0, y * 1000.0),
        None => Err(SlideError::NoSpacing { path: path.to_owned(), why: "it has no PixelSpacing".to_owned() }),
    }
}

#[cfg(test)]
mod tests;
