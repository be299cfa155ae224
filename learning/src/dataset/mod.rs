//! A site's data folder: `slides/`, optional `masks/NAME.png|tif`, `tissue/NAME.geojson` and `slides.csv`.
//!
//! Opening it checks every slide and mask by its header. What is broken becomes a [`Problem`] with the cause and the
//! next step; the other slides go on. Nothing here decodes pixels, and nothing leaves the machine.

mod find;
mod table;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use consilium_common::Mpp;
use serde::{Deserialize, Serialize};

use crate::slides::{check_mask, check_slide};
use find::Candidates;
pub use find::{SlidesFound, slides_in};
use table::{Row, Table};

/// Endings of masks, in the order in which they are looked for.
const MASK_ENDINGS: [&str; 6] = ["png", "tif", "tiff", "PNG", "TIF", "TIFF"];

/// What a slide is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Its reference mask is used whole in training.
    Train,
    /// It is scanned, and patches are selected from it.
    Pool,
    /// It is held out for evaluation.
    Test,
}

/// One usable slide.
#[derive(Clone, Debug, PartialEq)]
pub struct SlideEntry {
    /// Name of its file or folder without the ending; unique in the folder.
    pub name: String,
    /// The slide: a file, or a folder of DICOM instances or Zarr arrays.
    pub path: PathBuf,
    /// Its reference mask, if there is one.
    pub mask: Option<PathBuf>,
    /// Outlines of its tissue that a person edited (GeoJSON), in place of what would be found.
    pub tissue: Option<PathBuf>,
    /// What it is used for.
    pub split: Split,
    /// Spacing that overrides what the file says.
    pub mpp: Option<Mpp>,
    /// How far the disease is, in the site's own words (`negative`, `itc`, `micro`, `macro`); results are told by it.
    pub stage: Option<String>,
}

/// A slide that is left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Name of the slide as in its file name or in slides.csv.
    pub slide: String,
    /// One sentence: cause and next step.
    pub why: String,
}

/// A data folder whose usable slides are known.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFolder {
    /// The folder.
    pub root: PathBuf,
    /// Usable slides, sorted by name.
    pub slides: Vec<SlideEntry>,
    /// Slides that are left out, sorted by name.
    pub problems: Vec<Problem>,
}

/// A data folder that cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// There is no `slides` folder.
    #[error("{path}: there is no such folder; put the slides into `slides/` inside the data folder, or correct `data_dir`", path = .path.display())]
    NoSlidesFolder {
        /// The folder that was looked for.
        path: PathBuf,
    },
    /// The folder or table cannot be read.
    #[error("{path}: cannot be read ({source}); check its permissions and the disk", path = .path.display())]
    Unreadable {
        /// The folder or table.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder holds too much to be one site's slides.
    #[error("{path}: holds more than {most} files and folders; split it into several folders", path = .path.display())]
    TooManyEntries {
        /// The folder.
        path: PathBuf,
        /// As many are allowed.
        most: usize,
    },
    /// slides.csv is no table with a column `slide`.
    #[error("{path}: is not a table of slides ({why}); its first line must name the columns, `slide` among them", path = .path.display())]
    Table {
        /// The table.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl DataFolder {
    /// Reads a data folder. Columns `slide`, `mpp`, `split` (train, pool or test; pool if absent) and `stage` (a word
    /// or two) of `slides.csv` count, others are the site's own. Without a table of its own, the one in the parent folder is used if it has a
    /// column `site`: its rows for this folder's name.
    ///
    /// # Errors
    /// There is no `slides` folder, or a table exists and is unreadable. A broken slide is not an error.
    pub fn open(root: &Path) -> Result<Self, DatasetError> {
        let table = Table::of(root)?;
        let mut problems = table.problems;
        let unreadable_rows: BTreeSet<String> = problems.iter().map(|p| p.slide.clone()).collect();
        let mut rows = table.rows;
        let mut slides = Vec::new();
        let Candidates { slides: found, others } = slides_folder(root)?;
        problems.extend(others);
        for (name, files) in found {
            let row = rows.remove(&name);
            if unreadable_rows.contains(&name) {
                continue;
            }
            match entry(root, &name, &files, row.unwrap_or_default()) {
                Ok(slide) => slides.push(slide),
                Err(why) => problems.push(Problem { slide: name, why }),
            }
        }
        for (slide, _) in rows {
            let why = "slides.csv names this slide, but slides/ has no such file; correct the name or add the file";
            problems.push(Problem { slide, why: why.to_owned() });
        }
        problems.sort_by(|a, b| a.slide.cmp(&b.slide));
        Ok(Self { root: root.to_owned(), slides, problems })
    }

    /// The slides of one split, sorted by name.
    pub fn of(&self, split: Split) -> impl Iterator<Item = &SlideEntry> {
        self.slides.iter().filter(move |slide| slide.split == split)
    }

    /// The slide of that name.
    pub fn slide(&self, name: &str) -> Option<&SlideEntry> {
        self.slides.iter().find(|slide| slide.name == name)
    }
}

fn slides_folder(root: &Path) -> Result<Candidates, DatasetError> {
    let folder = root.join("slides");
    find::candidates(&folder).map_err(|error| match error {
        DatasetError::Unreadable { source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            DatasetError::NoSlidesFolder { path: folder }
        }
        other => other,
    })
}

/// Checks one slide and its mask.
fn entry(root: &Path, name: &str, files: &[PathBuf], row: Row) -> Result<SlideEntry, String> {
    let [path] = files else { return Err(find::SEVERAL.to_owned()) };
    let size = check_slide(path, row.mpp).map_err(|e| e.to_string())?;
    let candidates = MASK_ENDINGS.map(|ending| root.join("masks").join(format!("{name}.{ending}")));
    let mask = candidates.into_iter().find(|mask| mask.exists());
    if let Some(mask) = &mask {
        check_mask(mask, size).map_err(|e| e.to_string())?;
    } else if row.split == Some(Split::Train) {
        return Err(format!("split `train` needs a reference mask; add masks/{name}.png or change the split"));
    }
    let split = row.split.unwrap_or(Split::Pool);
    let tissue = Some(root.join("tissue").join(format!("{name}.geojson"))).filter(|outlines| outlines.exists());
    let Row { mpp, stage, .. } = row;
    Ok(SlideEntry { name: name.to_owned(), path: path.clone(), mask, tissue, split, mpp, stage })
}

#[cfg(test)]
mod tests;
