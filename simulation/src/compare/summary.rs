//! What the cells say together, as [`super::summarise`] finds it: Dice by arm and budget with intervals, differences from
//! the controls, what it cost.
//!
//! Figures are means over sites, other than the central one, of the mean over their fields and seeds. Arms are compared
//! field by field and seed by seed. The central site has a figure of its own: what was forgotten.
//!
//! A field without foreground in truth counts in no mean of Dice. It would be 0 there as soon as anything is called
//! foreground, and not be there at all if nothing is: then an arm would be measured on other fields than the next. What
//! matters there is the share of tissue that is wrongly called foreground.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::colour::SiteColours;
use super::stages::StageFigures;
use super::statistics::Interval;

/// The name of the first ensemble among the arms.
pub(super) const FIRST: &str = "first ensemble";
/// What arms are compared with.
pub(super) const CONTROLS: [&str; 4] = [FIRST, "random", "foreground-random", "uga"];

/// The summary of a comparison.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) seeds: usize,
    pub(crate) folds: usize,
    /// Micrometres a pixel; not of a comparison that did not keep its terms.
    #[serde(default)]
    pub(crate) spacing_um: Option<f64>,
    /// The first ensemble, then arms in the order of the command line, by budget.
    pub(crate) rows: Vec<Row>,
    /// Every arm over all budgets, and how it differs from the controls.
    pub(crate) arms: Vec<ArmSummary>,
    /// How well each uncertainty of the first ensemble ranks errors first, by name.
    pub(crate) maps: Vec<MapSummary>,
    /// Mean confidence and accuracy of the first ensemble on the other sites' held-out fields, by bin of confidence.
    #[serde(default)]
    pub(crate) reliability: Vec<(f64, f64)>,
    /// Uncertainty against Dice by box; none where no box can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boxes: Option<BoxSummary>,
    /// Where the sites' fields lie in colour, without pictures of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) colours: Vec<SiteColours>,
}

/// An arm with a budget.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) arm: String,
    pub(crate) budget: u32,
    /// Mean patches that a site was asked for: less than the budget where there were not enough boxes. None of an arm that
    /// learns from whole fields.
    pub(crate) asked: Option<f64>,
    /// Mean area that was labelled at a site, mm2, and how much of it is foreground.
    #[serde(default)]
    pub(crate) area_mm2: Option<f64>,
    #[serde(default)]
    pub(crate) foreground_mm2: Option<f64>,
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
    pub(crate) foreground_enrichment: Option<f64>,
    /// Dice gained over the first ensemble for each mm2 of foreground that was labelled at a site: background costs hardly
    /// anything to correct (foreground efficiency in the sense of nnActive, arXiv 2511.19183, which fits a curve instead).
    #[serde(default)]
    pub(crate) gain_per_mm2: Option<f64>,
    /// Difference in Dice from a control with the same budget, with the number of fields and seeds that both have.
    #[serde(default)]
    pub(crate) differences: Differences,
    /// The same from this arm's own Dice with the next smaller budget; none of the smallest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) more_patches: Option<(Interval, usize)>,
    /// The same from the same rule with the same budget under the comparison's own plan; of arms that vary a setting of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unvaried: Option<(Interval, usize)>,
    /// Mean share of labelled tissue that is called foreground in the other sites' fields that have none in truth; not
    /// there where no such field is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) false_positive: Option<f64>,
    /// By stage of disease, where stages are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stages: Vec<StageFigures>,
}

/// Differences from controls, by their names.
pub(crate) type Differences = BTreeMap<String, (Interval, usize)>;

/// An arm over all budgets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ArmSummary {
    pub(crate) arm: String,
    /// Mean Dice over budgets from 0 to the largest; none of an arm without budgets.
    pub(crate) area: Option<Interval>,
    /// The same minus a control's.
    pub(crate) differences: Differences,
}

/// An uncertainty against the errors of the first ensemble on the other sites' held-out fields.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MapSummary {
    pub(crate) map: String,
    pub(crate) error_auroc: Option<Interval>,
    pub(crate) aurc: Option<Interval>,
}

/// Whether the first ensemble is less sure where it is wrong: boxes, side by side, of the other sites' held-out fields, with
/// foreground in truth or prediction.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BoxSummary {
    /// How many, a box of two seeds twice.
    pub(crate) boxes: usize,
    /// Spearman's rank correlation of a box's mean UGA uncertainty and its Dice, and the same by seed.
    pub(crate) spearman: Option<f64>,
    pub(crate) spearman_by_seed: Vec<f64>,
    /// Mean uncertainty (nats) and mean Dice of the boxes in tenths, from the surest.
    pub(crate) tenths: Vec<(f64, f64)>,
}

impl Summary {
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
            "{:>6} {:<wide$} {:>6} {:>6} {:>15} {:>8} {:>6} {:>7} {:>10}\n",
            "budget", "arm", "asked", "Dice", "95 % interval", "central", "ECE", "mm2", "foreground"
        );
        let number = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        for row in self.sorted() {
            let interval = row.dice.map_or("-".to_owned(), |d| format!("{:.3} to {:.3}", d.low, d.high));
            text.push_str(&format!(
                "{:>6} {:<wide$} {:>6} {:>6} {:>15} {:>8} {:>6} {:>7} {:>10}\n",
                row.budget,
                row.arm,
                number(row.asked, 1),
                number(row.dice.map(|d| d.mean), 3),
                interval,
                number(row.central.map(|d| d.mean), 3),
                number(row.ece, 3),
                number(row.area_mm2, 3),
                number(row.foreground_mm2, 4),
            ));
        }
        text
    }
}

impl ArmSummary {
    /// For the order of arms: one without a curve is last.
    pub(super) fn mean_area(&self) -> f64 {
        self.area.map_or(f64::NEG_INFINITY, |area| area.mean)
    }
}

impl Row {
    /// For the order of arms: one without Dice is last.
    pub(super) fn mean_dice(&self) -> f64 {
        self.dice.map_or(f64::NEG_INFINITY, |dice| dice.mean)
    }
}
