//! The first ensemble of a study, trained where the central group has whole masks.

use std::path::Path;

use consilium_common::bundle::{Normalisation, Provenance};
use consilium_common::{Digest, GenerationNumber, Plan};
use consilium_learning::dataset::Split;
use consilium_learning::engine::Device;
use consilium_learning::network::{Ensemble, MemberWeights};
use consilium_learning::training::{Trainer, TrainingImage, member_seed, train_members};

use super::{LeftOut, Tick, left_out, open, with_masks};
use crate::error::SiteError;
use crate::work::fine_tune::train_image;

/// What a training gave.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainReport {
    /// The digest of the bundle's manifest.
    pub manifest: Digest,
    /// Slides that it was trained on.
    pub slides: Vec<String>,
    /// First and last tenth's mean loss of each training: one a member, or one for several with snapshots.
    pub losses: Vec<(f64, f64)>,
    /// What trained, and why it was that.
    pub trainer: String,
    /// Slides that could not be used.
    pub left_out: Vec<LeftOut>,
}

/// Trains `plan.members` members, each by itself or several as snapshots of one training, on the train slides that have
/// masks (where none is marked `train`, on all that have masks and are not held out) and writes a bundle. `seed` takes the
/// place of the plan's; `go_on` hears of every step and stops the training by answering false. On our own kernels the same
/// input gives the same bytes.
pub fn train(
    plan: &Plan,
    data: &Path,
    out: &Path,
    seed: Option<u64>,
    device: Device,
    go_on: &(dyn Fn(Tick) -> bool + Sync),
) -> Result<TrainReport, SiteError> {
    let (trainer, why) = Trainer::on(device).map_err(SiteError::learning("preparing the training"))?;
    let folder = open(data)?;
    let mut left_out = left_out(&folder);
    let mut slides = Vec::new();
    let mut images: Vec<TrainingImage> = Vec::new();
    for slide in with_masks(&folder, Split::Train, Split::Test)? {
        match train_image(&slide, &plan.task, Normalisation::RgbTo01) {
            Ok(image) => {
                slides.push(slide.name);
                images.push(image);
            }
            Err(why) => left_out.push(LeftOut { slide: slide.name, why }),
        }
    }
    if images.is_empty() {
        return Err(SiteError::Usage(
            "none of the slides can be trained on; `doctor` says what is wrong with each".into(),
        ));
    }
    let seed = seed.unwrap_or(plan.seed);
    let (start, seed) = (format!("{seed}/start"), format!("{seed}/initial-training"));
    let trainings = plan.members / (plan.initial_training.snapshots as usize).max(1);
    let starts: Vec<MemberWeights> =
        (0..trainings).map(|m| MemberWeights::initialise(&plan.architecture, member_seed(&start, m))).collect();
    let (items, total) = (trainings, u64::from(plan.initial_training.iterations));
    let ticks = |member: usize, step: u32, _: f32| go_on(Tick { item: member, items, done: step.into(), total });
    let (arch, settings) = (&plan.architecture, &plan.initial_training);
    let trained = train_members(trainer, trainings, arch, &starts, &images, settings, &seed, &ticks)
        .map_err(SiteError::learning("training the ensemble"))?;
    let provenance = Provenance { study: None, plan: plan.digest()?, round: None, parent: None, contributions: vec![] };
    let losses = trained.iter().map(|t| crate::work::fine_tune::ends(&t.losses)).collect();
    let members: Vec<MemberWeights> =
        trained.into_iter().flat_map(|t| t.earlier.into_iter().chain([t.weights])).collect();
    let manifest = Ensemble::save(out, &plan.task, &plan.architecture, &members, provenance, GenerationNumber(0))
        .map_err(SiteError::learning("writing the bundle"))?;
    Ok(TrainReport { manifest: Digest::of(&manifest.to_bytes()?), slides, losses, trainer: why, left_out })
}
