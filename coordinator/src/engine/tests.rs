use std::collections::BTreeSet;
use std::sync::Arc;

use consilium_common::messages::Task;
use consilium_common::round::{Event, Phase, Study, Verdict};
use consilium_common::{Digest, EnsembleManifest, ErrorCode};

use super::intake::{allowance, owner_of};
use super::next_task;
use crate::blobs::member::MemberReader;
use crate::clock::fake::FakeClock;
use crate::testing::{House, constant, plan, site, study};

async fn house() -> (tempfile::TempDir, House) {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Arc::new(FakeClock::new())).await;
    (dir, house)
}

fn candidate(state: &Study) -> Digest {
    let Phase::Evaluating { candidate, .. } = &state.phase else { panic!("{state:?}") };
    candidate.manifest
}

fn values(house: &House, manifest: &Digest) -> BTreeSet<u32> {
    let manifest = EnsembleManifest::parse(&house.blobs.read_small(manifest, 1 << 20).unwrap()).unwrap();
    let expected = manifest.architecture.tensors();
    let mut all = BTreeSet::new();
    for member in &manifest.members {
        let reader = MemberReader::open(&house.blobs.path(&member.digest), &expected).unwrap();
        let mut buffer = Vec::new();
        reader.read(0..reader.elements(), &mut buffer).unwrap();
        all.extend(buffer.iter().map(|v| v.to_bits()));
    }
    all
}

#[tokio::test]
async fn a_round_aggregates_each_update_once_whatever_the_order() {
    let mut manifests = Vec::new();
    for order in [["a", "b", "c"], ["c", "a", "b"]] {
        let (_dir, house) = house().await;
        let plan = plan(3, None);
        let base = house.create(&plan, &["a", "b", "c"]).await;
        for name in order {
            house.report(name, 0, base, 0.5).await;
        }
        house.until("collecting").await;
        for name in order {
            // 3 x 10^k: a loss or a double count shows in the mean.
            let value = match name {
                "a" => 3.0,
                "b" => 30.0,
                _ => 300.0,
            };
            let update = house.update(&plan, name, 1, base, value).await;
            assert_eq!(house.intake.submit(site(name), update.clone()).await.unwrap(), Verdict::Accepted);
            assert_eq!(house.intake.submit(site(name), update).await.unwrap(), Verdict::Repeated);
        }
        let manifest = candidate(&house.until("evaluating").await);
        assert_eq!(values(&house, &manifest), BTreeSet::from([112.0f32.to_bits()]));
        manifests.push(manifest);
    }
    assert_eq!(manifests[0], manifests[1], "the same updates give the same generation, bit for bit");
}

#[tokio::test]
async fn a_restart_in_the_middle_of_collecting_goes_on_with_the_same_round() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, plan) = (Arc::new(FakeClock::new()), plan(2, None));
    let first = House::open(dir.path(), clock.clone()).await;
    let base = first.create(&plan, &["a", "b"]).await;
    for name in ["a", "b"] {
        first.report(name, 0, base, 0.5).await;
    }
    let update_a = first.update(&plan, "a", 1, base, 1.0).await;
    first.intake.submit(site("a"), update_a.clone()).await.unwrap();
    let before = first.engine.study(&study()).unwrap().state.clone();
    first.close().await;

    let second = House::open(dir.path(), clock).await;
    assert_eq!(second.engine.study(&study()).unwrap().state, before);
    assert_eq!(second.intake.submit(site("a"), update_a).await.unwrap(), Verdict::Repeated);
    let update_b = second.update(&plan, "b", 1, base, 3.0).await;
    second.intake.submit(site("b"), update_b).await.unwrap();
    let manifest = candidate(&second.until("evaluating").await);
    assert_eq!(values(&second, &manifest), BTreeSet::from([3.0f32.to_bits()]));
}

#[tokio::test]
async fn a_restart_in_the_middle_of_aggregating_asks_again() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, plan) = (Arc::new(FakeClock::new()), plan(1, None));
    let first = House::open(dir.path(), clock.clone()).await;
    let base = first.create(&plan, &["a"]).await;
    first.report("a", 0, base, 0.5).await;
    let update = first.update(&plan, "a", 1, base, 1.0).await;
    first.intake.submit(site("a"), update).await.unwrap();
    // The state as it was stored before the aggregation ended.
    let evaluated = first.until("evaluating").await;
    let manifest = candidate(&evaluated);
    let aggregating = Phase::Aggregating {
        round: consilium_common::RoundNumber(1),
        since: first.now(),
        updates: [(site("a"), {
            let update = first.update(&plan, "a", 1, base, 1.0).await;
            consilium_common::round::Accepted { digest: update.digest().unwrap(), update }
        })]
        .into(),
    };
    first.store.save_study(&Study { phase: aggregating, ..evaluated }, &[], first.now()).await.unwrap();
    first.close().await;

    let second = House::open(dir.path(), clock).await;
    assert_eq!(candidate(&second.until("evaluating").await), manifest);
}

#[tokio::test]
async fn a_damaged_generation_ends_the_study_and_not_one_round_after_the_other() {
    let (_dir, house) = house().await;
    let plan = plan(1, None);
    let base = house.create(&plan, &["a"]).await;
    house.report("a", 0, base, 0.5).await;
    house.until("collecting").await;
    let manifest = EnsembleManifest::parse(&house.blobs.read_small(&base, 1 << 20).unwrap()).unwrap();
    let file = house.blobs.path(&manifest.members[0].digest);
    std::fs::write(&file, &std::fs::read(&file).unwrap()[..100]).unwrap();
    let update = house.update(&plan, "a", 1, base, 2.5).await;
    house.intake.submit(site("a"), update).await.unwrap();
    let ended = house.until("aborted").await;
    let Phase::Ended { outcome: consilium_common::round::Outcome::Aborted { reason }, .. } = ended.phase else {
        panic!("{ended:?}")
    };
    assert!(reason.starts_with("reading the published generation: "), "{reason}");
}

#[tokio::test]
async fn a_deadline_with_a_quorum_closes_a_phase() {
    let (_dir, house) = house().await;
    let plan = plan(1, Some(60));
    let base = house.create(&plan, &["a", "b"]).await;
    house.report("a", 0, base, 0.5).await;
    house.engine.tick().await.unwrap();
    assert_eq!(candidate(&house.engine.study(&study()).unwrap().state), base, "not yet due");
    house.clock.advance(61);
    house.engine.tick().await.unwrap();
    house.until("collecting").await;
    let history = house.store.history(&study()).await.unwrap();
    assert_eq!(history.publications.len(), 1);
}

#[tokio::test]
async fn damaged_or_unknown_updates_are_refused_and_the_round_goes_on() {
    let (_dir, house) = house().await;
    let plan = plan(1, None);
    let base = house.create(&plan, &["a", "b"]).await;
    for name in ["a", "b"] {
        house.report(name, 0, base, 0.5).await;
    }
    let good = house.update(&plan, "a", 1, base, 1.0).await;
    let refuse = |update| house.intake.submit(site("a"), update);

    let mut missing = good.clone();
    missing.members[0] = Digest::of(b"nowhere");
    assert_eq!(refuse(missing).await.unwrap_err().code(), ErrorCode::NotFound);

    let mut of_another = good.clone();
    of_another.members[0] = house.upload("site-b", &constant(&plan, 9.0)).await;
    assert_eq!(refuse(of_another).await.unwrap_err().code(), ErrorCode::NotFound, "not uploaded by this site");

    for bytes in [constant(&plan, f32::NAN), constant(&plan, 2e6), b"rubbish!".to_vec()] {
        let mut bad = good.clone();
        bad.members[1] = house.upload(&owner_of(&site("a")), &bytes).await;
        assert_eq!(refuse(bad).await.unwrap_err().code(), ErrorCode::InvalidInput);
    }
    let mut stale = good.clone();
    stale.base = Digest::of(b"old");
    assert_eq!(refuse(stale).await.unwrap_err().code(), ErrorCode::InvalidInput);

    assert_eq!(refuse(good.clone()).await.unwrap(), Verdict::Accepted);
    let mut second = good;
    second.weight = 2.0;
    assert_eq!(refuse(second).await.unwrap_err().code(), ErrorCode::Conflict);
}

#[tokio::test]
async fn a_revoked_site_leaves_the_study_even_if_the_crash_came_first() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, plan) = (Arc::new(FakeClock::new()), plan(1, None));
    let first = House::open(dir.path(), clock.clone()).await;
    let base = first.create(&plan, &["a", "b"]).await;
    first.report("a", 0, base, 0.5).await;
    first.store.revoke(&site("b"), "left", first.now()).await.unwrap();
    first.close().await;
    let second = House::open(dir.path(), clock).await;
    let state = second.until("collecting").await;
    assert!(!state.sites.contains_key(&site("b")));
}

#[tokio::test]
async fn what_sites_said_is_told_of_whole_rounds_and_not_of_a_site_that_left() {
    let (_dir, house) = house().await;
    let plan = plan(2, None);
    let base = house.create(&plan, &["a", "b", "c"]).await;
    for name in ["a", "b", "c"] {
        house.report(name, 0, base, 0.5).await;
    }
    house.until("collecting").await;
    for name in ["a", "b"] {
        let update = house.update(&plan, name, 1, base, 3.0).await;
        house.intake.submit(site(name), update).await.unwrap();
    }
    let said = async |most| -> Vec<(u32, String)> {
        let said = house.store.updates(&study(), most).await.unwrap();
        said.into_iter().map(|said| (said.round.0, said.site.to_string())).collect()
    };
    let of = |round: u32, name: &str| (round, name.to_owned());
    assert_eq!(said(9).await, [of(1, "a"), of(1, "b")]);
    house.engine.remove_site(&site("b")).await.unwrap();
    assert_eq!(said(9).await, [of(1, "a")], "nothing was computed from it");
    let update = house.update(&plan, "c", 1, base, 3.0).await;
    house.intake.submit(site("c"), update).await.unwrap();
    let next = candidate(&house.until("evaluating").await);
    for name in ["a", "c"] {
        house.report(name, 1, next, 0.5).await;
    }
    house.until("collecting").await;
    let update = house.update(&plan, "c", 2, next, 3.0).await;
    house.intake.submit(site("c"), update).await.unwrap();
    assert_eq!(said(3).await, [of(1, "a"), of(1, "c"), of(2, "c")]);
    assert_eq!(said(2).await, [of(2, "c")], "the older round would be here in part");
}

#[tokio::test]
async fn a_study_is_created_once_and_only_from_what_fits() {
    let (_dir, house) = house().await;
    let plan = plan(1, None);
    let base = house.create(&plan, &["a"]).await;
    let bytes = plan.canonical_bytes().unwrap();
    let create = |id: &str, plan: Vec<u8>, sites: Vec<&str>| {
        let sites = sites.into_iter().map(site).collect();
        house.intake.create_study(id.parse().unwrap(), plan, base, sites)
    };
    assert!(create("s", bytes.clone(), vec!["a"]).await.is_ok(), "the same again is nothing new");
    assert_eq!(create("t", bytes.clone(), vec!["x"]).await.unwrap_err().code(), ErrorCode::InvalidInput);
    assert_eq!(create("t", bytes.clone(), vec![]).await.unwrap_err().code(), ErrorCode::InvalidInput);
    let mut other = plan.clone();
    other.seed = 8;
    assert_eq!(create("s", other.canonical_bytes().unwrap(), vec!["a"]).await.unwrap_err().code(), ErrorCode::Conflict);
    other.members = 3;
    let error = create("t", other.canonical_bytes().unwrap(), vec!["a"]).await.unwrap_err();
    assert!(error.to_string().contains("2 members"), "{error}");
}

#[tokio::test]
async fn sites_are_told_what_to_do_and_may_upload_only_while_learning() {
    let (_dir, house) = house().await;
    let plan = plan(1, None);
    let base = house.create(&plan, &["a", "b"]).await;
    let task = |name: &str| next_task(&house.engine.studies(), &site(name), house.now());
    assert!(matches!(task("a"), Task::Evaluate(order) if order.manifest == base));
    assert!(allowance(&house.engine.studies(), &site("a")).is_none());
    for name in ["a", "b"] {
        house.report(name, 0, base, 0.5).await;
    }
    assert!(matches!(task("a"), Task::Learn(_)));
    let allowed = allowance(&house.engine.studies(), &site("a")).unwrap();
    assert!(allowed.max_bytes > constant(&plan, 0.0).len() as u64 && allowed.max_loose == 4);
    let update = house.update(&plan, "a", 1, base, 1.0).await;
    house.intake.submit(site("a"), update).await.unwrap();
    let Task::Wait { waiting_for, .. } = task("a") else { panic!() };
    assert!(waiting_for.contains("missing b"), "{waiting_for}");
    assert!(matches!(task("stranger"), Task::Wait { waiting_for, .. } if waiting_for.contains("central group")));
    house.engine.event(&study(), Event::Abort("enough".into())).await.unwrap();
    assert!(matches!(task("b"), Task::Wait { .. }));
}
