//! Step 5: hand the patches out and take corrections in, for as long as it takes. Corrections of earlier rounds that
//! come late are taken in, too. A correction counts once its label map is on disk and its row in the journal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use consilium_common::messages::Stage;
use consilium_common::{Digest, RoundNumber};
use consilium_learning::metrics;
use tracing::info;

use super::{Job, blocking, patches};
use crate::agent::{AgentState, LearnStep};
use crate::corrector::{Batch, Correction, OfferedPatch, picture};
use crate::error::SiteError;
use crate::files;
use crate::records::{CorrectionRecord, Selected};

/// How often the corrector is asked.
const POLL: Duration = Duration::from_secs(3);
/// How often the coordinator hears that the site still waits.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);

/// Waits until every patch of this round is corrected.
pub(crate) async fn all(job: &Job<'_>, selected: &[Selected]) -> Result<(), SiteError> {
    let (work, order) = (job.work, job.order);
    let asked = u32::try_from(selected.len()).unwrap_or(u32::MAX);
    let reporter = job.reporter(Stage::Correct);
    take_in_late(job).await?;
    let batch = Arc::new(batch(job, order.round, selected));
    let mut offered = false;
    let mut said = None;
    let mut quiet = Duration::ZERO;
    loop {
        let corrections = work.journal.corrections(&order.study).await?;
        let have = |index: &usize| corrections.contains_key(&(order.round.0, *index as u32));
        let missing: Vec<usize> = (0..selected.len()).filter(|index| !have(index)).collect();
        let corrected = asked - u32::try_from(missing.len()).unwrap_or(asked);
        if said != Some(corrected) || quiet >= SIGN_OF_LIFE {
            reporter.say(corrected.into(), asked.into());
            quiet = Duration::ZERO;
        }
        if said != Some(corrected) {
            let state = AgentState::Learning { order: order.clone(), step: LearnStep::Correct { corrected, asked } };
            work.journal.update_state(&state).await?;
            info!(study = %order.study, round = order.round.0, corrected, asked, "corrections");
            said = Some(corrected);
        }
        if missing.is_empty() {
            return patches::report(job).await;
        }
        let taken = ask(job, &batch, missing, !offered).await?;
        offered = true;
        if taken == 0 {
            tokio::time::sleep(POLL).await;
            quiet += POLL;
        } else {
            patches::report(job).await?;
        }
    }
}

/// Corrections of earlier rounds that have come since.
async fn take_in_late(job: &Job<'_>) -> Result<(), SiteError> {
    let journal = &job.work.journal;
    let corrections = journal.corrections(&job.order.study).await?;
    for (round, selected) in journal.selections(&job.order.study).await? {
        let missing: Vec<usize> =
            (0..selected.len()).filter(|index| !corrections.contains_key(&(round, *index as u32))).collect();
        if round < job.order.round.0 && !missing.is_empty() {
            let batch = Arc::new(batch(job, RoundNumber(round), &selected));
            let taken = ask(job, &batch, missing, false).await?;
            if taken > 0 {
                info!(study = %job.order.study, round, taken, "late corrections");
            }
        }
    }
    Ok(())
}

async fn ask(job: &Job<'_>, batch: &Arc<Batch>, missing: Vec<usize>, offer: bool) -> Result<usize, SiteError> {
    let corrector = Arc::clone(&job.work.corrector);
    let asked = Arc::clone(batch);
    let poll = move |_: &_| {
        if offer {
            corrector.offer(&asked)?;
        }
        corrector.poll(&asked, &missing)
    };
    let corrections = blocking("asking for corrections", poll).await?;
    let taken = corrections.len();
    for correction in corrections {
        take(job, batch, correction).await?;
    }
    Ok(taken)
}

async fn take(job: &Job<'_>, batch: &Batch, correction: Correction) -> Result<(), SiteError> {
    let dir = job.work.layout.round(&batch.study, batch.round);
    let offered = &batch.patches[correction.patch];
    let record = CorrectionRecord {
        labels: label_digest(&correction.labels),
        dice_before: metrics::compare(
            &picture::read_grey(&offered.prediction)?,
            &correction.labels,
            batch.task.classes.len(),
        )
        .mean_foreground_dice(),
        provenance: correction.provenance,
    };
    let path = dir.join(format!("{}-correction.png", offered.name));
    files::write_atomic(&path, &picture::png(correction.labels)?, files::SHARED)?;
    let index = u32::try_from(correction.patch).unwrap_or(u32::MAX);
    job.work.journal.put_correction(&batch.study, (batch.round.0, index), &record).await
}

/// The address of a label map: its pixels, whatever a PNG encoder makes of them.
pub(crate) fn label_digest(labels: &image::GrayImage) -> Digest {
    Digest::of(labels.as_raw())
}

fn batch(job: &Job<'_>, round: RoundNumber, selected: &[Selected]) -> Batch {
    let dir = job.work.layout.round(&job.order.study, round);
    let generation = selected.first().map_or(job.order.generation, |patch| patch.generation);
    Batch {
        study: job.order.study.clone(),
        round,
        generation,
        task: job.plan.task.clone(),
        patches: selected.iter().map(|patch| offered(&dir, patch)).collect(),
    }
}

fn offered(dir: &Path, patch: &Selected) -> OfferedPatch {
    OfferedPatch {
        name: patch.name.clone(),
        slide: patch.scored.slide.clone(),
        patch: patch.scored.patch,
        level0: (patch.level0_x, patch.level0_y),
        image: dir.join(patch.image()),
        prediction: dir.join(patch.prediction()),
        uncertainty: dir.join(patch.uncertainty()),
    }
}
