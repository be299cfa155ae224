//! Whether a comparison fits into memory, asked before hours are spent on it.

use std::cmp::Reverse;

use consilium_common::Plan;

use super::arms::Kind;
use super::free_memory::{Free, free};
use super::trials::Trial;
use crate::experiment::ExperimentError;
use crate::fields::Site;

/// Bytes of a pixel that a site learns from, beside every member's probabilities: the strip of a scan (labels, tissue,
/// colour, two uncertainties, one probability a foreground class) and the picture and labels to train on.
const BYTES: u64 = 11 + 4;

/// Refuses a comparison whose fields would not fit into the memory that is free; they themselves are there already.
pub(super) fn fits(
    sites: &[Site],
    plan: &Plan,
    trials: &[Trial],
    folds: usize,
    rounds: u32,
) -> Result<(), ExperimentError> {
    let of_site = |site: &Site| site.fields.iter().map(|field| field.labels.len() as u64).collect::<Vec<_>>();
    let measured = sites.iter().map(|site| held_out(of_site(site), folds)).max().unwrap_or(0);
    let fields: Vec<u64> = sites.iter().filter(|site| !site.central).flat_map(of_site).collect();
    let of_features = |trial: &Trial| matches!(&trial.kind, Kind::Rule(method) if method.rule.needs_features());
    let features = if trials.iter().any(of_features) { of_encoder(&fields, plan) } else { 0 };
    let needed = said(fields.iter().sum(), plan, folds as u64, rounds) + at_work(measured, plan) + features;
    enough(needed, &free(), plan.members)
}

/// Pixels of the fields of a site that a fold holds out, at most.
fn held_out(mut fields: Vec<u64>, folds: usize) -> u64 {
    fields.sort_unstable_by_key(|&pixels| Reverse(pixels));
    fields.iter().take(fields.len().div_ceil(folds)).sum()
}

/// Bytes of what is held beside that while a site's fields are measured, all of them at once at most: what members say of
/// them, sums over tiles, the strip, and the maps whose figures are taken.
fn at_work(pixels: u64, plan: &Plan) -> u64 {
    let (answers, classes) = (plan.members as u64 * u64::from(plan.scan.answers()), plan.architecture.classes as u64);
    pixels * (4 * answers * classes + 8 * classes + 40)
}

/// Bytes of what members say that are held at once. Of each fold all but one part is looked at, and what the first ensemble
/// says of it stays beside what a later generation says.
fn said(pixels: u64, plan: &Plan, folds: u64, rounds: u32) -> u64 {
    let answers = plan.members as u64 * u64::from(plan.scan.answers());
    let (classes, generations) = (plan.architecture.classes as u64, u64::from(rounds.min(2)));
    pixels * (folds - 1) / folds * generations * (4 * answers * classes + 4 * (classes - 1) + BYTES)
}

/// Bytes of what one member's encoder makes of the largest field, of which all stages are held at once, and of the deepest
/// features of all fields.
fn of_encoder(fields: &[u64], plan: &Plan) -> u64 {
    let (mut stride, mut deepest, mut stages) = (1, 0.0, 0.0);
    for (features, by) in plan.architecture.features.iter().zip(&plan.architecture.strides) {
        stride *= by;
        deepest = 4.0 * *features as f64 / (stride * stride) as f64;
        stages += deepest;
    }
    let (largest, all) = (fields.iter().max().copied().unwrap_or(0) as f64, fields.iter().sum::<u64>() as f64);
    (largest * stages + all * deepest) as u64
}

fn enough(needed: u64, free: &Free, members: usize) -> Result<(), ExperimentError> {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let left = match *free {
        Free::Unknown => return Ok(()),
        Free::Machine(bytes) | Free::Group(bytes) if needed <= bytes => return Ok(()),
        Free::Machine(bytes) => format!("{:.1} are free", gib(bytes)),
        Free::Group(bytes) => {
            format!("the limit of this container or job (its control group) leaves {:.1}", gib(bytes))
        }
    };
    Err(ExperimentError::Usage(format!(
        "what {members} members say of the fields, and features of them for the rules that want some, take about {:.1} GiB, and \
         {left}; give it more memory, compare fewer --sites or --members, or in a plan of coarser spacing_um",
        gib(needed)
    )))
}

#[cfg(test)]
mod tests {
    use consilium_common::plan::Dropout;

    use super::*;
    use crate::report::sample;

    #[test]
    fn what_members_say_is_held_once_or_twice() {
        let mut plan = sample::plan();
        (plan.members, plan.architecture.classes) = (5, 3);
        let once = said(1_000, &plan, 2, 1);
        assert_eq!(once, 500 * (4 * 15 + 8 + 15));
        assert_eq!((said(1_000, &plan, 2, 4), said(1_000, &plan, 10, 1)), (2 * once, once / 5 * 9));
        plan.scan.mirror = true;
        plan.scan.dropout = Some(Dropout { passes: 3, rate: 0.5 });
        assert_eq!(said(1_000, &plan, 2, 1), 500 * (12 * 4 * 15 + 8 + 15));
    }

    #[test]
    fn an_encoder_holds_its_stages() {
        let mut plan = sample::plan();
        (plan.architecture.features, plan.architecture.strides) = (vec![8, 16], vec![1, 2]);
        // 8 features a pixel and 16 a quarter of them, 4 bytes each; 16 bytes a pixel of both fields stay.
        assert_eq!(of_encoder(&[1_000, 400], &plan), 1_000 * (32 + 16) + 1_400 * 16);
    }

    #[test]
    fn the_largest_part_that_is_held_out_is_at_work() {
        assert_eq!((held_out(vec![10, 40, 30], 2), held_out(vec![10], 2), held_out(vec![], 2)), (70, 10, 0));
        let mut plan = sample::plan();
        (plan.members, plan.architecture.classes) = (5, 2);
        assert_eq!(at_work(70, &plan), 70 * (40 + 16 + 40));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let said = |free: Free| enough(3 << 30, &free, 5).unwrap_err().to_string();
        let machine = said(Free::Machine(1 << 30));
        assert!(machine.contains("5 members say") && machine.contains("3.0 GiB, and 1.0 are free"), "{machine}");
        let group = said(Free::Group(1 << 30));
        assert!(
            group.contains("3.0 GiB, and the limit of this container or job (its control group) leaves 1.0;"),
            "{group}"
        );
        let fits = [Free::Unknown, Free::Machine(3 << 30), Free::Group(4 << 30)];
        assert!(fits.iter().all(|free| enough(3 << 30, free, 5).is_ok()));
    }
}
