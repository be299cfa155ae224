//! A small comparison of rules: broken off and gone on with, the same bytes as in one go; other terms are refused.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it was set up")]

use std::fs;
use std::path::{Path, PathBuf};

use consilium_learning::engine::Device;
use consilium_simulation::compare::{CompareOptions, compare};
use consilium_simulation::draw::{CentreSlides, centres, write_centre};
use consilium_simulation::experiment::ExperimentError;
use tokio_util::sync::CancellationToken;

const PLAN: &str = r#"
schema = 1
title = "a small comparison"
seed = 1
rounds = 1
members = 2
[task]
classes = ["background", "tumour"]
spacing_um = 8.0
[architecture]
input_channels = 3
classes = 2
features = [4, 8]
strides = [1, 2]
convs = [1, 1]
decoder_convs = [1]
norm = "instance"
bias = true
[scan]
tile_px = 64
[acquisition]
score = "mean-uncertainty"
budget = 2
patch_px = 32
min_tissue = 0.1
[initial_training]
iterations = 4
batch_size = 2
patch_px = 32
learning_rate = 0.02
[fine_tuning]
iterations = 2
batch_size = 2
patch_px = 32
learning_rate = 0.01
[quorum]
min_sites = 2
"#;

/// Two drawn centres with two slides each.
fn data(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    for centre in centres(2, 3) {
        let slides = CentreSlides { learn: 1, test: 1, split: "pool" };
        write_centre(&data.join(&centre.name), &centre, 3, slides, &|| ()).unwrap();
    }
    fs::write(folder.join("plan.toml"), PLAN).unwrap();
    data
}

fn options(folder: &Path, out: &str) -> CompareOptions {
    CompareOptions {
        data: folder.join("data"),
        central: centres(2, 3)[0].name.clone(),
        out: folder.join(out),
        acquisition: ["entropy", "clasp-pe", "typiclust", "two-stage", "class-error", "full"].map(str::to_owned).into(),
        budgets: vec![0, 2, 4],
        rounds: 2,
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
    let page = fs::read_to_string(&whole.report).unwrap();
    assert!(page.contains("<svg") && page.contains("mutual-information") && page.contains("first ensemble"));
    assert!(folder.path().join("once/figures/dice-4.png").is_file());

    // What is lost or was never finished is computed again: cells, and with them nothing else changes.
    let again = folder.path().join("again");
    run(options(folder.path(), "again"), CancellationToken::new()).await.unwrap();
    let cells = again.join("cells");
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
    assert!(refused(CompareOptions { central: "nobody".into(), ..of() }).await.contains("no site `nobody`"));
    assert!(!folder.path().join("out").exists(), "nothing was written");
}
