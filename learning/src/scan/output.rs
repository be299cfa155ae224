//! The files of a scan. Each is written beside its place and moved there when complete: a reader never sees half of one.

use std::io::Write;
use std::path::{Path, PathBuf};

use consilium_common::plan::Task;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use super::overlay::overlay_image;
use super::{ScanError, ScanResult};
use crate::slides::{SlideReader, thumbnail};

/// Longer side of the overlay's slide picture.
const OVERLAY_SIDE: u32 = 1600;

/// Where the outputs of a scan are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanFiles {
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
) -> Result<ScanFiles, ScanError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        return Err(ScanError::Name(name.to_owned()));
    }
    if result.classes != task.classes.len() {
        return Err(ScanError::Classes { ensemble: result.classes, task: task.classes.len() });
    }
    let failed = |path: &Path, why: &dyn ToString| ScanError::Write { path: path.to_owned(), why: why.to_string() };
    std::fs::create_dir_all(dir).map_err(|e| failed(dir, &e))?;
    let place = |what: &str| dir.join(format!("{name}-{what}.png"));
    let files = ScanFiles { labels: place("labels"), uncertainty: place("uncertainty"), overlay: place("overlay") };
    let size = (result.width, result.height);
    write_png(&files.labels, result.labels.as_raw(), size, ExtendedColorType::L8)?;
    write_png(&files.uncertainty, result.uncertainty.to_gray8().as_raw(), size, ExtendedColorType::L8)?;
    let overlay = overlay_image(&thumbnail(slide, OVERLAY_SIDE)?, result);
    write_png(&files.overlay, overlay.as_raw(), overlay.dimensions(), ExtendedColorType::Rgb8)?;
    Ok(files)
}

fn write_png(
    path: &Path,
    pixels: &[u8],
    (width, height): (u32, u32),
    colour: ExtendedColorType,
) -> Result<(), ScanError> {
    let failed = |why: String| ScanError::Write { path: path.to_owned(), why };
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive);
    encoder.write_image(pixels, width, height, colour).map_err(|e| failed(e.to_string()))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(|e| failed(e.to_string()))?;
    file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| failed(e.to_string()))?;
    file.persist(path).map_err(|e| failed(e.error.to_string()))?;
    Ok(())
}
