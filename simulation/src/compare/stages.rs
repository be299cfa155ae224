//! Results by stage of disease: how well outlined is what there is, and how much is called foreground where there is none.
//!
//! Dice is over the fields with foreground in truth; those without are told by the share of tissue that is wrongly called
//! foreground. Means and intervals are over the fields of all sites together: of many a stage a site has but one field,
//! and an interval within sites would have no width.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::cell::{Cell, FieldFigures};
use super::statistics::{Interval, Values, bootstrap, mean};

/// Stages in the order of disease; others follow by name.
const ORDER: [&str; 4] = ["negative", "itc", "micro", "macro"];

/// A stage in the cells of an arm with a budget, at the sites other than the central one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageFigures {
    pub(crate) stage: String,
    /// Fields of that stage.
    pub(crate) fields: usize,
    /// Those of them that have foreground in truth.
    pub(crate) with_foreground: usize,
    /// Mean Dice of those.
    pub(crate) dice: Option<Interval>,
    /// Mean share of the labelled tissue of all its fields that is background and called foreground.
    pub(crate) false_positive: Option<Interval>,
    /// Share of the fields without foreground in truth in which no tissue is called foreground.
    pub(crate) clean: Option<f64>,
}

/// The stages of cells of one arm with one budget, in their order; none where no field tells its stage.
pub(super) fn stages(cells: &[&Cell], seed: &str) -> Vec<StageFigures> {
    let mut by_stage: BTreeMap<(usize, &str), Vec<Held<'_>>> = BTreeMap::new();
    for cell in cells {
        for site in cell.sites.iter().filter(|site| !site.central) {
            for figures in &site.fields {
                if let Some(stage) = &figures.stage {
                    let held = Held { seed: cell.seed, site: &site.site, figures };
                    by_stage.entry((place(stage), stage)).or_default().push(held);
                }
            }
        }
    }
    by_stage.into_iter().map(|((_, stage), held)| of_stage(stage, &held, &format!("{seed}/{stage}"))).collect()
}

/// A field that was held out.
struct Held<'a> {
    seed: u64,
    site: &'a str,
    figures: &'a FieldFigures,
}

impl Held<'_> {
    fn has_foreground(&self) -> bool {
        self.figures.foreground.is_some_and(|share| share > 0.0)
    }
}

fn of_stage(stage: &str, held: &[Held<'_>], seed: &str) -> StageFigures {
    let distinct = |only: &dyn Fn(&Held<'_>) -> bool| {
        let names = held.iter().filter(|held| only(held)).map(|held| (held.site, held.figures.field.as_str()));
        names.collect::<BTreeSet<_>>().len()
    };
    let dice = values(held, |held| held.figures.dice_of_foreground().filter(|_| held.has_foreground()));
    let wrong = values(held, |held| held.figures.false_positive);
    let without = held.iter().filter(|held| held.figures.foreground == Some(0.0));
    let clean = without.filter_map(|held| held.figures.false_positive).map(|share| f64::from(u8::from(share == 0.0)));
    StageFigures {
        stage: stage.to_owned(),
        fields: distinct(&|_| true),
        with_foreground: distinct(&|held| held.has_foreground()),
        dice: bootstrap(&dice, &format!("{seed}/dice")),
        false_positive: bootstrap(&wrong, &format!("{seed}/false-positive")),
        clean: mean(clean),
    }
}

fn values(held: &[Held<'_>], of: impl Fn(&Held<'_>) -> Option<f64>) -> Values {
    let mut values = Values::new();
    for held in held {
        if let Some(value) = of(held) {
            let key = (String::new(), format!("{}/{}", held.site, held.figures.field));
            values.entry(key).or_default().insert(held.seed, value);
        }
    }
    values
}

fn place(stage: &str) -> usize {
    ORDER.iter().position(|name| name.eq_ignore_ascii_case(stage)).unwrap_or(ORDER.len())
}

#[cfg(test)]
mod tests {
    use super::super::cell::SiteFigures;
    use super::*;

    /// A field: name, stage, Dice, share of foreground in truth, share wrongly called foreground.
    type Told = (&'static str, Option<&'static str>, Option<f64>, f64, f64);

    fn site(name: &str, central: bool, fields: &[Told]) -> SiteFigures {
        let field = |&(field, stage, dice, foreground, wrong): &Told| FieldFigures {
            field: field.into(),
            stage: stage.map(str::to_owned),
            dice,
            foreground: Some(foreground),
            false_positive: Some(wrong),
            ece: None,
            maps: Vec::new(),
            boxes: Vec::new(),
            reliability: Vec::new(),
        };
        let fields = fields.iter().map(field).collect();
        SiteFigures { site: name.into(), central, fields, patches: Vec::new(), whole: None }
    }

    fn cell(seed: u64, sites: Vec<SiteFigures>) -> Cell {
        Cell { seed, fold: 0, arm: "random".into(), budget: 5, sites }
    }

    #[test]
    fn stages_by_hand() {
        let east: [Told; 4] = [
            ("a", Some("macro"), Some(0.75), 0.5, 0.125),
            ("b", Some("negative"), Some(0.0), 0.0, 0.25),
            ("c", Some("negative"), None, 0.0, 0.0),
            ("d", None, Some(0.125), 0.5, 0.5),
        ];
        let west: [Told; 2] = [("a", Some("macro"), Some(0.25), 0.5, 0.375), ("e", Some("IIIB"), Some(1.0), 0.5, 0.0)];
        let later: [Told; 1] = [("b", Some("negative"), None, 0.0, 0.0)];
        let home: [Told; 1] = [("h", Some("macro"), Some(0.0), 0.5, 1.0)];
        let cells = [
            cell(1, vec![site("east", false, &east), site("home", true, &home), site("west", false, &west)]),
            cell(2, vec![site("east", false, &later)]),
        ];
        let stages = stages(&cells.iter().collect::<Vec<_>>(), "s");
        let means = |i: usize| (stages[i].dice.map(|d| d.mean), stages[i].false_positive.map(|d| d.mean));
        assert_eq!(stages.iter().map(|s| s.stage.as_str()).collect::<Vec<_>>(), ["negative", "macro", "IIIB"]);
        // Negative: fields b (seeds 1 and 2) and c; no Dice, although b has one of 0; 0.25, 0 and 0 wrong; two of three clean.
        assert_eq!((stages[0].fields, stages[0].with_foreground), (2, 0));
        assert_eq!(means(0), (None, Some(0.25 / 3.0)));
        assert_eq!(stages[0].clean, Some(2.0 / 3.0));
        // Macro: one field at each of two sites, and an interval between them; the central site is left out.
        assert_eq!(stages[1].dice, Some(Interval { mean: 0.5, low: 0.25, high: 0.75 }));
        assert_eq!((stages[1].fields, stages[1].with_foreground), (2, 2));
        assert_eq!((means(1), stages[1].clean), ((Some(0.5), Some(0.25)), None));
        assert_eq!((means(2), stages[2].fields), ((Some(1.0), Some(0.0)), 1));
    }

    #[test]
    fn without_stages_there_is_nothing_to_tell() {
        let one = cell(1, vec![site("east", false, &[("a", None, Some(0.5), 0.5, 0.0)])]);
        assert_eq!(stages(&[&one], "s"), []);
    }
}
