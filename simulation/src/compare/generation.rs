//! Generations of an ensemble without the wire: first training, fine-tuning at a site, aggregation, with the functions
//! of a federation.

use std::borrow::Cow;

use consilium_common::Plan;
use consilium_learning::network::MemberWeights;
use consilium_learning::training::{Trainer, TrainingImage, member_seed, side_by_side, train_member, train_members};

use crate::experiment::ExperimentError;

/// The weights of all members.
pub(super) type Members = Vec<MemberWeights>;

/// Trains the first ensemble as `consilium-site train` does, so many members at once.
pub(super) fn first(
    plan: &Plan,
    trainer: Trainer,
    at_once: usize,
    images: &[TrainingImage],
    seed: u64,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Members, ExperimentError> {
    let (start, seed) = (format!("{seed}/start"), format!("{seed}/initial-training"));
    let trainings = plan.members / (plan.initial_training.snapshots as usize).max(1);
    let starts: Members =
        (0..trainings).map(|m| MemberWeights::initialise(&plan.architecture, member_seed(&start, m))).collect();
    let (arch, settings, seen) = (&plan.architecture, &plan.initial_training, |_: usize, _: u32, _: f32| go_on());
    let trained = train_members(trainer, at_once, arch, &starts, images, settings, &seed, &seen);
    let trained = trained.map_err(ExperimentError::of_training)?;
    Ok(trained.into_iter().flat_map(|t| t.earlier.into_iter().chain([t.weights])).collect())
}

/// What a site learns from in a round, and how.
pub(super) struct Learning<'a> {
    pub(super) site: usize,
    pub(super) plan: Cow<'a, Plan>,
    pub(super) images: Vec<TrainingImage>,
    pub(super) seed: String,
}

/// What each site's fine-tuning adds to every member, in the order of the sites; so many trainings at once.
pub(super) fn fine_tuned(
    learning: &[Learning<'_>],
    trainer: Trainer,
    at_once: usize,
    from: &Members,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Members>, ExperimentError> {
    let (trainer, seen) = (trainer.beside(from.len()), |_: u32, _: f32| go_on());
    let jobs: Vec<(&Learning<'_>, usize)> =
        learning.iter().flat_map(|site| (0..from.len()).map(move |member| (site, member))).collect();
    let train = |&(Learning { plan, images, seed, .. }, member): &(&Learning<'_>, usize)| {
        let seed = member_seed(seed, member);
        train_member(trainer, &plan.architecture, &from[member], images, &plan.fine_tuning, seed, &seen)
            .map(|trained| trained.weights.delta_from(&from[member]))
    };
    let deltas: Result<Members, _> = side_by_side(&jobs, at_once, train).into_iter().collect();
    let mut deltas = deltas.map_err(ExperimentError::of_training)?.into_iter();
    Ok(learning.iter().map(|_| deltas.by_ref().take(from.len()).collect()).collect())
}

/// The next generation of the sites' deltas, each with its weight.
pub(super) fn aggregated(base: &Members, sites: &[(f64, Members)]) -> Result<Members, ExperimentError> {
    let member = |(index, base): (usize, &MemberWeights)| {
        let deltas: Vec<(f64, &MemberWeights)> = sites.iter().map(|(weight, site)| (*weight, &site[index])).collect();
        Ok(base.moved_by(&deltas)?)
    };
    base.iter().enumerate().map(member).collect()
}
