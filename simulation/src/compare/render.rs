//! The report of a comparison from what its folder keeps, without slides, masks or networks. A comparison itself writes its
//! report so, and drawing it again gives the same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::colour::SiteColours;
use super::exports;
use super::figures::Figures;
use super::folder::Folder;
use super::report;
use super::summarise::summarise;
use super::summary::Summary;
use crate::experiment::ExperimentError;
use crate::files::{read, write};
use crate::report::svg::on_white;
use crate::work::Reported;

/// Writes `summary.json`, the tables as CSV, `report.html` and the figures of a comparison again. Of one that was broken off it
/// tells what is there.
///
/// # Errors
/// When the folder holds no comparison, or a file of it cannot be read or written.
pub fn render(out: &Path) -> Result<Reported, ExperimentError> {
    let since = Instant::now();
    let (report, table) = written(&Folder::existing(out)?)?;
    Ok(Reported { report, table, seconds: since.elapsed().as_secs_f64() })
}

/// Draws the figures for which the summary in `file` suffices, as SVG beside it: `NAME.json` gives `NAME-dice-5.svg`. The
/// file may hold other things, too.
///
/// # Errors
/// When the file holds no summary, or a figure cannot be written.
pub fn draw_summary(file: &Path) -> Result<Vec<PathBuf>, ExperimentError> {
    let drawn = drawn(file)?;
    for (path, svg) in &drawn {
        fs::write(path, svg).map_err(ExperimentError::file(path))?;
    }
    Ok(drawn.into_iter().map(|(path, _)| path).collect())
}

/// The figures of a summary's file, with the paths that they are to have.
fn drawn(file: &Path) -> Result<Vec<(PathBuf, String)>, ExperimentError> {
    let summary: Summary = read(file)?.ok_or_else(|| {
        let why = format!("{} is not there; give the summary.json of a comparison", file.display());
        ExperimentError::Usage(why)
    })?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let path = |name: &str| file.with_file_name(format!("{stem}-{name}.svg"));
    Ok(Figures::of_summary(&summary).all().map(|figure| (path(&figure.name), on_white(&figure.svg))).collect())
}

/// Writes everything; the report's path and the table for a terminal.
pub(super) fn written(folder: &Folder) -> Result<(PathBuf, String), ExperimentError> {
    let (request, cells) = folder.request()?;
    if cells.is_empty() {
        return Err(ExperimentError::Usage(format!("{} holds no cell of a comparison yet", folder.out.display())));
    }
    let sites = folder.colours()?;
    let colours = sites.iter().map(SiteColours::plain).collect();
    let summary = Summary { colours, ..summarise(&cells, folder.spacing_um()?) };
    write(&folder.out.join("summary.json"), &summary)?;
    exports::write(&folder.out, &summary)?;
    let report = report::write(&folder.out, &summary, &cells, &sites, &request)?;
    Ok((report, summary.table()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of docs/ are those of the results there.
    #[test]
    fn figures_of_the_pages_are_drawn_from_their_results() {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/results");
        let names = fs::read_dir(&results).unwrap().map(|entry| entry.unwrap().path());
        let (json, mut svg): (Vec<_>, Vec<_>) = names
            .filter(|path| path.extension().is_some_and(|ending| ending == "json" || ending == "svg"))
            .partition(|path| path.extension().is_some_and(|ending| ending == "json"));
        let mut wanted = Vec::new();
        for file in &json {
            for (path, figure) in drawn(file).unwrap() {
                let there = fs::read_to_string(&path).unwrap_or_default();
                let again = format!("draw it again: consilium-simulate render {}", file.display());
                assert!(there == figure, "{} is not what its results give; {again}", path.display());
                wanted.push(path);
            }
        }
        assert!(json.len() >= 2, "results are found");
        svg.sort();
        wanted.sort();
        assert_eq!(svg, wanted, "no figure without results");
    }
}
