//! What can be wrong with a tissue mask that a person edited: one sentence each, with the cause and the next step.

use std::io;
use std::path::PathBuf;

use consilium_common::limits;

use crate::slides::SlideError;

/// A tissue mask that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TissueError {
    /// The slide itself cannot be read.
    #[error(transparent)]
    Slide(#[from] SlideError),
    /// The GeoJSON file cannot be opened or read.
    #[error("{path}: the tissue outlines cannot be read ({source}); check the name and its permissions", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no usable GeoJSON.
    #[error("{path}: {source}", path = .path.display())]
    GeoJson {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: GeoJsonError,
    },
    /// The outlines leave no tissue on this slide.
    #[error(
        "{path}: its outlines leave no tissue on this slide of {width} x {height} px; check that they were drawn on this \
         slide, in full-resolution pixels, and are not all classified as Ignore",
        path = .path.display()
    )]
    NoTissue {
        /// The file.
        path: PathBuf,
        /// Level-0 width of the slide.
        width: u32,
        /// Level-0 height of the slide.
        height: u32,
    },
}

/// Bytes that are no outlines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeoJsonError {
    /// The file is too long.
    #[error("has more than {max} bytes, too many for tissue outlines; export only the tissue annotations", max = limits::MAX_GEOJSON_BYTES)]
    TooLong,
    /// It is no GeoJSON, or holds more than the limits allow.
    #[error("is no GeoJSON that can be read ({why}); export it anew from QuPath (File, Export objects as GeoJSON)")]
    Malformed {
        /// What is wrong, with line and column.
        why: String,
    },
    /// Nothing in it encloses an area.
    #[error("holds no polygon ({without_area} objects without an area); draw the tissue as polygons and export them")]
    NoPolygon {
        /// Points, lines and empty features.
        without_area: usize,
    },
    /// Filling the outlines would take too long.
    #[error("its outlines overlap too often to be filled; merge them in QuPath and export them anew")]
    TooIntricate,
}
