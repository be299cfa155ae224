//! Whether a comparison fits into memory, asked before hours are spent on it.

use std::fs;

use consilium_common::Plan;

use super::arms::Kind;
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
    let others = sites.iter().filter(|site| !site.central);
    let fields: Vec<u64> = others.flat_map(|site| &site.fields).map(|field| field.labels.len() as u64).collect();
    let of_features = |trial: &Trial| matches!(&trial.kind, Kind::Rule(method) if method.rule.needs_features());
    let features = if trials.iter().any(of_features) { of_encoder(&fields, plan) } else { 0 };
    enough(said(fields.iter().sum(), plan, folds as u64, rounds) + features, free(), plan.members)
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

fn enough(needed: u64, free: Option<u64>, members: usize) -> Result<(), ExperimentError> {
    match free {
        Some(free) if needed > free => {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            Err(ExperimentError::Usage(format!(
                "what {members} members say of the fields, and features of them for the rules that want some, take about {:.1} GiB, \
                 and {:.1} are free; compare fewer --sites or --members, or in a plan of coarser spacing_um",
                gib(needed),
                gib(free)
            )))
        }
        _ => Ok(()),
    }
}

/// Memory of the machine that can be had, in bytes; unknown where the system does not tell as Linux does. A container's
/// limit is not looked at.
fn free() -> Option<u64> {
    let told = fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
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
    fn what_does_not_fit_is_refused() {
        let said = enough(3 << 30, Some(1 << 30), 5).unwrap_err().to_string();
        assert!(said.contains("5 members say") && said.contains("3.0 GiB, and 1.0 are free"), "{said}");
        assert!(enough(1 << 30, Some(1 << 30), 5).is_ok() && enough(1 << 40, None, 5).is_ok());
        if cfg!(target_os = "linux") {
            assert!(free().is_some_and(|bytes| bytes > 1 << 20), "Linux says what is free");
        }
    }
}
