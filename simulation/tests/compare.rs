//! A small comparison of rules: broken off and gone on with, the same bytes as in one go; other terms are refused.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it was set up")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::small_plan;
use consilium_common::Plan;
use consilium_learning::engine::Device;
use consilium_simulation::compare::{CompareOptions, compare, render};
use consilium_simulation::draw::{CentreSlides, centres, write_centre};
use consilium_simulation::experiment::ExperimentError;
use tokio_util::sync::CancellationToken;

/// Of two classes margin and least confidence say the same in other numbers.
const RULES: [&str; 6] = ["margin", "least-confidence", "typiclust", "two-stage", "class-error", "full"];

/// Two drawn centres with two slides each.
fn data(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    for centre in centres(2, 3) {
        let slides = CentreSlides { learn: 1, test: 1, split: "pool" };
        let folder = data.join(&centre.name);
        write_centre(&folder, &centre, 3, slides, &|| ()).unwrap();
        stages(&folder);
    }
    let plan = Plan { members: 2, ..small_plan() };
    fs::write(folder.join("plan.toml"), plan.to_toml().unwrap()).unwrap();
    data
}

/// Says of the first slide that it is negative, which it then is, and of the others that they are macro.
fn stages(folder: &Path) {
    let mut slides: Vec<PathBuf> = fs::read_dir(folder.join("slides")).unwrap().map(|e| e.unwrap().path()).collect();
    slides.sort();
    let mut table = String::from("slide,stage\n");
    for (index, slide) in slides.iter().enumerate() {
        let name = slide.file_stem().unwrap().to_string_lossy();
        table += &format!("{name},{}\n", if index == 0 { "negative" } else { "macro" });
        if index == 0 {
            let mask = folder.join("masks").join(format!("{name}.png"));
            let size = image::image_dimensions(&mask).unwrap();
            image::GrayImage::new(size.0, size.1).save(&mask).unwrap();
        }
    }
    fs::write(folder.join("slides.csv"), table).unwrap();
}

fn options(folder: &Path, out: &str) -> CompareOptions {
    CompareOptions {
        data: folder.join("data"),
        central: centres(2, 3)[0].name.clone(),
        out: folder.join(out),
        acquisition: RULES.map(str::to_owned).into(),
        vary: Vec::new(),
        budgets: vec![0, 2, 4],
        rounds: 2,
        cold: false,
        seed: 5,
        seeds: 1,
        sites: None,
        folds: 2,
        members: None,
        quick: false,
        plan: Some(folder.join("plan.toml")),
        device: Device::Cpu,
    }
}

/// The bytes of everything that is drawn of cells: summary, table, report and figures, by name.
fn drawn(out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(out.join("figures")).unwrap().map(|e| e.unwrap().path()).collect();
    let tables = ["table.csv", "sites.csv", "stages.csv", "maps.csv"];
    paths.extend(tables.iter().chain(&["summary.json", "report.html"]).map(|name| out.join(name)));
    paths.sort();
    let bytes = |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into(), fs::read(path).unwrap());
    paths.into_iter().map(bytes).collect()
}

/// The bytes of every cell and of the summary, by name.
fn results(out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(out.join("cells")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.extend(["summary.json", "table.csv"].map(|name| out.join(name)));
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.file_name().unwrap().to_string_lossy().into(), fs::read(path).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_goes_on_where_it_stopped_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let run = |options, shutdown| compare(options, "consilium-simulate compare".into(), shutdown);

    let stopped = CancellationToken::new();
    stopped.cancel();
    let error = run(options(folder.path(), "once"), stopped).await.err().unwrap();
    assert!(matches!(error, ExperimentError::Paused) && error.exit_code() == 130, "{error}");

    let whole = run(options(folder.path(), "once"), CancellationToken::new()).await.unwrap();
    assert!(whole.report.is_file() && whole.table.contains("uga") && whole.table.contains("random"), "{}", whole.table);
    let expected = results(&folder.path().join("once"));
    // Two folds of: the first ensemble, seven arms with two budgets, all fields once.
    assert_eq!(expected.len(), 2 * (1 + 7 * 2 + 1) + 2);
    let cell =
        |arm: &str| fs::read_to_string(folder.path().join(format!("once/cells/seed-5-fold-0-{arm}-4.json"))).unwrap();
    assert_eq!(cell("least-confidence"), cell("margin").replace("margin", "least-confidence"), "asked the same");
    let page = fs::read_to_string(&whole.report).unwrap();
    assert!(page.contains("<svg") && page.contains("mutual-information") && page.contains("first ensemble"));
    for figure in ["dice-4", "sites", "stages-2", "stages-4", "colours"] {
        assert!(folder.path().join(format!("once/figures/{figure}.png")).is_file(), "{figure}");
    }
    assert!(page.contains("By stage of disease") && page.contains("negative, "), "stages are told");
    drawn_again_without_data(folder.path(), &page);

    // Stopped in the middle of a cell: it is computed again.
    let again = folder.path().join("again");
    let cells = again.join("cells");
    stopped_after(options(folder.path(), "again"), 3).await;
    let kept = fs::read_dir(&cells).unwrap().count();
    assert!((3..expected.len() - 2).contains(&kept), "{kept} cells were finished");
    run(options(folder.path(), "again"), CancellationToken::new()).await.unwrap();
    assert!(results(&again) == expected, "stopped and gone on with");

    // So is what was lost, and with it nothing else changes.
    for (index, (name, _)) in expected.iter().enumerate().filter(|(_, (name, _))| name.starts_with("seed-")) {
        if index % 3 != 0 {
            fs::remove_file(cells.join(name)).unwrap();
        }
    }
    fs::remove_file(again.join("summary.json")).unwrap();
    run(options(folder.path(), "again"), CancellationToken::new()).await.unwrap();
    assert!(results(&again) == expected, "gone on with and in one go");

    let other = CompareOptions { rounds: 1, ..options(folder.path(), "again") };
    let error = run(other, CancellationToken::new()).await.err().unwrap().to_string();
    assert!(error.contains("holds a comparison with another plan"), "{error}");
}

/// Begins a comparison and stops it while it computes what comes after so many cells.
async fn stopped_after(options: CompareOptions, cells: usize) {
    let (folder, stop) = (options.out.join("cells"), CancellationToken::new());
    let finished = || fs::read_dir(&folder).map_or(0, Iterator::count);
    let running = tokio::spawn(compare(options, String::new(), stop.clone()));
    while finished() < cells && !running.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    let error = running.await.unwrap().err().unwrap();
    assert!(matches!(error, ExperimentError::Paused), "{error}");
}

/// What `once` keeps gives its report again, to the same bytes, in a folder where there is nothing else.
fn drawn_again_without_data(folder: &Path, page: &str) {
    let (once, alone) = (folder.join("once"), folder.join("alone"));
    fs::create_dir_all(alone.join("cells")).unwrap();
    for cell in fs::read_dir(once.join("cells")).unwrap().map(|e| e.unwrap().path()) {
        fs::copy(&cell, alone.join("cells").join(cell.file_name().unwrap())).unwrap();
    }
    fs::copy(once.join("cells/seed-5-fold-0-random-2.json"), alone.join("cells/seed-9-fold-0-random-2.json")).unwrap();
    for name in ["request.json", "sites.json", "terms.json"] {
        fs::copy(once.join(name), alone.join(name)).unwrap();
    }
    let done = render(&alone).unwrap();
    assert!(drawn(&alone) == drawn(&once), "drawn again; a cell that was not asked for is none of it");
    assert!(done.table.contains("random") && page.contains("<pre>consilium-simulate compare</pre>"));

    // Broken off: what is there is told, and what is missing.
    fs::remove_file(alone.join("cells/seed-5-fold-1-random-2.json")).unwrap();
    let page = fs::read_to_string(render(&alone).unwrap().report).unwrap();
    assert!(page.contains("31 of 32 cells are there"), "what is missing is said");

    // A folder of before the command line and the colours were kept.
    for name in ["request.json", "sites.json", "terms.json"] {
        fs::remove_file(alone.join(name)).unwrap();
    }
    fs::remove_file(alone.join("cells/seed-9-fold-0-random-2.json")).unwrap();
    let page = fs::read_to_string(render(&alone).unwrap().report).unwrap();
    assert!(page.contains("The command line was not kept.") && !page.contains("differ in colour"));
    assert_eq!(render(folder).err().unwrap().exit_code(), 64);
}

#[tokio::test]
async fn settings_are_varied_on_the_same_patches() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let options = CompareOptions {
        acquisition: vec!["random".into()],
        vary: ["fine_tuning.learning_rate=0.02", "rehearsal.patches=2"].map(str::to_owned).into(),
        budgets: vec![1, 2],
        rounds: 1,
        ..options(folder.path(), "varied")
    };
    let done = compare(options, String::new(), CancellationToken::new()).await.unwrap();
    told_by_both_differences(&folder.path().join("varied"));
    assert!(done.table.contains("random learning_rate=0.02"), "{}", done.table);
    let cell = |arm: &str| {
        let path = folder.path().join(format!("varied/cells/seed-5-fold-0-{arm}-2.json"));
        serde_json::from_str::<serde_json::Value>(&fs::read_to_string(path).unwrap()).unwrap()["sites"].take()
    };
    let of = |cell: &serde_json::Value, what: &str| -> Vec<String> {
        cell.as_array().unwrap().iter().map(|site| site[what].to_string()).collect()
    };
    let plain = cell("random");
    for arm in ["random+learning_rate=0.02", "random+patches=2"] {
        let varied = cell(arm);
        assert_eq!(of(&plain, "patches"), of(&varied, "patches"), "{arm}");
        assert_ne!(of(&plain, "fields"), of(&varied, "fields"), "{arm}");
    }
}

/// The table and the report tell the summary's differences from fewer patches and from the unvaried rule.
fn told_by_both_differences(out: &Path) {
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("summary.json")).expect("a summary")).expect("JSON");
    let mut table = csv::Reader::from_path(out.join("table.csv")).expect("a table");
    let lines: Vec<BTreeMap<String, String>> = table.deserialize().map(|line| line.expect("a line")).collect();
    let rows = summary["rows"].as_array().expect("rows");
    assert_eq!(lines.len(), rows.len());
    for (key, column) in [("more_patches", "minus_fewer_patches"), ("unvaried", "minus_unvaried")] {
        let told = |(row, line): (&serde_json::Value, &BTreeMap<String, String>)| {
            let mean = row[key][0]["mean"].as_f64();
            assert_eq!(line[column], mean.map_or(String::new(), |mean| format!("{mean:.6}")), "{column}");
            usize::from(mean.is_some())
        };
        // Of random and UGA, and of two settings of random, with two patches; of the settings with one, too.
        assert_eq!(rows.iter().zip(&lines).map(told).sum::<usize>(), 4, "{column}");
    }
    let page = fs::read_to_string(out.join("report.html")).expect("a report");
    assert!(page.contains("minus fewer patches") && page.contains("minus unvaried"));
}

#[tokio::test]
async fn near_duplicates_are_left_out_of_a_choice_and_of_later_rounds() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let options = CompareOptions {
        acquisition: vec!["random".into(), "bald".into()],
        // Features point nowhere near the opposite way: one box is near every other.
        vary: vec!["acquisition.min_feature_distance=2".into()],
        budgets: vec![4],
        ..options(folder.path(), "apart")
    };
    compare(options, String::new(), CancellationToken::new()).await.unwrap();
    for (arm, asked) in
        [("random", 4), ("bald", 4), ("random+min_feature_distance=2", 1), ("bald+min_feature_distance=2", 1)]
    {
        let cell = fs::read_to_string(folder.path().join(format!("apart/cells/seed-5-fold-0-{arm}-4.json"))).unwrap();
        let cell: serde_json::Value = serde_json::from_str(&cell).unwrap();
        let sites = cell["sites"].as_array().unwrap();
        let patches: Vec<usize> = sites.iter().map(|site| site["patches"].as_array().unwrap().len()).collect();
        assert_eq!(patches.iter().max(), Some(&asked), "{arm}: {patches:?}");
    }
}

#[tokio::test]
async fn a_cold_start_begins_with_the_first_ensemble_in_every_round() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let mut cells = Vec::new();
    for (out, cold) in [("warm", false), ("cold", true)] {
        let options = CompareOptions { acquisition: Vec::new(), budgets: vec![2], cold, ..options(folder.path(), out) };
        compare(options, String::new(), CancellationToken::new()).await.unwrap();
        let cell =
            |arm: &str| fs::read_to_string(folder.path().join(out).join(format!("cells/seed-5-fold-0-{arm}.json")));
        cells.push((cell("first-0").unwrap(), cell("random-2").unwrap()));
    }
    assert_eq!(cells[0].0, cells[1].0, "the same first ensemble");
    assert_ne!(cells[0].1, cells[1].1);
}

#[tokio::test]
async fn what_cannot_be_compared_is_said() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let refused = async |options: CompareOptions| {
        let error = compare(options, String::new(), CancellationToken::new()).await.err().unwrap();
        assert_eq!(error.exit_code(), 64, "{error}");
        error.to_string()
    };
    let of = || options(folder.path(), "out");
    assert!(refused(CompareOptions { acquisition: vec!["best".into()], ..of() }).await.contains("there are random"));
    assert!(refused(CompareOptions { budgets: vec![0], ..of() }).await.contains("--budget"));
    assert!(refused(CompareOptions { budgets: vec![1], ..of() }).await.contains("--rounds 2"));
    assert!(refused(CompareOptions { folds: 1, ..of() }).await.contains("--folds"));
    assert!(refused(CompareOptions { rounds: 1, cold: true, ..of() }).await.contains("--cold needs --rounds 2"));
    let forgetful = CompareOptions {
        cold: true,
        acquisition: vec!["random".into()],
        vary: vec!["rehearsal.replay=false".into()],
        ..of()
    };
    assert!(refused(forgetful).await.contains("leave one of them out"));
    assert!(refused(CompareOptions { sites: Some(0), ..of() }).await.contains("--sites"));
    assert!(refused(CompareOptions { seed: u64::MAX, ..of() }).await.contains("--seed must be at most"));
    assert!(refused(CompareOptions { central: "nobody".into(), ..of() }).await.contains("no site `nobody`"));
    assert!(!folder.path().join("out").exists(), "nothing was written");
}
