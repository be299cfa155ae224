//! What the cells say together: Dice by arm and budget with intervals, differences from the controls, how much of what
//! was asked for was foreground.
//!
//! Figures are means over sites, other than the central one, of the mean over their fields and seeds. Arms are compared
//! field by field and seed by seed. The central site has a figure of its own: what was forgotten.
//!
//! A field without foreground in truth counts in no mean of Dice. It would be 0 there as soon as anything is called
//! foreground, and not be there at all if nothing is: then an arm would be measured on other fields than the next. What
//! matters there is the share of tissue that is wrongly called foreground.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::arms::FULL;
use super::cell::Cell;
use super::stages::{StageFigures, stages};
use super::statistics::{Interval, Values, area, bootstrap, mean, mean_of};

/// The name of the first ensemble among the arms.
pub(super) const FIRST: &str = "first ensemble";
/// What arms are compared with.
pub(super) const CONTROLS: [&str; 4] = [FIRST, "random", "foreground-random", "uga"];

/// The summary of a comparison.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) seeds: usize,
    pub(crate) folds: usize,
    /// The first ensemble, then arms in the order of the command line, by budget.
    pub(crate) rows: Vec<Row>,
    /// Every arm over all budgets, and how it differs from the controls.
    pub(crate) arms: Vec<ArmSummary>,
    /// How well each uncertainty of the first ensemble ranks errors first, by name.
    pub(crate) maps: Vec<MapSummary>,
}

/// An arm with a budget.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) arm: String,
    pub(crate) budget: u32,
    /// Mean patches that a site was asked for: less than the budget where there were not enough boxes.
    pub(crate) asked: Option<f64>,
    /// Mean Dice of the sites other than the central one; interval over seeds and fields.
    pub(crate) dice: Option<Interval>,
    /// The same by seed.
    pub(crate) by_seed: Vec<f64>,
    /// The same by site; interval over seeds and the site's fields.
    pub(crate) by_site: BTreeMap<String, Interval>,
    /// Mean Dice of the central site.
    pub(crate) central: Option<Interval>,
    /// Mean expected calibration error of the other sites' fields.
    pub(crate) ece: Option<f64>,
    /// Share of foreground in the patches, over that of the fields that they came from.
    pub(crate) foreground_efficiency: Option<f64>,
    /// Mean share of labelled tissue that is called foreground in the other sites' fields that have none in truth; not
    /// there where no such field is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) false_positive: Option<f64>,
    /// By stage of disease, where stages are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stages: Vec<StageFigures>,
}

/// An arm over all budgets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ArmSummary {
    pub(crate) arm: String,
    /// Mean Dice over budgets from 0 to the largest; none of an arm without budgets.
    pub(crate) area: Option<f64>,
    /// Difference in Dice from a control at the largest budget, with the number of fields and seeds that both have.
    pub(crate) differences: BTreeMap<String, (Interval, usize)>,
}

/// An uncertainty against the errors of the first ensemble on the other sites' held-out fields.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MapSummary {
    pub(crate) map: String,
    pub(crate) error_auroc: Option<Interval>,
    pub(crate) aurc: Option<Interval>,
}

impl Summary {
    /// Of all cells.
    pub(crate) fn of(cells: &[Cell]) -> Self {
        let mut keys: Vec<(String, u32)> = Vec::new();
        for cell in cells {
            let key = (cell.arm.clone(), cell.budget);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let of = |arm: &str, budget: u32| -> Vec<&Cell> {
            cells.iter().filter(|cell| cell.arm == arm && cell.budget == budget).collect()
        };
        let rows: Vec<Row> = keys.iter().map(|(arm, budget)| row(arm, *budget, &of(arm, *budget))).collect();
        let largest = keys.iter().map(|(_, budget)| *budget).max().unwrap_or(0);
        let control = |name: &str| dice(&of(name, if name == FIRST { 0 } else { largest }), false);
        let mut arms: Vec<ArmSummary> = Vec::new();
        for (arm, budget) in keys.iter().filter(|(_, budget)| *budget == largest) {
            let own = dice(&of(arm, *budget), false);
            let against = |name: &str| {
                let differences = paired(&own, &control(name));
                let pairs = differences.values().map(BTreeMap::len).sum();
                Some((name.to_owned(), (bootstrap(&differences, &format!("{arm}/{name}"))?, pairs)))
            };
            let differences = CONTROLS.into_iter().filter(|name| name != arm).filter_map(against).collect();
            arms.push(ArmSummary { arm: arm.clone(), area: curve(&rows, arm), differences });
        }
        let distinct = |of: &dyn Fn(&Cell) -> u64| cells.iter().map(of).collect::<BTreeSet<u64>>().len();
        let (seeds, folds) = (distinct(&|cell| cell.seed), distinct(&|cell| cell.fold as u64));
        Self { seeds, folds, rows, arms, maps: maps(cells) }
    }

    /// The budgets above 0, from the smallest.
    pub(super) fn budgets(&self) -> Vec<u32> {
        let budgets: BTreeSet<u32> = self.rows.iter().map(|row| row.budget).filter(|&budget| budget > 0).collect();
        budgets.into_iter().collect()
    }

    /// Rows by budget, the best first.
    pub(super) fn sorted(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by(|a, b| a.budget.cmp(&b.budget).then(b.mean_dice().total_cmp(&a.mean_dice())));
        rows
    }

    /// The arms at a budget, the best first.
    pub(super) fn at(&self, budget: u32) -> Vec<&Row> {
        self.sorted().into_iter().filter(|row| row.budget == budget).collect()
    }

    /// The first ensemble.
    pub(super) fn first(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.budget == 0)
    }

    /// For a terminal: arms from the best, with their Dice at every budget.
    pub(crate) fn table(&self) -> String {
        let wide = self.rows.iter().map(|row| row.arm.len()).max().unwrap_or(0).max(20);
        let mut text = format!(
            "{:>6} {:<wide$} {:>6} {:>6} {:>15} {:>8} {:>6} {:>10}\n",
            "budget", "arm", "asked", "Dice", "95 % interval", "central", "ECE", "foreground"
        );
        let number = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        for row in self.sorted() {
            let interval = row.dice.map_or("-".to_owned(), |d| format!("{:.3} to {:.3}", d.low, d.high));
            text.push_str(&format!(
                "{:>6} {:<wide$} {:>6} {:>6} {:>15} {:>8} {:>6} {:>10}\n",
                row.budget,
                row.arm,
                number(row.asked, 1),
                number(row.dice.map(|d| d.mean), 3),
                interval,
                number(row.central.map(|d| d.mean), 3),
                number(row.ece, 3),
                number(row.foreground_efficiency, 2),
            ));
        }
        text
    }
}

impl Row {
    /// For the order of arms: one without Dice is last.
    pub(super) fn mean_dice(&self) -> f64 {
        self.dice.map_or(f64::NEG_INFINITY, |dice| dice.mean)
    }
}

fn row(arm: &str, budget: u32, cells: &[&Cell]) -> Row {
    let values = dice(cells, false);
    let mut by_site: BTreeMap<String, Values> = BTreeMap::new();
    for (key, of_field) in &values {
        by_site.entry(key.0.clone()).or_default().insert(key.clone(), of_field.clone());
    }
    let seeds: BTreeSet<u64> = cells.iter().map(|cell| cell.seed).collect();
    let others = || cells.iter().flat_map(|cell| &cell.sites).filter(|site| !site.central);
    let empty = others().flat_map(|site| &site.fields).filter(|field| field.foreground == Some(0.0));
    let text = format!("{arm}/{budget}");
    let patches: Vec<(f64, f64)> =
        others().flat_map(|site| &site.patches).map(|p| (p.foreground, p.foreground_of_pool)).collect();
    let (asked, pool) = (mean(patches.iter().map(|p| p.0)), mean(patches.iter().map(|p| p.1)));
    Row {
        arm: arm.to_owned(),
        budget,
        asked: mean(others().map(|site| site.patches.len() as f64)),
        dice: bootstrap(&values, &text),
        by_seed: seeds.into_iter().filter_map(|seed| mean_of(&values, Some(seed))).collect(),
        by_site: by_site.into_iter().filter_map(|(site, values)| site_interval(site, &values, &text)).collect(),
        central: bootstrap(&dice(cells, true), &format!("{text}/central")),
        ece: mean(others().flat_map(|site| &site.fields).filter_map(|field| field.ece)),
        foreground_efficiency: asked.zip(pool).filter(|(_, pool)| *pool > 0.0).map(|(asked, pool)| asked / pool),
        false_positive: mean(empty.filter_map(|field| field.false_positive)),
        stages: stages(cells, &text),
    }
}

fn site_interval(site: String, values: &Values, text: &str) -> Option<(String, Interval)> {
    let interval = bootstrap(values, &format!("{text}/{site}"))?;
    Some((site, interval))
}

/// The Dice of every field and seed, at the central site or at the others.
fn dice(cells: &[&Cell], central: bool) -> Values {
    let mut values = Values::new();
    for cell in cells {
        for site in cell.sites.iter().filter(|site| site.central == central) {
            for field in &site.fields {
                if let Some(dice) = field.dice_of_foreground() {
                    values.entry((site.site.clone(), field.field.clone())).or_default().insert(cell.seed, dice);
                }
            }
        }
    }
    values
}

/// Differences of the fields and seeds that both have.
fn paired(own: &Values, other: &Values) -> Values {
    let of_field = |(key, own): (&(String, String), &BTreeMap<u64, f64>)| {
        let other = other.get(key)?;
        let differences: BTreeMap<u64, f64> =
            own.iter().filter_map(|(seed, dice)| Some((*seed, dice - other.get(seed)?))).collect();
        (!differences.is_empty()).then(|| (key.clone(), differences))
    };
    own.iter().filter_map(of_field).collect()
}

/// The first ensemble is every arm at budget 0; an arm that knows one budget only has no curve.
fn curve(rows: &[Row], arm: &str) -> Option<f64> {
    let points = rows.iter().filter(|row| (row.arm == arm && arm != FULL) || row.budget == 0);
    let mut points: Vec<(f64, f64)> = points.filter_map(|row| Some((f64::from(row.budget), row.dice?.mean))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    area(&points)
}

/// Every uncertainty that the first ensemble's cells tell of.
fn maps(cells: &[Cell]) -> Vec<MapSummary> {
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
    let summary = |(map, (auroc, aurc)): (String, (Values, Values))| {
        let (auroc, aurc) = (bootstrap(&auroc, &format!("{map}/auroc")), bootstrap(&aurc, &format!("{map}/aurc")));
        MapSummary { map, error_auroc: auroc, aurc }
    };
    found.into_iter().map(summary).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cell::{FieldFigures, SiteFigures};
    use super::*;

    fn field(name: &str, dice: Option<f64>, foreground: Option<f64>, wrong: Option<f64>) -> FieldFigures {
        let (field, false_positive) = (name.to_owned(), wrong);
        let (maps, boxes, reliability) = (Vec::new(), Vec::new(), Vec::new());
        FieldFigures { field, stage: None, dice, foreground, false_positive, ece: None, maps, boxes, reliability }
    }

    fn cell(arm: &str, budget: u32, central: bool, fields: Vec<FieldFigures>) -> Cell {
        let site = SiteFigures { site: "s".into(), central, fields, patches: Vec::new() };
        Cell { seed: 1, fold: 0, arm: arm.into(), budget, sites: vec![site] }
    }

    #[test]
    fn fields_without_foreground_count_by_what_is_wrongly_called_so() {
        let first = vec![
            field("a", Some(0.5), Some(0.25), Some(0.5)),
            field("b", Some(0.0), Some(0.0), Some(0.25)),
            field("c", None, Some(0.0), Some(0.0)),
        ];
        let then = vec![
            field("a", Some(0.75), Some(0.25), Some(0.5)),
            field("b", None, Some(0.0), Some(0.0)),
            field("c", Some(0.0), Some(0.0), Some(0.125)),
        ];
        let summary = Summary::of(&[cell(FIRST, 0, false, first), cell("random", 5, false, then)]);
        let rows: Vec<_> = summary.rows.iter().map(|row| (row.dice.map(|d| d.mean), row.false_positive)).collect();
        assert_eq!(rows, [(Some(0.5), Some(0.125)), (Some(0.75), Some(0.0625))]);
        assert_eq!(summary.arms[0].differences[FIRST], (Interval { mean: 0.25, low: 0.25, high: 0.25 }, 1));
        assert_eq!((summary.arms[0].area, summary.budgets()), (Some(0.625), vec![5]));
    }

    #[test]
    fn cells_of_before_say_nothing_of_empty_fields() {
        let fields = || vec![field("a", Some(0.5), None, None), field("b", Some(0.0), None, None)];
        let mut cells = vec![cell(FIRST, 0, false, fields())];
        cells[0].sites.push(SiteFigures { site: "home".into(), central: true, fields: fields(), patches: Vec::new() });
        let row = &Summary::of(&cells).rows[0];
        assert_eq!((row.dice.map(|d| d.mean), row.central.map(|d| d.mean)), (Some(0.25), Some(0.25)));
        assert_eq!((row.by_site["s"].mean, row.by_site.len()), (0.25, 1));
        assert_eq!((row.false_positive, row.stages.len()), (None, 0));
    }
}
