//! Whether a comparison fits into memory, asked before hours are spent on it.

use consilium_common::Plan;
use consilium_learning::training::training_bytes;

use super::arms::Kind;
use super::free_memory::{Free, free};
use super::trials::Trial;
use crate::experiment::ExperimentError;
use crate::fields::Site;

/// Bytes of a pixel that a site learns from, beside every member's probabilities: the strip of a scan (labels, tissue,
/// colour, two uncertainties, one probability a foreground class) and the picture and labels to train on.
const BYTES: u64 = 11 + 4;

/// How many trainings side by side fit into the memory that is free beside everything else. The fields themselves are there
/// already.
///
/// # Errors
/// Not even one fits.
pub(super) fn trainings_at_once(
    sites: &[Site],
    plan: &Plan,
    trials: &[Trial],
    folds: usize,
    rounds: u32,
) -> Result<usize, ExperimentError> {
    let of_site = |site: &Site| site.fields.iter().map(|field| field.labels.len() as u64).collect::<Vec<_>>();
    let others = || sites.iter().filter(|site| !site.central).map(of_site);
    let is_whole = |site: &&Site| site.central || trials.iter().any(|trial| trial.kind == Kind::Full);
    let fields: Vec<u64> = others().flatten().collect();
    let features = if trials.iter().any(Trial::needs_features) { of_encoder(&fields, plan) } else { 0 };
    let learned = others().map(|fields| learned(fields, folds)).sum();
    let looking = sites.iter().map(|site| in_flight(&of_site(site), plan)).max().unwrap_or(0);
    let whole = sites.iter().filter(is_whole).map(|site| 4 * of_site(site).iter().sum::<u64>()).sum::<u64>();
    let settings = trials.iter().map(|trial| &trial.plan.fine_tuning).chain([&plan.initial_training]);
    let training = settings.map(|settings| training_bytes(&plan.architecture, settings)).max().unwrap_or(0);
    let once = features + said(learned, plan, 1);
    let twice = features + said(learned, plan, rounds) + whole;
    let (free, most) = (free(), sites.len() * plan.members);
    enough((once + looking).max(twice + training), &free, plan.members)?;
    Ok(match free {
        Free::Unknown => most,
        Free::Machine(bytes) | Free::Group(bytes) => that_fit(bytes.saturating_sub(twice), training, most),
    })
}

/// How many of `most` trainings fit into so many bytes; one in any case.
fn that_fit(bytes: u64, training: u64, most: usize) -> usize {
    usize::try_from(bytes / training.max(1)).unwrap_or(most).clamp(1, most.max(1))
}

/// Pixels of the fields of a site that a fold learns from, at most.
fn learned(mut fields: Vec<u64>, folds: usize) -> u64 {
    fields.sort_unstable();
    fields.iter().skip(fields.len() / folds).sum()
}

/// Bytes of what is held while a site's fields are looked at, beside what stays: what members say, sums over tiles, the strip,
/// and the maps whose figures are taken. With one answer it is one field after the other, else all at once at most.
fn in_flight(fields: &[u64], plan: &Plan) -> u64 {
    let (answers, classes) = (answers(plan), plan.architecture.classes as u64);
    let pixels = if answers == 1 { fields.iter().max().copied().unwrap_or(0) } else { fields.iter().sum() };
    pixels * (4 * answers * classes + 8 * classes + 40)
}

/// Bytes of what members say of so many pixels that stays: what the first ensemble says stays beside what a later generation
/// says.
fn said(pixels: u64, plan: &Plan, rounds: u32) -> u64 {
    let (classes, generations) = (plan.architecture.classes as u64, u64::from(rounds.min(2)));
    pixels * generations * (4 * answers(plan) * classes + 4 * (classes - 1) + BYTES)
}

fn answers(plan: &Plan) -> u64 {
    plan.members as u64 * u64::from(plan.scan.answers())
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
        "what {members} members say of the fields, features of them where boxes are chosen or left out by those, and a training \
         take about {:.1} GiB, and {left}; give it more memory, compare fewer --sites or --members, or in a plan of coarser spacing_um",
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
        let once = said(500, &plan, 1);
        assert_eq!(once, 500 * (4 * 15 + 8 + 15));
        assert_eq!(said(500, &plan, 4), 2 * once);
        plan.scan.mirror = true;
        plan.scan.dropout = Some(Dropout { passes: 3, rate: 0.5 });
        assert_eq!(said(500, &plan, 1), 500 * (12 * 4 * 15 + 8 + 15));
    }

    #[test]
    fn the_largest_part_that_is_learned_from_counts() {
        let of = |fields: &[u64], folds| learned(fields.to_vec(), folds);
        assert_eq!((of(&[10, 40, 30], 2), of(&[100, 20], 2), of(&[10], 2), of(&[], 2)), (70, 100, 10, 0));
    }

    #[test]
    fn one_answer_is_looked_at_field_by_field() {
        let mut plan = sample::plan();
        (plan.members, plan.architecture.classes) = (5, 2);
        assert_eq!(in_flight(&[40, 30], &plan), 70 * (40 + 16 + 40));
        plan.members = 1;
        assert_eq!(in_flight(&[40, 30], &plan), 40 * (8 + 16 + 40));
    }

    #[test]
    fn as_many_trainings_as_fit_and_one_in_any_case() {
        let of = |bytes| that_fit(bytes, 10, 25);
        assert_eq!((of(0), of(9), of(39), of(1_000), that_fit(5, 0, 0)), (1, 1, 3, 25, 1));
    }

    #[test]
    fn an_encoder_holds_its_stages() {
        let mut plan = sample::plan();
        (plan.architecture.features, plan.architecture.strides) = (vec![8, 16], vec![1, 2]);
        // 8 features a pixel and 16 a quarter of them, 4 bytes each; 16 bytes a pixel of both fields stay.
        assert_eq!(of_encoder(&[1_000, 400], &plan), 1_000 * (32 + 16) + 1_400 * 16);
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
