//! Ensembles trained with nnU-Net, v1 or v2, as ours: architecture, weights, and how they are used; and ours as v2's.
//!
//! Folds become members. What is not a 2D network of RGB pictures with plain labels is refused by name. Checkpoints are
//! read as data; nothing in them is run.

mod error;
mod export;
mod members;
mod plan;
mod v1;
mod v2;

use std::fs;
use std::path::{Path, PathBuf};

use consilium_common::bundle::Conventions;
use consilium_common::plan::Architecture;
use consilium_common::{Digest, limits};

use crate::network::MemberWeights;

pub use error::ImportError;
pub use export::{Notes, export_nnunet_v2};
pub use v1::nnunet_v1;
pub use v2::nnunet_v2;

/// What a person should know who compares labels.
const MIRRORED: &str =
    "nnU-Net also averages over mirrored tiles unless told --disable_tta; a scan does with `mirror = true`";

/// What to import.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The folder of one trained configuration, with `fold_0` and so on in it.
    pub dir: PathBuf,
    /// The folds, in the order of the members; all that are there if none is named.
    pub folds: Vec<String>,
    /// File name of the checkpoint in each fold; the final one if none is named.
    pub checkpoint: Option<String>,
}

/// An ensemble in our form.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network.
    pub architecture: Architecture,
    /// One member a fold.
    pub members: Vec<MemberWeights>,
    /// How the ensemble is used.
    pub conventions: Conventions,
    /// Names of the classes, the background first; what the source does not name is called `class 1` and so on.
    pub classes: Vec<String>,
    /// Side of the patches that it was trained on; the best tile.
    pub patch_px: (u32, u32),
    /// Digest of the file of plans.
    pub plan: Digest,
    /// The folds that became members.
    pub folds: Vec<String>,
    /// What a person should know, one sentence each.
    pub notes: Vec<String>,
}

/// The folds to import: those that were named, or all that have a checkpoint of that name.
fn folds(request: &Request, checkpoint: &str) -> Result<Vec<String>, ImportError> {
    let dir = &request.dir;
    let file = |fold: &str| dir.join(format!("fold_{fold}")).join(checkpoint);
    let mut found = request.folds.clone();
    if found.is_empty() {
        let entries =
            fs::read_dir(dir).map_err(|e| ImportError::read(dir, e))?.flatten().take(limits::MAX_FOLDER_ENTRIES);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        found = names.filter_map(|name| name.strip_prefix("fold_").map(str::to_owned)).collect();
        found.retain(|fold| file(fold).is_file());
        // Folds 0 to 4 are an ensemble; `all` is one network, trained on everything.
        found.sort_by_key(|fold| (fold.parse::<u32>().unwrap_or(u32::MAX), fold.clone()));
        if found.len() > 1 {
            found.retain(|fold| fold.parse::<u32>().is_ok());
        }
    }
    match found.iter().find(|fold| !file(fold).is_file()) {
        Some(missing) => Err(ImportError::missing(&file(missing), "name folds that are trained with --folds")),
        None if found.is_empty() => Err(ImportError::missing(
            &file("0"),
            "give the folder of one trained configuration, or name the file with --checkpoint",
        )),
        None if found.len() > limits::MAX_MEMBERS => Err(ImportError::unsupported(
            dir,
            format!("an ensemble of {} folds (at most {} can be members)", found.len(), limits::MAX_MEMBERS),
        )),
        None => Ok(found),
    }
}

/// A document of bounded length.
fn read_document(path: &Path, next: &'static str) -> Result<Vec<u8>, ImportError> {
    let about = fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => ImportError::missing(path, next),
        _ => ImportError::read(path, e),
    })?;
    if about.len() > limits::MAX_PLANS_BYTES {
        let why = format!("has {} bytes, and plans have at most {}", about.len(), limits::MAX_PLANS_BYTES);
        return Err(ImportError::plans(path, why));
    }
    fs::read(path).map_err(|e| ImportError::read(path, e))
}

#[cfg(test)]
mod tests;
