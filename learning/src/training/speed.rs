//! How fast this machine trains: for people who ask.

use std::time::{Duration, Instant};

use consilium_common::plan::{Architecture, Training};
use image::{GrayImage, Luma, Rgb, RgbImage};

use super::sampler::Sampler;
use super::{Trainer, TrainingError, TrainingImage, check};
use crate::network::{InputScale, MemberWeights};

/// Patches a second through steps of a training, drawing them included, for `seconds` (at least one step) after a step
/// that warms up.
///
/// # Errors
/// As [`super::train_member`].
pub fn training_speed(
    trainer: Trainer,
    arch: &Architecture,
    start: &MemberWeights,
    settings: &Training,
    seconds: f64,
) -> Result<f64, TrainingError> {
    let side = settings.patch_px.saturating_mul(2);
    let colour = |x: u32, y: u32| Rgb([x.wrapping_mul(7), y.wrapping_mul(5), x ^ y].map(|v| (v % 256) as u8));
    let class = |x: u32, y: u32| Luma([((x / 16 + y / 16) % 2) as u8]);
    let images = [TrainingImage {
        image: RgbImage::from_fn(side, side, colour),
        labels: GrayImage::from_fn(side, side, class),
        input: InputScale::RGB_TO_01,
    }];
    check(arch, &images, settings)?;
    let sampler = Sampler::new(&images, arch.classes);
    let mut learner = trainer.learner(arch, start, settings)?;
    let mut step = |number| learner.step(&sampler.batch(settings, 0, number), settings.learning_rate);
    step(0)?;
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let (started, mut done) = (Instant::now(), 0);
    while done == 0 || started.elapsed() < time {
        done += 1;
        step(done)?;
    }
    Ok(f64::from(done) * f64::from(settings.batch_size) / started.elapsed().as_secs_f64())
}
