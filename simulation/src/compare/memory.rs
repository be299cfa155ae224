//! Whether a comparison fits into memory, asked before hours are spent on it.

use std::fs;

use consilium_common::Plan;

use crate::experiment::ExperimentError;
use crate::fields::Site;

/// Bytes of a pixel that a site learns from, beside every member's probabilities: the strip of a scan (labels, tissue,
/// colour, two uncertainties, one probability a foreground class) and the picture and labels to train on.
const BYTES: u64 = 11 + 4;

/// Refuses a comparison whose fields would not fit into the memory that is free.
pub(super) fn fits(sites: &[Site], plan: &Plan, folds: usize, rounds: u32) -> Result<(), ExperimentError> {
    let others = sites.iter().filter(|site| !site.central);
    let fields: u64 = others.flat_map(|site| &site.fields).map(|field| field.labels.len() as u64).sum();
    enough(needed(fields, plan, folds as u64, rounds), free(), plan.members)
}

/// Bytes that are held at once. Of each fold all but one part is looked at, and what the first ensemble says of it stays
/// beside what a later generation says.
fn needed(pixels: u64, plan: &Plan, folds: u64, rounds: u32) -> u64 {
    let (members, classes) = (plan.members as u64, plan.architecture.classes as u64);
    let generations = u64::from(rounds.min(2));
    pixels * (folds - 1) / folds * generations * (4 * members * classes + 4 * (classes - 1) + BYTES)
}

fn enough(needed: u64, free: Option<u64>, members: usize) -> Result<(), ExperimentError> {
    match free {
        Some(free) if needed > free => {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            Err(ExperimentError::Usage(format!(
                "what {members} members say of the fields takes about {:.1} GiB, and {:.1} are free; compare fewer --sites or \
                 --members, or in a plan of coarser spacing_um",
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
    use super::*;
    use crate::report::sample;

    #[test]
    fn what_members_say_is_held_once_or_twice() {
        let mut plan = sample::plan();
        (plan.members, plan.architecture.classes) = (5, 3);
        let once = needed(1_000, &plan, 2, 1);
        assert_eq!(once, 500 * (4 * 15 + 8 + 15));
        assert_eq!((needed(1_000, &plan, 2, 4), needed(1_000, &plan, 10, 1)), (2 * once, once / 5 * 9));
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
