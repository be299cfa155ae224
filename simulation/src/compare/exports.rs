//! The figures of a summary for a spreadsheet: `table.csv` by arm, `sites.csv`, `stages.csv` and `maps.csv`.

use std::path::Path;

use super::statistics::Interval;
use super::summary::{CONTROLS, Row, Summary};
use crate::experiment::ExperimentError;

/// Headings and lines.
type Table = (Vec<String>, Vec<Vec<String>>);

/// Writes every table that has lines into a folder.
pub(super) fn write(out: &Path, summary: &Summary) -> Result<(), ExperimentError> {
    let tables =
        [("table", arms(summary)), ("sites", sites(summary)), ("stages", stages(summary)), ("maps", maps(summary))];
    for (name, (headings, lines)) in tables.into_iter().filter(|(_, (_, lines))| !lines.is_empty()) {
        let path = out.join(format!("{name}.csv"));
        let written = || {
            let mut writer = csv::Writer::from_path(&path)?;
            writer.write_record(headings)?;
            lines.into_iter().try_for_each(|line| writer.write_record(line))?;
            Ok::<_, csv::Error>(writer.flush()?)
        };
        written().map_err(|error| ExperimentError::file(&path)(error.into()))?;
    }
    Ok(())
}

/// A line an arm and budget.
fn arms(summary: &Summary) -> Table {
    let mut headings = names(&["arm", "budget"]);
    headings.extend(three_names("dice"));
    let cost = ["asked", "area_mm2", "foreground_mm2", "foreground_enrichment", "gain_per_mm2"];
    headings.extend(names(&["central_dice", "ece"]).into_iter().chain(names(&cost)).chain(names(&["false_positive"])));
    headings.extend(CONTROLS.iter().flat_map(|name| three_names(&format!("minus_{}", name.replace([' ', '-'], "_")))));
    headings.extend(["minus_fewer_patches", "minus_unvaried"].into_iter().flat_map(three_names));
    headings.extend(names(&["dice_by_seed"]));
    let line = |row: &Row| {
        let mut cells = key(row);
        cells.extend(three(row.dice));
        let cost = [row.asked, row.area_mm2, row.foreground_mm2, row.foreground_enrichment, row.gain_per_mm2];
        cells.extend([row.central.map(|d| d.mean), row.ece].into_iter().chain(cost).map(number));
        cells.push(number(row.false_positive));
        cells.extend(CONTROLS.iter().flat_map(|control| three(row.differences.get(*control).map(|(of, _)| *of))));
        cells.extend([row.more_patches, row.unvaried].into_iter().flat_map(|of| three(of.map(|(of, _)| of))));
        cells.push(row.by_seed.iter().map(|dice| format!("{dice:.6}")).collect::<Vec<_>>().join(" "));
        cells
    };
    (headings, summary.rows.iter().map(line).collect())
}

/// A line an arm, budget and site; the central one is called so.
fn sites(summary: &Summary) -> Table {
    let headings = names(&["arm", "budget", "site"]).into_iter().chain(three_names("dice")).collect();
    let mut lines = Vec::new();
    for row in &summary.rows {
        let others = row.by_site.iter().map(|(site, dice)| (site.as_str(), Some(*dice)));
        for (site, dice) in others.chain([("(central)", row.central)]) {
            lines.push(key(row).into_iter().chain([site.to_owned()]).chain(three(dice)).collect());
        }
    }
    (headings, lines)
}

/// A line an arm, budget and stage of disease.
fn stages(summary: &Summary) -> Table {
    let mut headings = names(&["arm", "budget", "stage", "fields", "fields_with_foreground"]);
    headings.extend(three_names("dice").into_iter().chain(three_names("false_positive")).chain(names(&["clean"])));
    let mut lines = Vec::new();
    for row in &summary.rows {
        for of in &row.stages {
            let mut cells = key(row);
            cells.extend([of.stage.clone(), of.fields.to_string(), of.with_foreground.to_string()]);
            cells.extend(three(of.dice).into_iter().chain(three(of.false_positive)).chain([number(of.clean)]));
            lines.push(cells);
        }
    }
    (headings, lines)
}

/// A line an uncertainty of the first ensemble.
fn maps(summary: &Summary) -> Table {
    let headings = names(&["map"]).into_iter().chain(three_names("error_auroc")).chain(three_names("aurc")).collect();
    let lines = summary.maps.iter().map(|of| {
        let figures = three(of.error_auroc).into_iter().chain(three(of.aurc));
        [of.map.clone()].into_iter().chain(figures).collect()
    });
    (headings, lines.collect())
}

fn key(row: &Row) -> Vec<String> {
    vec![row.arm.clone(), row.budget.to_string()]
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The columns of a mean with its interval.
fn three_names(name: &str) -> [String; 3] {
    [name.to_owned(), format!("{name}_low"), format!("{name}_high")]
}

fn three(of: Option<Interval>) -> [String; 3] {
    [of.map(|d| d.mean), of.map(|d| d.low), of.map(|d| d.high)].map(number)
}

fn number(value: Option<f64>) -> String {
    value.map_or(String::new(), |v| format!("{v:.6}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::stages::StageFigures;
    use super::super::summary::MapSummary;
    use super::*;

    #[test]
    fn tables_have_a_line_an_arm_a_site_a_stage_and_a_map() {
        let interval = Interval { mean: 0.5, low: 0.25, high: 0.75 };
        let stage = StageFigures {
            stage: "isolated, few".into(),
            fields: 3,
            with_foreground: 2,
            dice: Some(interval),
            false_positive: None,
            clean: Some(1.0),
        };
        let mut row: Row = serde_json::from_str(
            r#"{"arm": "uga", "budget": 5, "asked": 5.0, "dice": null, "by_seed": [0.5, 0.25], "by_site": {}, "central": null,
                "ece": null, "foreground_enrichment": null}"#,
        )
        .unwrap();
        row.dice = Some(interval);
        row.by_site.insert("lakeside".into(), interval);
        row.stages.push(stage);
        let map = MapSummary { map: "entropy".into(), error_auroc: Some(interval), aurc: None };
        let mut summary: Summary =
            serde_json::from_str(r#"{"seeds": 2, "folds": 2, "rows": [], "arms": [], "maps": []}"#).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &summary).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing to tell");

        (summary.rows, summary.maps) = (vec![row], vec![map]);
        write(folder.path(), &summary).unwrap();
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let three = "0.500000,0.250000,0.750000";
        assert_eq!(
            text("sites.csv"),
            format!("arm,budget,site,dice,dice_low,dice_high\nuga,5,lakeside,{three}\nuga,5,(central),,,\n")
        );
        assert!(text("stages.csv").ends_with(&format!("\nuga,5,\"isolated, few\",3,2,{three},,,,1.000000\n")));
        assert!(text("maps.csv").ends_with(&format!("\nentropy,{three},,,\n")));
        let table = text("table.csv");
        let (headings, line) = table.trim_end().split_once('\n').unwrap();
        assert_eq!(headings.split(',').count(), line.split(',').count());
        assert!(
            line.starts_with(&format!("uga,5,{three},,,5.000000")) && line.ends_with(",0.500000 0.250000"),
            "{line}"
        );
    }
}
