//! Which files and folders are slides, by their names and, where a name does not tell, by their first bytes.
//!
//! A slide is a file; a folder of Zarr arrays; a folder of DICOM instances; or the `.dcm` files of one series beside other
//! slides. Whether it can be read is not looked at here. Hidden files and files of other kinds are none of our business.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use consilium_common::limits;

use super::{DatasetError, Problem};
use crate::slides::{SlideError, holds_dicom, is_dicom, is_zarr, series_of};

/// Endings of files that are read by our own readers; the content decides what they are.
const OWN_ENDINGS: [&str; 6] = ["tif", "tiff", "svs", "png", "jpg", "jpeg"];
/// Endings of scanner vendors, which another library may be able to read.
const VENDOR_ENDINGS: [&str; 8] = ["ndpi", "mrxs", "scn", "bif", "czi", "vms", "vmu", "svslide"];
/// Endings of slides that are not read, so that their owner learns why they are missing.
const OTHER_ENDINGS: [&str; 2] = ["vsi", "isyntax"];
/// Endings of Zarr folders, the longer one first.
const ZARR_ENDINGS: [&str; 2] = [".ome.zarr", ".zarr"];

/// What is said of a name that several slides have.
pub(super) const SEVERAL: &str = "it is there more than once, with different endings; keep one of them";

/// The slides of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlidesFound {
    /// Name and path, sorted by name, each name once.
    pub slides: Vec<(String, PathBuf)>,
    /// Slides that are left out, sorted by name.
    pub problems: Vec<Problem>,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Possible slides by name; more than one path is a conflict.
    pub(super) slides: BTreeMap<String, Vec<PathBuf>>,
    /// What is a slide and cannot be taken.
    pub(super) others: Vec<Problem>,
}

/// The slides at `path`: all in a folder (not in folders below it), or the one slide that it is.
///
/// None of them is opened. A folder of nothing but one DICOM series is one slide under the folder's name.
///
/// # Errors
/// There is no such file or folder, or it cannot be read.
pub fn slides_in(path: &Path) -> Result<SlidesFound, DatasetError> {
    let unreadable = |source: io::Error| DatasetError::Unreadable { path: path.to_owned(), source };
    // `.` and `..` have no name of their own.
    let named = if path.file_name().is_some() { path.to_owned() } else { path.canonicalize().map_err(unreadable)? };
    let name = || slide_name(&named).unwrap_or_else(|| "slide".to_owned());
    let whole = |problems| SlidesFound { slides: vec![(name(), path.to_owned())], problems };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() || is_zarr(path) {
        return Ok(whole(Vec::new()));
    }
    let Candidates { slides, others: mut problems } = candidates(path)?;
    problems.sort_by(|a, b| a.slide.cmp(&b.slide));
    let loose: Vec<&PathBuf> = slides.values().flatten().collect();
    let one_series = matches!(loose.as_slice(), [one] if one.is_file() && is_dicom(one));
    if one_series || slides.is_empty() && holds_dicom(path).map_err(unreadable)? {
        return Ok(whole(problems));
    }
    let mut found = Vec::new();
    for (name, paths) in slides {
        match <[PathBuf; 1]>::try_from(paths) {
            Ok([path]) => found.push((name, path)),
            Err(_) => problems.push(Problem { slide: name, why: SEVERAL.to_owned() }),
        }
    }
    problems.sort_by(|a, b| a.slide.cmp(&b.slide));
    Ok(SlidesFound { slides: found, problems })
}

/// Looks through one folder.
pub(super) fn candidates(folder: &Path) -> Result<Candidates, DatasetError> {
    candidates_up_to(folder, limits::MAX_FOLDER_ENTRIES)
}

/// Looks through one folder of at most so many entries.
pub(super) fn candidates_up_to(folder: &Path, most: usize) -> Result<Candidates, DatasetError> {
    let unreadable = |source| DatasetError::Unreadable { path: folder.to_owned(), source };
    let mut found = Candidates::default();
    let mut instances = Vec::new();
    for (count, item) in fs::read_dir(folder).map_err(unreadable)?.enumerate() {
        if count >= most {
            return Err(DatasetError::TooManyEntries { path: folder.to_owned(), most });
        }
        let path = item.map_err(unreadable)?.path();
        let Some(name) = slide_name(&path) else {
            let slide = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let why = "its file name is not Unicode; rename the file".to_owned();
            found.others.push(Problem { slide, why });
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
        if path.is_dir() {
            if is_slide_folder(&path, &ending) {
                found.slides.entry(name).or_default().push(path);
            }
        } else if ending == "dcm" {
            instances.push(path);
        } else if OWN_ENDINGS.contains(&ending.as_str()) || VENDOR_ENDINGS.contains(&ending.as_str()) {
            found.slides.entry(name).or_default().push(path);
        } else if OTHER_ENDINGS.contains(&ending.as_str()) {
            found.others.push(Problem { slide: name, why: SlideError::UnknownFormat { path }.to_string() });
        }
    }
    for path in first_of_each_series(instances) {
        let name = slide_name(&path).unwrap_or_default();
        found.slides.entry(name).or_default().push(path);
    }
    found.slides.values_mut().for_each(prefer_converted);
    found.others.retain(|other| !found.slides.contains_key(&other.slide));
    Ok(found)
}

/// The name of a file or folder without its ending; `None` if it is not Unicode.
fn slide_name(path: &Path) -> Option<String> {
    let whole = path.file_name()?.to_str()?;
    if !path.is_dir() {
        return path.file_stem()?.to_str().map(str::to_owned);
    }
    let lower = whole.to_ascii_lowercase();
    let ending = ZARR_ENDINGS.iter().find(|ending| lower.ends_with(**ending) && lower.len() > ending.len());
    Some(whole[..whole.len() - ending.map_or(0, |ending| ending.len())].to_owned())
}

/// Whether an ending is one of slides, in any case.
pub(super) fn is_ending(ending: &str) -> bool {
    let ending = ending.to_ascii_lowercase();
    let all = OWN_ENDINGS.iter().chain(&VENDOR_ENDINGS).chain(&OTHER_ENDINGS).chain(&["dcm", "zarr"]);
    all.into_iter().any(|known| *known == ending)
}

fn is_slide_folder(path: &Path, ending: &str) -> bool {
    // An .mrxs file keeps its pixels in a folder of the same name.
    let beside = |ending: &str| {
        let mut file = path.as_os_str().to_owned();
        file.push(ending);
        Path::new(&file).is_file()
    };
    let side = beside(".mrxs") || beside(".MRXS");
    ending == "zarr" || is_zarr(path) || !side && holds_dicom(path).unwrap_or(false)
}

/// The first file of each series of slide images, and every file that does not tell its series.
fn first_of_each_series(mut instances: Vec<PathBuf>) -> Vec<PathBuf> {
    instances.sort();
    let mut series = BTreeMap::new();
    let (mut unclear, mut foreign) = (Vec::new(), Vec::new());
    for path in instances {
        match series_of(&path) {
            _ if !is_dicom(&path) => unclear.push(path),
            Ok(Some(uid)) if !uid.is_empty() => {
                series.entry(uid).or_insert(path);
            }
            // Annotations and reports lie beside slides; alone, they are named.
            Ok(None) => foreign.push(path),
            _ => unclear.push(path),
        }
    }
    if series.is_empty() {
        unclear.append(&mut foreign);
    }
    unclear.extend(series.into_values());
    unclear
}

/// A vendor's file that was converted lies beside its copy: the copy counts.
fn prefer_converted(paths: &mut Vec<PathBuf>) {
    paths.sort();
    let vendor = |path: &PathBuf| {
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
        VENDOR_ENDINGS.contains(&ending.as_str())
    };
    if paths.iter().filter(|path| !vendor(path)).count() == 1 {
        paths.retain(|path| !vendor(path));
    }
}
