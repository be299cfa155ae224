//! What the cells say together: Dice by arm and budget with intervals, differences from the controls, how much of what
//! was asked for was foreground.
//!
//! Figures are means over sites, other than the central one, of the mean over their fields and seeds. Arms are compared
//! field by field and seed by seed. The central site has a figure of its own: what was forgotten.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::cell::{Cell, SiteFigures};
use super::statistics::{Interval, Values, area, bootstrap, mean, mean_of};

/// The name of the first ensemble among the arms.
pub(super) const FIRST: &str = "first ensemble";
/// What arms are compared with.
pub(super) const CONTROLS: [&str; 4] = [FIRST, "random", "foreground-random", "uga"];

/// The summary of a comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) seeds: usize,
    pub(crate) folds: usize,
    /// The first ensemble, then arms in the order of the command line, by budget.
    pub(crate) rows: Vec<Row>,
    /// Every arm over all budgets, and how it differs from the controls.
    pub(crate) arms: Vec<ArmSummary>,
}

/// An arm with a budget.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) arm: String,
    pub(crate) budget: u32,
    /// Mean patches that a site was asked for: less than the budget where there were not enough boxes.
    pub(crate) asked: Option<f64>,
    /// Mean Dice of the sites other than the central one; interval over seeds and fields.
    pub(crate) dice: Option<Interval>,
    /// The same by seed.
    pub(crate) by_seed: Vec<f64>,
    /// The same by site.
    pub(crate) by_site: BTreeMap<String, f64>,
    /// Mean Dice of the central site.
    pub(crate) central: Option<f64>,
    /// Mean expected calibration error of the other sites' fields.
    pub(crate) ece: Option<f64>,
    /// Share of foreground in the patches, over that of the fields that they came from.
    pub(crate) foreground_efficiency: Option<f64>,
}

/// An arm over all budgets.
#[derive(Debug, Serialize)]
pub(crate) struct ArmSummary {
    pub(crate) arm: String,
    /// Mean Dice over budgets from 0 to the largest; none of an arm without budgets.
    pub(crate) area: Option<f64>,
    /// Difference in Dice from a control at the largest budget, with the number of fields and seeds that both have.
    pub(crate) differences: BTreeMap<String, (Interval, usize)>,
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
        let control = |name: &str| dice(&of(name, if name == FIRST { 0 } else { largest }));
        let mut arms: Vec<ArmSummary> = Vec::new();
        for (arm, budget) in keys.iter().filter(|(_, budget)| *budget == largest) {
            let own = dice(&of(arm, *budget));
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
        Self { seeds, folds, rows, arms }
    }

    /// Rows by budget, the best first.
    pub(super) fn sorted(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        let dice = |row: &Row| row.dice.map_or(f64::NEG_INFINITY, |dice| dice.mean);
        rows.sort_by(|a, b| a.budget.cmp(&b.budget).then(dice(b).total_cmp(&dice(a))));
        rows
    }

    /// For a terminal: arms from the best, with their Dice at every budget.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:>6} {:<20} {:>6} {:>6} {:>15} {:>8} {:>6} {:>10}\n",
            "budget", "arm", "asked", "Dice", "95 % interval", "central", "ECE", "foreground"
        );
        let number = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        for row in self.sorted() {
            let interval = row.dice.map_or("-".to_owned(), |d| format!("{:.3} to {:.3}", d.low, d.high));
            text.push_str(&format!(
                "{:>6} {:<20} {:>6} {:>6} {:>15} {:>8} {:>6} {:>10}\n",
                row.budget,
                row.arm,
                number(row.asked, 1),
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
    let values = dice(cells);
    let mut by_site: BTreeMap<String, Values> = BTreeMap::new();
    for (key, of_field) in &values {
        by_site.entry(key.0.clone()).or_default().insert(key.clone(), of_field.clone());
    }
    let seeds: BTreeSet<u64> = cells.iter().map(|cell| cell.seed).collect();
    let sites = |central: bool| move |site: &&SiteFigures| site.central == central;
    let others = || cells.iter().flat_map(|cell| &cell.sites).filter(sites(false));
    let central = cells.iter().flat_map(|cell| &cell.sites).filter(sites(true));
    let patches: Vec<(f64, f64)> =
        others().flat_map(|site| &site.patches).map(|p| (p.foreground, p.foreground_of_pool)).collect();
    let (asked, pool) = (mean(patches.iter().map(|p| p.0)), mean(patches.iter().map(|p| p.1)));
    Row {
        arm: arm.to_owned(),
        budget,
        asked: mean(others().map(|site| site.patches.len() as f64)),
        dice: bootstrap(&values, &format!("{arm}/{budget}")),
        by_seed: seeds.into_iter().filter_map(|seed| mean_of(&values, Some(seed))).collect(),
        by_site: by_site.into_iter().filter_map(|(site, values)| Some((site, mean_of(&values, None)?))).collect(),
        central: mean(central.flat_map(|site| &site.fields).filter_map(|field| field.dice)),
        ece: mean(others().flat_map(|site| &site.fields).filter_map(|field| field.ece)),
        foreground_efficiency: asked.zip(pool).filter(|(_, pool)| *pool > 0.0).map(|(asked, pool)| asked / pool),
    }
}

/// The Dice of every field and seed, at the sites other than the central one.
fn dice(cells: &[&Cell]) -> Values {
    let mut values = Values::new();
    for cell in cells {
        for site in cell.sites.iter().filter(|site| !site.central) {
            for field in &site.fields {
                if let Some(dice) = field.dice {
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
    let points = rows.iter().filter(|row| (row.arm == arm && arm != "full") || row.budget == 0);
    let mut points: Vec<(f64, f64)> = points.filter_map(|row| Some((f64::from(row.budget), row.dice?.mean))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    area(&points)
}
