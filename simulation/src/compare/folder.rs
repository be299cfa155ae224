//! Where a comparison is kept: its terms, the command line and the cells that it is made of, the cells themselves, first
//! ensembles, and the colours of its sites.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arms::{ALWAYS, NAMES};
use super::cell::Cell;
use super::colour::SiteColours;
use super::summary::FIRST;
use crate::experiment::ExperimentError;
use crate::files::{Claim, claim, read, write};

/// What a comparison was last asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// The command line that does it again; empty if it was not kept.
    pub(super) command: String,
    /// The names of its cells, in the order of the report.
    pub(super) cells: Vec<String>,
}

/// The folder of a comparison.
pub(super) struct Folder {
    pub(super) out: PathBuf,
    pub(super) models: PathBuf,
    /// Of a run that writes to it.
    _claim: Option<Claim>,
}

impl Folder {
    /// Makes the folder, or goes on with the comparison that it holds if that has the same terms.
    pub(super) fn open(out: &Path, terms: &Value) -> Result<Self, ExperimentError> {
        let claim = claim(
            out,
            terms,
            "a comparison with another plan, data, folds, rounds, start of rounds, engine or version",
        )?;
        let folder = Self { out: out.to_owned(), models: out.join("models"), _claim: Some(claim) };
        for dir in [&folder.models, &out.join("cells")] {
            fs::create_dir_all(dir).map_err(ExperimentError::file(dir))?;
        }
        Ok(folder)
    }

    /// The folder of a comparison that is there.
    pub(super) fn existing(out: &Path) -> Result<Self, ExperimentError> {
        if !out.join("cells").is_dir() {
            let why = format!("{} holds no comparison: it has no cells/", out.display());
            return Err(ExperimentError::Usage(why));
        }
        Ok(Self { out: out.to_owned(), models: out.join("models"), _claim: None })
    }

    /// Micrometres a pixel, as the plan of the terms says; of a folder without terms nothing.
    pub(super) fn spacing_um(&self) -> Result<Option<f64>, ExperimentError> {
        let terms = read::<Value>(&self.out.join("terms.json"))?;
        Ok(terms.as_ref().and_then(|terms| terms.pointer("/plan/task/spacing_um")?.as_f64()))
    }

    /// Keeps what is asked for.
    pub(super) fn keep_request(&self, request: &Request) -> Result<(), ExperimentError> {
        write(&self.out.join("request.json"), request)
    }

    /// What was asked for, and those of its cells that are there. A folder of an earlier version does not say; then it
    /// was every cell that is there.
    pub(super) fn request(&self) -> Result<(Request, Vec<Cell>), ExperimentError> {
        if let Some(request) = read::<Request>(&self.out.join("request.json"))? {
            let mut cells = Vec::new();
            for name in &request.cells {
                cells.extend(self.cell(name)?);
            }
            return Ok((request, cells));
        }
        let mut cells = self.all_cells()?;
        cells.sort_by_key(|cell| (cell.seed, cell.fold, place(&cell.arm), cell.budget));
        let names = cells.iter().map(|cell| name(cell.seed, cell.fold, &cell.arm, cell.budget)).collect();
        Ok((Request { command: String::new(), cells: names }, cells))
    }

    fn all_cells(&self) -> Result<Vec<Cell>, ExperimentError> {
        let dir = self.out.join("cells");
        let mut cells = Vec::new();
        for entry in fs::read_dir(&dir).map_err(ExperimentError::file(&dir))? {
            let path = entry.map_err(ExperimentError::file(&dir))?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                cells.extend(read::<Cell>(&path)?);
            }
        }
        Ok(cells)
    }

    /// A cell by its name; none where it is not there yet.
    pub(super) fn cell(&self, name: &str) -> Result<Option<Cell>, ExperimentError> {
        read(&self.path(name))
    }

    /// Keeps a cell.
    pub(super) fn keep(&self, name: &str, cell: &Cell) -> Result<(), ExperimentError> {
        write(&self.path(name), cell)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.out.join("cells").join(format!("{name}.json"))
    }

    /// Keeps where the sites' fields lie in colour.
    pub(super) fn keep_colours(&self, sites: &[SiteColours]) -> Result<(), ExperimentError> {
        write(&self.out.join("sites.json"), &sites)
    }

    /// Where the sites' fields lie in colour; of a folder of an earlier version nothing.
    pub(super) fn colours(&self) -> Result<Vec<SiteColours>, ExperimentError> {
        Ok(read(&self.out.join("sites.json"))?.unwrap_or_default())
    }
}

/// The name of a cell, which is also its file's.
pub(super) fn name(seed: u64, fold: usize, arm: &str, budget: u32) -> String {
    format!("seed-{seed}-fold-{fold}-{}-{budget}", if arm == FIRST { "first".into() } else { arm.replace(' ', "+") })
}

/// The place of an arm where no order was kept: the first ensemble, the controls, then as help names them.
fn place(arm: &str) -> usize {
    let control = ALWAYS.iter().position(|name| *name == arm).map(|place| 1 + place);
    let named = || NAMES.iter().position(|name| *name == arm).map_or(usize::MAX, |place| 1 + ALWAYS.len() + place);
    if arm == FIRST { 0 } else { control.unwrap_or_else(named) }
}
