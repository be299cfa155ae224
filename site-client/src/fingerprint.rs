//! What the files of a slide look like from outside: enough to know that a slide was exchanged, without reading it.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::UNIX_EPOCH;

use consilium_common::Digest;
use consilium_learning::slides::is_zarr;

/// Files of a slide that are looked at. OME-Zarr has one for each tile; beyond a million the first ones must do.
const MOST_FILES: usize = 1_000_000;
/// Folders inside each other; an OME-Zarr plate has five.
const DEEPEST: usize = 8;

/// Size and time of change of all files of a slide.
pub(crate) fn fingerprint(path: &Path) -> String {
    let mut parts = Vec::new();
    let ending = ending_of(path);
    match (fs::metadata(path), path.parent()) {
        (Ok(about), _) if about.is_dir() => {
            collect(path, if is_zarr(path) { DEEPEST } else { 0 }, &|_| true, &mut parts)
        }
        // The parts of these slides lie side by side, in files of the same ending or, of VMS, of any.
        (Ok(_), Some(folder)) if ending == "dcm" => collect(folder, 0, &|file| ending_of(file) == "dcm", &mut parts),
        (Ok(_), Some(folder)) if ending == "vms" || ending == "vmu" => collect(folder, 0, &|_| true, &mut parts),
        (Ok(about), _) => parts.push(part(path, &about)),
        (Err(_), _) => {}
    }
    if ending == "mrxs" {
        collect(&path.with_extension(""), 0, &|_| true, &mut parts);
    }
    parts.sort();
    Digest::of(parts.join("\n").as_bytes()).to_string()
}

fn ending_of(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

/// The files of a folder, and of the folders in it down to `depth`. Links to folders are not followed.
fn collect(folder: &Path, depth: usize, wanted: &dyn Fn(&Path) -> bool, parts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if parts.len() >= MOST_FILES {
            return;
        }
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => collect(&path, depth - 1, wanted, parts),
            Ok(kind) if kind.is_dir() => {}
            Ok(_) if wanted(&path) => {
                parts.extend(fs::metadata(&path).ok().filter(Metadata::is_file).map(|about| part(&path, &about)));
            }
            _ => {}
        }
    }
}

fn part(path: &Path, about: &Metadata) -> String {
    let changed = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("{:?} {} {}", path.file_name(), about.len(), changed.map_or(0, |since| since.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slide_is_its_own_files_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        };
        ["a.dcm", "b.dcm", "x.svs", "z.zarr/.zattrs", "z.zarr/0/0/0", "m.mrxs", "m/Slidedat.ini"]
            .into_iter()
            .for_each(write);
        let of = |name: &str| fingerprint(&root.path().join(name));
        let all = || ["a.dcm", "x.svs", "z.zarr", "m.mrxs", ""].map(of);
        let before = all();
        ["out/a/.scan/1.slab", "out/a-labels.tif", "deep/y.dcm"].into_iter().for_each(write);
        assert_eq!(all(), before, "outputs in a folder below are no part of any slide");
        let changes = [("c.dcm", [0, 4].as_slice()), ("y.svs", &[4]), ("z.zarr/0/0/1", &[2]), ("m/Data0001.dat", &[3])];
        for (file, changed) in changes {
            let before = all();
            write(file);
            let now = all();
            let differ: Vec<usize> = (0..5).filter(|&i| now[i] != before[i]).collect();
            assert_eq!(differ, changed, "after {file}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_end() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(".zattrs"), "{}").unwrap();
        for name in ["a", "b"] {
            std::os::unix::fs::symlink(".", root.path().join(name)).unwrap();
        }
        let first = fingerprint(root.path());
        fs::write(root.path().join("c"), "c").unwrap();
        assert_ne!(fingerprint(root.path()), first);
    }
}
