//! The report of a comparison from what its folder keeps, without slides, masks or networks. A comparison itself writes its
//! report so, and drawing it again gives the same bytes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::folder::Folder;
use super::report;
use super::summary::Summary;
use crate::experiment::ExperimentError;
use crate::files::write;
use crate::work::Reported;

/// Writes `summary.json`, `table.csv`, `report.html` and the figures of a comparison again. Of one that was broken off it
/// tells what is there.
///
/// # Errors
/// When the folder holds no comparison, or a file of it cannot be read or written.
pub fn render(out: &Path) -> Result<Reported, ExperimentError> {
    let since = Instant::now();
    let (report, table) = written(&Folder::existing(out)?)?;
    Ok(Reported { report, table, seconds: since.elapsed().as_secs_f64() })
}

/// Writes everything; the report's path and the table for a terminal.
pub(super) fn written(folder: &Folder) -> Result<(PathBuf, String), ExperimentError> {
    let (request, cells) = folder.request()?;
    if cells.is_empty() {
        return Err(ExperimentError::Usage(format!("{} holds no cell of a comparison yet", folder.out.display())));
    }
    let summary = Summary::of(&cells);
    write(&folder.out.join("summary.json"), &summary)?;
    let report = report::write(&folder.out, &summary, &cells, &folder.colours()?, &request)?;
    Ok((report, summary.table()))
}
