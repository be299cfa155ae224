//! One network: trained on a pool, validated on the way, and asked which pictures it knows least.

use std::cell::RefCell;

use consilium_common::bundle::Conventions;
use consilium_common::plan::{Dropout, ScanSettings, Training};
use consilium_learning::engine;
use consilium_learning::metrics::SlideEvaluation;
use consilium_learning::network::{MemberWeights, random};
use consilium_learning::training::{TrainingImage, Watch, train_member_watched};
use consilium_learning::uncertainty::{UncertaintyMap, uncertainty_map};

use super::options::Strategy;
use super::pool::Pool;
use super::{ActiveOptions, Run};
use crate::experiment::ExperimentError;
use crate::fields::Field;
use crate::look::{Look, look};

/// A network in an iteration.
pub(super) struct Network<'a> {
    pub(super) run: &'a Run<'a>,
    /// From which all its chance derives.
    pub(super) seed: &'a str,
}

/// The network that did best in validation.
pub(super) struct Trained {
    pub(super) weights: MemberWeights,
    pub(super) epoch_loss: Vec<f32>,
    pub(super) validation: Vec<(u32, Option<f64>)>,
}

impl Network<'_> {
    /// Trains on from some weights. An epoch is as many steps as it takes to draw as many crops as there are pictures; where the steps are
    /// fewer than an interval of epochs, it is validated at the end alone.
    pub(super) fn train(&self, pool: &Pool, from: &MemberWeights, steps: u32) -> Result<Trained, ExperimentError> {
        let Run { options, plan, trainer, go_on, .. } = self.run;
        let settings = &Training { iterations: steps, ..plan.initial_training.clone() };
        let images: Vec<TrainingImage> = self.named(&pool.training).map(Field::whole).collect();
        let epoch = u32::try_from(images.len()).unwrap_or(u32::MAX).div_ceil(settings.batch_size).max(1);
        let best: RefCell<Option<(f64, MemberWeights)>> = RefCell::new(None);
        let (mut validation, mut failed) = (Vec::new(), None);
        let mut seen = |step: u32, weights: &MemberWeights| {
            let dice = match self.dice(weights, &pool.validation) {
                Ok(dice) => dice,
                Err(error) => {
                    failed = Some(error);
                    return false;
                }
            };
            validation.push((step, dice));
            let mut best = best.borrow_mut();
            if best.as_ref().is_none_or(|(highest, _)| dice.unwrap_or(0.0) > *highest) {
                *best = Some((dice.unwrap_or(0.0), weights.clone()));
            }
            true
        };
        let watch = Some(Watch { every: epoch.saturating_mul(options.val_interval).max(1), seen: &mut seen });
        let seed = random::seed(self.seed);
        let progress = |_: u32, _: f32| go_on();
        let trained =
            train_member_watched(*trainer, &plan.architecture, from, &images, settings, seed, &progress, watch);
        if let Some(error) = failed {
            return Err(error);
        }
        let losses = trained.map_err(ExperimentError::of_training)?.losses;
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        let weights = best.into_inner().map(|(_, weights)| weights).ok_or(ExperimentError::BrokeOff)?;
        Ok(Trained { weights, epoch_loss: losses.chunks(epoch as usize).map(mean).collect(), validation })
    }

    /// Mean Dice of pictures, of those that have one.
    pub(super) fn dice(&self, weights: &MemberWeights, pictures: &[String]) -> Result<Option<f64>, ExperimentError> {
        let mut dice = Vec::new();
        self.each(weights, pictures, &self.run.plan.scan, |field, look| {
            let mut evaluation = SlideEvaluation::new(look.classes);
            evaluation.add(&look.strip, field.labels.as_raw());
            dice.extend(evaluation.mean_dice());
        })?;
        Ok((!dice.is_empty()).then(|| dice.iter().sum::<f64>() / dice.len() as f64))
    }

    /// The pictures that a strategy asks for, the highest score first; ties go to the first name.
    pub(super) fn ask(
        &self,
        weights: &MemberWeights,
        pool: &Pool,
        strategy: Strategy,
    ) -> Result<Vec<(String, f64)>, ExperimentError> {
        let ActiveOptions { mc_number, dropout_ratio, queries, .. } = *self.run.options;
        let mut scores: Vec<(String, f64)> = Vec::new();
        match strategy.map() {
            None => {
                let draw = |name: &String| random::seed(&format!("{}/ask/{name}", self.seed)) as f64 / u64::MAX as f64;
                scores.extend(pool.unlabeled.iter().map(|name| (name.clone(), draw(name))));
            }
            Some(map) => {
                let dropout = Some(Dropout { passes: mc_number, rate: dropout_ratio });
                let scan = ScanSettings { dropout, ..self.run.plan.scan.clone() };
                self.each(weights, &pool.unlabeled, &scan, |field, look| {
                    scores.push((field.name.clone(), mean_of(map, &look)));
                })?;
            }
        }
        scores.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        scores.truncate(queries as usize);
        Ok(scores)
    }

    fn named<'s>(&'s self, names: &'s [String]) -> impl Iterator<Item = &'s Field> {
        names.iter().filter_map(|name| self.run.fields.iter().find(|field| field.name == *name))
    }

    /// Looks at pictures with one network.
    fn each(
        &self,
        weights: &MemberWeights,
        pictures: &[String],
        scan: &ScanSettings,
        mut then: impl FnMut(&Field, Look),
    ) -> Result<(), ExperimentError> {
        let Run { options, plan, go_on, .. } = self.run;
        let member = std::slice::from_ref(weights);
        let engine = engine::open_for(options.device, &plan.architecture, member, Conventions::default(), scan)?;
        for field in self.named(pictures) {
            if !go_on() {
                return Err(ExperimentError::Paused);
            }
            then(field, look(&engine, scan, field)?);
        }
        Ok(())
    }
}

/// Mean of a map over the whole picture, as MONAI takes it over the whole volume.
fn mean_of(map: UncertaintyMap, look: &Look) -> f64 {
    let values = uncertainty_map(map, &look.probabilities, look.members, look.classes);
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}
