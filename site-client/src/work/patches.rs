//! `patches.json` and `timing.json`: what a round leaves in its folder for people and for reports.

use super::Job;
use crate::error::SiteError;
use crate::files;
use crate::records::PatchReport;

/// Writes `patches.json` from what the journal holds.
pub(crate) async fn report(job: &Job<'_>) -> Result<(), SiteError> {
    let (journal, order) = (&job.work.journal, job.order);
    let selections = journal.selections(&order.study).await?;
    let corrections = journal.corrections(&order.study).await?;
    for (round, patches) in &selections {
        if *round > order.round.0 {
            continue;
        }
        let report: Vec<PatchReport> = (0u32..)
            .zip(patches)
            .map(|(index, patch)| {
                let record = corrections.get(&(*round, index));
                PatchReport {
                    slide: patch.scored.slide.clone(),
                    x: patch.level0_x,
                    y: patch.level0_y,
                    side_px: patch.scored.patch.side,
                    spacing_um: job.plan.task.spacing_um,
                    score: patch.scored.score,
                    mean_uncertainty: patch.scored.mean_uncertainty,
                    control: patch.control,
                    dice_before: record.and_then(|r| r.dice_before),
                    image: patch.image(),
                    prediction: patch.prediction(),
                    uncertainty: patch.uncertainty(),
                    correction: record.map(|_| patch.correction()),
                    provenance: record.map(|r| r.provenance.clone()),
                }
            })
            .collect();
        let dir = job.work.layout.round(&order.study, consilium_common::RoundNumber(*round));
        files::write_json(&dir.join("patches.json"), &report)?;
    }
    Ok(())
}

/// Writes `timing.json`.
pub(crate) async fn timing(job: &Job<'_>) -> Result<(), SiteError> {
    let seconds = job.work.journal.seconds(job.order).await?;
    let dir = job.work.layout.round(&job.order.study, job.order.round);
    files::write_json(&dir.join("timing.json"), &seconds)
}
