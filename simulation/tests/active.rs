//! Active learning on one folder: pools grow by what is asked for, a run that was broken off goes on to the same bytes, and
//! what cannot be used is said.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it was set up")]

mod common;

use std::fs;
use std::path::Path;

use common::small_plan;
use consilium_learning::engine::Device;
use consilium_simulation::active::{ActiveOptions, Strategy, learn};
use consilium_simulation::draw::{CentreSlides, centres, write_centre};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

fn options(folder: &Path, out: &str) -> ActiveOptions {
    ActiveOptions {
        data: folder.join("data"),
        out: folder.join(out),
        seed: Some(3),
        active_iters: 2,
        initial_pool: 2,
        queries: 1,
        strategies: vec![Strategy::Variance, Strategy::Random],
        mc_number: 3,
        dropout_ratio: 0.2,
        steps: Some(6),
        val_interval: 2,
        plan: Some(folder.join("plan.toml")),
        device: Device::Cpu,
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn pools_grow_and_a_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let slides = CentreSlides { learn: 6, test: 2, split: "pool" };
    write_centre(&folder.join("data"), &centres(1, 3)[0], 3, slides, &|| ()).unwrap();
    fs::write(folder.join("plan.toml"), small_plan().to_toml().unwrap()).unwrap();
    let run = |options| learn(options, "consilium-simulate active-learning".into(), CancellationToken::new());

    let once = run(options(folder, "once")).await.unwrap();
    assert!(once.table.contains("variance") && once.table.contains("full"), "{}", once.table);
    let out = folder.join("once");
    assert!(once.report.is_file() && out.join("dice.png").is_file());
    let (first, second) = (json(&out.join("pools/variance-0.json")), json(&out.join("pools/variance-1.json")));
    let count = |pool: &Value, list: &str| pool[list].as_array().unwrap().len();
    let counts = |pool: &Value| ["training", "unlabeled", "validation", "test"].map(|list| count(pool, list));
    assert_eq!((counts(&first), counts(&second)), ([2, 2, 2, 2], [3, 1, 2, 2]));
    assert_eq!(counts(&json(&out.join("pools/full-0.json"))), [4, 0, 2, 2]);
    let metrics = json(&out.join("metrics.json"));
    let asked = metrics[0]["iterations"][0]["asked"][0][0].as_str().unwrap();
    assert_eq!(second["training"][2].as_str(), Some(asked), "what was asked for is learned from");
    // Two pictures a step: an epoch of the first pool is one step, so that there is a look at every second of six.
    let looks: Vec<u64> = (metrics[0]["iterations"][0]["validation"].as_array().unwrap().iter())
        .map(|look| look[0].as_u64().unwrap())
        .collect();
    assert_eq!(looks, [2, 4, 6]);

    // Broken off in the second iteration, and asked for one iteration more than before.
    run(ActiveOptions { active_iters: 1, ..options(folder, "again") }).await.unwrap();
    run(options(folder, "again")).await.unwrap();
    for name in ["metrics.json", "pools/random-1.json", "models/variance-1.safetensors"] {
        let bytes = |out: &str| fs::read(folder.join(out).join(name)).unwrap();
        assert!(bytes("once") == bytes("again"), "{name}");
    }
    let refused = async |options: ActiveOptions| {
        let error = run(options).await.err().unwrap();
        assert_eq!(error.exit_code(), 64, "{error}");
        error.to_string()
    };
    let other = refused(ActiveOptions { queries: 2, ..options(folder, "again") }).await;
    assert!(other.contains("holds another run"), "{other}");
    let few = refused(ActiveOptions { initial_pool: 9, ..options(folder, "few") }).await;
    assert!(few.contains("has 8 pictures with masks") && few.contains("needs 13"), "{few}");
    assert!(refused(ActiveOptions { dropout_ratio: 1.0, ..options(folder, "few") }).await.contains("--dropout-ratio"));
    let one = refused(ActiveOptions { mc_number: 1, ..options(folder, "few") }).await;
    assert!(one.contains("--mc-number 1"), "{one}");
    let elsewhere = refused(ActiveOptions { out: folder.join("data"), ..options(folder, "few") }).await;
    assert!(elsewhere.contains("holds something else"), "{elsewhere}");
    // There are four pictures to learn from: all are asked for after two trainings, and nothing is asked after the third.
    run(ActiveOptions { active_iters: 9, strategies: vec![Strategy::Entropy], ..options(folder, "all") })
        .await
        .unwrap();
    assert_eq!(json(&folder.join("all/metrics.json"))[0]["iterations"].as_array().unwrap().len(), 3);
    assert!(refused(ActiveOptions { active_iters: 0, ..options(folder, "few") }).await.contains("--active-iters 0"));
}
