use super::*;
use crate::messages::{Task, UpdateMetrics};
use crate::plan::Plan;

fn plan(rounds: u32, min_sites: usize, deadline_s: Option<u64>) -> Plan {
    let mut plan = crate::plan::tests::sample();
    plan.rounds = rounds;
    plan.members = 1;
    plan.quorum = crate::plan::Quorum { min_sites, deadline_s };
    plan
}

fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1000)
}

fn study(plan: &Plan, sites: &[&str]) -> Study {
    let manifest = Digest::of(b"generation 0");
    Study::new("s".parse().unwrap(), plan.digest().unwrap(), sites.iter().map(|s| site(s)), manifest, at(0))
}

fn evaluation(study: &Study, dice: f64) -> Evaluation {
    let (round, manifest) = match &study.phase {
        Phase::Evaluating { round, candidate, .. } => (*round, candidate.manifest),
        _ => (RoundNumber(0), study.published.as_ref().unwrap().generation.manifest),
    };
    let pooled_dice = vec![Some(dice)];
    Evaluation { study: study.id.clone(), round, manifest, slides: 2, mean_dice: Some(dice), pooled_dice, ece: None }
}

fn update(study: &Study, content: &str) -> Update {
    Update {
        study: study.id.clone(),
        round: study.round().unwrap(),
        base: study.published.as_ref().unwrap().generation.manifest,
        weight: 3.0,
        members: vec![Digest::of(content.as_bytes())],
        metrics: UpdateMetrics::default(),
    }
}

/// Applies an event that must be accepted and returns its effects.
fn go(plan: &Plan, study: &mut Study, event: Event, now: Timestamp) -> Vec<Effect> {
    let (next, effects, _) = step(plan, study, event, now).unwrap();
    *study = next;
    effects
}

fn evaluate_all(plan: &Plan, study: &mut Study, dice: f64) -> Vec<Effect> {
    let names: Vec<_> = study.sites.keys().cloned().collect();
    let report = evaluation(study, dice);
    names.into_iter().flat_map(|name| go(plan, study, Event::Evaluated(name, report.clone()), at(1))).collect()
}

fn aggregate(plan: &Plan, study: &mut Study, content: &str) {
    let round = study.round().unwrap();
    go(plan, study, Event::Aggregated(round, Digest::of(content.as_bytes())), at(3));
}

#[test]
fn a_study_runs_to_its_end() {
    let plan = plan(2, 2, None);
    let mut s = study(&plan, &["a", "b"]);
    assert!(matches!(task_for(&plan, &s, &site("a")), Task::Evaluate(_)));
    evaluate_all(&plan, &mut s, 0.5);
    for round in 1..=2 {
        assert_eq!(s.round(), Some(RoundNumber(round)));
        assert!(matches!(task_for(&plan, &s, &site("b")), Task::Learn(_)));
        let (b, a) = (update(&s, "b"), update(&s, "a"));
        assert!(go(&plan, &mut s, Event::Submitted(site("b"), b), at(2)).is_empty());
        assert!(matches!(task_for(&plan, &s, &site("b")), Task::Wait { .. }));
        let effects = go(&plan, &mut s, Event::Submitted(site("a"), a), at(2));
        let [Effect::Aggregate(order)] = effects.as_slice() else { panic!("{effects:?}") };
        let sites: Vec<_> = order.contributions.iter().map(|c| c.site.as_str()).collect();
        assert_eq!(sites, ["a", "b"], "sorted by site, whatever the order of arrival");
        assert_eq!(Some(order), s.aggregation(&plan).as_ref(), "the same order again after a restart");
        aggregate(&plan, &mut s, &format!("generation {round}"));
        evaluate_all(&plan, &mut s, 0.6);
    }
    assert!(matches!(s.phase, Phase::Ended { outcome: Outcome::Finished, .. }));
    assert_eq!(s.published.unwrap().generation.number, GenerationNumber(2));
}

#[test]
fn a_round_that_cannot_be_aggregated_costs_the_round_and_not_the_study() {
    let plan = plan(2, 1, None);
    let mut s = study(&plan, &["a"]);
    evaluate_all(&plan, &mut s, 0.5);
    let one = update(&s, "one");
    go(&plan, &mut s, Event::Submitted(site("a"), one), at(2));
    assert!(matches!(s.phase, Phase::Aggregating { .. }));
    let before = s.published.clone();
    let failed = Event::AggregationFailed(RoundNumber(1), "a weight is too large".into());
    let (after, effects, _) = step(&plan, &s, failed.clone(), at(3)).unwrap();
    let told = |e: &Effect| matches!(e, Effect::RecordRejection { reason, .. } if reason.contains("too large"));
    assert!(effects.iter().any(told), "{effects:?}");
    assert!(matches!(after.phase, Phase::Collecting { round: RoundNumber(2), .. }), "{:?}", after.phase);
    assert_eq!(after.published, before);
    assert_eq!(step(&plan, &after, failed, at(4)).unwrap().2, Verdict::Repeated);
}

#[test]
fn the_same_update_counts_once_and_another_is_refused() {
    let plan = plan(1, 2, None);
    let mut s = study(&plan, &["a", "b"]);
    evaluate_all(&plan, &mut s, 0.5);
    let first = update(&s, "first");
    go(&plan, &mut s, Event::Submitted(site("a"), first.clone()), at(2));
    let before = s.clone();
    let (after, effects, verdict) = step(&plan, &s, Event::Submitted(site("a"), first.clone()), at(3)).unwrap();
    assert_eq!((after, effects, verdict), (before, vec![], Verdict::Repeated));
    let other = update(&s, "other");
    assert_eq!(step(&plan, &s, Event::Submitted(site("a"), other), at(3)).unwrap_err().code, ErrorCode::Conflict);
    let second = update(&s, "b");
    go(&plan, &mut s, Event::Submitted(site("b"), second), at(3));
    aggregate(&plan, &mut s, "g1");
    // The answer was lost and the round has moved on: still recognised.
    let (_, _, verdict) = step(&plan, &s, Event::Submitted(site("a"), first), at(4)).unwrap();
    assert_eq!(verdict, Verdict::Repeated);
}

#[test]
fn the_deadline_closes_a_round_only_with_a_quorum() {
    let plan = plan(1, 2, Some(60));
    let mut s = study(&plan, &["a", "b", "c"]);
    evaluate_all(&plan, &mut s, 0.5);
    let a = update(&s, "a");
    go(&plan, &mut s, Event::Submitted(site("a"), a), at(2));
    assert_eq!(next_deadline(&plan, &s), Some(at(61)));
    assert!(go(&plan, &mut s, Event::Tick, at(100)).is_empty(), "one of two: slow is not dead");
    assert!(waiting_for(&plan, &s).0.contains("1 of 3 are in (quorum 2), missing b, c"));
    let b = update(&s, "b");
    let effects = go(&plan, &mut s, Event::Submitted(site("b"), b), at(101));
    assert!(matches!(effects.as_slice(), [Effect::Aggregate(_)]));
}

#[test]
fn the_gate_keeps_a_harmful_candidate_back() {
    let mut plan = plan(2, 2, None);
    plan.gate.max_dice_drop = Some(0.05);
    let mut s = study(&plan, &["a", "b"]);
    evaluate_all(&plan, &mut s, 0.7);
    for name in ["a", "b"] {
        let u = update(&s, name);
        go(&plan, &mut s, Event::Submitted(site(name), u), at(2));
    }
    aggregate(&plan, &mut s, "worse");
    let effects = evaluate_all(&plan, &mut s, 0.6);
    let [Effect::RecordRejection { round, reason }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(*round, RoundNumber(1));
    assert!(reason.contains("a fell from 0.700 to 0.600"), "{reason}");
    assert_eq!(s.published.as_ref().unwrap().generation.number, GenerationNumber(0));
    assert_eq!(s.round(), Some(RoundNumber(2)), "the next round learns from the generation that was kept");
}

#[test]
fn passes_alone_publish_nothing() {
    let plan = plan(2, 1, None);
    let mut s = study(&plan, &["a"]);
    evaluate_all(&plan, &mut s, 0.7);
    let mut pass = update(&s, "a");
    (pass.members, pass.weight) = (vec![], 0.0);
    let effects = go(&plan, &mut s, Event::Submitted(site("a"), pass), at(2));
    assert!(matches!(effects.as_slice(), [Effect::RecordRejection { .. }]));
    assert_eq!(s.round(), Some(RoundNumber(2)));
}

#[test]
fn a_revoked_site_is_no_longer_waited_for_and_its_update_is_withdrawn() {
    let plan = plan(1, 1, None);
    let mut s = study(&plan, &["a", "b", "c"]);
    evaluate_all(&plan, &mut s, 0.7);
    for name in ["a", "b"] {
        let u = update(&s, name);
        go(&plan, &mut s, Event::Submitted(site(name), u), at(2));
    }
    let withdrawn = Effect::RecordWithdrawal { round: RoundNumber(1), site: site("b") };
    assert_eq!(go(&plan, &mut s, Event::Removed(site("b")), at(3)), [withdrawn]);
    let effects = go(&plan, &mut s, Event::Removed(site("c")), at(3));
    let [Effect::Aggregate(order)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(order.contributions.len(), 1);
    let refused = step(&plan, &s, Event::Joined(site("b")), at(4)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
}

#[test]
fn an_update_with_an_impossible_figure_is_refused() {
    let plan = plan(1, 1, None);
    let mut s = study(&plan, &["a"]);
    evaluate_all(&plan, &mut s, 0.5);
    let with = |change: fn(&mut UpdateMetrics)| {
        let mut update = update(&s, "first");
        change(&mut update.metrics);
        step(&plan, &s, Event::Submitted(site("a"), update), at(2)).map_err(|refused| refused.code).map(|_| ())
    };
    assert_eq!(with(|m| (m.control_dice, m.dice_before_correction) = (Some(1.0), Some(0.0))), Ok(()));
    for change in [
        (|m| m.control_dice = Some(1.5)) as fn(&mut UpdateMetrics),
        |m| m.control_dice = Some(-0.5),
        |m| m.patches_corrected = u32::MAX,
        |m| m.mean_uncertainty = -1.0,
        |m| m.dice_before_correction = Some(f64::NAN),
        |m| m.loss_last = f64::INFINITY,
    ] {
        assert_eq!(with(change), Err(ErrorCode::InvalidInput));
    }
}

#[test]
fn a_late_evaluation_is_recorded_and_a_stale_one_refused() {
    let plan = plan(1, 1, Some(10));
    let mut s = study(&plan, &["a", "b"]);
    let report = evaluation(&s, 0.4);
    go(&plan, &mut s, Event::Evaluated(site("a"), report.clone()), at(20));
    assert!(matches!(s.phase, Phase::Collecting { .. }));
    let effects = go(&plan, &mut s, Event::Evaluated(site("b"), report.clone()), at(21));
    assert!(matches!(effects.as_slice(), [Effect::RecordPublication(p)] if p.evaluations.len() == 2));
    let stale = Evaluation { manifest: Digest::of(b"other"), ..report };
    let refused = step(&plan, &s, Event::Evaluated(site("b"), stale), at(22)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::OutOfDate);
}

#[test]
fn an_aborted_study_stays_so_and_keeps_its_reason() {
    let plan = plan(1, 1, None);
    let mut s = study(&plan, &["a"]);
    go(&plan, &mut s, Event::Abort("wrong plan".into()), at(5));
    assert!(waiting_for(&plan, &s).0.contains("wrong plan"));
    assert!(step(&plan, &s, Event::Abort("again".into()), at(6)).is_err());
    assert!(matches!(task_for(&plan, &s, &site("a")), Task::Wait { .. }));
    let late = evaluation(&study(&plan, &["a"]), 0.5);
    assert_eq!(step(&plan, &s, Event::Evaluated(site("a"), late), at(7)).unwrap_err().code, ErrorCode::OutOfDate);
}

mod invariants {
    use proptest::prelude::*;

    use super::*;

    const SITES: [&str; 4] = ["a", "b", "c", "d"];

    #[derive(Clone, Debug)]
    enum Op {
        Submit(usize),
        Evaluate(usize),
        Aggregate,
        Remove(usize),
        Tick,
        Restart,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0..SITES.len()).prop_map(Op::Submit),
            6 => (0..SITES.len()).prop_map(Op::Evaluate),
            3 => Just(Op::Aggregate),
            1 => (0..SITES.len()).prop_map(Op::Remove),
            1 => Just(Op::Tick),
            1 => Just(Op::Restart),
        ]
    }

    proptest! {
        /// Whatever happens, in whatever order and how often: generations rise by one, no site counts twice in a round,
        /// a round is never held twice, and the state survives being written down.
        #[test]
        fn hold_under_any_order(ops in prop::collection::vec(op(), 0..120)) {
            let plan = plan(3, 2, Some(50));
            let mut s = study(&plan, &SITES);
            let mut aggregated_rounds = vec![];
            for (time, op) in ops.into_iter().enumerate() {
                let now = at(i64::try_from(time).unwrap());
                let before = s.published.as_ref().map(|p| p.generation.number.0);
                let event = match op {
                    Op::Submit(i) if s.published.is_some() && s.round().is_some() => {
                        Event::Submitted(site(SITES[i]), update(&s, SITES[i]))
                    }
                    Op::Evaluate(i) if s.round().is_some() => Event::Evaluated(site(SITES[i]), evaluation(&s, 0.5)),
                    Op::Aggregate if s.round().is_some() => {
                        let round = s.round().unwrap();
                        Event::Aggregated(round, Digest::of(format!("candidate {round}").as_bytes()))
                    }
                    Op::Remove(i) => Event::Removed(site(SITES[i])),
                    Op::Restart => {
                        s = serde_json::from_slice(&serde_json::to_vec(&s).unwrap()).unwrap();
                        continue;
                    }
                    _ => Event::Tick,
                };
                let Ok((next, effects, _)) = step(&plan, &s, event, now) else { continue };
                for effect in &effects {
                    if let Effect::Aggregate(order) = effect {
                        prop_assert!(!aggregated_rounds.contains(&order.round));
                        aggregated_rounds.push(order.round);
                        prop_assert!(order.contributions.windows(2).all(|w| w[0].site < w[1].site));
                        prop_assert!(order.contributions.len() >= plan.quorum.min_sites);
                    }
                }
                s = next;
                let after = s.published.as_ref().map(|p| p.generation.number.0);
                prop_assert!(after == before || after == Some(before.map_or(0, |n| n + 1)));
            }
        }
    }
}
