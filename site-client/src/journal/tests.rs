//! What the journal keeps, and for how long.

use super::*;
use consilium_common::GenerationNumber;

fn order(manifest: &[u8]) -> WorkOrder {
    WorkOrder {
        study: "s".parse().unwrap(),
        plan: Digest::of(b"p"),
        round: RoundNumber(1),
        generation: GenerationNumber(0),
        manifest: Digest::of(manifest),
    }
}

#[tokio::test]
async fn results_from_another_generation_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("j.sqlite")).await.unwrap();
    let first = order(b"g0");
    journal.begin(TaskKind::Learn, &first).await.unwrap();
    journal.put_scan(&first, "a", &ScanRow::default()).await.unwrap();
    journal.begin(TaskKind::Learn, &first).await.unwrap();
    assert_eq!(journal.scans(&first.study, first.round).await.unwrap().len(), 1, "beginning again keeps them");
    journal.begin(TaskKind::Learn, &order(b"other")).await.unwrap();
    assert!(journal.scans(&first.study, first.round).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_state_and_its_moment_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.sqlite");
    let journal = Journal::open(&path).await.unwrap();
    assert!(journal.now().await.unwrap().is_none());
    journal.set_state(&AgentState::Idle { waiting_for: "site b".into() }).await.unwrap();
    let since = journal.now().await.unwrap().unwrap().since;
    journal.update_state(&AgentState::Idle { waiting_for: "site c".into() }).await.unwrap();
    journal.close().await;
    let now = Journal::open(&path).await.unwrap().now().await.unwrap().unwrap();
    assert_eq!((now.since, now.state), (since, AgentState::Idle { waiting_for: "site c".into() }));
}

#[tokio::test]
async fn only_the_generations_used_last_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("j.sqlite")).await.unwrap();
    let [a, b, c] = [b"a", b"b", b"c"].map(|d| Digest::of(d));
    for digest in [a, b, c] {
        journal.use_bundle(&digest, 2).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let kept = journal.use_bundle(&b, 2).await.unwrap();
    assert_eq!(kept, [b, c]);
}

#[tokio::test]
async fn deltas_of_every_unfinished_round_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("j.sqlite")).await.unwrap();
    let of =
        |study: &str, round: u32| WorkOrder { study: study.parse().unwrap(), round: RoundNumber(round), ..order(b"g") };
    let record = |name: &[u8]| MemberRecord { delta: Digest::of(name), loss_first: 1.0, loss_last: 0.5 };
    for (order, name) in [(of("a", 1), b"a1"), (of("a", 2), b"a2"), (of("b", 1), b"b1")] {
        journal.begin(TaskKind::Learn, &order).await.unwrap();
        journal.put_member(&order, 0, &record(name)).await.unwrap();
    }
    let kept = journal.unanswered_deltas().await.unwrap();
    assert_eq!(kept, BTreeSet::from([Digest::of(b"a2"), Digest::of(b"b1")]), "round 1 of study a is over");
    let done = Update {
        study: "b".parse().unwrap(),
        round: RoundNumber(1),
        base: Digest::of(b"g"),
        weight: 1.0,
        members: vec![Digest::of(b"b1")],
        metrics: consilium_common::messages::UpdateMetrics::default(),
    };
    journal.put_update(&done).await.unwrap();
    assert_eq!(journal.unanswered_deltas().await.unwrap().len(), 2, "an update that is not answered may be asked for");
    journal.update_answered(&of("b", 1)).await.unwrap();
    assert_eq!(journal.unanswered_deltas().await.unwrap(), BTreeSet::from([Digest::of(b"a2")]));
}
