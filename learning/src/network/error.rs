//! What can be wrong with a member file or a bundle: one sentence each, with the file, the cause and the next step.

use std::path::PathBuf;

use consilium_common::Invalid;

/// A member file or a bundle that cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The bytes are no safetensors file of a size that is accepted.
    #[error("{file} is not a usable safetensors file: {why}; fetch or export it again")]
    Format {
        /// The file, or what the bytes are.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// A tensor of the architecture is not there.
    #[error("{file} has no tensor `{name}`, which the architecture needs; it belongs to another network")]
    Missing {
        /// The file.
        file: String,
        /// The tensor's name.
        name: String,
    },
    /// A tensor is not part of the architecture.
    #[error("{file} has a tensor `{name}` that the architecture does not know; it belongs to another network")]
    Unexpected {
        /// The file.
        file: String,
        /// The tensor's name.
        name: String,
    },
    /// A tensor has another shape or number type.
    #[error("tensor `{name}` of {file} is {found}, the architecture needs {needed}; it belongs to another network")]
    Kind {
        /// The file.
        file: String,
        /// The tensor's name.
        name: String,
        /// Number type and shape as found.
        found: String,
        /// Number type and shape as needed.
        needed: String,
    },
    /// A value is NaN, infinite or absurdly large.
    #[error("tensor `{name}` of {file} holds {value}, which is no weight of a network that learned; retrain it")]
    Value {
        /// The file.
        file: String,
        /// The tensor's name.
        name: String,
        /// The value.
        value: f32,
    },
    /// The file's bytes are not those that the manifest names.
    #[error("{file} is not the file that the manifest names ({why}); fetch or export the bundle again")]
    Digest {
        /// The file.
        file: String,
        /// Which figure differs.
        why: String,
    },
    /// The manifest, the architecture or the number of members is at fault.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}
