//! What an operator is shown of sites and studies, put together from the engine's snapshot, the database's history and
//! the signs of life.

use consilium_common::round::{Outcome, Phase, phase_name, waiting_for};
use consilium_common::{GenerationNumber, RoundNumber, SiteId, Timestamp, limits};

use super::Context;
use crate::engine::Entry;
use crate::error::Result;
use crate::store::{History, SiteRow};
use crate::view::{GenerationView, SiteEvaluation, SiteProgress, SiteView, Standing, StudySummary, StudyView};

impl Context {
    /// A study in one line.
    pub(super) async fn summary(&self, entry: &Entry) -> Result<StudySummary> {
        Ok(summary(entry, &self.intake.store.history(&entry.state.id).await?))
    }

    /// All that is to be seen of a study.
    pub(super) async fn view(&self, entry: &Entry) -> Result<StudyView> {
        let history = self.intake.store.history(&entry.state.id).await?;
        let summary = summary(entry, &history);
        let mut sites = Vec::with_capacity(entry.state.sites.len());
        for (site, membership) in &entry.state.sites {
            let (seen, progress) = self.presence.of(site, Some(&entry.state.id));
            let seen = if seen.0 > 0 {
                seen
            } else {
                self.intake.store.site(site).await?.map_or(Timestamp(0), |row| row.last_seen)
            };
            let current = progress.filter(|p| Some(p.round) == entry.state.round());
            sites.push(SiteProgress {
                site: site.clone(),
                joined: membership.joined,
                answered: answered(&entry.state.phase, site).to_owned(),
                stage: current.map(|p| (p.stage, p.done, p.total)),
                last_seen: (seen.0 > 0).then_some(seen),
            });
        }
        let outcome = match &entry.state.phase {
            Phase::Ended { outcome: Outcome::Finished, .. } => "finished: all rounds were held".to_owned(),
            Phase::Ended { outcome: Outcome::Aborted { reason }, .. } => format!("aborted: {reason}"),
            _ => String::new(),
        };
        let generations = history.publications.iter().map(|publication| GenerationView {
            generation: publication.generation.number,
            manifest: publication.generation.manifest,
            round: publication.round,
            evaluations: publication.evaluations.iter().map(|(site, report)| evaluation(site, report)).collect(),
        });
        let generations = generations.collect();
        let updates = self.intake.store.updates(&entry.state.id, limits::MAX_STATUS_UPDATES).await?;
        let (plan, rejected) = (entry.state.plan, history.rejections);
        Ok(StudyView { summary, plan, sites, generations, updates, rejected, outcome })
    }

    /// A site as it stands.
    pub(super) fn site_view(&self, row: SiteRow) -> SiteView {
        let (seen, _) = self.presence.of(&row.site, None);
        let seen = seen.0.max(row.last_seen.0);
        let standing = match (&row.certificate, row.revoked, &row.invitation) {
            (_, true, Some(invitation)) if invitation.used_by.is_none() => Standing::Invited,
            (_, true, _) => Standing::Revoked,
            (Some(_), false, _) => Standing::Enrolled,
            (None, false, _) => Standing::Invited,
        };
        SiteView {
            site: row.site,
            standing,
            last_seen: (seen > 0).then_some(Timestamp(seen)),
            certificate_expires: row.certificate.map(|certificate| certificate.expires),
        }
    }
}

fn summary(entry: &Entry, history: &History) -> StudySummary {
    let (waiting_for, since) = waiting_for(&entry.plan, &entry.state);
    let held = history.publications.iter().map(|p| p.round).chain(history.rejections.iter().map(|(round, _)| *round));
    StudySummary {
        study: entry.state.id.clone(),
        title: entry.plan.title.clone(),
        phase: phase_name(&entry.state).to_owned(),
        round: entry.state.round().or_else(|| held.max()).unwrap_or(RoundNumber(0)),
        rounds: entry.plan.rounds,
        generation: entry.state.published.as_ref().map_or(GenerationNumber(0), |p| p.generation.number),
        waiting_for,
        since,
    }
}

fn answered(phase: &Phase, site: &SiteId) -> &'static str {
    match phase {
        Phase::Evaluating { evaluations, .. } if evaluations.contains_key(site) => "evaluation",
        Phase::Collecting { updates, .. } | Phase::Aggregating { updates, .. } => match updates.get(site) {
            Some(accepted) if accepted.update.is_pass() => "pass",
            Some(_) => "update",
            None => "",
        },
        _ => "",
    }
}

fn evaluation(site: &SiteId, report: &consilium_common::messages::Evaluation) -> SiteEvaluation {
    SiteEvaluation { site: site.clone(), slides: report.slides, mean_dice: report.mean_dice, ece: report.ece }
}
