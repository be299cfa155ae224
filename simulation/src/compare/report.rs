//! `report.html`, `table.csv` and the figures of a comparison.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use consilium_learning::metrics::BINS;

use super::cell::Cell;
use super::charts;
use super::statistics::{Interval, Values, bootstrap};
use super::summary::{CONTROLS, Summary};
use crate::experiment::ExperimentError;
use crate::report::stats::spearman;
use crate::report::{figure, page_of, png_of, section, svg::escape};

/// Writes everything; returns the report's path.
pub(super) fn write(out: &Path, summary: &Summary, cells: &[Cell], command: &str) -> Result<PathBuf, ExperimentError> {
    let figures = figures(summary, cells);
    let folder = out.join("figures");
    fs::create_dir_all(&folder).map_err(ExperimentError::file(&folder))?;
    for (name, svg, _) in &figures {
        let path = folder.join(format!("{name}.png"));
        fs::write(&path, png_of(svg)?).map_err(ExperimentError::file(&path))?;
    }
    let table = out.join("table.csv");
    fs::write(&table, csv(summary)).map_err(ExperimentError::file(&table))?;
    let report = out.join("report.html");
    let page = page(summary, cells, &figures, command);
    fs::write(&report, page).map_err(ExperimentError::file(&report))?;
    Ok(report)
}

/// File stem, drawing and caption of each figure.
fn figures(summary: &Summary, cells: &[Cell]) -> Vec<(String, String, String)> {
    let mut budgets: Vec<u32> = summary.rows.iter().map(|row| row.budget).filter(|&budget| budget > 0).collect();
    budgets.sort_unstable();
    budgets.dedup();
    let mut figures: Vec<(String, String, String)> = budgets
        .into_iter()
        .map(|budget| {
            let caption = format!(
                "With {budget} patches a site. Means over sites other than the central one, each field held out once for \
                 every seed. Intervals are over seeds and fields, which differ much by themselves: arms are compared by the \
                 paired differences below."
            );
            (format!("dice-{budget}"), charts::arms(summary, budget), caption)
        })
        .collect();
    let first =
        || cells.iter().filter(|cell| cell.budget == 0).flat_map(|cell| &cell.sites).filter(|site| !site.central);
    let boxes: Vec<(f64, f64)> = first().flat_map(|site| &site.fields).flat_map(|field| field.boxes.clone()).collect();
    let note = spearman(&boxes).map_or(String::new(), |rho| format!("Spearman {rho:.2}"));
    let axes = ("mean uncertainty of the box (nats)", "Dice of the box");
    let title = "Mean uncertainty against Dice of boxes of held-out fields";
    let caption = format!(
        "Does the first ensemble know where it is wrong? {} boxes, side by side, of held-out fields of the other \
         sites, once for every seed; those without foreground in truth and prediction are left out.",
        boxes.len()
    );
    figures.push(("uncertainty".into(), charts::points(title, axes, &boxes, false, &note), caption));
    let bins = reliability(first().flat_map(|site| &site.fields).map(|field| field.reliability.as_slice()));
    let axes = ("mean probability of the predicted class", "share that is right");
    let caption = "Reliability of the first ensemble on held-out fields of the other sites, in bins of equal width; on \
                   the dashed line it is as sure as it is right.";
    let title = "Reliability diagram of the first ensemble";
    figures.push(("reliability".into(), charts::points(title, axes, &bins, true, ""), caption.into()));
    figures
}

/// Pools bins of several diagrams by their confidence.
fn reliability<'a>(diagrams: impl Iterator<Item = &'a [(u64, f64, f64)]>) -> Vec<(f64, f64)> {
    let mut pooled: BTreeMap<u32, (f64, f64, f64)> = BTreeMap::new();
    for &(pixels, confidence, accuracy) in diagrams.flatten() {
        let bin = pooled.entry((confidence * BINS as f64).ceil() as u32).or_default();
        let n = pixels as f64;
        *bin = (bin.0 + n, bin.1 + n * confidence, bin.2 + n * accuracy);
    }
    pooled.into_values().map(|(n, confidence, accuracy)| (confidence / n, accuracy / n)).collect()
}

fn csv(summary: &Summary) -> String {
    let mut text =
        String::from("arm,budget,dice,dice_low,dice_high,central_dice,ece,foreground_efficiency,dice_by_seed\n");
    let number = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.6}"));
    for row in &summary.rows {
        let part = |of: fn(&Interval) -> f64| number(row.dice.as_ref().map(of));
        let seeds: Vec<String> = row.by_seed.iter().map(|dice| format!("{dice:.6}")).collect();
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{}",
            row.arm,
            row.budget,
            part(|d| d.mean),
            part(|d| d.low),
            part(|d| d.high),
            number(row.central),
            number(row.ece),
            number(row.foreground_efficiency),
            seeds.join(" ")
        );
    }
    text
}

fn page(summary: &Summary, cells: &[Cell], figures: &[(String, String, String)], command: &str) -> String {
    let mut body = String::from("<h1>Which patches are worth a pathologist's time</h1>\n");
    let fields = cells.iter().flat_map(|cell| &cell.sites).filter(|site| !site.central);
    let names: std::collections::BTreeSet<(&str, &str)> =
        fields.flat_map(|site| site.fields.iter().map(|f| (site.site.as_str(), f.field.as_str()))).collect();
    let lead = format!(
        "Seeds: {}. Folds: {}. Held-out fields of the sites other than the central one: {}.",
        summary.seeds,
        summary.folds,
        names.len()
    );
    section(&mut body, "What was done", &[lead]);
    for (_, svg, caption) in figures {
        figure(&mut body, svg, caption);
    }
    section(&mut body, "Every arm", &[]);
    table(&mut body, summary);
    section(
        &mut body,
        "Paired differences at the largest budget",
        &["Dice of an arm minus that of a control, field by field and seed by seed, and the 95 % bootstrap interval over \
           seeds and fields; in bold where it leaves out 0 and there are at least three seeds. Of twenty such intervals \
           one leaves out 0 by chance. The area is the mean Dice over budgets."
            .to_owned()],
    );
    differences(&mut body, summary);
    section(
        &mut body,
        "Which uncertainty finds errors",
        &["Of the first ensemble on held-out fields of the other sites: the probability that a wrong pixel is more \
           uncertain than a right one, and the area under the risk-coverage curve (lower is better)."
            .to_owned()],
    );
    maps(&mut body, cells);
    section(&mut body, "To do this again", &[]);
    let _ = writeln!(body, "<pre>{}</pre>", escape(command));
    page_of("Acquisition rules compared", &body)
}

fn interval(value: Option<Interval>, digits: usize) -> String {
    value.map_or("-".to_owned(), |v| format!("{:.digits$} ({:.digits$} to {:.digits$})", v.mean, v.low, v.high))
}

fn table(body: &mut String, summary: &Summary) {
    let sites: Vec<&String> = summary.rows.first().map(|row| row.by_site.keys().collect()).unwrap_or_default();
    body.push_str("<div class=\"wide\"><table><thead><tr><th>budget</th><th>arm</th><th>asked</th><th>Dice</th>");
    for site in &sites {
        let _ = write!(body, "<th>{}</th>", escape(site));
    }
    body.push_str("<th>central</th><th>ECE</th><th>foreground</th></tr></thead><tbody>\n");
    let number = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
    for row in summary.sorted() {
        let (arm, asked, dice) = (escape(&row.arm), number(row.asked, 1), interval(row.dice, 3));
        let _ = write!(body, "<tr><td>{}</td><td>{arm}</td><td>{asked}</td><td>{dice}</td>", row.budget);
        for site in &sites {
            let _ = write!(body, "<td>{}</td>", number(row.by_site.get(*site).copied(), 3));
        }
        let (central, ece) = (number(row.central, 3), number(row.ece, 3));
        let foreground = number(row.foreground_efficiency, 2);
        let _ = writeln!(body, "<td>{central}</td><td>{ece}</td><td>{foreground}</td></tr>");
    }
    body.push_str(
        "</tbody></table></div>\n<p>Asked: mean patches that a site was really asked for; a rule may find fewer boxes than \
         its budget. Foreground: its share in the patches over its share in the fields.</p>\n",
    );
}

fn differences(body: &mut String, summary: &Summary) {
    body.push_str("<div class=\"wide\"><table><thead><tr><th>arm</th><th>area</th>");
    for control in CONTROLS {
        let _ = write!(body, "<th>minus {control}</th>");
    }
    body.push_str("</tr></thead><tbody>\n");
    for arm in &summary.arms {
        let area = arm.area.map_or("-".to_owned(), |area| format!("{area:.3}"));
        let _ = write!(body, "<tr><td>{}</td><td>{area}</td>", escape(&arm.arm));
        for control in CONTROLS {
            let difference = arm.differences.get(control).map(|(interval, _)| *interval);
            let text = interval(difference, 3);
            let clear = summary.seeds >= 3 && difference.is_some_and(|d| d.low > 0.0 || d.high < 0.0);
            let _ = write!(body, "<td>{}</td>", if clear { format!("<strong>{text}</strong>") } else { text });
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</tbody></table></div>\n");
}

fn maps(body: &mut String, cells: &[Cell]) {
    let mut found: BTreeMap<String, (Values, Values)> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.budget == 0) {
        for site in cell.sites.iter().filter(|site| !site.central) {
            for (field, figures) in site.fields.iter().flat_map(|field| field.maps.iter().map(move |map| (field, map)))
            {
                let name = serde_json::to_value(figures.map).ok().and_then(|v| v.as_str().map(str::to_owned));
                let (auroc, aurc) = found.entry(name.unwrap_or_default()).or_default();
                let key = (site.site.clone(), field.field.clone());
                for (values, value) in [(auroc, figures.error_auroc), (aurc, figures.aurc)] {
                    if let Some(value) = value {
                        values.entry(key.clone()).or_default().insert(cell.seed, value);
                    }
                }
            }
        }
    }
    body.push_str("<table><thead><tr><th>uncertainty</th><th>error-AUROC</th><th>AURC</th></tr></thead><tbody>\n");
    for (map, (auroc, aurc)) in found {
        let (auroc, aurc) = (bootstrap(&auroc, &format!("{map}/auroc")), bootstrap(&aurc, &format!("{map}/aurc")));
        let _ = writeln!(body, "<tr><td>{map}</td><td>{}</td><td>{}</td></tr>", interval(auroc, 3), interval(aurc, 4));
    }
    body.push_str("</tbody></table>\n");
}
