//! Flat memory: the coordinator's memory grows neither with the number of sites nor with the size of the model.
//!
//! Alone in its binary, because the peak of a process is measured.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::site::update;
use common::{Coordinator, constant, plan_of, site, study, write_bundle};
use consilium_common::messages::Task;
use consilium_common::plan::Architecture;
use consilium_common::{Digest, limits};
use consilium_proto::v1;

const SITES: usize = 32;
/// Bands of aggregation, transfer windows, allocator slack, and one delta that the test itself holds.
const ALLOWED_MIB: u64 = 72;

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_the_sites() {
    let plan = plan_of(Architecture::plain(2, 16, 5), 1);
    let coordinator = Coordinator::start().await;
    let names: Vec<String> = (0..SITES).map(|index| format!("site-{index:02}")).collect();
    let mut sites = Vec::new();
    for name in &names {
        sites.push(coordinator.site(name).await);
    }
    let bundle = tempfile::tempdir().unwrap();
    write_bundle(bundle.path(), &plan);
    let ids: Vec<_> = names.iter().map(|name| site(name)).collect();
    coordinator.operator.create_study(&study("s"), &plan, bundle.path(), &ids).await.unwrap();
    for site in &sites {
        let Task::Evaluate(order) = site.task(0).await else { panic!() };
        site.evaluate(&order, 0.5).await;
    }
    let model_mib = constant(&plan, 0.0).len() as u64 >> 20;
    let before = peak_mib();
    let started = std::time::Instant::now();
    let (mut sending, mut submitting) = (0.0, 0.0);
    for (index, site) in sites.iter().enumerate() {
        let Task::Learn(order) = site.task(30).await else { panic!() };
        let delta = constant(&plan, f32::from(u8::try_from(index).unwrap()));
        let start = std::time::Instant::now();
        assert!(site.send(&delta, 0, delta.len(), limits::CHUNK_BYTES).await.unwrap().complete);
        sending += start.elapsed().as_secs_f64();
        let start = std::time::Instant::now();
        let update = update(&order, 1, Digest::of(&delta));
        site.federation().submit(v1::SubmitRequest::from(&update)).await.unwrap();
        submitting += start.elapsed().as_secs_f64();
    }
    let Task::Evaluate(order) = sites[0].task(30).await else { panic!() };
    let seconds = started.elapsed().as_secs_f64();
    let grown = peak_mib() - before;
    eprintln!(
        "{SITES} updates of {model_mib} MiB in {seconds:.1} s ({sending:.1} s sending, {submitting:.1} s submitting), peak memory grew by {grown} MiB"
    );
    assert!(grown < ALLOWED_MIB, "grew by {grown} MiB");
    assert!(SITES as u64 * model_mib > 3 * ALLOWED_MIB, "the test must be able to fail");

    let manifest = sites[0].download(&order.manifest, 0).await.unwrap();
    let manifest = consilium_common::EnsembleManifest::parse(&manifest).unwrap();
    let member = sites[0].download(&manifest.members[0].digest, 0).await.unwrap();
    assert_eq!(member, constant(&plan, 15.5), "the mean of 0 to 31 on a base of 0");
}
