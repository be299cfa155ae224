//! The evaluate task: a candidate generation on this site's held-out slides. Figures leave, per site and not per slide;
//! `evaluation.json` with the figures of each slide stays here.

use std::sync::Arc;

use consilium_common::ErrorCode;
use consilium_common::messages::{Evaluation, Stage};
use consilium_learning::dataset::{SlideEntry, Split};
use consilium_learning::metrics::{Pooled, SlideEvaluation};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::scan::{crops_dir, survived};
use super::{Job, Loaded, computing};
use crate::error::SiteError;
use crate::files;
use crate::link::{LinkError, Outbound};
use crate::records::{EvaluationReport, SlideReport};

const UNITS: u64 = 1000;

/// Evaluates, unless that was done; keeps report and evaluation.json.
pub(crate) async fn held_out(job: &Job<'_>, ensemble: &Loaded) -> Result<Evaluation, SiteError> {
    let (work, order) = (job.work, job.order);
    if let Some(evaluation) = work.journal.evaluation(order).await? {
        return Ok(evaluation);
    }
    job.clear_other_rounds()?;
    let folder = job.data().await?;
    let slides: Vec<SlideEntry> = folder.of(Split::Test).filter(|s| s.mask.is_some()).cloned().collect();
    let reporter = job.reporter(Stage::Evaluate);
    let total = slides.len() as u64 * UNITS;
    let classes = job.plan.task.classes.len();
    let scanner = if slides.is_empty() { None } else { Some(Arc::new(job.scanner(ensemble)?)) };
    let mut pooled = Pooled::new(classes);
    let mut reports = Vec::new();
    let mut crashed = false;
    for (index, slide) in slides.iter().enumerate() {
        let Some(scanner) = scanner.clone() else { break };
        let (one, reporter) = (slide.clone(), reporter.clone());
        let offset = index as u64 * UNITS;
        let maps = crops_dir(&work.layout.evaluations(&order.study, order.round), &slide.name);
        let run = move |stop: &CancellationToken| {
            let seen = |done: u64, all: u64| {
                reporter.say(offset + (done * UNITS).checked_div(all).unwrap_or(UNITS), total);
                !stop.is_cancelled()
            };
            scanner.evaluate(&one, &maps, &seen)
        };
        let done = computing(&work.compute, "evaluating a slide", run).await;
        crashed |= matches!(done, Err(SiteError::Crashed(_)));
        match survived(done)? {
            Ok(result) => {
                work.journal.clear_problem(&slide.name).await?;
                pooled.add(&result);
                reports.push(slide_report(&slide.name, &result));
                info!(slide = index, slides = slides.len(), "evaluated");
            }
            Err(why) => {
                warn!(slide = index, "a held-out slide cannot be used; `consilium-site status` says why");
                work.journal.put_problem(&slide.name, &why).await?;
            }
        }
    }
    // A gate that hears nothing lets a candidate pass: a site that cannot evaluate any more says so instead.
    if crashed && reports.is_empty() {
        return Err(SiteError::Crashed("evaluating every held-out slide"));
    }
    let evaluation = Evaluation {
        study: order.study.clone(),
        round: order.round,
        manifest: order.manifest,
        slides: pooled.slides(),
        mean_dice: pooled.mean_dice(),
        pooled_dice: pooled.pooled_dice(),
        ece: pooled.ece(),
    };
    evaluation.validate(classes)?;
    files::remove_dir(&work.layout.evaluations(&order.study, order.round))?;
    write_report(job, reports, &pooled)?;
    work.journal.put_evaluation(&evaluation).await?;
    // The first one that was kept is what is sent, now and after a restart.
    let kept = work.journal.evaluation(order).await?;
    kept.ok_or_else(|| SiteError::Damaged {
        path: work.layout.journal(),
        why: "has lost an evaluation; try again".to_owned(),
    })
}

pub(crate) fn slide_report(name: &str, result: &SlideEvaluation) -> SlideReport {
    SlideReport { name: name.to_owned(), dice: result.dice(), mean_dice: result.mean_dice() }
}

fn write_report(job: &Job<'_>, slides: Vec<SlideReport>, pooled: &Pooled) -> Result<(), SiteError> {
    let order = job.order;
    let report = EvaluationReport {
        generation: order.generation,
        manifest: order.manifest,
        slides,
        mean_dice: pooled.mean_dice(),
        pooled_dice: pooled.pooled_dice(),
        ece: pooled.ece(),
    };
    files::write_json(&job.work.layout.round(&order.study, order.round).join("evaluation.json"), &report)
}

/// Hands the figures in.
pub(crate) async fn hand_in(job: &Job<'_>, evaluation: &Evaluation) -> Result<(), SiteError> {
    let send = async || job.work.link.send(Outbound::Evaluation(evaluation), &|_| {}).await;
    match job.work.link.patience.until_done("handing in the evaluation", send).await {
        Ok(()) => {
            let round = job.order.round.0;
            info!(study = %job.order.study, round, mean_dice = evaluation.mean_dice, "evaluation accepted");
        }
        Err(LinkError::Answer { code: ErrorCode::OutOfDate, message }) => {
            warn!(study = %job.order.study, round = job.order.round.0, message, "the evaluation was no longer needed");
        }
        Err(error) => return Err(error.into()),
    }
    job.work.journal.evaluation_answered(evaluation).await
}
