//! The summary of a comparison from its cells: Dice by field and seed, what it cost, and how arms differ from the controls.

use std::collections::{BTreeMap, BTreeSet};

use super::arms::FULL;
use super::cell::Cell;
use super::first_ensemble::{box_summary, boxes, maps, reliability};
use super::stages::stages;
use super::statistics::{Interval, Values, area, bootstrap, mean, mean_of};
use super::summary::{ArmSummary, CONTROLS, Differences, FIRST, Row, Summary};

/// The Dice of every field and seed, by arm and budget.
type Curves<'a> = BTreeMap<(&'a str, u32), Values>;

/// Of all cells, at so many micrometres a pixel if that is known.
pub(super) fn summarise(cells: &[Cell], spacing_um: Option<f64>) -> Summary {
    let mut keys: Vec<(&str, u32)> = Vec::new();
    let mut by_key: BTreeMap<(&str, u32), Vec<&Cell>> = BTreeMap::new();
    for cell in cells {
        let key = (cell.arm.as_str(), cell.budget);
        if !by_key.contains_key(&key) {
            keys.push(key);
        }
        by_key.entry(key).or_default().push(cell);
    }
    let curves: Curves<'_> = by_key.iter().map(|(key, cells)| (*key, dice(cells, false))).collect();
    let rows: Vec<Row> = keys.iter().map(|key| row(*key, &by_key[key], &curves, spacing_um)).collect();
    let largest = keys.iter().map(|(_, budget)| *budget).max().unwrap_or(0);
    let at_largest = keys.iter().filter(|(_, budget)| *budget == largest);
    let areas: BTreeMap<&str, Values> =
        at_largest.clone().filter_map(|(arm, _)| Some((*arm, areas(arm, &curves)?))).collect();
    let distinct = |of: &dyn Fn(&Cell) -> u64| cells.iter().map(of).collect::<BTreeSet<u64>>().len();
    Summary {
        seeds: distinct(&|cell| cell.seed),
        folds: distinct(&|cell| cell.fold as u64),
        spacing_um,
        rows,
        arms: at_largest.map(|(arm, _)| arm_summary(arm, &areas)).collect(),
        maps: maps(cells),
        reliability: reliability(cells),
        boxes: box_summary(boxes(cells)),
        colours: Vec::new(),
    }
}

/// An arm with a budget.
fn row((arm, budget): (&str, u32), cells: &[&Cell], curves: &Curves<'_>, spacing_um: Option<f64>) -> Row {
    let values = &curves[&(arm, budget)];
    let mut by_site: BTreeMap<String, Values> = BTreeMap::new();
    for (key, of_field) in values {
        by_site.entry(key.0.clone()).or_default().insert(key.clone(), of_field.clone());
    }
    let seeds: BTreeSet<u64> = cells.iter().map(|cell| cell.seed).collect();
    let others = || cells.iter().flat_map(|cell| &cell.sites).filter(|site| !site.central);
    let empty = others().flat_map(|site| &site.fields).filter(|field| field.foreground == Some(0.0));
    let text = format!("{arm}/{budget}");
    let patches: Vec<(f64, f64)> =
        others().flat_map(|site| &site.patches).map(|p| (p.foreground, p.foreground_of_pool)).collect();
    let (asked, pool) = (mean(patches.iter().map(|p| p.0)), mean(patches.iter().map(|p| p.1)));
    let whole = others().any(|site| site.whole.is_some()) || arm == FULL;
    let told = spacing_um.filter(|_| budget > 0 && (!whole || others().all(|site| site.whole.is_some())));
    let mm2 = |of: fn((f64, f64)) -> f64| {
        let spacing = told? / 1000.0;
        Some(mean(others().map(|site| of(site.annotated())))? * spacing * spacing)
    };
    let (area_mm2, foreground_mm2) = (mm2(|(all, _)| all), mm2(|(_, foreground)| foreground));
    let gain = curves.get(&(FIRST, 0)).and_then(|first| mean_of(&paired(values, first), None));
    Row {
        arm: arm.to_owned(),
        budget,
        asked: mean(others().map(|site| site.patches.len() as f64)).filter(|_| !whole),
        area_mm2,
        foreground_mm2,
        dice: bootstrap(values, &text),
        by_seed: seeds.into_iter().filter_map(|seed| mean_of(values, Some(seed))).collect(),
        by_site: by_site.into_iter().filter_map(|(site, values)| site_interval(site, &values, &text)).collect(),
        central: bootstrap(&dice(cells, true), &format!("{text}/central")),
        ece: mean(others().flat_map(|site| &site.fields).filter_map(|field| field.ece)),
        foreground_enrichment: asked.zip(pool).filter(|(_, pool)| *pool > 0.0).map(|(asked, pool)| asked / pool),
        gain_per_mm2: gain.zip(foreground_mm2).filter(|(_, mm2)| *mm2 > 0.0).map(|(gain, mm2)| gain / mm2),
        differences: from_controls((arm, budget), curves),
        more_patches: from_fewer((arm, budget), curves),
        unvaried: from_unvaried((arm, budget), curves),
        false_positive: mean(empty.filter_map(|field| field.false_positive)),
        stages: stages(cells, &text),
    }
}

/// How an arm differs from the controls with the same budget; the first ensemble has none.
fn from_controls((arm, budget): (&str, u32), curves: &Curves<'_>) -> Differences {
    let against = |name: &'static str| {
        let other = curves.get(&(name, if name == FIRST { 0 } else { budget }))?;
        difference(&curves[&(arm, budget)], other, &format!("difference/{budget}"))
            .map(|found| (name.to_owned(), found))
    };
    CONTROLS.into_iter().filter(|name| *name != arm && budget > 0).filter_map(against).collect()
}

/// What an arm gains over itself with the next smaller budget.
fn from_fewer((arm, budget): (&str, u32), curves: &Curves<'_>) -> Option<(Interval, usize)> {
    let (_, fewer) = curves.range((arm, 1)..(arm, budget.max(1))).next_back()?;
    difference(&curves[&(arm, budget)], fewer, &format!("difference/{budget}"))
}

/// What an arm that varies a setting, which is named after the rule and a space, has over the rule under the plan itself.
fn from_unvaried((arm, budget): (&str, u32), curves: &Curves<'_>) -> Option<(Interval, usize)> {
    let (rule, _) = arm.split_once(' ')?;
    difference(&curves[&(arm, budget)], curves.get(&(rule, budget))?, &format!("difference/{budget}"))
}

/// The mean of paired differences with its interval, and how many they are. `text` names neither, so that the interval of
/// A - B is that of B - A turned round.
fn difference(own: &Values, other: &Values, text: &str) -> Option<(Interval, usize)> {
    let differences = paired(own, other);
    Some((bootstrap(&differences, text)?, differences.values().map(BTreeMap::len).sum()))
}

/// An arm over all budgets; `areas` are those of all arms.
fn arm_summary(arm: &str, areas: &BTreeMap<&str, Values>) -> ArmSummary {
    let own = areas.get(arm);
    let against = |name: &'static str| {
        let (own, other) = (own?, areas.get(name)?);
        difference(own, other, "difference/area").map(|found| (name.to_owned(), found))
    };
    ArmSummary {
        arm: arm.to_owned(),
        area: own.and_then(|own| bootstrap(own, &format!("{arm}/area"))),
        differences: CONTROLS.into_iter().filter(|name| *name != arm).filter_map(against).collect(),
    }
}

/// The area under every field's and seed's curve over an arm's budgets, where none of its points is missing. The first
/// ensemble is every arm at budget 0; an arm that knows one budget only has no curve.
fn areas(arm: &str, curves: &Curves<'_>) -> Option<Values> {
    let first = curves.get(&(FIRST, 0))?;
    let of_arm = curves.iter().filter(|((name, budget), _)| *name == arm && arm != FULL && *budget > 0);
    let points: Vec<(f64, &Values)> =
        [(0.0, first)].into_iter().chain(of_arm.map(|((_, budget), values)| (f64::from(*budget), values))).collect();
    let (_, last) = points.last()?;
    let mut found = Values::new();
    for (key, seeds) in last.iter() {
        for &seed in seeds.keys() {
            let at = |(budget, values): &(f64, &Values)| Some((*budget, *values.get(key)?.get(&seed)?));
            if let Some(area) = points.iter().map(at).collect::<Option<Vec<_>>>().and_then(|points| area(&points)) {
                found.entry(key.clone()).or_default().insert(seed, area);
            }
        }
    }
    (!found.is_empty()).then_some(found)
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

#[cfg(test)]
mod tests {
    use super::super::cell::{FieldFigures, PatchFigures, SiteFigures, WholeFigures};
    use super::*;

    fn field(name: &str, dice: Option<f64>, foreground: Option<f64>, wrong: Option<f64>) -> FieldFigures {
        let (field, false_positive) = (name.to_owned(), wrong);
        let (maps, boxes, reliability) = (Vec::new(), Vec::new(), Vec::new());
        FieldFigures { field, stage: None, dice, foreground, false_positive, ece: None, maps, boxes, reliability }
    }

    fn cell(arm: &str, budget: u32, central: bool, fields: Vec<FieldFigures>) -> Cell {
        let site = SiteFigures { site: "s".into(), central, fields, patches: Vec::new(), whole: None };
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
        let summary = summarise(&[cell(FIRST, 0, false, first), cell("random", 5, false, then)], Some(0.5));
        let rows: Vec<_> = summary.rows.iter().map(|row| (row.dice.map(|d| d.mean), row.false_positive)).collect();
        assert_eq!(rows, [(Some(0.5), Some(0.125)), (Some(0.75), Some(0.0625))]);
        let always = |value| Interval { mean: value, low: value, high: value };
        assert_eq!(summary.rows[1].differences[FIRST], (always(0.25), 1));
        assert_eq!((summary.arms[0].area, summary.budgets()), (Some(always(0.625)), vec![5]));
    }

    #[test]
    fn an_arm_is_compared_with_itself_with_fewer_patches() {
        let one = |dice| vec![field("a", Some(dice), Some(0.25), None)];
        let cells = [(FIRST, 0, 0.25), ("uga", 10, 0.875), ("uga", 2, 0.5), ("uga", 5, 0.75), ("random", 5, 0.5)];
        let cells = cells.map(|(arm, budget, dice)| cell(arm, budget, false, one(dice)));
        let summary = summarise(&cells, None);
        let gained: Vec<_> = summary.rows.iter().map(|row| row.more_patches.map(|(of, _)| of.mean)).collect();
        assert_eq!(gained, [None, Some(0.125), None, Some(0.25), None]);
    }

    #[test]
    fn what_varies_a_setting_is_compared_with_the_same_rule_under_the_plan() {
        let one = |dice| vec![field("a", Some(dice), Some(0.25), None)];
        let arms =
            [("uga", 5, 0.75), ("uga patches=20", 5, 0.875), ("uga patches=20", 10, 0.875), ("kl hed=0", 5, 0.5)];
        let cells = arms.map(|(arm, budget, dice)| cell(arm, budget, false, one(dice)));
        let summary = summarise(&[vec![cell(FIRST, 0, false, one(0.25))], cells.to_vec()].concat(), None);
        let gained: Vec<_> = summary.rows.iter().map(|row| row.unvaried.map(|(of, _)| of.mean)).collect();
        assert_eq!(gained, [None, None, Some(0.125), None, None]);
    }

    #[test]
    fn cells_of_before_say_nothing_of_empty_fields() {
        let fields = || vec![field("a", Some(0.5), None, None), field("b", Some(0.0), None, None)];
        let mut cells = vec![cell(FIRST, 0, false, fields())];
        cells[0].sites.push(SiteFigures {
            site: "home".into(),
            central: true,
            fields: fields(),
            patches: Vec::new(),
            whole: None,
        });
        let row = &summarise(&cells, None).rows[0];
        assert_eq!((row.dice.map(|d| d.mean), row.central.map(|d| d.mean)), (Some(0.25), Some(0.25)));
        assert_eq!((row.by_site["s"].mean, row.by_site.len()), (0.25, 1));
        assert_eq!((row.false_positive, row.stages.len()), (None, 0));
    }

    #[test]
    fn what_was_labelled_is_told_by_area_and_what_it_gained() {
        let one = |dice| vec![field("a", Some(dice), Some(0.25), None)];
        let patch =
            PatchFigures { field: "b".into(), x: 0, y: 0, side: 100, foreground: 0.5, foreground_of_pool: 0.25 };
        let mut five = cell("random", 5, false, one(0.75));
        five.sites[0].patches = vec![patch; 2];
        let mut full = cell(FULL, 10, false, one(0.875));
        full.sites[0].whole = Some(WholeFigures { pixels: 1_000_000, foreground: 0.25 });
        let cells = [cell(FIRST, 0, false, one(0.5)), five, full];
        let rows = summarise(&cells, Some(0.5)).rows;
        let told = |row: &Row| [row.asked, row.area_mm2, row.foreground_mm2, row.foreground_enrichment];
        assert_eq!(told(&rows[0]), [Some(0.0), None, None, None]);
        assert_eq!(told(&rows[1]), [Some(2.0), Some(0.005), Some(0.0025), Some(2.0)]);
        assert_eq!(told(&rows[2]), [None, Some(0.25), Some(0.0625), None]);
        assert_eq!((rows[1].gain_per_mm2, rows[2].gain_per_mm2), (Some(100.0), Some(6.0)));
        let unknown = summarise(&cells, None).rows;
        assert!(unknown.iter().all(|row| row.area_mm2.is_none() && row.gain_per_mm2.is_none()));
    }

    #[test]
    fn arms_are_compared_at_every_budget_and_over_all() {
        let one = |dice| vec![field("a", Some(dice), Some(0.25), None)];
        let of = |arm: &str, budget, dice| cell(arm, budget, false, one(dice));
        let mut cells = vec![of(FIRST, 0, 0.5), of("random", 5, 0.625), of("random", 10, 0.75)];
        cells.extend([of("uga", 5, 0.75), of("uga", 10, 0.5)]);
        let summary = summarise(&cells, None);
        let minus = |found: &Differences, control: &str| found.get(control).map(|(interval, n)| (interval.mean, *n));
        let by_row: Vec<_> = summary.rows.iter().map(|row| minus(&row.differences, "random")).collect();
        assert_eq!(by_row, [None, None, None, Some((0.125, 1)), Some((-0.25, 1))]);
        let areas: Vec<_> = summary.arms.iter().map(|arm| arm.area.map(|area| area.mean)).collect();
        assert_eq!(areas, [Some(0.625), Some(0.625)]);
        assert_eq!(minus(&summary.arms[1].differences, "random"), Some((0.0, 1)));
        let turned = |of: Interval| Interval { mean: -of.mean, low: -of.high, high: -of.low };
        assert_eq!(summary.rows[2].differences["uga"].0, turned(summary.rows[4].differences["random"].0));

        // A field of which a point is missing is in no area.
        cells[4].sites[0].fields[0].dice = None;
        assert_eq!(summarise(&cells, None).arms[1].area, None);
    }
}
