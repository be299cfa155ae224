//! The report: `report.html`, which needs nothing beside it, and the same figures as PNG files.
//!
//! Figures are SVG written by hand; one drawing stands inline in the page and is rasterised for papers. The text says
//! what happened in plain words, and how to do it again.

mod chart_dice;
mod chart_scatter;
mod chart_time;
mod contact_sheet;
mod control;
mod html;
mod raster;
pub(crate) mod stats;
pub(crate) mod svg;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use consilium_common::{Plan, SiteId};
use image::RgbImage;

use crate::experiment::{Metrics, Timing};

pub use contact_sheet::PatchPicture;

/// Everything that a report tells.
pub struct Story {
    /// True for drawn slides, false for data that was there.
    pub drawn: bool,
    /// The numbers.
    pub metrics: Metrics,
    /// The seconds.
    pub timing: Timing,
    /// The plan that was followed.
    pub plan: Plan,
    /// The command line that does it again.
    pub command: String,
    /// Each site with its slides by use and a picture of one of them.
    pub centres: Vec<CentreStory>,
    /// Patches with their pictures.
    pub patches: Vec<PatchPicture>,
}

/// A site in the report.
pub struct CentreStory {
    /// Its name.
    pub site: SiteId,
    /// Slides that it learns from.
    pub learn: usize,
    /// Slides held out.
    pub test: usize,
    /// A thumbnail of one.
    pub thumbnail: RgbImage,
}

/// A report that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A figure could not be drawn; a bug.
    #[error("a figure of the report cannot be drawn: {why}")]
    Figure {
        /// What the renderer says.
        why: String,
    },
    /// A file could not be written.
    #[error("{path} cannot be written; is the disk full, or the folder not yours?")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The figures as SVG, by file stem.
pub(crate) struct Figures {
    pub(crate) dice: String,
    pub(crate) scatter: String,
    pub(crate) time: String,
    pub(crate) patches: Option<String>,
}

pub(crate) use contact_sheet::jpeg;
pub(crate) use html::{figure, page_of, section};

/// A figure as the bytes of a PNG.
pub(crate) fn png_of(svg: &str) -> Result<Vec<u8>, ReportError> {
    raster::png_of(svg, PNG_SCALE)
}

/// Device pixels per CSS pixel of the PNG figures: 200 dpi at the size of a text column.
const PNG_SCALE: f32 = 2.5;

/// Writes `report.html` and `figures/*.png` into a folder; returns the report's path.
pub fn write_report(out: &Path, story: &Story) -> Result<PathBuf, ReportError> {
    let figures = Figures {
        dice: chart_dice::draw(&story.metrics),
        scatter: chart_scatter::draw(&story.metrics),
        time: chart_time::draw(&story.timing),
        patches: contact_sheet::draw(&story.patches, &story.metrics.sites)?,
    };
    let folder = out.join("figures");
    std::fs::create_dir_all(&folder).map_err(|source| ReportError::File { path: folder.clone(), source })?;
    let named = [
        ("dice-by-round", Some(&figures.dice)),
        ("uncertainty-against-dice", Some(&figures.scatter)),
        ("time-by-stage", Some(&figures.time)),
        ("patches", figures.patches.as_ref()),
    ];
    for (name, svg) in named {
        if let Some(svg) = svg {
            write(&folder.join(format!("{name}.png")), &raster::png_of(svg, PNG_SCALE)?)?;
        }
    }
    let path = out.join("report.html");
    write(&path, html::page(story, &figures)?.as_bytes())?;
    Ok(path)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    std::fs::write(path, bytes).map_err(|source| ReportError::File { path: path.to_owned(), source })
}
