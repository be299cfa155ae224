//! `step`: one event, one transition.

use std::collections::BTreeMap;

use super::{Accepted, AggregationOrder, Effect, Event, Outcome, Phase, Publication, Refusal, Study, Verdict};
use crate::bundle::Contribution;
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{GenerationNumber, RoundNumber, SiteId};
use crate::messages::{Evaluation, GenerationRef, Update, clip_reason};
use crate::plan::{Plan, Weighting};
use crate::units::Timestamp;

type Stepped = Result<(Study, Vec<Effect>, Verdict), Refusal>;

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

/// Applies an event to a study. `plan` is the study's plan; `now` is the time of the event.
///
/// On refusal the study is as before: the caller drops the event and answers with the refusal.
pub fn step(plan: &Plan, study: &Study, event: Event, now: Timestamp) -> Stepped {
    let mut next = study.clone();
    let mut effects = Vec::new();
    let verdict = match event {
        Event::Joined(site) => joined(&mut next, &site)?,
        Event::Submitted(site, update) => submitted(plan, &mut next, site, update)?,
        Event::Evaluated(site, report) => evaluated(plan, &mut next, site, report, &mut effects)?,
        Event::Aggregated(round, manifest) => aggregated(&mut next, round, manifest, now),
        Event::AggregationFailed(round, reason) => {
            aggregation_failed(plan, &mut next, round, &reason, now, &mut effects)
        }
        Event::Removed(site) => removed(&mut next, &site, &mut effects),
        Event::Tick => Verdict::Repeated,
        Event::Abort(reason) => abort(&mut next, &reason, now)?,
    };
    advance(plan, &mut next, now, &mut effects);
    let verdict = if next == *study { Verdict::Repeated } else { verdict };
    Ok((next, effects, verdict))
}

fn member_of(study: &Study, site: &SiteId) -> Result<(), Refusal> {
    if study.sites.contains_key(site) {
        return Ok(());
    }
    refuse(ErrorCode::Forbidden, format!("site {site} is not part of study {}; ask the central group", study.id))
}

fn joined(study: &mut Study, site: &SiteId) -> Result<Verdict, Refusal> {
    member_of(study, site)?;
    if let Some(membership) = study.sites.get_mut(site) {
        membership.joined = true;
    }
    Ok(Verdict::Accepted)
}

fn submitted(plan: &Plan, study: &mut Study, site: SiteId, update: Update) -> Result<Verdict, Refusal> {
    member_of(study, &site)?;
    let invalid = |e: crate::Invalid| Refusal { code: ErrorCode::InvalidInput, message: e.to_string() };
    update.validate(plan.members).map_err(invalid)?;
    let digest = update.digest().map_err(invalid)?;
    let base = study.published.as_ref().map(|p| p.generation.manifest);
    let known = match &study.phase {
        Phase::Collecting { updates, .. } | Phase::Aggregating { updates, .. } => updates.get(&site).map(|a| a.digest),
        _ => None,
    };
    if known.or_else(|| study.last_accepted.get(&site).copied()) == Some(digest) {
        return Ok(Verdict::Repeated);
    }
    let Phase::Collecting { round, updates, .. } = &mut study.phase else {
        return refuse(ErrorCode::OutOfDate, "the round is closed; ask for the next task");
    };
    if update.round != *round {
        let message =
            format!("the update is for round {}, the study is in round {round}; ask for the next task", update.round);
        return refuse(ErrorCode::OutOfDate, message);
    }
    if Some(update.base) != base {
        return refuse(ErrorCode::InvalidInput, "the update is relative to another generation than the published one");
    }
    if updates.contains_key(&site) {
        let message = format!("another update of site {site} was accepted for round {round}; the first one counts");
        return refuse(ErrorCode::Conflict, message);
    }
    updates.insert(site, Accepted { digest, update });
    Ok(Verdict::Accepted)
}

fn evaluated(
    plan: &Plan,
    study: &mut Study,
    site: SiteId,
    report: Evaluation,
    effects: &mut Vec<Effect>,
) -> Result<Verdict, Refusal> {
    member_of(study, &site)?;
    if let Err(error) = report.validate(plan.task.classes.len()) {
        return refuse(ErrorCode::InvalidInput, error.to_string());
    }
    if let Phase::Evaluating { round, candidate, evaluations, .. } = &mut study.phase
        && report.manifest == candidate.manifest
        && report.round == *round
    {
        if evaluations.contains_key(&site) {
            return Ok(Verdict::Repeated);
        }
        evaluations.insert(site, report);
        return Ok(Verdict::Accepted);
    }
    // A slow site's report on the generation that was published meanwhile still counts as knowledge.
    if let Some(published) = &mut study.published
        && published.generation.manifest == report.manifest
    {
        if published.evaluations.contains_key(&site) {
            return Ok(Verdict::Repeated);
        }
        published.evaluations.insert(site, report);
        effects.push(Effect::RecordPublication(published.clone()));
        return Ok(Verdict::Accepted);
    }
    refuse(ErrorCode::OutOfDate, "this candidate is no longer evaluated; ask for the next task")
}

fn aggregated(study: &mut Study, done: RoundNumber, manifest: Digest, now: Timestamp) -> Verdict {
    let Phase::Aggregating { round, updates, .. } = &study.phase else { return Verdict::Repeated };
    if *round != done {
        return Verdict::Repeated;
    }
    study.last_accepted = updates.iter().map(|(site, accepted)| (site.clone(), accepted.digest)).collect();
    let number = study.published.as_ref().map_or(GenerationNumber(0), |p| p.generation.number.next());
    study.phase = Phase::Evaluating {
        round: done,
        candidate: GenerationRef { number, manifest },
        since: now,
        evaluations: BTreeMap::new(),
    };
    Verdict::Accepted
}

/// The round publishes nothing, and the next one begins from the same generation: one bad update costs a round, not the
/// study.
fn aggregation_failed(
    plan: &Plan,
    study: &mut Study,
    failed: RoundNumber,
    reason: &str,
    now: Timestamp,
    effects: &mut Vec<Effect>,
) -> Verdict {
    let Phase::Aggregating { round, updates, .. } = &study.phase else { return Verdict::Repeated };
    if *round != failed {
        return Verdict::Repeated;
    }
    study.last_accepted = updates.iter().map(|(site, accepted)| (site.clone(), accepted.digest)).collect();
    let reason = clip_reason(&format!("it could not be aggregated: {reason}"));
    effects.push(Effect::RecordRejection { round: failed, reason });
    open_round(plan, study, failed.next(), now);
    Verdict::Accepted
}

fn removed(study: &mut Study, site: &SiteId, effects: &mut Vec<Effect>) -> Verdict {
    study.sites.remove(site);
    // An update that was accepted in good standing is withdrawn with the site as long as nothing was computed from it.
    if let Phase::Collecting { round, updates, .. } = &mut study.phase
        && updates.remove(site).is_some()
    {
        effects.push(Effect::RecordWithdrawal { round: *round, site: site.clone() });
    }
    if let Phase::Evaluating { evaluations, .. } = &mut study.phase {
        evaluations.remove(site);
    }
    Verdict::Accepted
}

fn abort(study: &mut Study, reason: &str, now: Timestamp) -> Result<Verdict, Refusal> {
    if let Phase::Ended { .. } = study.phase {
        return refuse(ErrorCode::OutOfDate, format!("study {} has already ended", study.id));
    }
    study.phase = Phase::Ended { outcome: Outcome::Aborted { reason: clip_reason(reason) }, at: now };
    Ok(Verdict::Accepted)
}

/// Closes the phase if all sites have answered, or the deadline has passed with a quorum.
fn advance(plan: &Plan, study: &mut Study, now: Timestamp, effects: &mut Vec<Effect>) {
    match &study.phase {
        Phase::Collecting { round, since, updates } if closes(plan, study, updates, *since, now) => {
            let (round, updates) = (*round, updates.clone());
            close_collecting(plan, study, round, updates, now, effects);
        }
        Phase::Evaluating { round, candidate, since, evaluations } if closes(plan, study, evaluations, *since, now) => {
            let publication = Publication { generation: *candidate, round: *round, evaluations: evaluations.clone() };
            close_evaluating(plan, study, publication, now, effects);
        }
        _ => {}
    }
}

fn closes<T>(plan: &Plan, study: &Study, answers: &BTreeMap<SiteId, T>, since: Timestamp, now: Timestamp) -> bool {
    let answered = study.sites.keys().filter(|site| answers.contains_key(*site)).count();
    let due = plan.quorum.deadline_s.is_some_and(|s| now >= since.plus_seconds(s));
    answered >= plan.quorum.min_sites && (answered == study.sites.len() || due)
}

fn close_collecting(
    plan: &Plan,
    study: &mut Study,
    round: RoundNumber,
    updates: BTreeMap<SiteId, Accepted>,
    now: Timestamp,
    effects: &mut Vec<Effect>,
) {
    if updates.values().all(|accepted| accepted.update.is_pass()) {
        study.last_accepted = updates.into_iter().map(|(site, accepted)| (site, accepted.digest)).collect();
        effects.push(Effect::RecordRejection { round, reason: "no site had anything to learn from".into() });
        open_round(plan, study, round.next(), now);
        return;
    }
    study.phase = Phase::Aggregating { round, since: now, updates };
    effects.extend(aggregation_order(study, plan).map(Effect::Aggregate));
}

fn close_evaluating(plan: &Plan, study: &mut Study, candidate: Publication, now: Timestamp, effects: &mut Vec<Effect>) {
    let round = candidate.round;
    if let Some(reason) = harm(plan, study.published.as_ref(), &candidate) {
        effects.push(Effect::RecordRejection { round, reason });
    } else {
        effects.push(Effect::RecordPublication(candidate.clone()));
        study.published = Some(candidate);
    }
    open_round(plan, study, round.next(), now);
}

/// The gate: why this candidate must not be published, if so.
fn harm(plan: &Plan, published: Option<&Publication>, candidate: &Publication) -> Option<String> {
    let (allowed, published) = (plan.gate.max_dice_drop?, published?);
    let falls = candidate.evaluations.iter().filter_map(|(site, after)| {
        let before = published.evaluations.get(site)?.mean_dice?;
        let after = after.mean_dice?;
        (before - after > allowed).then(|| format!("{site} fell from {before:.3} to {after:.3}"))
    });
    let falls: Vec<_> = falls.collect();
    if falls.is_empty() {
        return None;
    }
    Some(clip_reason(&format!("Dice falls by more than {allowed}: {}", falls.join(", "))))
}

fn open_round(plan: &Plan, study: &mut Study, round: RoundNumber, now: Timestamp) {
    study.phase = if round.0 > plan.rounds {
        Phase::Ended { outcome: Outcome::Finished, at: now }
    } else {
        Phase::Collecting { round, since: now, updates: BTreeMap::new() }
    };
}

pub(super) fn aggregation_order(study: &Study, plan: &Plan) -> Option<AggregationOrder> {
    let Phase::Aggregating { round, updates, .. } = &study.phase else { return None };
    let base = study.published.as_ref()?.generation;
    let (mut contributions, mut deltas) = (Vec::new(), Vec::new());
    for (site, Accepted { digest, update }) in updates.iter().filter(|(_, accepted)| !accepted.update.is_pass()) {
        let weight = match plan.aggregation.weighting {
            Weighting::Equal => 1.0,
            Weighting::Patches => update.weight,
        };
        contributions.push(Contribution { site: site.clone(), weight, update: *digest });
        deltas.push(update.members.clone());
    }
    Some(AggregationOrder {
        study: study.id.clone(),
        plan: study.plan,
        round: *round,
        base,
        generation: base.number.next(),
        contributions,
        deltas,
    })
}
