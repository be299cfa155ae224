//! Memory that can be had: the machine's, or less where a container or a batch system sets a limit.

use std::fs;
use std::path::Path;

/// Bytes that can be had, and what bounds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Free {
    /// The system does not tell as Linux does.
    Unknown,
    Machine(u64),
    /// A limit of the control group (version 2) that this process is in, or of one around it that can be seen.
    Group(u64),
}

/// Of what a control group uses, what the system takes back when memory is short (the kernel's cgroup-v2.rst, memory.stat).
const GIVES_WAY: [&str; 3] = ["active_file", "inactive_file", "slab_reclaimable"];

/// What is free now.
pub(super) fn free() -> Free {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    tighter(of_machine(), within_groups(Path::new("/sys/fs/cgroup"), &groups))
}

fn tighter(machine: Option<u64>, group: Option<u64>) -> Free {
    match (machine, group) {
        (None, None) => Free::Unknown,
        (Some(machine), None) => Free::Machine(machine),
        (Some(machine), Some(group)) if machine <= group => Free::Machine(machine),
        (_, Some(group)) => Free::Group(group),
    }
}

fn of_machine() -> Option<u64> {
    let told = fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What the limits of a control group and of those around it leave.
fn within_groups(root: &Path, groups: &str) -> Option<u64> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    root.join(own).ancestors().take_while(|group| group.starts_with(root)).filter_map(left_in).min()
}

/// A control group's limit, where it is killed or where it is slowed down, less what it uses and would not give back.
fn left_in(group: &Path) -> Option<u64> {
    let told = |file: &str| fs::read_to_string(group.join(file)).ok();
    let bytes = |text: &str| text.trim().parse::<u64>().ok();
    let limit = ["memory.max", "memory.high"].into_iter().filter_map(|file| bytes(&told(file)?)).min()?;
    let used = told("memory.current").and_then(|text| bytes(&text)).unwrap_or(0);
    let statistics = told("memory.stat").unwrap_or_default();
    let of_line =
        |line: &str| line.split_once(' ').filter(|(name, _)| GIVES_WAY.contains(name)).and_then(|(_, v)| bytes(v));
    let gives_way: u64 = statistics.lines().filter_map(of_line).sum();
    Some(limit.saturating_sub(used.saturating_sub(gives_way)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_of_the_groups_around_counts() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("batch/job");
        fs::create_dir_all(&own).unwrap();
        let left = || within_groups(root.path(), "4:memory:/elsewhere\n0::/batch/job\n");
        assert_eq!(left(), None, "no group says anything");
        fs::write(own.join("memory.max"), "max\n").unwrap();
        assert_eq!(left(), None, "a group without a limit");
        let around = root.path().join("batch");
        fs::write(around.join("memory.max"), "5000\n").unwrap();
        assert_eq!(left(), Some(5000));
        fs::write(around.join("memory.current"), "3000\n").unwrap();
        let statistics = "anon 1300\nfile 1200\nactive_file 200\ninactive_file 1000\nslab_reclaimable 100\n";
        fs::write(around.join("memory.stat"), statistics).unwrap();
        assert_eq!(left(), Some(3300), "what is only cached gives way");
        fs::write(around.join("memory.high"), "4000\n").unwrap();
        assert_eq!(left(), Some(2300), "beyond it the group is slowed down");
        fs::write(own.join("memory.max"), "100\n").unwrap();
        assert_eq!(left(), Some(100), "the job's own limit is tighter");
        assert_eq!(within_groups(root.path(), "4:memory:/batch\n"), None, "version 1 is not looked at");
        fs::write(root.path().join("memory.max"), "70\n").unwrap();
        assert_eq!(within_groups(root.path(), "0::/\n"), Some(70), "a container sees its own group as the root");
    }

    #[test]
    fn the_machine_or_the_group() {
        assert_eq!(tighter(None, None), Free::Unknown);
        assert_eq!((tighter(Some(5), None), tighter(Some(5), Some(9))), (Free::Machine(5), Free::Machine(5)));
        assert_eq!((tighter(Some(5), Some(3)), tighter(None, Some(3))), (Free::Group(3), Free::Group(3)));
        if cfg!(target_os = "linux") {
            assert_ne!(free(), Free::Unknown, "Linux tells");
        }
    }
}
