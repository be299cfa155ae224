//! The tables of a comparison's report.

use std::fmt::Write as _;

use super::stages::StageFigures;
use super::statistics::Interval;
use super::summary::{ArmSummary, CONTROLS, Differences, Row, Summary};
use crate::report::svg::escape;

fn interval(value: Option<Interval>, digits: usize) -> String {
    value.map_or("-".to_owned(), |v| format!("{:.digits$} ({:.digits$} to {:.digits$})", v.mean, v.low, v.high))
}

/// A difference: with its sign, and none where it is rounded to 0.
fn difference(value: Option<Interval>) -> String {
    let signed = |value: f64| {
        let text = format!("{:.3}", value.abs());
        let sign = if value < 0.0 { "\u{2212}" } else { "+" };
        if text == "0.000" { text } else { format!("{sign}{text}") }
    };
    value.map_or("-".to_owned(), |v| format!("{} ({} to {})", signed(v.mean), signed(v.low), signed(v.high)))
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |v| format!("{v:.digits$}"))
}

/// Every arm with every budget.
pub(super) fn arms(body: &mut String, summary: &Summary) {
    let empty = summary.rows.iter().any(|row| row.false_positive.is_some());
    let mut headings = vec!["Dice", "central", "ECE", "asked", "mm²", "foreground, mm²", "enrichment", "gain / mm²"];
    headings.extend(empty.then_some("false, %"));
    by_row(body, &summary.sorted(), &headings, |row| {
        let central = row.central.map(|dice| dice.mean);
        let mut cells = vec![interval(row.dice, 3), number(central, 3), number(row.ece, 3), number(row.asked, 1)];
        cells.extend([number(row.area_mm2, 3), number(row.foreground_mm2, 4), number(row.foreground_enrichment, 2)]);
        cells.push(number(row.gain_per_mm2, 2));
        cells.extend(empty.then(|| number(row.false_positive.map(|share| 100.0 * share), 2)));
        cells
    });
    body.push_str(
        "<p>Asked: mean patches that a site was really asked for; a rule may find fewer boxes than its budget. mm²: area \
         that was labelled at a site, and how much of it is foreground, which is what costs a pathologist's time. \
         Enrichment: share of foreground in the patches over its share in the fields. Gain: Dice over the first \
         ensemble for each mm² of foreground that was labelled.",
    );
    if empty {
        body.push_str(" False: share of tissue called foreground in the held-out fields that have none.");
    }
    body.push_str("</p>\n");
}

/// Mean Dice of every site.
pub(super) fn sites(body: &mut String, summary: &Summary) {
    let sites: Vec<&str> =
        summary.rows.first().map(|row| row.by_site.keys().map(String::as_str).collect()).unwrap_or_default();
    let headings: Vec<&str> = sites.iter().copied().chain(["central"]).collect();
    by_row(body, &summary.sorted(), &headings, |row| {
        let of_sites = sites.iter().map(|site| row.by_site.get(*site).copied());
        of_sites.chain([row.central]).map(|dice| broken(&interval(dice, 3))).collect()
    });
}

/// A table with a line an arm and budget, and the HTML that `of` gives in the columns after those two.
fn by_row(body: &mut String, rows: &[&Row], headings: &[&str], of: impl Fn(&Row) -> Vec<String>) {
    let headings: Vec<&str> = ["arm", "budget"].iter().chain(headings).copied().collect();
    let key = |row: &Row| [escape(&row.arm), row.budget.to_string()];
    table(body, &headings, rows.iter().map(|row| key(row).into_iter().chain(of(row)).collect()));
}

/// A table; headings are text, cells HTML.
fn table(body: &mut String, headings: &[&str], lines: impl Iterator<Item = Vec<String>>) {
    body.push_str("<div class=\"dense\"><table><thead><tr>");
    for heading in headings {
        let _ = write!(body, "<th>{}</th>", escape(heading));
    }
    body.push_str("</tr></thead><tbody>\n");
    for line in lines {
        body.push_str("<tr>");
        for cell in line {
            let _ = write!(body, "<td>{cell}</td>");
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</tbody></table></div>\n");
}

/// A difference of a row.
type OfRow = fn(&Row) -> Option<&(Interval, usize)>;

/// From so many seeds on an interval that leaves out 0 is worth a second look.
const SEEDS: usize = 5;

/// How every arm differs from the controls, with every budget and over all of them.
pub(super) fn differences(body: &mut String, summary: &Summary) {
    let headings = CONTROLS.map(|control| format!("minus {control}"));
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let told = |found: &Differences| CONTROLS.map(|control| marked(found.get(control), summary.seeds)).to_vec();
    let rows: Vec<&Row> = summary.sorted().into_iter().filter(|row| row.budget > 0).collect();
    // From the same rule, where any arm has such a difference.
    let mut same: Vec<(&str, OfRow)> =
        vec![("minus fewer patches", |row| row.more_patches.as_ref()), ("minus unvaried", |row| row.unvaried.as_ref())];
    same.retain(|(_, of)| rows.iter().any(|row| of(row).is_some()));
    let all: Vec<&str> = headings.iter().copied().chain(same.iter().map(|(heading, _)| *heading)).collect();
    by_row(body, &rows, &all, |row| {
        told(&row.differences).into_iter().chain(same.iter().map(|(_, of)| marked(of(row), summary.seeds))).collect()
    });
    let mut arms: Vec<&ArmSummary> = summary.arms.iter().filter(|arm| arm.area.is_some()).collect();
    arms.sort_by(|a, b| b.mean_area().total_cmp(&a.mean_area()));
    body.push_str("<p>Mean Dice over budgets, the area under the curve:</p>\n");
    let headings: Vec<&str> = ["arm", "area"].into_iter().chain(headings).collect();
    let line = |arm: &ArmSummary| {
        let key = [escape(&arm.arm), broken(&interval(arm.area, 3))];
        key.into_iter().chain(told(&arm.differences)).collect()
    };
    table(body, &headings, arms.into_iter().map(line));
}

/// A difference, in bold if it leaves out 0 over enough seeds.
fn marked(found: Option<&(Interval, usize)>, seeds: usize) -> String {
    let found = found.map(|(interval, _)| *interval);
    let text = broken(&difference(found));
    let clear = seeds >= SEEDS && found.is_some_and(|d| d.low > 0.0 || d.high < 0.0);
    if clear { format!("<strong>{text}</strong>") } else { text }
}

/// An interval below its mean: four of them side by side are too wide for a page.
fn broken(text: &str) -> String {
    text.replacen(" (", "<br>(", 1)
}

/// How well each uncertainty finds errors.
pub(super) fn maps(body: &mut String, summary: &Summary) {
    body.push_str("<table><thead><tr><th>uncertainty</th><th>error-AUROC</th><th>AURC</th></tr></thead><tbody>\n");
    for of in &summary.maps {
        let (auroc, aurc) = (interval(of.error_auroc, 3), interval(of.aurc, 4));
        let _ = writeln!(body, "<tr><td>{}</td><td>{auroc}</td><td>{aurc}</td></tr>", escape(&of.map));
    }
    body.push_str("</tbody></table>\n");
}

/// Dice by stage, and what is wrongly called foreground by stage.
pub(super) fn stages(body: &mut String, summary: &Summary) {
    let told: Vec<&StageFigures> = summary.rows.first().map(|row| row.stages.iter().collect()).unwrap_or_default();
    let with: Vec<&StageFigures> = told.iter().copied().filter(|of| of.with_foreground > 0).collect();
    body.push_str("<p>Dice of the fields with foreground in truth:</p>\n");
    by_stage(body, summary, &with, |of| of.with_foreground, |of| interval(of.dice, 3));
    body.push_str("<p>Tissue wrongly called foreground, % of the labelled tissue of all fields:</p>\n");
    by_stage(body, summary, &told, |of| of.fields, |of| interval(of.false_positive.map(Interval::percent), 2));
    if told.iter().any(|of| of.clean.is_some()) {
        body.push_str("<p>Fields without foreground in truth in which no tissue at all is called so, %:</p>\n");
        let without: Vec<&StageFigures> = told.into_iter().filter(|of| of.clean.is_some()).collect();
        by_stage(
            body,
            summary,
            &without,
            |of| of.fields - of.with_foreground,
            |of| number(of.clean.map(|share| 100.0 * share), 0),
        );
    }
}

/// A table with a column a stage, headed by the stage and how many fields it is over.
fn by_stage(
    body: &mut String,
    summary: &Summary,
    stages: &[&StageFigures],
    fields: impl Fn(&StageFigures) -> usize,
    of: impl Fn(&StageFigures) -> String,
) {
    let heading = |stage: &&StageFigures| match fields(stage) {
        1 => format!("{}, 1 field", stage.stage),
        fields => format!("{}, {fields} fields", stage.stage),
    };
    let headings: Vec<String> = stages.iter().map(heading).collect();
    by_row(body, &summary.sorted(), &headings.iter().map(String::as_str).collect::<Vec<_>>(), |row| {
        let found = |stage: &&StageFigures| row.stages.iter().find(|other| other.stage == stage.stage);
        stages.iter().map(|stage| found(stage).map_or("-".to_owned(), &of)).collect()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_their_sign_and_nothing_has_none() {
        let of = |mean, low, high| difference(Some(Interval { mean, low, high }));
        assert_eq!(of(0.0144, -0.0002, 0.0236), "+0.014 (0.000 to +0.024)");
        assert_eq!(of(-0.003, -0.0051, -0.0009), "\u{2212}0.003 (\u{2212}0.005 to \u{2212}0.001)");
        assert_eq!(difference(None), "-");
    }
}
