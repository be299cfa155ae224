//! What can be wrong with a checkpoint or a pickle: one sentence each, with the file, the cause and the next step.

use std::io;
use std::path::PathBuf;

/// A checkpoint or a pickle that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot read {path} ({source}); check the name and its permissions", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is longer than such a file may be.
    #[error("{path} is {bytes} bytes long, {max} are the most that is read; check that it is the right file", path = .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The longest that is read.
        max: u64,
    },
    /// The pickle that describes its content is at fault.
    #[error("{path} {source}", path = .path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PickleError,
    },
    /// It is no file of `torch.save`, or a damaged one.
    #[error("{path} is no checkpoint that can be read: {why}; copy it anew, or write it again with `torch.save` of PyTorch 1.6 or later", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A tensor cannot be had as 32-bit numbers.
    #[error("a tensor of {path} cannot be read: {why}; copy the file anew, or save that tensor as torch.float32", path = .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A pickle that is refused. Whatever it asks for, nothing of it was run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// It names a function or class that is not plain data.
    #[error(
        "asks to run `{name}`; nothing was run; it is not plain data, do not open it elsewhere unless you trust its \
         author, and ask for a file with weights and settings only"
    )]
    Forbidden {
        /// The function or class.
        name: String,
    },
    /// It is sound, but holds something that is not read here.
    #[error("holds {what}, which is not read here; save it without that, or as plain numbers and text")]
    Unsupported {
        /// What it holds.
        what: String,
    },
    /// It is cut, damaged or no pickle at all.
    #[error("is no sound pickle ({why}, before byte {at}); copy it anew, or save it again")]
    Malformed {
        /// Bytes read when that was seen.
        at: usize,
        /// What is wrong with it.
        why: String,
    },
    /// It would need more than the limits allow.
    #[error("holds too much to be read ({what}); save its weights and settings only")]
    TooLarge {
        /// Which limit it exceeds.
        what: &'static str,
    },
}

impl PickleError {
    /// A fault of the bytes; where it is, the unpickler adds.
    pub(super) fn malformed(why: impl Into<String>) -> Self {
        Self::Malformed { at: 0, why: why.into() }
    }

    pub(super) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }

    /// This error with the position, where it has one.
    pub(super) fn at(self, position: usize) -> Self {
        match self {
            Self::Malformed { why, .. } => Self::Malformed { at: position, why },
            other => other,
        }
    }
}
