//! The agent against a coordinator that speaks the real protocol: the whole round, killed at every step, and what left.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use consilium_common::messages::{Stage, Task};
use consilium_common::{Digest, ErrorCode};

use super::*;
use crate::config::CorrectorConfig;
use crate::corrector::picture;
use crate::journal::Journal;
use crate::ledger;
use crate::records::{EvaluationReport, PatchReport};
use crate::testing::{Fake, Scene};

const MASKS: CorrectorConfig = CorrectorConfig::Masks;

/// Runs an agent until something is true of the coordinator.
async fn run_until(scene: &Scene, fake: &Fake, state: &str, what: impl Fn(&crate::testing::State) -> bool) {
    let agent = scene.agent(fake, state, MASKS).await;
    tokio::select! {
        ended = agent.run() => panic!("the agent ended: {ended:?}"),
        () = fake.until(what) => {}
    }
    agent.work.journal.close().await;
}

async fn state_of(scene: &Scene, state: &str) -> Option<AgentState> {
    let path = scene.path().join(state).join("journal.sqlite");
    let journal = Journal::open_to_read(&path).await.ok()?;
    let now = journal.now().await.ok()?;
    journal.close().await;
    now.map(|now| now.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_from_the_task_to_the_update() {
    let scene = Scene::new();
    let fake = scene.coordinator().await;
    fake.ask(Task::Learn(scene.order(1)));
    run_until(&scene, &fake, "a", |s| s.updates.len() == 1).await;
    let state = fake.state();
    let update = &state.updates[0];
    update.validate(2).unwrap();
    // Two corrected patches of 32 px, and a train slide of 128 x 128 px.
    assert_eq!((update.weight, update.metrics.patches_trained), (18.0, 18));
    assert_eq!((update.metrics.slides_scanned, update.metrics.patches_corrected), (2, 2));
    assert!(update.metrics.mean_uncertainty > 0.0 && update.metrics.loss_first > 0.0);
    let dir = scene.path().join("a/studies/small/round-1");
    let patches: Vec<PatchReport> = serde_json::from_slice(&fs::read(dir.join("patches.json")).unwrap()).unwrap();
    assert_eq!(patches.len(), 2);
    for patch in &patches {
        let correction = patch.correction.as_ref().unwrap();
        for file in [&patch.image, &patch.prediction, &patch.uncertainty, correction] {
            assert!(dir.join(file).is_file(), "{file}");
        }
        assert_eq!(picture::read_grey(&dir.join(correction)).unwrap().width(), 32);
        assert_eq!(patch.provenance.as_ref().unwrap().who, "reference mask");
    }
    assert!(dir.join("timing.json").is_file() && !dir.join("scans").exists());
    let stages: BTreeSet<String> = state.progress.iter().map(|p| format!("{:?}", p.stage)).collect();
    assert!(!stages.is_empty(), "the coordinator hears something");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_patches_are_corrected_measured_and_not_learned_from() {
    let mut scene = Scene::new();
    scene.plan.acquisition.control_share = 0.5;
    let fake = scene.coordinator().await;
    fake.ask(Task::Learn(scene.order(1)));
    run_until(&scene, &fake, "a", |s| s.updates.len() == 1).await;
    let metrics = fake.state().updates[0].metrics.clone();
    // One corrected patch of 32 px, and a train slide of 128 x 128 px.
    assert_eq!((metrics.patches_corrected, metrics.patches_trained), (2, 17));
    let path = scene.path().join("a/studies/small/round-1/patches.json");
    let patches: Vec<PatchReport> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let dice = |control: bool| {
        let of_kind: Vec<&PatchReport> = patches.iter().filter(|patch| patch.control == control).collect();
        assert_eq!(of_kind.len(), 1, "control {control}");
        assert!(of_kind[0].correction.is_some() && of_kind[0].dice_before.is_some());
        of_kind[0].dice_before
    };
    assert_eq!((metrics.dice_before_correction, metrics.control_dice), (dice(false), dice(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_the_update_is_the_same() {
    let scene = Scene::new();
    let fake = scene.coordinator().await;
    fake.ask(Task::Learn(scene.order(1)));
    run_until(&scene, &fake, "undisturbed", |s| s.updates.len() == 1).await;
    let undisturbed = fake.state().updates[0].clone();
    let steps = [
        LearnStep::Join,
        LearnStep::Download,
        LearnStep::Scan,
        LearnStep::Select,
        LearnStep::Correct { corrected: 0, asked: 2 },
        LearnStep::FineTune,
        LearnStep::Upload,
        LearnStep::Submit,
    ];
    for step in steps {
        let fake = scene.coordinator().await;
        fake.ask(Task::Learn(scene.order(1)));
        let state = format!("killed-{step:?}").replace(|c: char| !c.is_ascii_alphanumeric(), "");
        let agent = scene.agent(&fake, &state, MASKS).await;
        let reached = async {
            loop {
                let now = agent.work.journal.now().await.unwrap();
                if now.is_some_and(|now| matches!(&now.state, AgentState::Learning { step: s, .. } if *s == step)) {
                    return;
                }
                if !fake.state().updates.is_empty() {
                    return; // this step was over too soon to be caught
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = agent.run() => panic!("the agent ended: {ended:?}"),
            () = reached => {}
        }
        drop(agent);
        run_until(&scene, &fake, &state, |s| !s.updates.is_empty()).await;
        assert_eq!(fake.state().updates[0], undisturbed, "killed at {step:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_the_update_is_the_same() {
    let scene = Scene::new();
    let fake = scene.coordinator().await;
    fake.ask(Task::Learn(scene.order(1)));
    run_until(&scene, &fake, "undisturbed", |s| s.updates.len() == 1).await;
    let undisturbed = fake.state().updates[0].digest().unwrap();
    let fake = scene.coordinator().await;
    fake.ask(Task::Learn(scene.order(1)));
    let mut life = Duration::from_millis(20);
    let mut kills = 0;
    while fake.state().updates.is_empty() {
        let agent = scene.agent(&fake, "again", MASKS).await;
        let _ = tokio::time::timeout(life, agent.run()).await;
        drop(agent);
        kills += 1;
        life += life / 4;
    }
    assert!(kills > 2, "it was killed at least twice");
    assert_eq!(fake.state().updates[0].digest().unwrap(), undisturbed);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_arrived_is_in_the_ledger() {
    let scene = Scene::new();
    let fake = scene.coordinator().await;
    fake.ask(Task::Evaluate(scene.order(0)));
    run_until(&scene, &fake, "a", |s| s.evaluations.len() == 1).await;
    fake.ask(Task::Learn(scene.order(1)));
    run_until(&scene, &fake, "a", |s| s.updates.len() == 1).await;
    let entries = ledger::tail(&scene.path().join("a/ledger.jsonl"), usize::MAX).unwrap();
    let state = fake.state();
    let listed = |what: &str, digest: Digest| entries.iter().any(|e| e.what == what && e.digest == digest);
    assert!(listed("update", state.updates[0].digest().unwrap()));
    assert!(listed("evaluation", Digest::of_json(&state.evaluations[0]).unwrap()));
    assert!(state.progress.iter().all(|p| listed("progress", Digest::of_json(p).unwrap())));
    assert_eq!(state.uploads.len(), 2);
    for (digest, _, bytes) in &state.uploads {
        assert!(
            entries.iter().any(|e| e.what.starts_with("delta of member") && e.digest == *digest && e.bytes == *bytes)
        );
    }
    let kinds: BTreeSet<&str> = entries.iter().map(|e| e.what.trim_end_matches(|c: char| c.is_ascii_digit())).collect();
    let allowed = ["delta of member ", "evaluation", "join", "progress", "question about blobs", "update"];
    assert!(kinds.iter().all(|kind| allowed.contains(kind)), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_counts_the_held_out_slide_only() {
    let scene = Scene::new();
    let fake = scene.coordinator().await;
    fake.ask(Task::Evaluate(scene.order(0)));
    run_until(&scene, &fake, "a", |s| s.evaluations.len() == 1).await;
    let evaluation = fake.state().evaluations[0].clone();
    assert_eq!(evaluation.slides, 1);
    evaluation.validate(2).unwrap();
    let path = scene.path().join("a/studies/small/round-0/evaluation.json");
    let report: EvaluationReport = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(report.slides.len(), 1);
    assert_eq!((report.slides[0].name.as_str(), report.mean_dice), ("T1", evaluation.mean_dice));
    let text = crate::status(&scene.config("a", MASKS)).await.unwrap();
    assert!(text.contains("BROKEN"), "the broken slide is listed:\n{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_go_on_where_they_stopped() {
    let scene = Scene::new();
    let fake = scene.coordinator().await;
    fake.state().break_after = Some(4000);
    fake.ask(Task::Learn(scene.order(1)));
    run_until(&scene, &fake, "a", |s| s.updates.len() == 1).await;
    let offsets = fake.state().offsets.clone();
    assert!(offsets.contains(&4000) && offsets.contains(&8000), "{offsets:?}");
    let first = fake.state().updates[0].members[0];
    // Another coordinator has the first 500 bytes of the first delta already.
    let other = scene.coordinator().await;
    let half = fake.state().blobs[&first][..500].to_vec();
    other.state().parts.insert(first, half);
    other.ask(Task::Learn(scene.order(1)));
    run_until(&scene, &other, "a", |s| s.updates.len() == 1).await;
    assert!(other.state().uploads.iter().any(|(digest, from, _)| *digest == first && *from == 500));
    assert_eq!(other.state().updates, fake.state().updates, "a made update is handed in again as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_the_daemon_and_is_remembered() {
    let scene = Scene::new();
    let fake = scene.coordinator().await;
    fake.state().fail = Some(ErrorCode::Forbidden);
    let agent = scene.agent(&fake, "a", MASKS).await;
    let ended = agent.run().await.unwrap_err();
    assert_eq!(ended.exit_code(), 77);
    assert!(ended.to_string().contains("may not take part"), "{ended}");
    assert!(matches!(state_of(&scene, "a").await, Some(AgentState::Refused { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_closed_meanwhile_is_no_failure() {
    let scene = Scene::new();
    let fake = scene.coordinator().await;
    fake.state().refuse_update = Some(ErrorCode::OutOfDate);
    ends_idle_without_an_update(&scene, &fake).await;
    assert!(!fake.state().uploads.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_closed_during_the_upload_is_no_failure() {
    let scene = Scene::new();
    let fake = scene.coordinator().await;
    fake.state().refuse_upload = Some(ErrorCode::OutOfDate);
    fake.state().refuse_update = Some(ErrorCode::OutOfDate);
    ends_idle_without_an_update(&scene, &fake).await;
}

async fn ends_idle_without_an_update(scene: &Scene, fake: &Fake) {
    fake.ask(Task::Learn(scene.order(1)));
    let agent = scene.agent(fake, "a", MASKS).await;
    let idle = async {
        while !matches!(state_of(scene, "a").await, Some(AgentState::Idle { waiting_for }) if waiting_for == "the other sites")
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        ended = agent.run() => panic!("the agent ended: {ended:?}"),
        in_time = tokio::time::timeout(Duration::from_secs(60), idle) => in_time.unwrap(),
    }
    assert!(fake.state().updates.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_with_another_digest_is_not_worked_on() {
    let scene = Scene::new();
    let fake = scene.coordinator().await;
    let mut order = scene.order(1);
    order.plan = Digest::of(b"another plan");
    fake.ask(Task::Learn(order));
    let agent = scene.agent(&fake, "a", MASKS).await;
    let blocked = async {
        loop {
            if let Some(AgentState::Blocked { problem, .. }) = state_of(&scene, "a").await {
                return problem;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let problem = tokio::select! {
        ended = agent.run() => panic!("the agent ended: {ended:?}"),
        problem = blocked => problem,
    };
    assert!(problem.contains("the plan of a study never changes"), "{problem}");
}

/// A pathologist who is late: round 1 closes, the correction comes, and round 2 learns from it.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_when_something_else_is_asked_and_late_corrections_count() {
    let scene = Scene::new();
    let fake = scene.coordinator().await;
    let shared = scene.path().join("shared");
    let folder = CorrectorConfig::Folder { dir: shared.clone(), person: None };
    fake.ask(Task::Learn(scene.order(1)));
    let mut agent = scene.agent(&fake, "a", folder).await;
    agent.recheck = Duration::from_millis(100);
    let save = |round: u32, patch: &str| {
        let dir = shared.join(format!("small/round-{round}"));
        fs::copy(dir.join(format!("{patch}-prediction.png")), dir.join(format!("{patch}-correction.png"))).unwrap();
    };
    let story = async {
        fake.until(|s| s.progress.iter().any(|p| p.stage == Stage::Correct)).await;
        while !shared.join("small/round-1/README.txt").is_file() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let waiting = state_of(&scene, "a").await.unwrap().to_string();
        assert_eq!(waiting, "small, round 1: waiting for corrections: 0 of 2");
        // The round closes; the correction comes afterwards.
        fake.state().tasks = vec![Task::Learn(scene.order(2))];
        save(1, "patch-01");
        while !shared.join("small/round-2/README.txt").is_file() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        save(2, "patch-01");
        save(2, "patch-02");
        fake.until(|s| s.updates.len() == 1).await;
    };
    tokio::select! {
        ended = agent.run() => panic!("the agent ended: {ended:?}"),
        () = story => {}
    }
    let update = fake.state().updates[0].clone();
    // Two patches of round 2, one of round 1, and the train slide.
    assert_eq!((update.round.0, update.metrics.patches_corrected, update.weight), (2, 2, 19.0));
    let boxes = |round: u32| -> BTreeSet<(String, i64, i64)> {
        let path = scene.path().join(format!("a/studies/small/round-{round}/patches.json"));
        let patches: Vec<PatchReport> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        patches.into_iter().map(|p| (p.slide, p.x, p.y)).collect()
    };
    assert!(boxes(1).is_disjoint(&boxes(2)), "nothing is asked for twice");
}
