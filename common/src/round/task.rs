//! What a study means for the one who asks: the next task of a site, and in words for whom everybody waits.

use std::collections::BTreeMap;

use super::{Outcome, Phase, Study};
use crate::ids::SiteId;
use crate::messages::{Task, WorkOrder};
use crate::plan::Plan;
use crate::units::Timestamp;

/// What this site has to do in this study now. A site that is not part of it waits.
pub fn task_for(plan: &Plan, study: &Study, site: &SiteId) -> Task {
    let order = |round, generation: crate::messages::GenerationRef| WorkOrder {
        study: study.id.clone(),
        plan: study.plan,
        round,
        generation: generation.number,
        manifest: generation.manifest,
    };
    match &study.phase {
        _ if !study.sites.contains_key(site) => {}
        Phase::Evaluating { round, candidate, evaluations, .. } if !evaluations.contains_key(site) => {
            return Task::Evaluate(order(*round, *candidate));
        }
        Phase::Collecting { round, updates, .. } if !updates.contains_key(site) => {
            if let Some(published) = &study.published {
                return Task::Learn(order(*round, published.generation));
            }
        }
        _ => {}
    }
    let (waiting_for, since) = waiting_for(plan, study);
    Task::Wait { waiting_for, since }
}

/// One word for the phase.
pub fn phase_name(study: &Study) -> &'static str {
    match &study.phase {
        Phase::Evaluating { .. } => "evaluating",
        Phase::Collecting { .. } => "collecting",
        Phase::Aggregating { .. } => "aggregating",
        Phase::Ended { outcome: Outcome::Finished, .. } => "finished",
        Phase::Ended { outcome: Outcome::Aborted { .. }, .. } => "aborted",
    }
}

/// For whom or what the study waits, and since when.
pub fn waiting_for(plan: &Plan, study: &Study) -> (String, Timestamp) {
    match &study.phase {
        Phase::Evaluating { candidate, since, evaluations, .. } => {
            let what = format!("evaluations of generation {}", candidate.number);
            (missing(plan, study, &what, evaluations), *since)
        }
        Phase::Collecting { round, since, updates } => {
            (missing(plan, study, &format!("updates of round {round}"), updates), *since)
        }
        Phase::Aggregating { round, since, .. } => (format!("the coordinator, which aggregates round {round}"), *since),
        Phase::Ended { outcome: Outcome::Finished, at } => ("nothing: all rounds were held".into(), *at),
        Phase::Ended { outcome: Outcome::Aborted { reason }, at } => (format!("nothing: aborted ({reason})"), *at),
    }
}

fn missing<T>(plan: &Plan, study: &Study, what: &str, answers: &BTreeMap<SiteId, T>) -> String {
    let absent: Vec<_> = study.sites.keys().filter(|site| !answers.contains_key(*site)).collect();
    let mut names: Vec<_> = absent.iter().take(5).map(ToString::to_string).collect();
    if absent.len() > names.len() {
        names.push(format!("{} more", absent.len() - names.len()));
    }
    let have = study.sites.len() - absent.len();
    let need = plan.quorum.min_sites;
    if absent.is_empty() {
        return format!(
            "{need} {what}, but the study has only {} sites left; abort it, its quorum cannot be reached any more",
            study.sites.len()
        );
    }
    format!("{what}: {have} of {} are in (quorum {need}), missing {}", study.sites.len(), names.join(", "))
}

/// When the study wants a `Tick` even if nothing else happens.
pub fn next_deadline(plan: &Plan, study: &Study) -> Option<Timestamp> {
    match &study.phase {
        Phase::Evaluating { since, .. } | Phase::Collecting { since, .. } => {
            plan.quorum.deadline_s.map(|s| since.plus_seconds(s))
        }
        _ => None,
    }
}
