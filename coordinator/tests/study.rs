//! A study from its creation to its end over the wire, and what a transfer may and may not do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::site::update;
use common::{Coordinator, EnrolledSite, constant, plan, site, study, write_bundle};
use consilium_common::messages::Task;
use consilium_common::{Digest, EnsembleManifest, ErrorCode, GenerationNumber};
use consilium_proto::status::from_status;
use consilium_proto::v1;
use tonic::Status;

/// Small, so that a small model has many.
const CHUNK: usize = 10_000;

async fn create(coordinator: &Coordinator, sites: &[&str]) -> (tempfile::TempDir, Vec<u8>) {
    let bundle = tempfile::tempdir().unwrap();
    let manifest = write_bundle(bundle.path(), &plan());
    let sites: Vec<_> = sites.iter().map(|name| site(name)).collect();
    let digest = coordinator.operator.create_study(&study("s"), &plan(), bundle.path(), &sites).await.unwrap();
    assert_eq!(digest, plan().digest().unwrap());
    (bundle, manifest)
}

#[tokio::test]
async fn a_study_from_creation_to_export() {
    let coordinator = Coordinator::start().await;
    let a = coordinator.site("a").await;
    let (_bundle, manifest) = create(&coordinator, &["a"]).await;

    let Task::Evaluate(order) = a.task(30).await else { panic!() };
    assert_eq!(order.manifest, Digest::of(&manifest));
    let joined = a.federation().join(v1::JoinRequest { study_id: "s".into() }).await.unwrap().into_inner();
    assert_eq!(joined.plan, plan().canonical_bytes().unwrap());
    assert_eq!(a.download(&order.manifest, 0).await.unwrap(), manifest);
    a.evaluate(&order, 0.5).await;

    let Task::Learn(order) = a.task(30).await else { panic!() };
    let delta = constant(&plan(), 10.0);
    let sent = a.send(&delta, 0, delta.len(), CHUNK).await.unwrap();
    assert!(sent.complete);
    let update = update(&order, 2, Digest::of(&delta));
    for repeated in [false, true] {
        let answer = a.federation().submit(v1::SubmitRequest::from(&update)).await.unwrap().into_inner();
        assert_eq!(answer.already_accepted, repeated);
    }
    // A long poll answers as soon as the aggregation is done.
    let Task::Evaluate(order) = a.task(30).await else { panic!() };
    assert_eq!(order.generation, GenerationNumber(1));
    let candidate = EnsembleManifest::parse(&a.download(&order.manifest, 0).await.unwrap()).unwrap();
    assert_eq!(candidate.provenance.contributions.len(), 1);
    let member = a.download(&candidate.members[1].digest, 0).await.unwrap();
    assert_eq!(member, constant(&plan(), 11.0));
    let rest = a.download(&candidate.members[1].digest, 1000).await.unwrap();
    assert_eq!(rest, member[1000..]);
    a.evaluate(&order, 0.75).await;

    let mut watch = coordinator.operator.watch(&study("s")).await.unwrap();
    let mut last = None;
    while let Some(view) = watch.next().await.unwrap() {
        last = Some(view);
    }
    let view = last.unwrap();
    assert_eq!(view.summary.phase, "finished");
    let dices: Vec<_> = view.generations.iter().map(|g| g.evaluations[0].mean_dice).collect();
    assert_eq!(dices, [Some(0.5), Some(0.75)]);
    let [said] = &view.updates[..] else { panic!("{:?}", view.updates) };
    assert_eq!((said.round.0, said.site.as_str(), said.weight), (1, "a", 3.0));
    assert_eq!(said.metrics, update.metrics);

    let out = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let number = coordinator.operator.export(&study("s"), None, out.path()).await.unwrap();
        assert_eq!(number, GenerationNumber(1));
    }
    assert_eq!(std::fs::read(out.path().join("member-1.safetensors")).unwrap(), member);
    let older = coordinator.operator.export(&study("s"), Some(GenerationNumber(0)), out.path()).await;
    assert_eq!(older.unwrap_err().code(), ErrorCode::Conflict);
}

#[tokio::test]
async fn an_upload_goes_on_after_the_connection_and_the_coordinator_broke() {
    let coordinator = Coordinator::start().await;
    let a = coordinator.site("a").await;
    create(&coordinator, &["a"]).await;
    let Task::Evaluate(order) = a.task(0).await else { panic!() };
    a.evaluate(&order, 0.5).await;
    let Task::Learn(order) = a.task(30).await else { panic!() };

    let delta = constant(&plan(), 5.0);
    let digest = Digest::of(&delta);
    let half = delta.len() / 2;
    let answer = a.send(&delta, 0, half, CHUNK).await.unwrap();
    assert_eq!((answer.have_bytes, answer.complete), (half as u64, false));

    let coordinator = coordinator.restart().await;
    let channel = coordinator.connect(&a.identity, &a.ca_pem).await.unwrap();
    let a = EnrolledSite { channel, ..a };
    assert_eq!(a.stat(&digest).await, (half as u64, false));
    let twice = a.send(&delta, 0, 10_000, CHUNK).await.unwrap_err();
    assert_eq!(from_status(&twice), ErrorCode::Unavailable, "{twice}");
    let incomplete = a.federation().submit(v1::SubmitRequest::from(&update(&order, 2, digest))).await.unwrap_err();
    assert_eq!(from_status(&incomplete), ErrorCode::NotFound, "{incomplete}");
    assert!(a.send(&delta, half, delta.len(), CHUNK).await.unwrap().complete);
    assert_eq!(a.stat(&digest).await, (delta.len() as u64, true));
    assert!(a.send(&delta, 0, delta.len(), CHUNK).await.unwrap().complete, "again is nothing new");
    a.federation().submit(v1::SubmitRequest::from(&update(&order, 2, digest))).await.unwrap();
}

#[tokio::test]
async fn a_site_transfers_what_is_its_business_and_no_more() {
    let coordinator = Coordinator::start().await;
    let (a, b) = (coordinator.site("a").await, coordinator.site("b").await);
    let stranger = coordinator.site("stranger").await;
    let (_bundle, manifest) = create(&coordinator, &["a", "b"]).await;
    let delta = constant(&plan(), 5.0);

    let early = a.send(&delta, 0, delta.len(), CHUNK).await.unwrap_err();
    assert_eq!(from_status(&early), ErrorCode::OutOfDate, "nobody waits for an update yet: {early}");
    for site in [&a, &b] {
        let Task::Evaluate(order) = site.task(0).await else { panic!() };
        site.evaluate(&order, 0.5).await;
    }
    let Task::Learn(_) = a.task(30).await else { panic!() };
    let huge = a.send(&vec![0; delta.len() + 200_000], 0, 10_000, CHUNK).await.unwrap_err();
    assert_eq!(from_status(&huge), ErrorCode::InvalidInput, "{huge}");
    assert!(a.send(&delta, 0, delta.len(), CHUNK).await.unwrap().complete);

    let not_found = |result: Result<Vec<u8>, Status>| from_status(&result.unwrap_err()) == ErrorCode::NotFound;
    assert!(not_found(b.download(&Digest::of(&delta), 0).await), "deltas are between a site and the coordinator");
    assert_eq!(b.stat(&Digest::of(&delta)).await, (0, false));
    assert!(not_found(stranger.download(&Digest::of(&manifest), 0).await), "not its study");
    assert_eq!(from_status(&stranger.send(&delta, 0, 10_000, CHUNK).await.unwrap_err()), ErrorCode::OutOfDate);

    // More blobs than two updates have: the oldest make room, the disk does not fill.
    for value in 1..=6u8 {
        let other = constant(&plan(), 100.0 + f32::from(value));
        assert!(a.send(&other, 0, other.len(), CHUNK).await.unwrap().complete);
    }
    assert_eq!(a.stat(&Digest::of(&delta)).await, (0, false));
    let newest = constant(&plan(), 106.0);
    assert!(a.stat(&Digest::of(&newest)).await.1);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_is_sent() {
    let coordinator = Coordinator::start().await;
    coordinator.site("a").await;
    let bundle = tempfile::tempdir().unwrap();
    write_bundle(bundle.path(), &plan());
    let create = |plan: consilium_common::Plan, sites: Vec<consilium_common::SiteId>| {
        let (operator, dir) = (coordinator.operator.clone(), bundle.path().to_owned());
        async move { operator.create_study(&study("s"), &plan, &dir, &sites).await.unwrap_err().to_string() }
    };
    let mut other = plan();
    other.members = 3;
    assert!(create(other, vec![site("a")]).await.contains("2 members"));
    assert!(create(plan(), vec![site("x")]).await.contains("site invite x"));
    let path = bundle.path().join("member-0.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(create(plan(), vec![site("a")]).await.contains("do not match"));
    std::fs::remove_file(bundle.path().join("ensemble.json")).unwrap();
    assert!(create(plan(), vec![site("a")]).await.contains("ensemble.json"));
}
