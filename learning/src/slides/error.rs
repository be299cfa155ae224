//! Everything that can be wrong with a slide or mask file: one sentence each, with the cause and the next step.

use std::io;
use std::path::{Path, PathBuf};

use consilium_common::limits;
use tiff::{TiffError, TiffFormatError};

use crate::native::LibraryError;

/// How to make a readable file from another one; part of several messages.
const CONVERT: &str =
    "convert it, for example with `vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg --bigtiff`";

/// A slide or mask that cannot be used, with its path and the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlideError {
    /// There is no such file.
    #[error("{path}: there is no such file; check the name and that the disk is mounted", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file exists and cannot be read.
    #[error("{path}: cannot be read ({source}); check its permissions and the disk", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is no format that is read here.
    #[error("{path}: is no TIFF, SVS, DICOM, OME-Zarr, PNG or JPEG; {CONVERT}", path = .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file ends too early.
    #[error("{path}: ends before its {what}, so the copy is incomplete; copy the file again", path = .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The file contradicts itself.
    #[error("{path}: is damaged ({why}); copy it again or export it anew", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A TIFF in strips: a region of it cannot be read without the rest.
    #[error("{path}: is a TIFF in strips, and slides are read by tiles; {CONVERT}", path = .path.display())]
    Striped {
        /// The file.
        path: PathBuf,
    },
    /// A sound file of a kind that is not read here.
    #[error("{path}: {what} is not supported; {CONVERT}", path = .path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The feature.
        what: String,
    },
    /// A slide that is not read on purpose, or cannot be as it lies there: cause and next step in its own words.
    #[error("{path}: {why}", path = .path.display())]
    Refused {
        /// The file or folder.
        path: PathBuf,
        /// Cause and next step.
        why: String,
    },
    /// A folder of several DICOM series: which of them is meant cannot be known.
    #[error("{path}: holds {slides} DICOM slides; move each into a folder of its own", path = .path.display())]
    SeveralSlides {
        /// The folder.
        path: PathBuf,
        /// How many there are.
        slides: usize,
    },
    /// No side, or a side beyond [`limits::MAX_SLIDE_SIDE_PX`].
    #[error(
        "{path}: says it is {width} x {height} pixels, outside 1 to {max}; the file is damaged or no slide, export it anew",
        path = .path.display(),
        max = limits::MAX_SLIDE_SIDE_PX
    )]
    Dimensions {
        /// The file.
        path: PathBuf,
        /// Width that the file claims.
        width: u64,
        /// Height that the file claims.
        height: u64,
    },
    /// A flat image that is too large to be decoded whole.
    #[error(
        "{path}: has {pixels} pixels without tiles, more than the {max} that are decoded whole; {CONVERT}",
        path = .path.display(),
        max = limits::MAX_FLAT_IMAGE_PX
    )]
    TooLargeFlat {
        /// The file.
        path: PathBuf,
        /// Width times height.
        pixels: u64,
    },
    /// The spacing is not known.
    #[error(
        "{path}: does not say its spacing ({why}); give it in column `mpp` of slides.csv (or by --mpp), in micrometres per pixel",
        path = .path.display()
    )]
    NoSpacing {
        /// The file.
        path: PathBuf,
        /// What the file says instead.
        why: String,
    },
    /// A level that the slide does not have.
    #[error("{path}: has {levels} levels, so level {level} cannot be read; ask for a lower one", path = .path.display())]
    NoSuchLevel {
        /// The file.
        path: PathBuf,
        /// The level asked for.
        level: usize,
        /// How many there are.
        levels: usize,
    },
    /// More pixels at once than one read may ask for.
    #[error(
        "{path}: a read of {pixels} pixels at once is more than the {max} allowed; read in parts or at a coarser spacing",
        path = .path.display(),
        max = limits::MAX_FLAT_IMAGE_PX
    )]
    RegionTooLarge {
        /// The file.
        path: PathBuf,
        /// Pixels asked for.
        pixels: u64,
    },
    /// The mask is not an 8-bit image of class indices.
    #[error(
        "{path}: is no label map ({why}); save it as an 8-bit greyscale PNG whose pixel values are class indices",
        path = .path.display()
    )]
    NotAMask {
        /// The mask file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// The mask does not have the shape of its slide.
    #[error(
        "{path}: the mask is {width} x {height} and its slide {slide_width} x {slide_height}, which is not the same \
         shape; export the mask from this very slide",
        path = .path.display()
    )]
    MaskSize {
        /// The mask file.
        path: PathBuf,
        /// Width of the mask.
        width: u32,
        /// Height of the mask.
        height: u32,
        /// Level-0 width of the slide.
        slide_width: u32,
        /// Level-0 height of the slide.
        slide_height: u32,
    },
    /// The mask holds a value that is no class.
    #[error(
        "{path}: pixel ({x}, {y}) of the mask is {value}, and only 0 to {last} and 255 (not labelled) mean something; \
         check the export or the plan's class list",
        path = .path.display(),
        last = .classes.saturating_sub(1)
    )]
    MaskValue {
        /// The mask file.
        path: PathBuf,
        /// The value.
        value: u8,
        /// Column in mask pixels.
        x: u32,
        /// Row in mask pixels.
        y: u32,
        /// Classes of the task.
        classes: usize,
    },
    /// A format that is read through OpenSlide, which cannot be used.
    #[error("{refusal}, but {why}")]
    NeedsOpenSlide {
        /// The file and what it is, or why it is not read without OpenSlide.
        refusal: String,
        /// Why OpenSlide cannot be used.
        why: Box<LibraryError>,
    },
    /// The OpenSlide library cannot be used, whatever the slide.
    #[error("{why}")]
    OpenSlideLibrary {
        /// What is wrong with it.
        why: Box<LibraryError>,
    },
    /// A slide could not be written.
    #[error("{path}: cannot be written ({source}); check that the folder exists, is writable and has space", path = .path.display())]
    Write {
        /// The file to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SlideError {
    /// An I/O failure while reading `what`, a missing file and an early end told apart.
    pub(super) fn read(path: &Path, what: &str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::UnexpectedEof => Self::Truncated { path, what: what.to_owned() },
            _ => Self::Unreadable { path, source },
        }
    }

    /// A failure of the TIFF parser while reading `what`.
    pub(super) fn tiff(path: &Path, what: &str, error: TiffError) -> Self {
        match error {
            TiffError::IoError(source) => Self::read(path, what, source),
            TiffError::FormatError(TiffFormatError::InvalidDimensions(width, height)) => {
                Self::Dimensions { path: path.to_owned(), width: width.into(), height: height.into() }
            }
            TiffError::FormatError(TiffFormatError::CycleInOffsets) => Self::cyclic(path),
            TiffError::UnsupportedError(e) => Self::Unsupported { path: path.to_owned(), what: e.to_string() },
            other => Self::damaged(path, format!("{what}: {other}")),
        }
    }

    pub(super) fn cyclic(path: &Path) -> Self {
        Self::damaged(path, "its list of images runs in a circle")
    }

    pub(super) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.into() }
    }

    pub(super) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn refused(path: &Path, why: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), why: why.into() }
    }

    pub(super) fn write(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Write { path: path.to_owned(), source: source.into() }
    }
}
