//! Views of sites and studies to the wire and back. To the wire nothing can fail; from the wire everything is checked.

use consilium_common::messages::Stage;
use consilium_common::{GenerationNumber, Invalid, RoundNumber, Timestamp};
use consilium_proto::{digest_from, v1};

use crate::view::{
    GenerationView, SiteEvaluation, SiteProgress, SiteView, Standing, StudySummary, StudyView, UpdateView,
};

const STANDINGS: [(Standing, v1::SiteStanding); 3] = [
    (Standing::Invited, v1::SiteStanding::Invited),
    (Standing::Enrolled, v1::SiteStanding::Enrolled),
    (Standing::Revoked, v1::SiteStanding::Revoked),
];

/// 0 on the wire means never.
fn ms(at: Option<Timestamp>) -> i64 {
    at.map_or(0, |at| at.0)
}

fn at(ms: i64) -> Option<Timestamp> {
    (ms > 0).then_some(Timestamp(ms))
}

impl From<SiteView> for v1::Site {
    fn from(site: SiteView) -> Self {
        let standing = STANDINGS.into_iter().find(|row| row.0 == site.standing);
        Self {
            site_id: site.site.to_string(),
            standing: standing.map_or(v1::SiteStanding::Unspecified, |row| row.1).into(),
            last_seen_unix_ms: ms(site.last_seen),
            certificate_expires_unix_ms: ms(site.certificate_expires),
        }
    }
}

impl TryFrom<v1::Site> for SiteView {
    type Error = Invalid;
    fn try_from(site: v1::Site) -> Result<Self, Invalid> {
        let standing = STANDINGS.into_iter().find(|row| row.1 == site.standing());
        Ok(Self {
            site: site.site_id.parse()?,
            standing: standing.ok_or_else(|| Invalid::new("standing", "is not given"))?.0,
            last_seen: at(site.last_seen_unix_ms),
            certificate_expires: at(site.certificate_expires_unix_ms),
        })
    }
}

impl From<StudySummary> for v1::StudySummary {
    fn from(summary: StudySummary) -> Self {
        Self {
            study_id: summary.study.to_string(),
            title: summary.title,
            phase: summary.phase,
            round: summary.round.0,
            rounds: summary.rounds,
            generation: summary.generation.0,
            waiting_for: summary.waiting_for,
            since_unix_ms: summary.since.0,
        }
    }
}

impl TryFrom<v1::StudySummary> for StudySummary {
    type Error = Invalid;
    fn try_from(summary: v1::StudySummary) -> Result<Self, Invalid> {
        Ok(Self {
            study: summary.study_id.parse()?,
            title: summary.title,
            phase: summary.phase,
            round: RoundNumber(summary.round),
            rounds: summary.rounds,
            generation: GenerationNumber(summary.generation),
            waiting_for: summary.waiting_for,
            since: Timestamp(summary.since_unix_ms),
        })
    }
}

impl From<SiteProgress> for v1::SiteProgress {
    fn from(site: SiteProgress) -> Self {
        let (stage, done, total) = match site.stage {
            Some((stage, done, total)) => (v1::Stage::from(stage), done, total),
            None => (v1::Stage::Unspecified, 0, 0),
        };
        Self {
            site_id: site.site.to_string(),
            joined: site.joined,
            answered: site.answered,
            stage: stage.into(),
            done,
            total,
            last_seen_unix_ms: ms(site.last_seen),
        }
    }
}

impl TryFrom<v1::SiteProgress> for SiteProgress {
    type Error = Invalid;
    fn try_from(site: v1::SiteProgress) -> Result<Self, Invalid> {
        // A site that has said nothing yet has no stage.
        let stage = Stage::try_from(site.stage()).ok();
        Ok(Self {
            site: site.site_id.parse()?,
            joined: site.joined,
            answered: site.answered,
            stage: stage.map(|stage| (stage, site.done, site.total)),
            last_seen: at(site.last_seen_unix_ms),
        })
    }
}

impl From<GenerationView> for v1::GenerationRecord {
    fn from(view: GenerationView) -> Self {
        let evaluation = |e: SiteEvaluation| v1::SiteEvaluation {
            site_id: e.site.to_string(),
            slides: e.slides,
            mean_dice: e.mean_dice,
            ece: e.ece,
        };
        Self {
            generation: view.generation.0,
            manifest_digest: view.manifest.as_bytes().to_vec(),
            round: view.round.0,
            evaluations: view.evaluations.into_iter().map(evaluation).collect(),
        }
    }
}

impl TryFrom<v1::GenerationRecord> for GenerationView {
    type Error = Invalid;
    fn try_from(record: v1::GenerationRecord) -> Result<Self, Invalid> {
        let evaluation = |e: v1::SiteEvaluation| {
            Ok(SiteEvaluation { site: e.site_id.parse()?, slides: e.slides, mean_dice: e.mean_dice, ece: e.ece })
        };
        Ok(Self {
            generation: GenerationNumber(record.generation),
            manifest: digest_from(&record.manifest_digest)?,
            round: RoundNumber(record.round),
            evaluations: record.evaluations.into_iter().map(evaluation).collect::<Result<_, Invalid>>()?,
        })
    }
}

impl From<UpdateView> for v1::SiteUpdate {
    fn from(view: UpdateView) -> Self {
        Self {
            round: view.round.0,
            site_id: view.site.to_string(),
            weight: view.weight,
            metrics: Some((&view.metrics).into()),
        }
    }
}

impl TryFrom<v1::SiteUpdate> for UpdateView {
    type Error = Invalid;
    fn try_from(update: v1::SiteUpdate) -> Result<Self, Invalid> {
        let metrics = update.metrics.ok_or_else(|| Invalid::new("update.metrics", "is missing"))?;
        Ok(Self {
            round: RoundNumber(update.round),
            site: update.site_id.parse()?,
            weight: update.weight,
            metrics: metrics.into(),
        })
    }
}

impl From<StudyView> for v1::GetStudyResponse {
    fn from(view: StudyView) -> Self {
        let rejected = |(round, reason): (RoundNumber, String)| v1::RejectedRound { round: round.0, reason };
        Self {
            summary: Some(view.summary.into()),
            plan_digest: view.plan.as_bytes().to_vec(),
            sites: view.sites.into_iter().map(Into::into).collect(),
            generations: view.generations.into_iter().map(Into::into).collect(),
            updates: view.updates.into_iter().map(Into::into).collect(),
            rejected: view.rejected.into_iter().map(rejected).collect(),
            outcome: view.outcome,
        }
    }
}

impl TryFrom<v1::GetStudyResponse> for StudyView {
    type Error = Invalid;
    fn try_from(response: v1::GetStudyResponse) -> Result<Self, Invalid> {
        let summary = response.summary.ok_or_else(|| Invalid::new("summary", "is missing"))?;
        Ok(Self {
            summary: summary.try_into()?,
            plan: digest_from(&response.plan_digest)?,
            sites: response.sites.into_iter().map(TryInto::try_into).collect::<Result<_, Invalid>>()?,
            generations: response.generations.into_iter().map(TryInto::try_into).collect::<Result<_, Invalid>>()?,
            updates: response.updates.into_iter().map(TryInto::try_into).collect::<Result<_, Invalid>>()?,
            rejected: response.rejected.into_iter().map(|r| (RoundNumber(r.round), r.reason)).collect(),
            outcome: response.outcome,
        })
    }
}
