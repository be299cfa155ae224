//! A cell of a comparison held as a study, by a real coordinator and real sites over gRPC: the same patches and the same
//! figures, to the last bit.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it was set up")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use common::small_plan;
use consilium_common::Plan;
use consilium_common::plan::Score;
use consilium_learning::engine::Device;
use consilium_simulation::compare::{CompareOptions, compare};
use consilium_simulation::draw::{CentreSlides, centres, write_centre};
use consilium_simulation::experiment::{Options, Source, run};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const SEED: u64 = 5;

/// Two rounds with rehearsal, with or without replay of the first.
fn plan_of(seed: u64, score: Score, replay: bool) -> Plan {
    let mut plan = Plan { seed, rounds: 2, members: 2, ..small_plan() };
    plan.acquisition.score = score;
    (plan.initial_training.iterations, plan.fine_tuning.iterations) = (12, 4);
    (plan.rehearsal.patches, plan.rehearsal.replay, plan.quorum.min_sites) = (2, replay, 3);
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_held_over_grpc_gives_the_same_numbers() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let centres = centres(3, 3);
    for centre in &centres {
        let slides = CentreSlides { learn: 2, test: 2, split: "pool" };
        let root = folder.join("data").join(&centre.name);
        write_centre(&root, centre, 3, slides, &|| ()).unwrap();
        fs::remove_file(root.join("slides.csv")).unwrap();
    }
    let central = centres[0].name.clone();
    fs::write(folder.join("plan.toml"), plan_of(0, Score::Random, true).to_toml().unwrap()).unwrap();
    let options = CompareOptions {
        data: folder.join("data"),
        central: central.clone(),
        out: folder.join("compared"),
        acquisition: vec!["clasp-pe".into()],
        vary: vec!["rehearsal.replay=false".into()],
        budgets: vec![4],
        rounds: 2,
        cold: false,
        seed: SEED,
        seeds: 1,
        sites: None,
        folds: 2,
        members: None,
        quick: false,
        plan: Some(folder.join("plan.toml")),
        device: Device::Cpu,
    };
    compare(options, String::new(), CancellationToken::new()).await.unwrap();

    for (rule, score, fold, replay) in
        [("clasp-pe+replay=false", Score::ClaspPe, 0, false), ("uga", Score::Uga, 1, true)]
    {
        let path = folder.join(format!("compared/cells/seed-{SEED}-fold-{fold}-{rule}-4.json"));
        let cell: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let study = folder.join(format!("{rule}-{fold}"));
        for site in cell["sites"].as_array().unwrap() {
            hold_out(folder, &study, site);
        }
        let plan = study.join("plan.toml");
        fs::write(&plan, plan_of(10 * SEED + fold, score, replay).to_toml().unwrap()).unwrap();
        let options = Options {
            plan: Some(plan),
            ..Options::new(Source::Folders { data: study.join("data"), central: central.clone() }, study.join("out"))
        };
        let metrics = run(options, String::new(), CancellationToken::new()).await.unwrap().metrics;

        // In level-0 pixels of 0.5 um, of which the plan's have 16 a side.
        let asked: BTreeSet<(String, String, i64, i64)> =
            metrics.patches.iter().map(|p| (p.site.to_string(), p.slide.clone(), p.x / 16, p.y / 16)).collect();
        assert_eq!(asked, patches(&cell), "{rule}");
        assert_eq!(asked.len(), 8, "two sites are asked for two patches in two rounds");
        let dice: BTreeMap<String, f64> =
            metrics.generations.last().unwrap().sites.iter().map(|(site, dice)| (site.to_string(), *dice)).collect();
        assert_eq!(dice, dice_of(&cell), "{rule}");
        assert!(dice.values().any(|&dice| dice > 0.0), "{dice:?}");
    }
}

/// A data folder of a site with the slides of a cell, of which its fields are held out.
fn hold_out(folder: &Path, study: &Path, site: &Value) {
    let name = site["site"].as_str().unwrap();
    let (from, to) = (folder.join("data").join(name), study.join("data").join(name));
    let held_out: Vec<&str> =
        site["fields"].as_array().unwrap().iter().map(|field| field["field"].as_str().unwrap()).collect();
    assert_eq!(held_out.len(), 2);
    let mut table = String::from("slide,split\n");
    for kind in ["slides", "masks"] {
        fs::create_dir_all(to.join(kind)).unwrap();
        for file in fs::read_dir(from.join(kind)).unwrap().map(|entry| entry.unwrap().path()) {
            fs::copy(&file, to.join(kind).join(file.file_name().unwrap())).unwrap();
            let slide = file.file_stem().unwrap().to_str().unwrap();
            let split = match (held_out.contains(&slide), site["central"].as_bool().unwrap()) {
                (true, _) => "test",
                (false, true) => "train",
                (false, false) => "pool",
            };
            if kind == "slides" {
                table += &format!("{slide},{split}\n");
            }
        }
    }
    fs::write(to.join("slides.csv"), table).unwrap();
}

fn patches(cell: &Value) -> BTreeSet<(String, String, i64, i64)> {
    let mut all = BTreeSet::new();
    for site in cell["sites"].as_array().unwrap() {
        for patch in site["patches"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let at = |key: &str| patch[key].as_i64().unwrap();
            all.insert((text(&site["site"]), text(&patch["field"]), at("x"), at("y")));
        }
    }
    all
}

/// Mean over its held-out fields, of every site.
fn dice_of(cell: &Value) -> BTreeMap<String, f64> {
    let of = |site: &Value| {
        let dice: Vec<f64> =
            site["fields"].as_array().unwrap().iter().filter_map(|field| field["dice"].as_f64()).collect();
        (site["site"].as_str().unwrap().to_owned(), dice.iter().sum::<f64>() / dice.len() as f64)
    };
    cell["sites"].as_array().unwrap().iter().map(of).collect()
}
