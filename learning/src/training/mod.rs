//! Training of members: nnU-Net's loss, sampling, augmentation and optimiser, from scratch or from a generation.
//!
//! On our own kernels a training is a pure function of the start weights, the images, the settings and the seed: the same
//! bytes whatever the number of threads and the other work of the machine. Other [`Trainer`]s are faster and give the same
//! losses to rounding.

mod augment;
mod error;
mod learner;
#[cfg(feature = "libtorch")]
mod libtorch;
mod loss;
mod member;
mod memory;
mod optimiser;
mod sampler;
mod speed;

use consilium_common::plan::{Architecture, Training, UNLABELLED};
use image::{GrayImage, RgbImage};
use rayon::prelude::*;

use crate::network::{InputScale, MemberWeights, random};

pub use error::TrainingError;
pub use learner::Trainer;
pub use member::{Watch, train_member, train_member_watched};
pub use memory::training_bytes;
pub use speed::training_speed;

/// One image to learn from, at the plan's spacing: a corrected patch, or a whole slide with its reference mask.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingImage {
    /// The pixels.
    pub image: RgbImage,
    /// The class of every pixel; 255 is not labelled.
    pub labels: GrayImage,
    /// How its pixels become network input: that of the slide that it is from. What lies around it counts as it is.
    pub input: InputScale,
}

/// A member after its training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainedMember {
    /// Its weights.
    pub weights: MemberWeights,
    /// Its weights at the end of every cycle before the last; none where there is one cycle.
    pub earlier: Vec<MemberWeights>,
    /// The loss of every step.
    pub losses: Vec<f32>,
}

/// What `of` makes of each job, in their order; `at_once` of them side by side, which is how memory is kept to: threads do
/// not bound trainings, since one that waits for its own parts begins another.
pub fn side_by_side<J: Sync, T: Send>(jobs: &[J], at_once: usize, of: impl Fn(&J) -> T + Sync) -> Vec<T> {
    jobs.chunks(at_once.max(1)).flat_map(|jobs| jobs.par_iter().map(&of).collect::<Vec<_>>()).collect()
}

/// Trains all members, `at_once` of them side by side. Member m's seed is that of `{seed}/member-{m}`, so that any of them
/// can be trained again alone, to the same bytes. `progress(member, steps done, loss)` is told as by [`train_member`] and
/// stops everything by answering false.
///
/// # Errors
/// As for [`train_member`]; the first member's error counts.
#[expect(clippy::too_many_arguments, reason = "what a training depends on")]
pub fn train_members(
    trainer: Trainer,
    at_once: usize,
    arch: &Architecture,
    starts: &[MemberWeights],
    images: &[TrainingImage],
    settings: &Training,
    seed: &str,
    progress: &(dyn Fn(usize, u32, f32) -> bool + Sync),
) -> Result<Vec<TrainedMember>, TrainingError> {
    let trainer = trainer.beside(starts.len());
    let train = |&(member, start): &(usize, &MemberWeights)| {
        let report = |step, loss| progress(member, step, loss);
        train_member(trainer, arch, start, images, settings, member_seed(seed, member), &report)
    };
    let jobs: Vec<(usize, &MemberWeights)> = starts.iter().enumerate().collect();
    side_by_side(&jobs, at_once, train).into_iter().collect()
}

/// The seed of one member of a training.
pub fn member_seed(seed: &str, member: usize) -> u64 {
    random::seed(&format!("{seed}/member-{member}"))
}

/// Refuses images that cannot be learned from.
fn check(arch: &Architecture, images: &[TrainingImage], settings: &Training) -> Result<(), TrainingError> {
    if settings.patch_px == 0 || !settings.patch_px.is_multiple_of(arch.total_stride()) {
        return Err(TrainingError::PatchSize { patch: settings.patch_px, factor: arch.total_stride() });
    }
    if arch.input_channels != 3 {
        return Err(TrainingError::Channels(arch.input_channels));
    }
    let mut labelled = false;
    for (index, image) in images.iter().enumerate() {
        if image.image.dimensions() != image.labels.dimensions() {
            let (pixels, labels) = (image.image.dimensions(), image.labels.dimensions());
            return Err(TrainingError::Size { index, pixels, labels });
        }
        for &label in image.labels.as_raw() {
            if label != UNLABELLED && usize::from(label) >= arch.classes {
                return Err(TrainingError::Label { index, label, classes: arch.classes });
            }
            labelled |= label != UNLABELLED;
        }
    }
    if labelled { Ok(()) } else { Err(TrainingError::NothingLabelled(images.len())) }
}

#[cfg(test)]
mod tests;
