//! What can be wrong with an ensemble of nnU-Net: one sentence each, with the file, the cause and the next step.

use std::io;
use std::path::{Path, PathBuf};

use consilium_common::Invalid;

use crate::checkpoint::CheckpointError;

/// An ensemble that cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file system refused.
    #[error("cannot read {path} ({source}); check its permissions", path = .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file system refused.
    #[error("cannot write {path} ({source}); give a folder that does not exist yet, where you may write", path = .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file that an ensemble has is not there.
    #[error("{path} is not there; {next}", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        next: &'static str,
    },
    /// The plans or the description of the data contradict themselves or nnU-Net's form.
    #[error("{path} cannot be used: {why}; check that it is nnU-Net's own file", path = .path.display())]
    Plans {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A sound ensemble of a kind that is not computed here.
    #[error("{path}: {what} is not supported; only 2D networks of RGB pictures with plain labels are", path = .path.display())]
    Unsupported {
        /// The file or folder.
        path: PathBuf,
        /// The feature.
        what: String,
    },
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint does not hold the network of the plans.
    #[error("{path} does not hold the network of the plans: {why}; check that the checkpoint belongs to them", path = .path.display())]
    Network {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        why: String,
    },
    /// The network is outside what an ensemble may be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl ImportError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    pub(super) fn missing(path: &Path, next: &'static str) -> Self {
        Self::Missing { path: path.to_owned(), next }
    }

    pub(super) fn plans(path: &Path, why: impl Into<String>) -> Self {
        Self::Plans { path: path.to_owned(), why: why.into() }
    }

    pub(super) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn network(path: &Path, why: impl Into<String>) -> Self {
        Self::Network { path: path.to_owned(), why: why.into() }
    }
}
