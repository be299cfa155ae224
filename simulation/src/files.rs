//! JSON files of a folder that an experiment keeps and goes on with, and the terms under which it may go on.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::experiment::ExperimentError;

/// The file that a run locks in its folder.
const LOCK: &str = "lock";
/// The ending of a file that is being written.
const PART: &str = "part";

/// That a folder is one run's.
pub(crate) struct Claim {
    _lock: File,
}

/// Makes a folder, or goes on with what it holds if that has the same terms; `what` it holds otherwise is for people. A
/// folder of something else is refused, and one that another run is writing to. The folder is this run's until the claim is
/// dropped or the process ends, however it does.
pub(crate) fn claim(out: &Path, terms: &Value, what: &str) -> Result<Claim, ExperimentError> {
    fs::create_dir_all(out).map_err(ExperimentError::file(out))?;
    let path = out.join("terms.json");
    let names = fs::read_dir(out).map_err(ExperimentError::file(out))?;
    // A run that was killed while it wrote its first file leaves a part of it.
    let nothing = |path: &Path| path.ends_with(LOCK) || path.extension().is_some_and(|ending| ending == PART);
    let empty = names.flatten().all(|entry| nothing(&entry.path()));
    match read::<Value>(&path)? {
        None if empty => {
            let claim = locked(out)?;
            write(&path, terms)?;
            Ok(claim)
        }
        None => {
            let why = format!("{} holds something else; choose another folder with --out", out.display());
            Err(ExperimentError::Usage(why))
        }
        Some(there) if there == *terms => locked(out),
        Some(_) => Err(ExperimentError::Usage(format!(
            "{} holds {what}; take another --out, or the same options again",
            out.display()
        ))),
    }
}

/// Takes the lock of a folder.
fn locked(out: &Path) -> Result<Claim, ExperimentError> {
    let path = out.join(LOCK);
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let file = file.map_err(ExperimentError::file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Claim { _lock: file }),
        Err(TryLockError::WouldBlock) => Err(ExperimentError::Busy(out.to_owned())),
        // Some shares know no locks.
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => Ok(Claim { _lock: file }),
        Err(TryLockError::Error(error)) => Err(ExperimentError::file(&path)(error)),
    }
}

/// A JSON file; none where there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ExperimentError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| ExperimentError::json(path, source)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ExperimentError::file(path)(error)),
    }
}

/// Writes a JSON file whole or not at all, also where the power fails; its folder is made.
pub(crate) fn write<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<(), ExperimentError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|source| ExperimentError::json(path, source))?;
    bytes.push(b'\n');
    make_parent(path)?;
    // Its own for every process: one may render what another is writing.
    let part = path.with_extension(format!("{}.{PART}", std::process::id()));
    let whole = || {
        let mut file = File::create(&part)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    whole().map_err(ExperimentError::file(path))
}

/// Makes the folder that a file is to be in.
pub(crate) fn make_parent(path: &Path) -> Result<(), ExperimentError> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).map_err(ExperimentError::file(dir))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_folder_is_one_runs_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let claimed = |terms: &Value| claim(&out, terms, "another").map_err(|error| error.to_string());
        let first = claimed(&json!(1)).unwrap();
        assert!(claimed(&json!(1)).err().unwrap().contains("is being written by another run"));
        assert!(claimed(&json!(2)).err().unwrap().contains("holds another"));
        drop(first);
        claimed(&json!(1)).unwrap();
        fs::remove_file(out.join("terms.json")).unwrap();
        claimed(&json!(2)).unwrap();
        fs::remove_file(out.join("terms.json")).unwrap();
        fs::write(out.join("terms.7.part"), "{").unwrap();
        drop(claimed(&json!(2)).unwrap());
        fs::remove_file(out.join("terms.json")).unwrap();
        fs::write(out.join("letter.txt"), "dear").unwrap();
        assert!(claimed(&json!(2)).err().unwrap().contains("holds something else"));
    }
}
