//! What the cells say together: Dice by arm and budget with intervals, differences from the controls, how much of what
//! was asked for was foreground.
//!
//! A seed's figure is the mean over sites of the mean over their fields, each held out once; the central site has a
//! figure of its own. Intervals are over seeds and fields: field by field the mean over seeds is taken, and fields are
//! resampled, for it is fields that differ; intervals over seeds are beside them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cell::Cell;
use super::statistics::{Interval, area, bootstrap};

/// The summary of a comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) seeds: usize,
    pub(crate) folds: usize,
    /// The first ensemble, then arms in the order of the command line, by budget.
    pub(crate) rows: Vec<Row>,
    /// Every arm's area under the Dice curve over budgets, and how it differs from the controls.
    pub(crate) arms: Vec<ArmSummary>,
}

/// An arm with a budget.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) arm: String,
    pub(crate) budget: u32,
    /// Mean Dice of the sites other than the central one; interval over fields.
    pub(crate) dice: Option<Interval>,
    /// The same by seed.
    pub(crate) by_seed: Vec<f64>,
    /// The same by site.
    pub(crate) by_site: BTreeMap<String, f64>,
    /// Mean Dice of the central site: what was forgotten.
    pub(crate) central: Option<f64>,
    /// Mean expected calibration error of the other sites.
    pub(crate) ece: Option<f64>,
    /// Share of foreground in the patches, over that of the fields that they came from.
    pub(crate) foreground_efficiency: Option<f64>,
}

/// An arm over all budgets.
#[derive(Debug, Serialize)]
pub(crate) struct ArmSummary {
    pub(crate) arm: String,
    /// Mean Dice over budgets from 0 to the largest.
    pub(crate) area: Option<f64>,
    /// Difference in Dice from an arm at the largest budget, paired by field; interval over fields.
    pub(crate) differences: BTreeMap<String, Interval>,
}

/// A field's mean Dice over seeds, by site and name.
type ByField = BTreeMap<(String, String), f64>;

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
        let by_field: BTreeMap<&str, ByField> =
            keys.iter().filter(|(_, b)| *b == largest).map(|(arm, b)| (arm.as_str(), fields(&of(arm, *b)))).collect();
        let mut arms: Vec<ArmSummary> = Vec::new();
        for (arm, _) in keys.iter().filter(|(_, budget)| *budget == largest) {
            let differences = ["random", "uga", "foreground-random"].into_iter().filter(|other| other != arm);
            let differences = differences.filter_map(|other| {
                let (own, other_fields) = (by_field.get(arm.as_str())?, by_field.get(other)?);
                Some((other.to_owned(), paired(own, other_fields, &format!("{arm}/{other}"))?))
            });
            arms.push(ArmSummary { arm: arm.clone(), area: curve(&rows, arm), differences: differences.collect() });
        }
        let distinct =
            |of: &dyn Fn(&Cell) -> u64| cells.iter().map(of).collect::<std::collections::BTreeSet<u64>>().len();
        let (seeds, folds) = (distinct(&|cell| cell.seed), distinct(&|cell| cell.fold as u64));
        Self { seeds, folds, rows, arms }
    }

    /// For a terminal: arms from the best, with their Dice at every budget.
    pub(crate) fn table(&self) -> String {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        let dice = |row: &Row| row.dice.map_or(f64::NEG_INFINITY, |dice| dice.mean);
        rows.sort_by(|a, b| a.budget.cmp(&b.budget).then(dice(b).total_cmp(&dice(a))));
        let mut text = format!(
            "{:>6} {:<20} {:>6} {:>15} {:>8} {:>6} {:>10}\n",
            "budget", "arm", "Dice", "95 % interval", "central", "ECE", "foreground"
        );
        let number = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        for row in rows {
            let interval = row.dice.map_or("-".to_owned(), |d| format!("{:.3} to {:.3}", d.low, d.high));
            text.push_str(&format!(
                "{:>6} {:<20} {:>6} {:>15} {:>8} {:>6} {:>10}\n",
                row.budget,
                row.arm,
                number(row.dice.map(|d| d.mean), 3),
                interval,
                number(row.central, 3),
                number(row.ece, 3),
                number(row.foreground_efficiency, 2),
            ));
        }
        text
    }
}

fn row(arm: &str, budget: u32, cells: &[&Cell]) -> Row {
    let by_field = fields(cells);
    let mut by_site: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for ((site, _), dice) in &by_field {
        by_site.entry(site.clone()).or_default().push(*dice);
    }
    let seeds: std::collections::BTreeSet<u64> = cells.iter().map(|cell| cell.seed).collect();
    let of_seed = |seed: u64| {
        let own: Vec<&Cell> = cells.iter().copied().filter(|cell| cell.seed == seed).collect();
        mean(fields(&own).into_values())
    };
    let others = || cells.iter().flat_map(|cell| &cell.sites).filter(|site| !site.central);
    let central = cells.iter().flat_map(|cell| &cell.sites).filter(|site| site.central);
    let patches: Vec<(f64, f64)> =
        others().flat_map(|site| &site.patches).map(|p| (p.foreground, p.foreground_of_pool)).collect();
    let (asked, pool) = (mean(patches.iter().map(|p| p.0)), mean(patches.iter().map(|p| p.1)));
    Row {
        arm: arm.to_owned(),
        budget,
        dice: bootstrap(&by_field.values().copied().collect::<Vec<_>>(), &format!("{arm}/{budget}")),
        by_seed: seeds.into_iter().filter_map(of_seed).collect(),
        by_site: by_site.into_iter().filter_map(|(site, dice)| Some((site, mean(dice.into_iter())?))).collect(),
        central: mean(central.flat_map(|site| &site.fields).filter_map(|field| field.dice)),
        ece: mean(others().flat_map(|site| &site.fields).filter_map(|field| field.ece)),
        foreground_efficiency: asked.zip(pool).filter(|(_, pool)| *pool > 0.0).map(|(asked, pool)| asked / pool),
    }
}

/// The mean over seeds of each field's Dice, at the sites other than the central one.
fn fields(cells: &[&Cell]) -> ByField {
    let mut all: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for site in cells.iter().flat_map(|cell| &cell.sites).filter(|site| !site.central) {
        for field in &site.fields {
            if let Some(dice) = field.dice {
                all.entry((site.site.clone(), field.field.clone())).or_default().push(dice);
            }
        }
    }
    all.into_iter().filter_map(|(key, dice)| Some((key, mean(dice.into_iter())?))).collect()
}

fn paired(own: &ByField, other: &ByField, seed: &str) -> Option<Interval> {
    let differences: Vec<f64> = own.iter().filter_map(|(key, dice)| Some(dice - other.get(key)?)).collect();
    bootstrap(&differences, seed)
}

/// The first ensemble is every arm at budget 0.
fn curve(rows: &[Row], arm: &str) -> Option<f64> {
    let points = rows.iter().filter(|row| row.arm == arm || row.budget == 0);
    let mut points: Vec<(f64, f64)> = points.filter_map(|row| Some((f64::from(row.budget), row.dice?.mean))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    area(&points)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    (n > 0.0).then(|| sum / n)
}
