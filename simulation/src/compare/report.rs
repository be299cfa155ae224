//! `report.html` and the figures of a comparison.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::cell::Cell;
use super::colour::SiteColours;
use super::figures::{Figure, Figures};
use super::folder::Request;
use super::summary::Summary;
use super::tables;
use crate::experiment::ExperimentError;
use crate::report::svg::{escape, on_white};
use crate::report::{figure, page_of, png_of, section};

/// Writes everything; returns the report's path.
pub(super) fn write(
    out: &Path,
    summary: &Summary,
    cells: &[Cell],
    sites: &[SiteColours],
    request: &Request,
) -> Result<PathBuf, ExperimentError> {
    let figures = Figures::of(summary, cells, sites);
    let folder = out.join("figures");
    fs::create_dir_all(&folder).map_err(ExperimentError::file(&folder))?;
    for Figure { name, svg, .. } in figures.all() {
        for (ending, bytes) in [("png", png_of(svg)?), ("svg", on_white(svg).into_bytes())] {
            let path = folder.join(format!("{name}.{ending}"));
            fs::write(&path, bytes).map_err(ExperimentError::file(&path))?;
        }
    }
    let report = out.join("report.html");
    let page = page(summary, cells, &figures, request);
    fs::write(&report, page).map_err(ExperimentError::file(&report))?;
    Ok(report)
}

fn page(summary: &Summary, cells: &[Cell], figures: &Figures, request: &Request) -> String {
    let mut body = String::from("<h1>Which patches are worth a pathologist's time</h1>\n");
    section(&mut body, "What was done", &lead(summary, cells, request));
    show(&mut body, &figures.arms);
    section(&mut body, "Every arm", &[EMPTY.to_owned()]);
    tables::arms(&mut body, summary);
    section(&mut body, "Paired differences", &[PAIRED.to_owned()]);
    tables::differences(&mut body, summary);
    section(&mut body, "Site by site", &[]);
    show(&mut body, &figures.sites);
    tables::sites(&mut body, summary);
    if !figures.stages.is_empty() {
        section(&mut body, "By stage of disease", &[]);
        show(&mut body, &figures.stages);
        tables::stages(&mut body, summary);
    }
    section(&mut body, "Which uncertainty finds errors", &[MAPS.to_owned()]);
    tables::maps(&mut body, summary);
    show(&mut body, &figures.ensemble);
    if !figures.colours.is_empty() {
        section(&mut body, "How the sites differ in colour", &[]);
        show(&mut body, &figures.colours);
    }
    let again = "Given this folder, consilium-simulate render draws tables and figures again, without data.";
    section(&mut body, "To do this again", &[again.to_owned()]);
    let command = if request.command.is_empty() { "The command line was not kept." } else { &request.command };
    let _ = writeln!(body, "<pre>{}</pre>", escape(command));
    page_of("Acquisition rules compared", &body)
}

const EMPTY: &str = "Dice is the mean over a field's foreground classes that are in truth or prediction. A field without \
    foreground in truth counts in no mean of Dice, whatever is predicted: there it would be 0 as soon as one pixel is \
    called foreground, and not be there at all if none is. Such fields are told by the share of tissue that is wrongly \
    called foreground.";
const PAIRED: &str = "Dice of an arm minus that of a control with the same budget, or of itself with the next smaller one, \
    or, where a setting is varied, of the same rule under the plan itself (unvaried), field by field and seed by seed, and the \
    95 % bootstrap interval over seeds and fields; in bold where it leaves out 0 and there are at least five seeds. Where seeds differ more than fields such intervals are too narrow: in a simulation \
    with two seeds and 12 fields they held the truth 66 to 98 times of 100, with five seeds and 23 fields 85 to 99 times. \
    Of many intervals some leave out 0 by chance.";
const MAPS: &str = "Of the first ensemble on held-out fields of the other sites: the probability that a wrong pixel is \
    more uncertain than a right one, and the area under the risk-coverage curve (lower is better).";

/// Seeds, folds, fields, and what is missing.
fn lead(summary: &Summary, cells: &[Cell], request: &Request) -> Vec<String> {
    let others = cells.iter().flat_map(|cell| &cell.sites).filter(|site| !site.central);
    let names: std::collections::BTreeSet<(&str, &str)> =
        others.flat_map(|site| site.fields.iter().map(|f| (site.site.as_str(), f.field.as_str()))).collect();
    let mut lead = vec![format!(
        "Seeds: {}. Folds: {}. Held-out fields of the sites other than the central one: {}.",
        summary.seeds,
        summary.folds,
        names.len()
    )];
    if cells.len() < request.cells.len() {
        lead.push(format!(
            "The comparison is not finished: {} of {} cells are there. Until then some arms may have been measured on \
             fewer seeds and folds than others; the paired differences allow for that, the means do not.",
            cells.len(),
            request.cells.len()
        ));
    }
    lead
}

fn show(body: &mut String, figures: &[Figure]) {
    for Figure { svg, caption, .. } in figures {
        figure(body, svg, caption);
    }
}
