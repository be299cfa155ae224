//! The weights of one fold: from the names of a checkpoint to those of the architecture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use consilium_common::plan::{Architecture, Norm};

use super::ImportError;
use crate::checkpoint::{Checkpoint, Tensor, Value};
use crate::network::MemberWeights;

/// The members of all folds, the first of which is open already; one file is open at a time.
pub(super) fn members(
    first: Fold<'_>,
    others: impl Iterator<Item = PathBuf>,
    architecture: &Architecture,
    open: impl Fn(&Path) -> Result<Fold<'_>, ImportError>,
) -> Result<Vec<MemberWeights>, ImportError> {
    let mut all = vec![first.member(architecture)?];
    drop(first);
    for path in others {
        all.push(open(&path)?.member(architecture)?);
    }
    Ok(all)
}

/// The tensors of one fold, by our names, still in their file.
#[derive(Debug)]
pub(super) struct Fold<'a> {
    pub(super) path: &'a Path,
    pub(super) checkpoint: Checkpoint,
    /// By our name; sorted.
    tensors: BTreeMap<String, Tensor>,
}

impl<'a> Fold<'a> {
    /// `weights` is the key under which the checkpoint has them; `ours` turns a name into ours, none for what is left out.
    pub(super) fn new(
        path: &'a Path,
        checkpoint: Checkpoint,
        weights: &str,
        ours: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ImportError> {
        let entries = checkpoint.root().get(weights).and_then(Value::as_dict);
        let entries = entries.ok_or_else(|| ImportError::network(path, format!("it has no `{weights}`")))?;
        let mut tensors = BTreeMap::new();
        for (name, value) in entries {
            // What torch.compile and several GPUs put before each name.
            let name = name.as_str().unwrap_or_default();
            let name = name.trim_start_matches("module.").trim_start_matches("_orig_mod.");
            if let (Some(name), Some(tensor)) = (ours(name), value.as_tensor()) {
                tensors.insert(name, tensor.clone());
            }
        }
        Ok(Self { path, checkpoint, tensors })
    }

    /// The shape of a tensor.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(Tensor::shape)
    }

    /// What the weights say of the normalisation: a plan may say another, which its trainer then replaced.
    pub(super) fn norm(&self) -> Norm {
        let running = self.tensors.keys().any(|name| name.ends_with(".running_mean"));
        if running { Norm::Batch } else { Norm::Instance }
    }

    /// The member, which must have exactly the tensors of the architecture.
    pub(super) fn member(&self, architecture: &Architecture) -> Result<MemberWeights, ImportError> {
        let mut found = BTreeMap::new();
        let needed = architecture.tensors();
        for need in &needed {
            let tensor = self.tensors.get(&need.name);
            let tensor =
                tensor.ok_or_else(|| ImportError::network(self.path, format!("`{}` is missing", need.name)))?;
            if tensor.shape() != need.shape {
                let why = format!("`{}` is {:?} and should be {:?}", need.name, tensor.shape(), need.shape);
                return Err(ImportError::network(self.path, why));
            }
            found.insert(need.name.clone(), self.checkpoint.values(tensor)?);
        }
        if let Some(name) = self.tensors.keys().find(|name| !found.contains_key(*name)) {
            return Err(ImportError::network(self.path, format!("`{name}` has no place in it")));
        }
        let member = MemberWeights::from_tensors(found);
        match member.first_bad_value() {
            Some((name, value)) => Err(ImportError::network(self.path, format!("`{name}` holds {value}"))),
            None => Ok(member),
        }
    }
}
