//! Step 7: the update. Made once and kept, uploaded from where the coordinator stands, handed in idempotently.

use consilium_common::ErrorCode;
use consilium_common::messages::{Stage, Update, UpdateMetrics};
use tracing::{info, warn};

use super::Job;
use crate::corrector::Outcome;
use crate::error::SiteError;
use crate::files;
use crate::link::{DeltaFile, LinkError, Outbound};
use crate::records::TrainingSet;

/// The update of this round: the one that was made before, or a new one.
pub(crate) async fn update(job: &Job<'_>, set: &TrainingSet) -> Result<Update, SiteError> {
    let (work, order) = (job.work, job.order);
    if let Some(update) = work.journal.update(order).await? {
        return Ok(update);
    }
    let members: Vec<_> = work.journal.members(order).await?.into_values().collect();
    let pass = set.patches == 0;
    let mut metrics = metrics(job, set).await?;
    if !pass {
        let mean = |loss: fn(&crate::records::MemberRecord) -> f64| {
            members.iter().map(loss).sum::<f64>() / members.len().max(1) as f64
        };
        (metrics.loss_first, metrics.loss_last) = (mean(|m| m.loss_first), mean(|m| m.loss_last));
    }
    let update = Update {
        study: order.study.clone(),
        round: order.round,
        base: order.manifest,
        weight: f64::from(set.patches),
        members: if pass { vec![] } else { members.iter().map(|m| m.delta).collect() },
        metrics,
    };
    update.validate(job.plan.members)?;
    files::write_json(&work.layout.round(&order.study, order.round).join("update.json"), &update)?;
    work.journal.put_update(&update).await?;
    // The first one that was kept is what is sent, now and after a restart.
    let kept = work.journal.update(order).await?;
    kept.ok_or_else(|| SiteError::Damaged {
        path: work.layout.journal(),
        why: "has lost an update; try again".to_owned(),
    })
}

async fn metrics(job: &Job<'_>, set: &TrainingSet) -> Result<UpdateMetrics, SiteError> {
    let (journal, order) = (&job.work.journal, job.order);
    let scans = journal.scans(&order.study, order.round).await?;
    let selected = journal.selections(&order.study).await?.remove(&order.round.0).unwrap_or_default();
    let corrections = journal.corrections(&order.study).await?;
    let of_round: Vec<_> = corrections.into_iter().filter(|((round, _), _)| *round == order.round.0).collect();
    let used = of_round.iter().filter(|(_, record)| record.provenance.outcome != Outcome::Rejected).count();
    let control = |index: u32| selected.get(index as usize).is_some_and(|patch| patch.control);
    let dice = |wanted: bool| -> Vec<f64> {
        let of_kind = of_round.iter().filter(|((_, index), _)| control(*index) == wanted);
        of_kind.filter_map(|(_, record)| record.dice_before).collect()
    };
    let uncertainties: Vec<f64> = selected.iter().map(|patch| patch.scored.mean_uncertainty).collect();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(UpdateMetrics {
        slides_scanned: count(scans.values().filter(|scan| scan.problem.is_none()).count()),
        patches_corrected: count(used),
        patches_trained: set.patches,
        mean_uncertainty: mean(&uncertainties).unwrap_or(0.0),
        dice_before_correction: mean(&dice(false)),
        control_dice: mean(&dice(true)),
        loss_first: 0.0,
        loss_last: 0.0,
    })
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Uploads what the coordinator does not have of the update's deltas.
pub(crate) async fn upload(job: &Job<'_>, update: &Update) -> Result<(), SiteError> {
    let (work, order) = (job.work, job.order);
    if update.is_pass() {
        return Ok(());
    }
    let reporter = job.reporter(Stage::Upload);
    let mut total = 0;
    let mut files = Vec::new();
    for (member, digest) in update.members.iter().enumerate() {
        let path = work.blobs.path(digest);
        total += std::fs::metadata(&path).map_err(SiteError::io("read", &path))?.len();
        files.push(DeltaFile { study: order.study.clone(), round: order.round, member, digest: *digest, path });
    }
    let mut before = 0;
    for file in &files {
        // Asked again after every interruption: the coordinator knows best where it stands.
        let send = async || {
            let held = work.link.held(&order.study, &[file.digest]).await?;
            match held.first() {
                Some(held) if held.complete => Ok(()),
                held => {
                    let from = held.map_or(0, |h| h.bytes);
                    work.link.send(Outbound::Delta(file, from), &|at| reporter.say(before + at, total)).await
                }
            }
        };
        match work.link.patience.until_done("uploading a delta", send).await {
            // The round closed meanwhile; handing in says so.
            Err(LinkError::Answer { code: ErrorCode::OutOfDate, .. }) => return Ok(()),
            sent => sent?,
        }
        before += std::fs::metadata(&file.path).map_err(SiteError::io("read", &file.path))?.len();
        reporter.say(before, total);
    }
    Ok(())
}

/// Hands the update in. A round that closed meanwhile is no failure: what was corrected counts in the next.
pub(crate) async fn hand_in(job: &Job<'_>, update: &Update) -> Result<(), SiteError> {
    let (work, order) = (job.work, job.order);
    let send = async || work.link.send(Outbound::Update(update), &|_| {}).await;
    match work.link.patience.until_done("handing in the update", send).await {
        Ok(()) => {
            let (round, weight) = (order.round.0, update.weight);
            info!(study = %order.study, round, weight, digest = %update.digest()?.short(), "update accepted");
        }
        Err(LinkError::Answer { code: ErrorCode::OutOfDate, message }) => {
            warn!(study = %order.study, round = order.round.0, message, "the round went on without this update");
        }
        Err(error) => return Err(error.into()),
    }
    work.journal.update_answered(order).await
}
