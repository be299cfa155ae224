//! The files of a scan that is whole in memory. See [`super::Writers`] for one that comes in strips.

use std::path::{Path, PathBuf};

use consilium_common::plan::Task;
use image::ExtendedColorType;

use super::output::{OVERLAY_SIDE, check_name, write_png};
use super::overlay::overlay_image;
use super::reduced::Reduced;
use super::{ScanError, ScanResult, Strip};
use crate::slides::{SlideReader, thumbnail};

/// Where the outputs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeFiles {
    /// 8-bit PNG, value = class index, at the plan's spacing.
    pub labels: PathBuf,
    /// 8-bit PNG, UGA's quantisation (255 = 4 nats), at the plan's spacing.
    pub uncertainty: PathBuf,
    /// RGB PNG: thumbnail, heat colours, colour bar.
    pub overlay: PathBuf,
}

/// Writes `NAME-labels.png`, `NAME-uncertainty.png` and `NAME-overlay.png` into `dir`, which is made if need be.
///
/// # Errors
/// A name with a path in it, an ensemble of another task, an unreadable slide, or a folder that cannot be written.
pub fn write_outputs(
    result: &ScanResult,
    slide: &dyn SlideReader,
    task: &Task,
    dir: &Path,
    name: &str,
) -> Result<WholeFiles, ScanError> {
    check_name(name)?;
    if result.classes != task.classes.len() {
        return Err(ScanError::Classes { ensemble: result.classes, task: task.classes.len() });
    }
    let failed = |e: std::io::Error| ScanError::Write { path: dir.to_owned(), why: e.to_string() };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let place = |what: &str| dir.join(format!("{name}-{what}.png"));
    let files = WholeFiles { labels: place("labels"), uncertainty: place("uncertainty"), overlay: place("overlay") };
    let size = (result.width, result.height);
    write_png(&files.labels, result.labels.as_raw(), size, ExtendedColorType::L8)?;
    write_png(&files.uncertainty, result.uncertainty.to_gray8().as_raw(), size, ExtendedColorType::L8)?;
    let thumbnail = thumbnail(slide, OVERLAY_SIDE)?;
    let mut reduced = Reduced::new(result.width, result.height, thumbnail.width(), thumbnail.height());
    reduced.add(&Strip {
        y: 0,
        rows: result.height,
        width: result.width,
        labels: result.labels.as_raw().clone(),
        tissue: result.tissue.as_raw().clone(),
        uncertainty: result.uncertainty.data.clone(),
        ..Strip::default()
    });
    let overlay = overlay_image(&thumbnail, &reduced, task.classes.len());
    write_png(&files.overlay, overlay.as_raw(), overlay.dimensions(), ExtendedColorType::Rgb8)?;
    Ok(files)
}
