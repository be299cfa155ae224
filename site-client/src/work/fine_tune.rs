//! Step 6: fine-tune every member on the corrections of this round, those of earlier ones unless the plan says no, and on
//! the train slides. What it draws from is fixed in the journal before it begins; each finished member's delta is durable
//! at once; an unfinished member begins again from its seed and ends with the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use consilium_common::bundle::Normalisation;
use consilium_common::messages::Stage;
use consilium_common::plan::{Task, UNLABELLED};
use consilium_common::{Digest, RoundNumber};
use consilium_learning::dataset::{DataFolder, SlideEntry, Split};
use consilium_learning::network::InputScale;
use consilium_learning::scan::scale_of;
use consilium_learning::slides::{open_slide, read_at, read_mask_at, size_at};
use consilium_learning::training::{Trainer, TrainingImage, member_seed, train_member};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::correct::label_digest;
use super::{Job, Loaded, blocking, computing};
use crate::corrector::{Outcome, picture};
use crate::error::SiteError;
use crate::records::{MemberRecord, Rehearsed, Selected, TrainingSet};

/// Fixes the training set, then fine-tunes the members that are not finished. Answers the set; an empty one is a pass.
pub(crate) async fn members(job: &Job<'_>, ensemble: &Loaded) -> Result<TrainingSet, SiteError> {
    let set = training_set(job).await?;
    if set.patches == 0 {
        return Ok(set);
    }
    let mut done = job.work.journal.members(job.order).await?;
    done.retain(|_, record| job.work.blobs.has(&record.delta));
    let missing: Vec<usize> = (0..job.plan.members).filter(|member| !done.contains_key(member)).collect();
    if !missing.is_empty() {
        train(job, ensemble, &set, &missing).await?;
    }
    Ok(set)
}

async fn training_set(job: &Job<'_>) -> Result<TrainingSet, SiteError> {
    let (work, order) = (job.work, job.order);
    if let Some(set) = work.journal.training_set(order).await? {
        return Ok(set);
    }
    let corrections: Vec<(u32, u32)> = work
        .journal
        .corrections(&order.study)
        .await?
        .into_iter()
        .filter(|((round, _), record)| {
            job.plan.rehearsal.learns_from(*round, order.round.0) && record.provenance.outcome != Outcome::Rejected
        })
        .map(|(key, _)| key)
        .collect();
    let folder = job.data().await?;
    let corrections = to_learn_from(corrections, &work.journal.selections(&order.study).await?, &folder);
    let known = |one: &Rehearsed| folder.slide(&one.slide).is_some_and(|slide| slide.split != Split::Test);
    let rehearsed = work.journal.rehearsed(order).await?.into_iter().filter(known).map(|one| one.name).collect();
    let (task, side) = (job.plan.task.clone(), f64::from(job.plan.acquisition.patch_px));
    let measured = blocking("measuring the train slides", move |_| Ok(measure(&folder, &task, side))).await?;
    let mut set = TrainingSet {
        patches: u32::try_from(corrections.len()).unwrap_or(u32::MAX),
        corrections,
        slides: vec![],
        rehearsed,
    };
    for (index, (name, patches)) in measured.into_iter().enumerate() {
        match patches {
            Ok(patches) => {
                set.patches = set.patches.saturating_add(patches);
                set.slides.push(name);
            }
            Err(why) => {
                warn!(slide = index, "a train slide cannot be used and is left out; `consilium-site status` says why");
                work.journal.put_problem(&name, &why).await?;
            }
        }
    }
    work.journal.put_training_set(order, &set).await?;
    Ok(set)
}

/// Corrections but those of control patches, and of slides that were marked `test` after they had been asked about: what
/// is measured on is not trained on.
fn to_learn_from(
    mut corrections: Vec<(u32, u32)>,
    selections: &BTreeMap<u32, Vec<Selected>>,
    folder: &DataFolder,
) -> Vec<(u32, u32)> {
    let held_out: BTreeSet<&str> = folder.of(Split::Test).map(|slide| slide.name.as_str()).collect();
    let of = |&(round, index): &(u32, u32)| selections.get(&round)?.get(index as usize);
    let measured = |patch: &Selected| patch.control || held_out.contains(patch.scored.slide.as_str());
    corrections.retain(|key| !of(key).is_some_and(measured));
    corrections
}

/// Each train slide with a mask, and how many patches it amounts to.
fn measure(folder: &DataFolder, task: &Task, side: f64) -> Vec<(String, Result<u32, String>)> {
    let patches = |slide: &SlideEntry| {
        let image = train_image(slide, task, Normalisation::RgbTo01)?;
        if image.labels.as_raw().iter().all(|&label| label == UNLABELLED) {
            return Err("its reference mask labels nothing; correct it or leave it out of the train split".to_owned());
        }
        let area = f64::from(image.image.width()) * f64::from(image.image.height());
        Ok((area / (side * side)).round().max(1.0) as u32)
    };
    let train = folder.of(Split::Train).filter(|slide| slide.mask.is_some());
    train.map(|slide| (slide.name.clone(), patches(slide))).collect()
}

/// A whole slide with its mask at the plan's spacing; what is wrong is one sentence.
pub(crate) fn train_image(
    slide: &SlideEntry,
    task: &Task,
    normalisation: Normalisation,
) -> Result<TrainingImage, String> {
    let mask = slide.mask.as_ref().ok_or("has no reference mask; add masks/NAME.png")?;
    let reader = open_slide(&slide.path, slide.mpp).map_err(|e| e.to_string())?;
    let (width, height) = size_at(reader.as_ref(), task.spacing_um);
    let image = read_at(reader.as_ref(), task.spacing_um, 0, 0, width, height).map_err(|e| e.to_string())?;
    let labels = read_mask_at(mask, reader.as_ref(), task.spacing_um, task.classes.len()).map_err(|e| e.to_string())?;
    let input = scale_of(reader.as_ref(), task.spacing_um, normalisation).map_err(|e| e.to_string())?;
    Ok(TrainingImage { image, labels, input })
}

async fn train(job: &Job<'_>, ensemble: &Loaded, set: &TrainingSet, missing: &[usize]) -> Result<(), SiteError> {
    let reporter = job.reporter(Stage::FineTune);
    let (trainer, why) =
        Trainer::on(job.work.config.device).map_err(SiteError::learning("preparing the fine-tuning"))?;
    info!(study = %job.order.study, round = job.order.round.0, trainer = why, "fine-tuning");
    let images = Arc::new(images(job, ensemble.manifest.normalisation, set).await?);
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let iterations = u64::from(job.plan.fine_tuning.iterations);
    let total = iterations * job.plan.members as u64;
    let before = iterations * (job.plan.members - missing.len()) as u64;
    let steps = Arc::new(AtomicU64::new(before));
    let mut running: JoinSet<Result<(usize, MemberRecord), SiteError>> = JoinSet::new();
    for &member in missing {
        let one = OneMember {
            member,
            seed: member_seed(&job.seed(), member),
            trainer: trainer.beside(missing.len()),
            plan: job.plan.clone(),
            ensemble: Arc::clone(ensemble),
            images: Arc::clone(&images),
            blobs: job.work.blobs.clone(),
            outer: stop.clone(),
        };
        let (compute, reporter, steps) = (Arc::clone(&job.work.compute), reporter.clone(), Arc::clone(&steps));
        running.spawn(async move {
            let stepped = move || reporter.say(steps.fetch_add(1, Ordering::Relaxed) + 1, total);
            let record = computing(&compute, "fine-tuning a member", move |stop| one.run(stop, &stepped)).await?;
            Ok((member, record))
        });
    }
    while let Some(finished) = running.join_next().await {
        let (member, record) = finished.map_err(|_| SiteError::Crashed("fine-tuning a member"))??;
        job.work.journal.put_member(job.order, member, &record).await?;
        info!(study = %job.order.study, round = job.order.round.0, member, loss_last = record.loss_last, "fine-tuned");
    }
    Ok(())
}

struct OneMember {
    member: usize,
    seed: u64,
    trainer: Trainer,
    plan: consilium_common::Plan,
    ensemble: Loaded,
    images: Arc<Vec<TrainingImage>>,
    blobs: crate::blobs::Blobs,
    outer: CancellationToken,
}

impl OneMember {
    fn run(self, stop: &CancellationToken, stepped: &(dyn Fn() + Sync)) -> Result<MemberRecord, SiteError> {
        let start = &self.ensemble.members[self.member];
        let stopped = || stop.is_cancelled() || self.outer.is_cancelled();
        // Batches of statistics are heard of as the last step again.
        let counted = AtomicU32::new(0);
        let seen = |step: u32, _: f32| {
            if counted.swap(step, Ordering::Relaxed) < step {
                stepped();
            }
            !stopped()
        };
        if stopped() {
            return Err(SiteError::Stopped);
        }
        let plan = &self.plan;
        let trained =
            train_member(self.trainer, &plan.architecture, start, &self.images, &plan.fine_tuning, self.seed, &seen);
        if stopped() {
            return Err(SiteError::Stopped);
        }
        let trained = trained.map_err(SiteError::learning("fine-tuning a member"))?;
        let delta = trained.weights.delta_from(start).to_bytes().map_err(SiteError::learning("writing a delta"))?;
        let (loss_first, loss_last) = ends(&trained.losses);
        Ok(MemberRecord { delta: self.blobs.put(&delta)?, loss_first, loss_last })
    }
}

/// Mean loss over the first and over the last tenth of the steps.
pub(crate) fn ends(losses: &[f32]) -> (f64, f64) {
    let tenth = losses.len().div_ceil(10).max(1).min(losses.len());
    let mean = |part: &[f32]| match part.len() {
        0 => 0.0,
        n => part.iter().map(|l| f64::from(*l)).sum::<f64>() / n as f64,
    };
    (mean(&losses[..tenth]), mean(&losses[losses.len() - tenth..]))
}

async fn images(
    job: &Job<'_>,
    normalisation: Normalisation,
    set: &TrainingSet,
) -> Result<Vec<TrainingImage>, SiteError> {
    let (work, order) = (job.work, job.order);
    let selections = work.journal.selections(&order.study).await?;
    let records = work.journal.corrections(&order.study).await?;
    let mut patches: Vec<(String, PathBuf, PathBuf, Digest)> = Vec::new();
    for key @ (round, index) in &set.corrections {
        let selected = selections.get(round).and_then(|patches| patches.get(*index as usize));
        let (Some(patch), Some(record)) = (selected, records.get(key)) else {
            let why = format!("no longer holds patch {index} of round {round}, which this round trains on");
            return Err(SiteError::Damaged { path: work.layout.journal(), why });
        };
        let dir = work.layout.round(&order.study, RoundNumber(*round));
        let slide = patch.scored.slide.clone();
        patches.push((slide, dir.join(patch.image()), dir.join(patch.correction()), record.labels));
    }
    let dir = work.layout.round(&order.study, order.round);
    let rehearsed: Vec<_> = (work.journal.rehearsed(order).await?.into_iter())
        .filter(|one| set.rehearsed.contains(&one.name))
        .map(|one| (one.slide.clone(), dir.join(one.image()), dir.join(one.label_map()), one.labels))
        .collect();
    let folder = job.data().await?;
    let slides: BTreeMap<String, SlideEntry> = folder.slides.into_iter().map(|s| (s.name.clone(), s)).collect();
    let names = set.slides.clone();
    let task = job.plan.task.clone();
    blocking("reading what to train on", move |_| {
        let mut images = Vec::with_capacity(patches.len() + names.len() + rehearsed.len());
        let mut scales: BTreeMap<String, InputScale> = BTreeMap::new();
        let mut patch_of = |(slide, image, labels, digest): &(String, PathBuf, PathBuf, Digest)| {
            let input = match scales.get(slide) {
                Some(input) => *input,
                None => scale_of_slide(&slides, slide, &task, normalisation)?,
            };
            scales.insert(slide.clone(), input);
            patch_image(image, labels, *digest, input)
        };
        for patch in &patches {
            images.push(patch_of(patch)?);
        }
        for name in names {
            let slide = slides.get(&name).ok_or(GONE.to_owned());
            let read = slide.and_then(|slide| train_image(slide, &task, normalisation));
            images.push(read.map_err(|why| SiteError::Usage(format!("a train slide of this round, {name}: {why}")))?);
        }
        for patch in &rehearsed {
            images.push(patch_of(patch)?);
        }
        Ok(images)
    })
    .await
}

/// What a slide is that was there.
const GONE: &str = "is gone; put it back";

/// How the pixels of a slide become network input; only for z-scores is it read.
fn scale_of_slide(
    slides: &BTreeMap<String, SlideEntry>,
    name: &str,
    task: &Task,
    normalisation: Normalisation,
) -> Result<InputScale, SiteError> {
    if normalisation == Normalisation::RgbTo01 {
        return Ok(InputScale::RGB_TO_01);
    }
    let measure = |slide: &SlideEntry| {
        let reader = open_slide(&slide.path, slide.mpp).map_err(|e| e.to_string())?;
        scale_of(reader.as_ref(), task.spacing_um, normalisation).map_err(|e| e.to_string())
    };
    let measured = slides.get(name).ok_or(GONE.to_owned()).and_then(measure);
    measured.map_err(|why| SiteError::Usage(format!("a slide with patches of this round, {name}: {why}")))
}

fn patch_image(image: &Path, labels: &Path, digest: Digest, input: InputScale) -> Result<TrainingImage, SiteError> {
    let map = picture::read_grey(labels)?;
    if label_digest(&map) != digest {
        let why =
            "was changed after it was taken in, and the round would no longer be the same; restore it from backup";
        return Err(SiteError::Damaged { path: labels.to_owned(), why: why.to_owned() });
    }
    Ok(TrainingImage { image: picture::read_rgb(image)?, labels: map, input })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_patches_and_corrections_of_slides_that_are_held_out_now_are_not_trained_on() {
        let slide = |name: &str, split| SlideEntry {
            name: name.into(),
            path: name.into(),
            mask: None,
            tissue: None,
            split,
            mpp: None,
            stage: None,
        };
        let slides = vec![slide("pool", Split::Pool), slide("test", Split::Test)];
        let folder = DataFolder { root: "data".into(), slides, problems: vec![] };
        let patch = |slide: &str, control: bool| Selected {
            name: "patch-01".into(),
            generation: consilium_common::GenerationNumber(0),
            scored: consilium_learning::acquisition::ScoredPatch {
                slide: slide.into(),
                patch: consilium_learning::acquisition::PatchBox { x: 0, y: 0, side: 16 },
                score: 1.0,
                mean_uncertainty: 0.5,
                tissue: 1.0,
            },
            level0_x: 0,
            level0_y: 0,
            control,
        };
        let first = vec![patch("pool", false), patch("test", false), patch("pool", true)];
        let selections = BTreeMap::from([(1, first), (2, vec![patch("test", false), patch("gone", false)])]);
        let corrections = vec![(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)];
        assert_eq!(to_learn_from(corrections, &selections, &folder), [(1, 0), (2, 1)]);
    }

    #[test]
    fn the_ends_of_a_loss_curve() {
        let losses: Vec<f32> = (0..20).map(|i| i as f32).collect();
        assert_eq!(ends(&losses), (0.5, 18.5));
        assert_eq!(ends(&[3.0]), (3.0, 3.0));
        assert_eq!(ends(&[]), (0.0, 0.0));
    }
}
