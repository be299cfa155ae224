//! The plan's settings for scanning, training, aggregation and the closing of a round.

use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::limits;

/// Sliding-window scanning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanSettings {
    /// Side of a network tile in pixels at the plan's spacing.
    pub tile_px: u32,
    /// Step between tiles as a fraction of the tile, 0.5 in nnU-Net.
    #[serde(default = "half")]
    pub step: f64,
    /// Tiles with a smaller share of tissue than this are skipped.
    #[serde(default = "one_percent")]
    pub min_tissue: f64,
    /// Look at every tile also mirrored left-right, top-down and both ways, as nnU-Net's test-time augmentation: four
    /// answers of each member instead of one, in four times the time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mirror: bool,
    /// Let each member answer several times, each time without other channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<Dropout>,
}

/// Monte Carlo dropout.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Answers of each member.
    pub passes: u32,
    /// Share of channels that is left out, above 0 and below 1.
    pub rate: f64,
}

fn is_false(value: &bool) -> bool {
    !value
}

pub(super) fn is_true(value: &bool) -> bool {
    *value
}

pub(super) fn half() -> f64 {
    0.5
}
fn one_percent() -> f64 {
    0.01
}

impl Default for ScanSettings {
    fn default() -> Self {
        Self { tile_px: 256, step: half(), min_tissue: one_percent(), mirror: false, dropout: None }
    }
}

impl ScanSettings {
    /// Answers of each member: one a mirroring and pass of dropout.
    pub fn answers(&self) -> u32 {
        let passes = self.dropout.map_or(1, |dropout| dropout.passes);
        passes * if self.mirror { 4 } else { 1 }
    }

    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if !(0.1..=1.0).contains(&self.step) {
            return Err(Invalid::new("scan.step", format!("{} must be 0.1 to 1", self.step)));
        }
        if let Some(Dropout { passes, rate }) = self.dropout {
            if !(1..=limits::MAX_DROPOUT_PASSES).contains(&passes) {
                let why = format!("{passes} must be 1 to {}", limits::MAX_DROPOUT_PASSES);
                return Err(Invalid::new("scan.dropout.passes", why));
            }
            if !(rate > 0.0 && rate < 1.0) {
                return Err(Invalid::new("scan.dropout.rate", format!("{rate} must be above 0 and below 1")));
            }
        }
        fraction("scan.min_tissue", self.min_tissue)
    }
}

/// One training: from scratch, or fine-tuning. Defaults are nnU-Net's where it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Optimiser steps a member.
    pub iterations: u32,
    /// Patches a step.
    pub batch_size: u32,
    /// Parts of a batch that are computed one after the other, in a fraction of the memory, before a step is taken with the
    /// mean of their gradients (gradient accumulation). Dice and statistics are then those of a part, not of the batch.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulation: u32,
    /// Side of a training patch in pixels at the plan's spacing.
    pub patch_px: u32,
    /// Initial learning rate; it falls as (1 - t/T)^0.9.
    pub learning_rate: f64,
    /// Nesterov momentum.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// L2 weight decay.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Pull back to the weights that the training began with: `proximal / 2` times the squared distance is added to the
    /// loss, after clipping, so that a site that learns from few patches does not run away from the others (FedProx's mu,
    /// Li et al. 2020). 0 is off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub proximal: f64,
    /// Bound of the global gradient norm.
    #[serde(default = "clip_norm")]
    pub clip_norm: f64,
    /// Share of patches of a batch that are centred on a foreground pixel.
    #[serde(default = "foreground_share")]
    pub foreground_share: f64,
    /// Loss at every decoder level with weights 1, 1/2, 1/4 ..., the coarsest 0, as nnU-Net.
    #[serde(default = "yes")]
    pub deep_supervision: bool,
    /// Members that one training gives: its iterations are divided into so many cycles, in each of which the learning rate
    /// falls anew, and the weights at the end of each are a member (Huang et al. 2017). 1 in fine-tuning.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub snapshots: u32,
    /// Keep batch-normalisation statistics as they are (normal for fine-tuning on a few patches).
    #[serde(default)]
    pub freeze_norm_statistics: bool,
    /// Batches after the last step over which batch-normalisation statistics are estimated anew, as their plain mean, with
    /// weights as they then are (`update_bn` of stochastic weight averaging, Izmailov et al. 2018). 0 is off.
    #[serde(default, skip_serializing_if = "is_off")]
    pub norm_statistics_batches: u32,
    /// Augmentation.
    #[serde(default)]
    pub augmentation: Augmentation,
}

fn momentum() -> f64 {
    0.99
}
fn weight_decay() -> f64 {
    3e-5
}
fn clip_norm() -> f64 {
    12.0
}
fn foreground_share() -> f64 {
    0.33
}
fn yes() -> bool {
    true
}
fn one() -> u32 {
    1
}
fn is_off(value: &u32) -> bool {
    *value == 0
}
fn is_one(value: &u32) -> bool {
    *value == 1
}
pub(super) fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Training {
    /// nnU-Net's values for a number of iterations of a batch of square patches.
    pub fn new(iterations: u32, batch_size: u32, patch_px: u32, learning_rate: f64) -> Self {
        Self {
            iterations,
            batch_size,
            accumulation: one(),
            patch_px,
            learning_rate,
            momentum: momentum(),
            weight_decay: weight_decay(),
            proximal: 0.0,
            clip_norm: clip_norm(),
            foreground_share: foreground_share(),
            deep_supervision: true,
            snapshots: 1,
            freeze_norm_statistics: false,
            norm_statistics_batches: 0,
            augmentation: Augmentation::default(),
        }
    }

    pub(super) fn validate(&self, section: &str) -> Result<(), Invalid> {
        let fail = |what: &str, why: &str| Err(Invalid::new(format!("{section}.{what}"), why));
        if !(1..=10_000_000).contains(&self.iterations) {
            return fail("iterations", "needs 1 to 10000000");
        }
        if self.snapshots == 0 || !self.iterations.is_multiple_of(self.snapshots) {
            return fail("snapshots", "must divide iterations");
        }
        if !(1..=1024).contains(&self.batch_size) {
            return fail("batch_size", "needs 1 to 1024");
        }
        if self.accumulation == 0 || !self.batch_size.is_multiple_of(self.accumulation) {
            return fail("accumulation", "must divide batch_size");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 10.0) {
            return fail("learning_rate", "must be above 0 and at most 10");
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return fail("momentum", "must be at least 0 and below 1");
        }
        if !(0.0..=1.0).contains(&self.weight_decay) {
            return fail("weight_decay", "must be 0 to 1");
        }
        if !(0.0..=10.0).contains(&self.proximal) {
            return fail("proximal", "must be 0 to 10");
        }
        if !(self.clip_norm > 0.0 && self.clip_norm.is_finite()) {
            return fail("clip_norm", "must be above 0");
        }
        if self.norm_statistics_batches > 1000 {
            return fail("norm_statistics_batches", "needs 0 to 1000");
        }
        if self.norm_statistics_batches > 0 && self.snapshots > 1 {
            return fail("norm_statistics_batches", "goes with one member a training; set snapshots to 1");
        }
        fraction(&format!("{section}.foreground_share"), self.foreground_share)?;
        self.augmentation.validate(section)
    }
}

/// Which augmentations a training uses, and how strongly. Probabilities and ranges are nnU-Net's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Mirror both axes with probability 1/2 each and rotate by a random quarter turn.
    pub flips: bool,
    /// Rotation by any angle and scale 0.7 to 1.4, each with probability 0.2.
    pub rotate_scale: bool,
    /// Brightness and contrast x 0.75 to 1.25 (probability 0.15 each) and gamma 0.7 to 1.5 (0.3).
    pub colour: bool,
    /// HED stain jitter: each stain's concentration times 1 + s plus b, with s and b uniform within this bound. 0 is off;
    /// 0.05 is light, 0.2 strong.
    pub hed: f64,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self { flips: true, rotate_scale: true, colour: true, hed: 0.05 }
    }
}

impl Augmentation {
    fn validate(&self, section: &str) -> Result<(), Invalid> {
        fraction(&format!("{section}.augmentation.hed"), self.hed)
    }
}

/// How updates become a generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregation {
    /// The rule.
    #[serde(default)]
    pub rule: AggregationRule,
    /// What an update weighs.
    #[serde(default)]
    pub weighting: Weighting,
}

/// The aggregation rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AggregationRule {
    /// Weighted mean of the deltas, member by member (McMahan et al. 2017).
    #[default]
    FedAvg,
}

/// What an update weighs in the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// Every site that contributes weighs the same.
    #[default]
    Equal,
    /// A site weighs as many patches as it trained on.
    Patches,
}

/// When a round closes: as soon as all sites of the study have answered, or at the deadline if `min_sites` have. Without
/// a quorum the deadline passes and the round stays open: slow is not dead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    /// Answers that are needed.
    pub min_sites: usize,
    /// Seconds after the opening at which a round with a quorum closes; absent: wait for every site.
    #[serde(default)]
    pub deadline_s: Option<u64>,
}

impl Quorum {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if !(1..=limits::MAX_SITES).contains(&self.min_sites) {
            return Err(Invalid::new("quorum.min_sites", format!("needs 1 to {}", limits::MAX_SITES)));
        }
        if self.deadline_s == Some(0) {
            return Err(Invalid::new(
                "quorum.deadline_s",
                "0 would close a round at once; leave it out to wait for all",
            ));
        }
        Ok(())
    }
}

/// The gate: a candidate generation that harms a site is not published.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Largest fall of a site's mean Dice that is still published; absent: evaluation is reported only.
    #[serde(default)]
    pub max_dice_drop: Option<f64>,
}

impl Gate {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        self.max_dice_drop.map_or(Ok(()), |drop| fraction("gate.max_dice_drop", drop))
    }
}

pub(super) fn fraction(what: &str, value: f64) -> Result<(), Invalid> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(Invalid::new(what, format!("{value} must be 0 to 1"))) }
}
