//! What a folder of OME-Zarr 0.4 says about itself: the arrays of its pyramid, their axes and their spacing.
//!
//! Documents are small and read whole; every name in them is checked before it becomes a path, and every number before it
//! becomes a size.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use consilium_common::limits;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::codec::Codec;
use super::series::{self, NO_TISSUE};
use crate::slides::about::is_not_tissue;
use crate::slides::error::SlideError;
use crate::slides::grid::Grid;

/// `.zattrs` of an image, as far as it matters.
#[derive(Debug, Deserialize)]
struct Attributes {
    #[serde(default)]
    multiscales: Vec<Multiscale>,
    #[serde(rename = "bioformats2raw.layout")]
    layout: Option<Value>,
    plate: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Multiscale {
    name: Option<Value>,
    version: Option<String>,
    #[serde(default)]
    axes: Value,
    datasets: Vec<Dataset>,
    #[serde(default, rename = "coordinateTransformations")]
    transformations: Vec<Transformation>,
}

#[derive(Debug, Deserialize)]
struct Axis {
    name: String,
    unit: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Dataset {
    path: String,
    #[serde(default, rename = "coordinateTransformations")]
    transformations: Vec<Transformation>,
}

#[derive(Debug, Deserialize)]
struct Transformation {
    scale: Option<Vec<f64>>,
}

/// `.zarray`, as far as it matters.
#[derive(Debug, Deserialize)]
struct Zarray {
    zarr_format: u64,
    shape: Vec<u64>,
    chunks: Vec<u64>,
    dtype: Value,
    compressor: Option<Value>,
    fill_value: Value,
    order: String,
    filters: Option<Vec<Value>>,
    dimension_separator: Option<String>,
}

/// A pyramid, the finest array first as its datasets are listed.
#[derive(Debug)]
pub(super) struct Pyramid {
    pub(super) arrays: Vec<Array>,
    /// Sides of a pixel of the first array in micrometres, x and y, or why they are not known.
    pub(super) sides_um: Result<(f64, f64), String>,
    pub(super) warnings: Vec<String>,
}

/// One array of 8-bit samples, checked.
#[derive(Debug)]
pub(super) struct Array {
    /// The folder of its chunks, without links.
    pub(super) folder: PathBuf,
    pub(super) grid: Grid,
    /// 1 or 3.
    pub(super) channels: usize,
    /// Samples of a chunk along each axis.
    pub(super) chunks: Vec<usize>,
    pub(super) axes: Axes,
    pub(super) separator: char,
    pub(super) codec: Codec,
    pub(super) fill: u8,
}

/// Where in a shape the axes of an image are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axes {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) c: Option<usize>,
    count: usize,
}

impl Array {
    /// Samples of a decoded chunk.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunks.iter().product()
    }
}

/// Reads and checks the pyramid in a folder.
pub(super) fn read(path: &Path) -> Result<Pyramid, SlideError> {
    let root = path.canonicalize().map_err(|e| SlideError::read(path, "folder", e))?;
    if root.join("zarr.json").is_file() {
        return Err(SlideError::unsupported(path, "OME-Zarr 0.5 (Zarr version 3)"));
    }
    let mut folder = root.clone();
    let mut attributes: Attributes = document(path, &root, &folder.join(".zattrs"))?;
    if attributes.plate.is_some() {
        return Err(SlideError::unsupported(path, "an OME-Zarr plate"));
    }
    if attributes.layout.is_some() && attributes.multiscales.is_empty() {
        folder = inside(path, &root, &slide_series(path, &root)?.to_string())?;
        attributes = document(path, &root, &folder.join(".zattrs"))?;
    }
    if attributes.multiscales.is_empty() {
        return Err(SlideError::unsupported(path, "a Zarr folder without OME multiscales"));
    }
    let named = |image: &Multiscale| image.name.as_ref().and_then(Value::as_str).is_some_and(is_not_tissue);
    let Some(image) = attributes.multiscales.into_iter().find(|image| !named(image)) else {
        return Err(SlideError::refused(path, NO_TISSUE));
    };
    pyramid(path, &root, &folder, image)
}

/// The series of bioformats2raw that is the slide: by its OME-XML the first that is tissue, without one the first.
fn slide_series(path: &Path, root: &Path) -> Result<usize, SlideError> {
    let file = root.join("OME").join("METADATA.ome.xml");
    if !file.is_file() {
        return Ok(0);
    }
    let bytes = bounded(path, root, &file, series::MAX_XML_BYTES)?;
    let first = std::str::from_utf8(&bytes).ok().and_then(series::first_tissue);
    let first = first.ok_or_else(|| SlideError::damaged(path, "METADATA.ome.xml is no OME-XML"))?;
    first.ok_or_else(|| SlideError::refused(path, NO_TISSUE))
}

fn pyramid(path: &Path, root: &Path, folder: &Path, image: Multiscale) -> Result<Pyramid, SlideError> {
    if let Some(version) = image.version.as_ref().filter(|version| *version != "0.4") {
        let version: String = version.chars().filter(char::is_ascii_graphic).take(16).collect();
        return Err(SlideError::unsupported(path, format!("OME-Zarr {version}")));
    }
    let named: Vec<Axis> =
        serde_json::from_value(image.axes).map_err(|_| SlideError::damaged(path, "its axes have no names"))?;
    let axes = axes(&named).ok_or_else(|| SlideError::unsupported(path, "an OME-Zarr image without axes x and y"))?;
    if image.datasets.is_empty() || image.datasets.len() > limits::MAX_LEVELS {
        return Err(SlideError::damaged(path, format!("it lists {} levels", image.datasets.len())));
    }
    let sides_um = sides(&named, axes, &image.datasets[0].transformations, &image.transformations);
    let mut warnings = Vec::new();
    let mut arrays = Vec::new();
    for dataset in &image.datasets {
        let inner = inside(path, root, &relative(path, root, folder, &dataset.path)?)?;
        let zarray: Zarray = document(path, root, &inner.join(".zarray"))?;
        if arrays.is_empty() && others_are_long(&zarray.shape, axes) {
            warnings.push("it has several planes or times, of which the first is read".to_owned());
        }
        arrays.push(array(path, inner, axes, zarray)?);
    }
    Ok(Pyramid { arrays, sides_um, warnings })
}

/// A dataset's name below the root, of plain names only.
fn relative(path: &Path, root: &Path, folder: &Path, name: &str) -> Result<String, SlideError> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || name.contains(['\\', '\0']) || name.len() > 1024 {
        return Err(SlideError::damaged(path, "the path of a level leads out of its folder"));
    }
    let below = folder.strip_prefix(root).unwrap_or(Path::new(""));
    Ok(below.join(name).to_string_lossy().into_owned())
}

/// The folder of that name inside `root`, links followed.
fn inside(path: &Path, root: &Path, name: &str) -> Result<PathBuf, SlideError> {
    let what = format!("level `{}`", name.chars().filter(|c| !c.is_control()).take(64).collect::<String>());
    let found = root.join(name).canonicalize().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => SlideError::Truncated { path: path.to_owned(), what: what.clone() },
        _ => SlideError::read(path, &what, e),
    })?;
    if !found.starts_with(root) {
        return Err(SlideError::damaged(path, "the path of a level leads out of its folder"));
    }
    Ok(found)
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The bytes of a file inside `root`, links followed, if they are not too many.
fn bounded(path: &Path, root: &Path, file: &Path, most: u64) -> Result<Vec<u8>, SlideError> {
    let name = name_of(file);
    // A pipe would never answer.
    if !file.is_file() {
        return Err(SlideError::Truncated { path: path.to_owned(), what: name });
    }
    let failed = |e| SlideError::read(path, &name, e);
    let file = file.canonicalize().map_err(failed)?;
    if !file.starts_with(root) {
        return Err(SlideError::damaged(path, format!("{name} is a link out of its folder")));
    }
    let mut bytes = Vec::new();
    File::open(file).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(SlideError::damaged(path, format!("{name} has more than {most} bytes")));
    }
    Ok(bytes)
}

/// A JSON document of bounded length inside `root`.
fn document<T: DeserializeOwned>(path: &Path, root: &Path, file: &Path) -> Result<T, SlideError> {
    let bytes = bounded(path, root, file, limits::MAX_DOCUMENT_BYTES as u64)?;
    let name = name_of(file);
    // The parser's own words may quote the document.
    serde_json::from_slice(&bytes).map_err(|e| {
        let why = format!("{name} is not as OME-Zarr has it at line {}, column {}", e.line(), e.column());
        SlideError::damaged(path, why)
    })
}

fn axes(named: &[Axis]) -> Option<Axes> {
    let at = |name: &str| named.iter().position(|axis| axis.name == name);
    let axes = Axes { x: at("x")?, y: at("y")?, c: at("c"), count: named.len() };
    (named.len() <= limits::MAX_ZARR_DIMENSIONS).then_some(axes)
}

/// Whether an axis that is no axis of a picture has more than one entry.
fn others_are_long(shape: &[u64], axes: Axes) -> bool {
    let picture = [Some(axes.x), Some(axes.y), axes.c];
    shape.iter().enumerate().any(|(axis, &length)| length > 1 && !picture.contains(&Some(axis)))
}

/// Sides of a pixel in micrometres from the scales that count, x and y.
fn sides(named: &[Axis], axes: Axes, own: &[Transformation], common: &[Transformation]) -> Result<(f64, f64), String> {
    let side = |axis: usize| {
        let unit = named[axis].unit.as_deref().ok_or("its axes have no unit")?;
        let um = match unit {
            "angstrom" => 1e-4,
            "nanometer" => 1e-3,
            "micrometer" => 1.0,
            "millimeter" => 1e3,
            "centimeter" => 1e4,
            "meter" => 1e6,
            _ => return Err("the unit of its axes is no length that is known"),
        };
        let scales = |from: &[Transformation]| {
            from.iter().filter_map(|t| t.scale.as_ref()?.get(axis).copied()).reduce(|a, b| a * b)
        };
        let own = scales(own).ok_or("its first level has no scale")?;
        Ok(own * scales(common).unwrap_or(1.0) * um)
    };
    Ok((side(axes.x)?, side(axes.y)?)).map_err(|why: &str| why.to_owned())
}

fn array(path: &Path, folder: PathBuf, axes: Axes, zarray: Zarray) -> Result<Array, SlideError> {
    let unsupported = |what: &str| SlideError::unsupported(path, what);
    if zarray.zarr_format != 2 || zarray.order != "C" || zarray.filters.is_some_and(|filters| !filters.is_empty()) {
        return Err(unsupported("a Zarr array of another version, order or with filters"));
    }
    if !matches!(zarray.dtype.as_str(), Some("|u1" | "<u1" | ">u1" | "u1")) {
        return Err(unsupported("a Zarr array of other samples than 8-bit ones (u1)"));
    }
    let (shape, chunks) = (&zarray.shape, &zarray.chunks);
    if shape.len() != axes.count || chunks.len() != axes.count {
        let why = format!("an array has {} dimensions and {} axes", shape.len(), axes.count);
        return Err(SlideError::damaged(path, why));
    }
    let (width, height) = (shape[axes.x], shape[axes.y]);
    let side = |n: u64| u32::try_from(n).ok().filter(|n| (1..=limits::MAX_SLIDE_SIDE_PX).contains(n));
    let (Some(w), Some(h)) = (side(width), side(height)) else {
        return Err(SlideError::Dimensions { path: path.to_owned(), width, height });
    };
    let channels = axes.c.map_or(1, |c| shape[c]);
    if !matches!(channels, 1 | 3) || shape.contains(&0) {
        return Err(unsupported(&format!("a Zarr array of {channels} channels")));
    }
    let bytes = chunks.iter().try_fold(1u64, |bytes, &side| bytes.checked_mul(side).filter(|b| *b > 0));
    let tile = side(chunks[axes.x]).zip(side(chunks[axes.y])).filter(|&(w, h)| {
        u64::from(w) * u64::from(h) <= u64::from(limits::MAX_TIFF_TILE_PX) * u64::from(limits::MAX_TIFF_TILE_PX)
    });
    let (Some(1..=limits::MAX_CHUNK_BYTES), Some((tile_width, tile_height))) = (bytes, tile) else {
        let why = format!("its chunks are not between 1 and {} bytes", limits::MAX_CHUNK_BYTES);
        return Err(SlideError::damaged(path, why));
    };
    let grid = Grid { width: w, height: h, tile_width, tile_height };
    if grid.tiles() > limits::MAX_SLIDE_TILES {
        let why = format!("its chunks of {tile_width} x {tile_height} pixels are {} a level", grid.tiles());
        return Err(SlideError::damaged(path, why));
    }
    let fill = match &zarray.fill_value {
        Value::Null => Some(0),
        value => value.as_u64().and_then(|value| u8::try_from(value).ok()),
    };
    Ok(Array {
        folder,
        grid,
        channels: channels as usize,
        chunks: chunks.iter().map(|&side| side as usize).collect(),
        axes,
        separator: match zarray.dimension_separator.as_deref() {
            None | Some(".") => '.',
            Some("/") => '/',
            Some(_) => return Err(unsupported("the dimension separator of a Zarr array")),
        },
        codec: Codec::from_json(zarray.compressor.as_ref()).map_err(|name| unsupported(&name))?,
        fill: fill.ok_or_else(|| SlideError::damaged(path, "its fill value is no 8-bit sample"))?,
    })
}
