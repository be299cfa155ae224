//! The output folder: results that stay, and a work folder that goes when the experiment is over.
//!
//! Nothing is written over that was not ours: a folder with other things in it is refused.

use std::fs;
use std::path::{Path, PathBuf};

use super::ExperimentError;

/// Marks a folder as written by this program.
const MARKER: &str = ".consilium-simulate";

/// The folders of one experiment.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    pub(crate) out: PathBuf,
    pub(crate) work: PathBuf,
    keep: bool,
}

impl Workspace {
    /// Takes over the output folder: creates it, or clears what an earlier experiment left in it.
    pub(crate) fn create(out: &Path, keep: bool) -> Result<Self, ExperimentError> {
        let filled = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
        if filled && !out.join(MARKER).exists() {
            return Err(ExperimentError::Usage(format!(
                "{} is not empty and was not written by consilium-simulate; choose another folder with --out",
                out.display()
            )));
        }
        fs::create_dir_all(out).map_err(ExperimentError::file(out))?;
        let out = out.canonicalize().map_err(ExperimentError::file(out))?;
        let marker = out.join(MARKER);
        fs::write(&marker, "written by consilium-simulate; a new run replaces what is here\n")
            .map_err(ExperimentError::file(&marker))?;
        let workspace = Self { work: out.join("work"), out, keep };
        for folder in ["work", "figures", "ensemble"] {
            remove(&workspace.out.join(folder))?;
        }
        for file in ["report.html", "metrics.json", "metrics.csv", "timing.json", "plan.toml", "run.log"] {
            let path = workspace.out.join(file);
            if path.exists() {
                fs::remove_file(&path).map_err(ExperimentError::file(&path))?;
            }
        }
        fs::create_dir_all(&workspace.work).map_err(ExperimentError::file(&workspace.work))?;
        Ok(workspace)
    }

    /// A site's data folder.
    pub(crate) fn data(&self, site: &str) -> PathBuf {
        self.work.join("data").join(site)
    }

    /// A site's state folder.
    pub(crate) fn state(&self, site: &str) -> PathBuf {
        self.work.join("sites").join(site)
    }

    /// The coordinator's folder.
    pub(crate) fn coordinator(&self) -> PathBuf {
        self.work.join("coordinator")
    }

    /// The first ensemble.
    pub(crate) fn first_ensemble(&self) -> PathBuf {
        self.work.join("first-ensemble")
    }

    /// The last generation, for use.
    pub(crate) fn ensemble(&self) -> PathBuf {
        self.out.join("ensemble")
    }

    /// Removes the work folder, unless it was asked to stay.
    pub(crate) fn finish(&self) -> Result<(), ExperimentError> {
        if self.keep { Ok(()) } else { remove(&self.work) }
    }
}

fn remove(folder: &Path) -> Result<(), ExperimentError> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(ExperimentError::file(folder)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_other_things_is_refused_and_an_own_one_replaced() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let workspace = Workspace::create(&out, false).unwrap();
        fs::write(out.join("report.html"), "old").unwrap();
        fs::write(workspace.work.join("x"), "old").unwrap();
        let again = Workspace::create(&out, false).unwrap();
        assert!(!out.join("report.html").exists() && !again.work.join("x").exists());
        again.finish().unwrap();
        assert!(!again.work.exists());

        fs::write(root.path().join("thesis.tex"), "mine").unwrap();
        let refused = Workspace::create(root.path(), false).unwrap_err().to_string();
        assert!(refused.contains("--out"), "{refused}");
        assert!(root.path().join("thesis.tex").exists());
    }
}
