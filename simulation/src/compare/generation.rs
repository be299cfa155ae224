//! Generations of an ensemble without the wire: first training, fine-tuning at a site, aggregation, with the functions
//! of a federation.

use std::borrow::Cow;

use consilium_common::Plan;
use consilium_learning::network::MemberWeights;
use consilium_learning::training::{Trainer, TrainingImage, member_seed, train_member};
use rayon::prelude::*;

use crate::experiment::ExperimentError;

/// The weights of all members.
pub(super) type Members = Vec<MemberWeights>;

/// What `of` makes of each job, so many side by side.
pub(super) fn side_by_side<J: Sync, T: Send>(jobs: &[J], at_once: usize, of: impl Fn(&J) -> T + Sync) -> Vec<T> {
    jobs.chunks(at_once.max(1)).flat_map(|jobs| jobs.par_iter().map(&of).collect::<Vec<_>>()).collect()
}

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
    let trainings: Vec<usize> = (0..plan.members / (plan.initial_training.snapshots as usize).max(1)).collect();
    let (trainer, seen) = (trainer.beside(trainings.len()), |_: u32, _: f32| go_on());
    let train = |&member: &usize| {
        let start = MemberWeights::initialise(&plan.architecture, member_seed(&start, member));
        let seed = member_seed(&seed, member);
        train_member(trainer, &plan.architecture, &start, images, &plan.initial_training, seed, &seen)
    };
    let trained: Result<Vec<_>, _> = side_by_side(&trainings, at_once, train).into_iter().collect();
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
    let deltas = deltas.map_err(ExperimentError::of_training)?;
    Ok(deltas.chunks(from.len().max(1)).map(<[_]>::to_vec).collect())
}

/// The next generation of the sites' deltas, each with its weight.
pub(super) fn aggregated(base: &Members, sites: &[(f64, Members)]) -> Result<Members, ExperimentError> {
    let member = |(index, base): (usize, &MemberWeights)| {
        let deltas: Vec<(f64, &MemberWeights)> = sites.iter().map(|(weight, site)| (*weight, &site[index])).collect();
        Ok(base.moved_by(&deltas)?)
    };
    base.iter().enumerate().map(member).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn jobs_keep_their_order_and_never_are_more_at_once() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let job = |&number: &u32| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            number * 2
        };
        let jobs: Vec<u32> = (0..50).collect();
        for at_once in [0, 1, 3, 100] {
            most.store(0, Ordering::SeqCst);
            assert_eq!(side_by_side(&jobs, at_once, job), (0..100).step_by(2).collect::<Vec<u32>>());
            assert!(most.load(Ordering::SeqCst) <= at_once.max(1));
        }
    }
}
