//! Whether a comparison fits into memory, asked before hours are spent on it.

use std::fs;

use consilium_common::Plan;

use crate::experiment::ExperimentError;
use crate::fields::Site;

/// Bytes of a pixel that a site learns from, beside every member's probabilities: the strip of a scan (labels, tissue,
/// colour, two uncertainties, one probability a foreground class) and the picture and labels to train on.
const BYTES: u64 = 11 + 4;

/// Refuses a comparison whose fields would not fit into the memory that is free.
pub(super) fn fits(sites: &[Site], plan: &Plan, folds: usize) -> Result<(), ExperimentError> {
    let others = sites.iter().filter(|site| !site.central);
    let fields: u64 = others.flat_map(|site| &site.fields).map(|field| field.labels.len() as u64).sum();
    // Of each fold all but one part is looked at, and stays.
    let pixels = fields * (folds as u64 - 1) / folds as u64;
    let needed = pixels * bytes(plan.members as u64, plan.architecture.classes as u64);
    match free() {
        Some(free) if needed > free => {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            Err(ExperimentError::Usage(format!(
                "what {} members say of the fields takes about {:.1} GiB, and {:.1} are free; compare fewer --sites or \
                 --members, or in a plan of coarser spacing_um",
                plan.members,
                gib(needed),
                gib(free)
            )))
        }
        _ => Ok(()),
    }
}

/// Bytes a pixel of what an ensemble says.
fn bytes(members: u64, classes: u64) -> u64 {
    4 * members * classes + 4 * (classes - 1) + BYTES
}

/// Memory that can be had, in bytes; unknown where the system does not tell as Linux does.
fn free() -> Option<u64> {
    let told = fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_takes_what_members_say_of_it() {
        assert_eq!(bytes(5, 3), 4 * 15 + 8 + 15);
        if cfg!(target_os = "linux") {
            assert!(free().is_some_and(|bytes| bytes > 1 << 20), "Linux says what is free");
        }
    }
}
