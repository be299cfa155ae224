//! A whole study, with a real coordinator and real sites, of whose patches some are controls.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it was set up")]

mod common;

use common::small_plan;
use consilium_simulation::experiment::{Options, Source, run};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_study_with_control_patches_tells_them_apart() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    let mut plan = small_plan();
    plan.acquisition.control_share = 0.5;
    std::fs::write(&path, plan.to_toml().unwrap()).unwrap();
    let options = Options {
        sites: Some(2),
        quick: true,
        plan: Some(path),
        ..Options::new(Source::Drawn, folder.path().join("out"))
    };
    let finished = run(options, String::new(), CancellationToken::new()).await.unwrap();
    let patches = &finished.metrics.patches;
    assert_eq!((patches.len(), patches.iter().filter(|patch| patch.control).count()), (2, 1));
    let page = std::fs::read_to_string(&finished.report).unwrap();
    assert!(page.contains("Control patches") && page.contains("as controls"));
    assert!(page.contains("on the corrections but the controls"));
}
