//! Training of one member, step by step.

use consilium_common::plan::{Architecture, Training};

use super::optimiser::learning_rate;
use super::sampler::Sampler;
use super::{TrainedMember, Trainer, TrainingError, TrainingImage, check};
use crate::network::MemberWeights;

/// Trains one member. `progress(steps done, loss)` is called after each step, and after each batch of which statistics are
/// estimated when all steps are done; it stops the training by answering false.
///
/// # Errors
/// Images, labels or sizes that do not fit, a training that diverges, or a caller that stops it.
pub fn train_member(
    trainer: Trainer,
    arch: &Architecture,
    start: &MemberWeights,
    images: &[TrainingImage],
    settings: &Training,
    seed: u64,
    progress: &(dyn Fn(u32, f32) -> bool + Sync),
) -> Result<TrainedMember, TrainingError> {
    train_member_watched(trainer, arch, start, images, settings, seed, progress, None)
}

/// Who looks at the weights of a training under way.
pub struct Watch<'a> {
    /// Steps between looks; there is one after the last step, too.
    pub every: u32,
    /// Hears of the steps done and the weights, and stops the training by answering false.
    pub seen: &'a mut dyn FnMut(u32, &MemberWeights) -> bool,
}

/// The same with a look at the weights on the way.
///
/// # Errors
/// As for [`train_member`].
#[expect(clippy::too_many_arguments, reason = "what a training depends on")]
pub fn train_member_watched(
    trainer: Trainer,
    arch: &Architecture,
    start: &MemberWeights,
    images: &[TrainingImage],
    settings: &Training,
    seed: u64,
    progress: &(dyn Fn(u32, f32) -> bool + Sync),
    mut watch: Option<Watch<'_>>,
) -> Result<TrainedMember, TrainingError> {
    check(arch, images, settings)?;
    if !start.fits(arch) {
        return Err(TrainingError::Start);
    }
    let sampler = Sampler::new(images, arch.classes);
    let mut learner = trainer.learner(arch, start, settings)?;
    let (mut losses, mut earlier) = (Vec::with_capacity(settings.iterations as usize), Vec::new());
    let cycle = settings.iterations / settings.snapshots.max(1);
    for step in 0..settings.iterations {
        let loss = learner.step(&sampler.batch(settings, seed, step), learning_rate(settings, step))?;
        if !loss.is_finite() {
            return Err(TrainingError::Diverged { step, what: "the loss" });
        }
        losses.push(loss);
        if (step + 1).is_multiple_of(cycle) && step + 1 < settings.iterations {
            earlier.push(learner.weights()?);
        }
        let last = step + 1 == settings.iterations;
        if last {
            for more in 1..=settings.norm_statistics_batches {
                learner.estimate_statistics(&sampler.batch(settings, seed, step + more))?;
                if !progress(step + 1, loss) {
                    return Err(TrainingError::Stopped(step + 1));
                }
            }
        }
        let go_on = match &mut watch {
            Some(watch) if last || (step + 1).is_multiple_of(watch.every.max(1)) => {
                (watch.seen)(step + 1, &learner.weights()?)
            }
            _ => true,
        };
        if !progress(step + 1, loss) || !go_on {
            return Err(TrainingError::Stopped(step + 1));
        }
    }
    let weights = learner.weights()?;
    if earlier.iter().chain([&weights]).any(|weights| weights.first_bad_value().is_some()) {
        return Err(TrainingError::Diverged { step: settings.iterations, what: "a weight" });
    }
    Ok(TrainedMember { weights, earlier, losses })
}
