//! JSON files of a folder that an experiment keeps and goes on with, and the terms under which it may go on.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::experiment::ExperimentError;

/// Makes a folder, or goes on with what it holds if that has the same terms; `what` it holds otherwise is for people. A
/// folder of something else is refused.
pub(crate) fn claim(out: &Path, terms: &Value, what: &str) -> Result<(), ExperimentError> {
    fs::create_dir_all(out).map_err(ExperimentError::file(out))?;
    let path = out.join("terms.json");
    let empty = fs::read_dir(out).map_err(ExperimentError::file(out))?.next().is_none();
    match read::<Value>(&path)? {
        None if empty => write(&path, terms),
        None => {
            let why = format!("{} holds something else; choose another folder with --out", out.display());
            Err(ExperimentError::Usage(why))
        }
        Some(there) if there == *terms => Ok(()),
        Some(_) => Err(ExperimentError::Usage(format!(
            "{} holds {what}; take another --out, or the same options again",
            out.display()
        ))),
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

/// Writes a JSON file whole or not at all; its folder is made.
pub(crate) fn write<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<(), ExperimentError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|source| ExperimentError::json(path, source))?;
    bytes.push(b'\n');
    make_parent(path)?;
    let part = path.with_extension("part");
    fs::write(&part, bytes).and_then(|()| fs::rename(&part, path)).map_err(ExperimentError::file(path))
}

/// Makes the folder that a file is to be in.
pub(crate) fn make_parent(path: &Path) -> Result<(), ExperimentError> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).map_err(ExperimentError::file(dir))
}
