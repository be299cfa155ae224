//! Which files make up a slide: the instances of one series in one folder, sorted into levels.
//!
//! A level is every instance of one total size. Parts of a concatenation are joined in the order of their frames, whatever
//! their names; a part that is missing is an error. Labels, overviews and thumbnails are passed over by their type.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use consilium_common::limits;

use super::facts::Facts;
use super::header::{self, Want};
use crate::slides::error::SlideError;
use crate::slides::file::is_dicom;
use crate::slides::grid::Grid;

/// One instance and where it is.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) path: PathBuf,
    pub(super) facts: Facts,
}

/// The instances of one level, by their first frames.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) grid: Grid,
    pub(super) instances: Vec<Instance>,
}

/// Which frame shows which tile of a level.
#[derive(Debug)]
pub(super) enum Tiling {
    /// Frames follow the tiles row by row: the first tile of each instance.
    Full(Vec<u64>),
    /// Instance and frame of the tiles that exist.
    Sparse(BTreeMap<u64, (usize, u64)>),
}

impl Tiling {
    /// Instance and frame of a tile, if it exists.
    pub(super) fn frame(&self, tile: u64) -> Option<(usize, u64)> {
        match self {
            Self::Full(firsts) => {
                let instance = firsts.partition_point(|&first| first <= tile).checked_sub(1)?;
                Some((instance, tile - firsts[instance]))
            }
            Self::Sparse(tiles) => tiles.get(&tile).copied(),
        }
    }
}

/// The series that an instance belongs to; `None` for a DICOM file that is no slide image.
pub(crate) fn series_of(path: &Path) -> Result<Option<String>, SlideError> {
    Ok(header::read(path, Want::Series)?.map(|facts| facts.series))
}

/// The tissue instances of the slide at `path`, an instance or a folder of them.
pub(super) fn gather(path: &Path) -> Result<Vec<Instance>, SlideError> {
    if path.is_dir() {
        return gather_folder(path);
    }
    let Some(Facts { series, .. }) = header::read(path, Want::Series)? else {
        return Err(SlideError::unsupported(path, "a DICOM file other than a whole slide image"));
    };
    let files = match path.parent() {
        Some(folder) if !series.is_empty() => {
            files(path, if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?
        }
        _ => vec![path.to_owned()],
    };
    let mut instances = Vec::new();
    for file in &files {
        // A neighbour that cannot even name its series is another slide's trouble.
        match header::read(file, Want::Series) {
            Ok(Some(facts)) if facts.series == series && facts.is_volume() => add(path, file, &mut instances)?,
            _ => {}
        }
    }
    if instances.is_empty() { Err(SlideError::refused(path, NO_VOLUME)) } else { Ok(instances) }
}

/// What is said of a series of labels alone.
const NO_VOLUME: &str = "holds only label or overview images of its slide, which are never read because labels carry \
                         names; export the images of the tissue (image type VOLUME) too";

/// The tissue instances of the only slide in a folder. Only its headers are kept; of other series no more is read than
/// their names, to count them.
fn gather_folder(path: &Path) -> Result<Vec<Instance>, SlideError> {
    let (mut any, mut series, mut instances) = (false, BTreeSet::new(), Vec::new());
    for file in files(path, path)? {
        let Some(facts) = header::read(&file, Want::Series)? else { continue };
        any = true;
        if !facts.is_volume() {
            continue;
        }
        series.insert(facts.series);
        if series.len() == 1 {
            add(path, &file, &mut instances)?;
        } else {
            instances.clear();
        }
    }
    match series.len() {
        0 if any => Err(SlideError::refused(path, NO_VOLUME)),
        0 => Err(SlideError::refused(
            path,
            "holds DICOM files and no whole slide image among them; export the images of the slide into it",
        )),
        1 => Ok(instances),
        slides => Err(SlideError::SeveralSlides { path: path.to_owned(), slides }),
    }
}

/// Reads a tissue instance whole, and refuses it if its pixels may name somebody.
fn add(slide: &Path, file: &Path, instances: &mut Vec<Instance>) -> Result<(), SlideError> {
    let Some(facts) = header::read(file, Want::All)? else { return Ok(()) };
    if facts.names_inside {
        let why = "says that its pixels show the slide's label or burned-in notes, which may name the patient; export the \
                   slide without them";
        return Err(SlideError::refused(file, why));
    }
    if instances.len() >= limits::MAX_DICOM_INSTANCES {
        let most = limits::MAX_DICOM_INSTANCES;
        let why = format!("its series has more than {most} files; keep the images of one slide only in this folder");
        return Err(SlideError::refused(slide, why));
    }
    instances.push(Instance { path: file.to_owned(), facts });
    Ok(())
}

/// The DICOM files of a folder, sorted.
fn files(slide: &Path, folder: &Path) -> Result<Vec<PathBuf>, SlideError> {
    let failed = |e| SlideError::read(folder, "files", e);
    let mut files = Vec::new();
    for (count, item) in fs::read_dir(folder).map_err(failed)?.enumerate() {
        if count >= limits::MAX_FOLDER_ENTRIES {
            let why = format!("lies among more than {count} files; move the slide into a folder of its own");
            return Err(SlideError::refused(slide, why));
        }
        let path = item.map_err(failed)?.path();
        if is_dicom(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Sorts instances into levels, the finest first; of several images of one size the first is taken.
pub(super) fn groups(instances: Vec<Instance>, warnings: &mut Vec<String>) -> Result<Vec<Group>, SlideError> {
    let mut sizes: BTreeMap<(u64, u64), Vec<Instance>> = BTreeMap::new();
    for instance in instances {
        sizes.entry((instance.facts.width, instance.facts.height)).or_default().push(instance);
    }
    let mut groups = Vec::new();
    for (_, mut instances) in sizes.into_iter().rev() {
        let first = instances[0].facts.concatenation.clone();
        let all = instances.len();
        match first {
            Some(_) => instances.retain(|other| other.facts.concatenation == first),
            None => instances.truncate(1),
        }
        if instances.len() < all {
            let (width, height) = (instances[0].facts.width, instances[0].facts.height);
            warnings.push(format!("it has several images of {width} x {height}, of which the first is read"));
        }
        groups.push(group(instances)?);
    }
    Ok(groups)
}

/// Joins the parts of one image.
fn group(mut instances: Vec<Instance>) -> Result<Group, SlideError> {
    instances.sort_by_key(|instance| instance.facts.first_frame);
    let grid = grid(&instances[0])?;
    let mut next = 0;
    for (part, instance) in instances.iter().enumerate() {
        let Facts { first_frame, frames, .. } = instance.facts;
        let damaged = |why| Err(SlideError::damaged(&instance.path, why));
        if (instance.facts.columns, instance.facts.rows) != (grid.tile_width.into(), grid.tile_height.into()) {
            return damaged("its frames are not of the size of the other parts'".to_owned());
        }
        if frames == 0 || frames > limits::MAX_DICOM_FRAMES {
            return damaged(format!("it says {frames} frames"));
        }
        if instance.facts.concatenation.is_some() && first_frame != next {
            let what = if first_frame < next { "is there twice" } else { "is missing" };
            return damaged(format!(
                "of the {} x {} image, the part before part {} {what}",
                grid.width,
                grid.height,
                part + 1
            ));
        }
        next = first_frame.saturating_add(frames);
    }
    let (parts, there) = (instances[0].facts.parts, instances.len());
    if instances[0].facts.concatenation.is_some() && parts > there as u64 {
        let why = format!("of the {} x {} image, {there} of {parts} parts are there", grid.width, grid.height);
        return Err(SlideError::damaged(&instances[0].path, why));
    }
    Ok(Group { grid, instances })
}

fn grid(instance: &Instance) -> Result<Grid, SlideError> {
    let Facts { width, height, columns, rows, .. } = instance.facts;
    let within = |side: u64, most: u32| u32::try_from(side).ok().filter(|side| (1..=most).contains(side));
    let most = limits::MAX_SLIDE_SIDE_PX;
    let (Some(w), Some(h)) = (within(width, most), within(height, most)) else {
        return Err(SlideError::Dimensions { path: instance.path.clone(), width, height });
    };
    let most = limits::MAX_TIFF_TILE_PX;
    let (Some(tile_width), Some(tile_height)) = (within(columns, most), within(rows, most)) else {
        return Err(SlideError::damaged(&instance.path, format!("frames of {columns} x {rows} pixels")));
    };
    let grid = Grid { width: w, height: h, tile_width, tile_height };
    if grid.tiles() > limits::MAX_SLIDE_TILES {
        let why = format!("{} frames of {columns} x {rows} pixels, more than a slide has", grid.tiles());
        return Err(SlideError::damaged(&instance.path, why));
    }
    Ok(grid)
}

/// Finds the tile of every frame. Of several planes of focus or optical paths the first counts.
pub(super) fn tiling(group: &Group) -> Result<Tiling, SlideError> {
    let first = &group.instances[0];
    let placed = first.facts.positions.iter().any(|place| place.0.is_some());
    let sparse = match first.facts.organisation.as_str() {
        "TILED_FULL" => false,
        "TILED_SPARSE" => true,
        "" => placed,
        "3D" | "3D_TEMPORAL" => return Err(SlideError::unsupported(&first.path, "a DICOM volume that is no slide")),
        _ => return Err(SlideError::damaged(&first.path, "its order of frames has no known name")),
    };
    if sparse {
        return placed_tiles(group);
    }
    let frames: u64 = group.instances.iter().map(|instance| instance.facts.frames).sum();
    if frames < group.grid.tiles() {
        let why = format!("it has {frames} frames for {} tiles", group.grid.tiles());
        return Err(SlideError::damaged(&first.path, why));
    }
    let mut next = 0;
    let firsts = group.instances.iter().map(|instance| {
        let first = next;
        next += instance.facts.frames;
        first
    });
    Ok(Tiling::Full(firsts.collect()))
}

fn placed_tiles(group: &Group) -> Result<Tiling, SlideError> {
    let Grid { width, height, tile_width, tile_height } = group.grid;
    let mut tiles = BTreeMap::new();
    for (index, Instance { path, facts }) in group.instances.iter().enumerate() {
        if facts.positions.len() as u64 != facts.frames {
            let why = format!("it places {} of {} frames", facts.positions.len(), facts.frames);
            return Err(SlideError::damaged(path, why));
        }
        for (frame, place) in facts.positions.iter().enumerate() {
            let on = |at: Option<i32>, side: u32| {
                at.and_then(|at| u32::try_from(i64::from(at) - 1).ok()).filter(|at| *at < side)
            };
            let (Some(x), Some(y)) = (on(place.0, width), on(place.1, height)) else {
                return Err(SlideError::damaged(path, format!("frame {frame} lies outside the image")));
            };
            if x % tile_width != 0 || y % tile_height != 0 {
                return Err(SlideError::unsupported(path, "a DICOM image whose frames overlap"));
            }
            let tile = u64::from(y / tile_height) * u64::from(group.grid.columns()) + u64::from(x / tile_width);
            tiles.entry(tile).or_insert((index, frame as u64));
        }
    }
    Ok(Tiling::Sparse(tiles))
}
