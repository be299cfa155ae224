//! The demonstration, as small as it gets, from its options to its report: twice with one seed, to the same bytes.

use std::path::Path;

use consilium_simulation::experiment::{Finished, Options, Source, run};
use tokio_util::sync::CancellationToken;

fn options(out: &Path) -> Options {
    Options {
        seed: 11,
        sites: Some(2),
        rounds: Some(1),
        budget: Some(2),
        members: Some(1),
        quick: true,
        ..Options::new(Source::Drawn, out.to_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_seed_gives_the_same_metrics() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let mut found: Vec<(Vec<u8>, Finished)> = Vec::new();
    for name in ["first", "second"] {
        let out = folder.path().join(name);
        let finished = run(options(&out), "consilium-simulate".to_owned(), CancellationToken::new()).await.unwrap();
        assert!(finished.report.is_file() && out.join("metrics.csv").is_file() && out.join("timing.json").is_file());
        assert!(!out.join("work").exists(), "the work folder goes unless it is to be kept");
        found.push((std::fs::read(out.join("metrics.json")).unwrap(), finished));
    }
    let metrics = &found[0].1.metrics;
    assert_eq!((metrics.generations.len(), metrics.sites.len(), metrics.mean_over.len()), (2, 2, 1));
    assert_ne!(metrics.generations[0].manifest, metrics.generations[1].manifest, "the round changed the ensemble");
    assert!(metrics.patches.iter().any(|patch| patch.site != metrics.central));
    assert!(found[0].0 == found[1].0, "metrics.json differs between two runs with one seed");
}
