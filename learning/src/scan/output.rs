//! The files of a scan, made while its rows come: pyramids that viewers open, outlines, and pictures.
//!
//! Memory is a row of tiles a pyramid and level: of wide slides only a few pyramids are written at a time, so that it
//! takes several passes over the maps. Each file is written beside its place and moved there when complete: a
//! reader never sees half of one. The same strips give the same bytes.

use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};

use consilium_common::plan::Task;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use rayon::prelude::*;

use super::memory::give_back;
use super::overlay::{labels_overlay_image, overlay_image};
use super::palette::class_colour;
use super::reduced::Reduced;
use super::{ScanError, Strip};
use crate::outline::{OutlineCounts, OutlineSettings, OutlineWriter};
use crate::slides::{PyramidKind, PyramidWriter, SlideError};
use crate::uncertainty::quantise;

/// Bytes that waiting rows of the pyramids may take together: two rows of tiles of 256 px for each.
const PYRAMID_BYTES: usize = 32 << 20;

/// Longer side of the slide picture in overlays.
pub const OVERLAY_SIDE: u32 = 1600;

/// Memory that was freed is given back every so many rows.
const TRIM_ROWS: u32 = 1024;

/// Where the outputs of a scan are, and what the outlines hold. Pyramids are at the plan's spacing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanFiles {
    /// Label pyramid, value = class index, with the classes' colours as its palette.
    pub labels: PathBuf,
    /// Probability pyramid of each foreground class, class 1 first; 255 is 1.
    pub probabilities: Vec<PathBuf>,
    /// Pyramid of UGA's uncertainty, quantised as there: 255 is 4 nats.
    pub uncertainty: PathBuf,
    /// Pyramid of the entropy of the mean, quantised likewise.
    pub entropy: PathBuf,
    /// Outlines of the labels, GeoJSON.
    pub outlines: PathBuf,
    /// RGB PNG: thumbnail, heat colours, colour bar.
    pub overlay: PathBuf,
    /// RGB PNG: thumbnail, class colours, legend.
    pub labels_overlay: PathBuf,
    /// What the outlines hold.
    pub outline_counts: OutlineCounts,
}

/// What a pyramid shows of a strip.
#[derive(Clone, Copy, Debug)]
enum Plane {
    Labels,
    Probability(usize),
    Uncertainty,
    Entropy,
}

impl Plane {
    fn bytes(self, strip: &Strip) -> Cow<'_, [u8]> {
        let quantised = |nats: &[f32]| Cow::Owned(nats.iter().map(|&n| quantise(n)).collect());
        match self {
            Self::Labels => Cow::Borrowed(&strip.labels),
            // 0 to 255, rounded; NaN becomes 0.
            Self::Probability(index) => {
                let values = strip.probabilities.get(index).map_or(&[][..], Vec::as_slice);
                Cow::Owned(values.iter().map(|&p| (p.clamp(0.0, 1.0) * 255.0 + 0.5) as u8).collect())
            }
            Self::Uncertainty => quantised(&strip.uncertainty),
            Self::Entropy => quantised(&strip.entropy),
        }
    }
}

/// Writes the files of one slide from its strips.
#[derive(Debug)]
pub struct Writers {
    task: Task,
    size: (u32, u32),
    /// The pyramids of this pass, and those of the later ones, the next one last.
    pyramids: Vec<(Plane, PyramidWriter)>,
    later: Vec<Vec<(Plane, PathBuf, PyramidKind)>>,
    /// Until they are complete, after the first pass.
    outlines: Option<OutlineWriter>,
    reduced: Reduced,
    thumbnail: RgbImage,
    files: ScanFiles,
}

impl Writers {
    /// Starts the files `NAME-*` in `dir`, which is made if need be, for maps of `width` x `height` pixels of which each
    /// spans `level0_px` pixels of the slide. `thumbnail` shows the whole slide, at most [`OVERLAY_SIDE`] long.
    ///
    /// # Errors
    /// A name with a path in it, an empty or too large map, or a folder that cannot be written.
    pub fn create(
        dir: &Path,
        name: &str,
        task: &Task,
        size: (u32, u32),
        level0_px: f64,
        thumbnail: RgbImage,
    ) -> Result<Self, ScanError> {
        let at_once = PYRAMID_BYTES / (512 * size.0.max(1) as usize);
        Self::create_for(dir, name, task, size, level0_px, thumbnail, at_once)
    }

    /// The same with so many pyramids in a pass, at least one.
    fn create_for(
        dir: &Path,
        name: &str,
        task: &Task,
        size: (u32, u32),
        level0_px: f64,
        thumbnail: RgbImage,
        at_once: usize,
    ) -> Result<Self, ScanError> {
        check_name(name)?;
        std::fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
        let files = places(dir, name, task);
        let colours: Vec<[u8; 3]> = (0..task.classes.len()).map(class_colour).collect();
        let labels = PyramidKind::Labels { colours: colours.clone() };
        let grey = |plane, path: &PathBuf| (plane, path.clone(), PyramidKind::Grey);
        let mut pyramids = vec![
            (Plane::Labels, files.labels.clone(), labels),
            grey(Plane::Uncertainty, &files.uncertainty),
            grey(Plane::Entropy, &files.entropy),
        ];
        pyramids.extend(files.probabilities.iter().enumerate().map(|(i, path)| grey(Plane::Probability(i), path)));
        let mut later: Vec<_> = pyramids.chunks(at_once.max(1)).map(<[_]>::to_vec).collect();
        later.reverse();
        let classes: Vec<(String, [u8; 3])> = task.classes.iter().cloned().zip(colours).collect();
        let settings = OutlineSettings::new(task.spacing_um, level0_px);
        let outlines = OutlineWriter::create(&files.outlines, name, size.0, &classes, settings)
            .map_err(|e| failed(&files.outlines, e))?;
        let reduced = Reduced::new(size.0, size.1, thumbnail.width(), thumbnail.height());
        let (task, pyramids) = (task.clone(), Vec::new());
        let mut started = Self { task, size, pyramids, later, outlines: Some(outlines), reduced, thumbnail, files };
        started.start_pyramids()?;
        Ok(started)
    }

    fn start_pyramids(&mut self) -> Result<(), SlideError> {
        for (plane, path, kind) in self.later.pop().unwrap_or_default() {
            let writer = PyramidWriter::create(&path, self.size.0, self.size.1, self.task.spacing_um, kind)?;
            self.pyramids.push((plane, writer));
        }
        Ok(())
    }

    /// After the last row: whether all rows are to be added once more, for files that are still to be written.
    ///
    /// # Errors
    /// Rows are missing, or the disk is full.
    pub fn next_pass(&mut self) -> Result<bool, ScanError> {
        self.pyramids.drain(..).try_for_each(|(_, writer)| writer.finish())?;
        if let Some(outlines) = self.outlines.take() {
            self.files.outline_counts = outlines.finish().map_err(|e| failed(&self.files.outlines, e))?;
        }
        give_back();
        self.start_pyramids()?;
        Ok(!self.pyramids.is_empty())
    }

    /// Adds the next rows, from the top; any number at a time. All files of a pass are worked on side by side.
    ///
    /// # Errors
    /// A strip of another width or of more rows than the map, or a full disk.
    pub fn add(&mut self, strip: &Strip) -> Result<(), ScanError> {
        let (pyramids, outlines, reduced) = (&mut self.pyramids, &mut self.outlines, &mut self.reduced);
        let outlined = || {
            let Some(outlines) = outlines else { return Ok(()) };
            reduced.add(strip);
            outlines.push_rows(&strip.labels)
        };
        let written = || pyramids.par_iter_mut().try_for_each(|(plane, writer)| writer.push_rows(&plane.bytes(strip)));
        let (outlined, written) = rayon::join(outlined, written);
        if (strip.y + strip.rows) / TRIM_ROWS > strip.y / TRIM_ROWS {
            give_back();
        }
        outlined.map_err(|e| failed(&self.files.outlines, e))?;
        Ok(written?)
    }

    /// Completes all files.
    ///
    /// # Errors
    /// Rows are missing, or the disk is full.
    pub fn finish(mut self) -> Result<ScanFiles, ScanError> {
        // Of what is still to be written the rows are missing, which the writer says.
        while self.next_pass()? {}
        let write = |path: &Path, image: &RgbImage| {
            write_png(path, image.as_raw(), image.dimensions(), ExtendedColorType::Rgb8)
        };
        write(&self.files.overlay, &overlay_image(&self.thumbnail, &self.reduced, self.task.classes.len()))?;
        let labels = labels_overlay_image(&self.thumbnail, &self.reduced, &self.task.classes);
        write(&self.files.labels_overlay, &labels)?;
        Ok(self.files)
    }
}

fn places(dir: &Path, name: &str, task: &Task) -> ScanFiles {
    let place = |what: &str| dir.join(format!("{name}-{what}"));
    ScanFiles {
        labels: place("labels.tif"),
        probabilities: class_words(&task.classes).map(|word| place(&format!("probability-{word}.tif"))).collect(),
        uncertainty: place("uncertainty.tif"),
        entropy: place("entropy.tif"),
        outlines: place("labels.geojson"),
        overlay: place("overlay.png"),
        labels_overlay: place("labels-overlay.png"),
        outline_counts: OutlineCounts::default(),
    }
}

/// The foreground classes as parts of file names: what could mean something there becomes `_`, and where any two would be
/// the same, on any disk, the class's number follows each.
fn class_words(classes: &[String]) -> impl Iterator<Item = String> {
    let plain = |c: char| if c.is_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    let words: Vec<String> = classes.iter().skip(1).map(|name| name.chars().map(plain).collect()).collect();
    let same = |a: &String, b: &String| a.to_lowercase() == b.to_lowercase();
    let twice = words.iter().enumerate().any(|(i, word)| words[..i].iter().any(|other| same(word, other)));
    let numbered = move |(i, word)| if twice { format!("{word}-{}", i + 1) } else { word };
    words.into_iter().enumerate().map(numbered)
}

/// Refuses a slide's name that outputs cannot be called by.
///
/// # Errors
/// It is empty, begins with a dot or has a slash in it.
pub fn check_name(name: &str) -> Result<(), ScanError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        return Err(ScanError::Name(name.to_owned()));
    }
    Ok(())
}

fn failed(path: &Path, why: impl ToString) -> ScanError {
    ScanError::Write { path: path.to_owned(), why: why.to_string() }
}

pub(super) fn write_png(
    path: &Path,
    pixels: &[u8],
    (width, height): (u32, u32),
    colour: ExtendedColorType,
) -> Result<(), ScanError> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive);
    encoder.write_image(pixels, width, height, colour).map_err(|e| failed(path, e))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".part-")
        .make_in(dir, |part| std::fs::File::create_new(part))
        .map_err(|e| failed(path, e))?;
    file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| failed(path, e))?;
    file.persist(path).map_err(|e| failed(path, e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests;
