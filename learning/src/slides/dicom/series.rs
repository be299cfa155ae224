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
        let files = files(path, path)?;
        let mut series = BTreeSet::new();
        for file in &files {
            series.extend(series_of(file)?);
        }
        // A series of labels alone is no slide.
        let mut found: Vec<Vec<Instance>> = Vec::new();
        for series in &series {
            found.push(volume(path, &files, series)?);
        }
        found.retain(|instances| !instances.is_empty());
        return match found.len() {
            0 => Err(SlideError::damaged(path, "it holds no DICOM image of tissue (VOLUME)")),
            1 => Ok(found.remove(0)),
            slides => Err(SlideError::SeveralSlides { path: path.to_owned(), slides }),
        };
    }
    let Some(series) = series_of(path)? else {
        return Err(SlideError::unsupported(path, "a DICOM file other than a whole slide image"));
    };
    let instances = match path.parent() {
        Some(folder) if !series.is_empty() => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            volume(path, &files(path, folder)?, &series)?
        }
        _ => volume(path, &[path.to_owned()], &series)?,
    };
    if instances.is_empty() {
        return Err(SlideError::damaged(path, "its series holds no image of tissue (VOLUME)"));
    }
    Ok(instances)
}

/// The DICOM files of a folder, sorted.
fn files(slide: &Path, folder: &Path) -> Result<Vec<PathBuf>, SlideError> {
    let failed = |e| SlideError::read(folder, "files", e);
    let mut files = Vec::new();
    for (count, item) in fs::read_dir(folder).map_err(failed)?.enumerate() {
        if count >= limits::MAX_FOLDER_ENTRIES {
            return Err(SlideError::unsupported(slide, format!("a folder of more than {count} files")));
        }
        let path = item.map_err(failed)?.path();
        if is_dicom(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The tissue instances of one series among files.
fn volume(slide: &Path, files: &[PathBuf], series: &str) -> Result<Vec<Instance>, SlideError> {
    let mut instances = Vec::new();
    for path in files {
        let facts = match header::read(path, Want::All(series)) {
            // A neighbour that cannot even name its series is another slide's trouble.
            Err(error) if path == slide || series_of(path).is_ok_and(|s| s.as_deref() == Some(series)) => {
                return Err(error);
            }
            Err(_) | Ok(None) => continue,
            Ok(Some(facts)) => facts,
        };
        if facts.is_volume() {
            if instances.len() >= limits::MAX_DICOM_INSTANCES {
                return Err(SlideError::unsupported(slide, format!("a slide of more than {} files", instances.len())));
            }
            instances.push(Instance { path: path.clone(), facts });
        }
    }
    Ok(instances)
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
    Ok(Grid { width: w, height: h, tile_width, tile_height })
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
