//! The first ensemble: every member trained from its own random start on the central site's train slides.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use consilium_common::bundle::Provenance;
use consilium_common::plan::Plan;
use consilium_common::{Digest, GenerationNumber};
use consilium_learning::dataset::{DataFolder, SlideEntry, Split};
use consilium_learning::network::{Ensemble, MemberWeights};
use consilium_learning::slides::{open_slide, read_at, read_mask_at, size_at};
use consilium_learning::training::{TrainingImage, train_members};

use super::ExperimentError;
use super::console::Console;

/// Trains the ensemble on the train slides of a data folder and writes the bundle.
pub(crate) fn train(
    plan: &Plan,
    data: &Path,
    bundle: &Path,
    console: &Console,
    stop: &AtomicBool,
) -> Result<(), ExperimentError> {
    let folder = DataFolder::open(data)?;
    let images = folder.of(Split::Train).map(|slide| image_of(slide, plan)).collect::<Result<Vec<_>, _>>()?;
    if images.is_empty() {
        return Err(ExperimentError::Usage(format!(
            "{} has no train slide with a mask, on which the first ensemble could be trained; add masks or change its \
             slides.csv",
            data.display()
        )));
    }
    let total = plan.members as u64 * u64::from(plan.initial_training.iterations);
    let bar = console.stage("training the first ensemble", total);
    let starts: Vec<MemberWeights> = (0..plan.members)
        .map(|member| MemberWeights::initialise(&plan.architecture, start_seed(plan.seed, member)))
        .collect();
    let seed = format!("{}/initial-training", plan.seed);
    let trained = train_members(&plan.architecture, &starts, &images, &plan.initial_training, &seed, &|_, _, _| {
        bar.advance(1);
        !stop.load(Ordering::Relaxed)
    });
    if stop.load(Ordering::Relaxed) {
        return Err(ExperimentError::Stopped);
    }
    let members: Vec<MemberWeights> = trained?.into_iter().map(|member| member.weights).collect();
    let provenance = Provenance { study: None, plan: plan.digest()?, round: None, parent: None, contributions: vec![] };
    Ensemble::save(bundle, &plan.task, &plan.architecture, &members, provenance, GenerationNumber(0))?;
    bar.finish(&format!("{} networks trained on {} slides of the central site", members.len(), images.len()));
    Ok(())
}

/// The seed of a member's random start.
fn start_seed(seed: u64, member: usize) -> u64 {
    let digest = Digest::of(format!("{seed}/start/member-{member}").as_bytes());
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// A whole slide with its mask at the plan's spacing.
fn image_of(slide: &SlideEntry, plan: &Plan) -> Result<TrainingImage, ExperimentError> {
    let mask = slide.mask.as_ref().ok_or_else(|| {
        ExperimentError::Usage(format!("train slide {} has no mask; add masks/{}.png", slide.name, slide.name))
    })?;
    let reader = open_slide(&slide.path, slide.mpp)?;
    let (width, height) = size_at(reader.as_ref(), plan.task.spacing_um);
    let image = read_at(reader.as_ref(), plan.task.spacing_um, 0, 0, width, height)?;
    let labels = read_mask_at(mask, reader.as_ref(), plan.task.spacing_um, plan.task.classes.len())?;
    Ok(TrainingImage { image, labels })
}
