//! Generations of an ensemble without the wire: first training, fine-tuning at a site, aggregation, with the functions
//! of a federation.

use consilium_common::Plan;
use consilium_learning::network::MemberWeights;
use consilium_learning::training::{Trainer, TrainingImage, member_seed, train_member, train_members};
use rayon::prelude::*;

use crate::experiment::ExperimentError;

/// The weights of all members.
pub(super) type Members = Vec<MemberWeights>;

/// Trains the first ensemble as `consilium-site train` does.
pub(super) fn first(
    plan: &Plan,
    trainer: Trainer,
    images: &[TrainingImage],
    seed: u64,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Members, ExperimentError> {
    let (start, seed) = (format!("{seed}/start"), format!("{seed}/initial-training"));
    let trainings = plan.members / (plan.initial_training.snapshots as usize).max(1);
    let starts: Members =
        (0..trainings).map(|m| MemberWeights::initialise(&plan.architecture, member_seed(&start, m))).collect();
    let seen = |_: usize, _: u32, _: f32| go_on();
    let trained = train_members(trainer, &plan.architecture, &starts, images, &plan.initial_training, &seed, &seen);
    let trained = trained.map_err(ExperimentError::of_training)?;
    Ok(trained.into_iter().flat_map(|t| t.earlier.into_iter().chain([t.weights])).collect())
}

/// What a site's fine-tuning adds to every member.
pub(super) fn fine_tuned(
    plan: &Plan,
    trainer: Trainer,
    from: &Members,
    images: &[TrainingImage],
    seed: &str,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Members, ExperimentError> {
    let trainer = trainer.beside(from.len());
    let train = |(member, start): (usize, &MemberWeights)| {
        let (seed, seen) = (member_seed(seed, member), |_: u32, _: f32| go_on());
        train_member(trainer, &plan.architecture, start, images, &plan.fine_tuning, seed, &seen)
            .map(|trained| trained.weights.delta_from(start))
    };
    let deltas: Vec<_> = from.par_iter().enumerate().map(train).collect();
    deltas.into_iter().collect::<Result<_, _>>().map_err(ExperimentError::of_training)
}

/// The next generation of the sites' deltas, each with its weight.
pub(super) fn aggregated(base: &Members, sites: &[(f64, Members)]) -> Result<Members, ExperimentError> {
    let member = |(index, base): (usize, &MemberWeights)| {
        let deltas: Vec<(f64, &MemberWeights)> = sites.iter().map(|(weight, site)| (*weight, &site[index])).collect();
        Ok(base.moved_by(&deltas)?)
    };
    base.iter().enumerate().map(member).collect()
}
