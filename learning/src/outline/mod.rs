//! From rows of labels to polygons with holes that QuPath, shapely and the rest of the world accept.
//!
//! Objects are written as they end, so memory follows what is open at a row, not the slide. Every ring is closed and
//! simple; holes lie inside. Simplification is checked on the numbers that are written, and where it would break
//! something the object keeps all its corners.

mod arena;
mod geojson;
mod simplify;
mod trace;
mod valid;

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use consilium_common::Mpp;
use tempfile::NamedTempFile;

pub use trace::{Object, Tracer, Vertex};

use geojson::{Class, GeoJson};
use simplify::simplify;
use valid::{Point, faulty};

/// How often rings at fault are drawn more exactly before the object keeps all its corners.
const ATTEMPTS: usize = 5;

/// How objects are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlineSettings {
    /// Spacing of the labels.
    pub spacing: Mpp,
    /// Level-0 pixels that a label pixel spans.
    pub level0_px: f64,
    /// How far a corner that is left out may lie from the outline, in label pixels; 0 keeps all.
    pub tolerance_px: f64,
    /// Objects smaller than this many um2 are left out.
    pub min_area_um2: f64,
}

impl OutlineSettings {
    /// A tolerance of three quarters of a pixel, which turns stairs into slopes, and no object below 10 um2, a third of a
    /// small nucleus.
    pub fn new(spacing: Mpp, level0_px: f64) -> Self {
        Self { spacing, level0_px, tolerance_px: 0.75, min_area_um2: 10.0 }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutlineCounts {
    /// Objects in the file.
    pub objects: u64,
    /// Objects that were too small.
    pub too_small: u64,
    /// Objects of which a ring keeps all corners, because no simplification was valid.
    pub unsimplified: u64,
    /// Corners in the file, a ring's first one not counted again.
    pub corners: u64,
    /// How often all open objects were cut at a row, for want of memory: 0 unless the labels are noise.
    pub cuts: u64,
}

/// Writes the outlines of a label map that comes row by row.
#[derive(Debug)]
pub struct OutlineWriter {
    path: PathBuf,
    width: usize,
    tracer: Tracer,
    objects: Objects<BufWriter<NamedTempFile<File>>>,
}

impl OutlineWriter {
    /// Starts a file; `slide` goes into the ids of objects, `classes` are names and colours, the background first.
    ///
    /// # Errors
    /// The folder cannot be written, or a label pixel would span less than a hundredth of a slide pixel or more than a
    /// slide.
    pub fn create(
        path: &Path,
        slide: &str,
        width: u32,
        classes: &[(String, [u8; 3])],
        settings: OutlineSettings,
    ) -> io::Result<Self> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".part-").make_in(dir, |part| File::create_new(part))?;
        let objects = Objects::new(BufWriter::with_capacity(1 << 20, file), slide, classes, settings)?;
        Ok(Self { path: path.to_owned(), width: width as usize, tracer: Tracer::new(width, classes.len()), objects })
    }

    /// Adds whole rows of labels.
    ///
    /// # Errors
    /// The disk is full.
    pub fn push_rows(&mut self, labels: &[u8]) -> io::Result<()> {
        let objects = &mut self.objects;
        for row in labels.chunks_exact(self.width.max(1)) {
            self.tracer.push_row(row, &mut |object| objects.add(object));
        }
        self.objects.checked()
    }

    /// Ends all objects and gives the file its name.
    ///
    /// # Errors
    /// The disk is full.
    pub fn finish(mut self) -> io::Result<OutlineCounts> {
        self.objects.counts.cuts = self.tracer.cuts();
        let objects = &mut self.objects;
        self.tracer.finish(&mut |object| objects.add(object));
        let (out, counts) = self.objects.finish()?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(counts)
    }
}

/// Objects on their way into a file.
#[derive(Debug)]
struct Objects<W> {
    out: GeoJson<W>,
    classes: Vec<Class>,
    settings: OutlineSettings,
    px_um2: f64,
    counts: OutlineCounts,
    failure: Option<io::Error>,
}

impl<W: io::Write> Objects<W> {
    fn new(out: W, slide: &str, classes: &[(String, [u8; 3])], settings: OutlineSettings) -> io::Result<Self> {
        if !(0.01..=1e6).contains(&settings.level0_px) {
            let why = format!("a label pixel would span {} pixels of the slide", settings.level0_px);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Self {
            out: GeoJson::new(out, slide)?,
            classes: classes.iter().map(|(name, colour)| Class::new(name, *colour)).collect(),
            settings,
            px_um2: settings.spacing.um_per_px().powi(2),
            counts: OutlineCounts::default(),
            failure: None,
        })
    }

    /// Writes an object. After a failure, which [`Self::checked`] tells, nothing more.
    fn add(&mut self, object: Object) {
        let area = object.pixels as f64 * self.px_um2;
        if area < self.settings.min_area_um2 {
            self.counts.too_small += 1;
            return;
        }
        let rings = self.drawn(&object);
        self.counts.objects += 1;
        self.counts.corners += rings.iter().map(|ring| ring.len() as u64).sum::<u64>();
        if let (None, Some(class)) = (&self.failure, self.classes.get(usize::from(object.label))) {
            self.failure = self.out.feature(class, &rings, area).err();
        }
    }

    /// The rings to be written: simplified, and those that are not valid so, less or not at all.
    fn drawn(&mut self, object: &Object) -> Vec<Vec<Point>> {
        let full = self.settings.tolerance_px;
        let mut tolerances = vec![full; object.rings.len()];
        let mut rings: Vec<Vec<Point>> = object.rings.iter().map(|ring| self.points(ring, full)).collect();
        if full <= 0.0 {
            return rings;
        }
        for _ in 0..ATTEMPTS {
            let faulty = faulty(&rings);
            if faulty.is_empty() {
                self.counts.unsimplified += u64::from(tolerances.contains(&0.0));
                return rings;
            }
            for ring in faulty {
                tolerances[ring] = if tolerances[ring] == full { full / 2.0 } else { 0.0 };
                rings[ring] = self.points(&object.rings[ring], tolerances[ring]);
            }
        }
        self.counts.unsimplified += 1;
        object.rings.iter().map(|ring| self.points(ring, 0.0)).collect()
    }

    /// A ring as it is written. With all its corners it is valid, and so are all rings together: corners of pixels stay
    /// in order when each coordinate is rounded by itself.
    fn points(&self, ring: &[Vertex], tolerance_px: f64) -> Vec<Point> {
        match tolerance_px > 0.0 {
            true => simplify(ring, tolerance_px).into_iter().map(|v| self.point(v)).collect(),
            false => ring.iter().map(|&v| self.point(v)).collect(),
        }
    }

    fn point(&self, v: Vertex) -> Point {
        let at = |edge: u32| (f64::from(edge) * self.settings.level0_px * 100.0).round() as i64;
        Point { x: at(v.x), y: at(v.y), pinned: v.pinned }
    }

    fn checked(&mut self) -> io::Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn finish(mut self) -> io::Result<(W, OutlineCounts)> {
        self.checked()?;
        Ok((self.out.finish()?, self.counts))
    }
}

#[cfg(test)]
mod tests;
