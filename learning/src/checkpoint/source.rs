//! The open file of a checkpoint: bytes by place, never more than it has.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, PickleError};
use crate::slides::SharedFile;

/// A file, its length and its name.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: SharedFile,
    len: u64,
}

/// A part of a file that lies within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) at: u64,
    pub(super) bytes: u64,
}

/// What is wrong, without the file's name.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    Pickle(PickleError),
    Format(String),
}

impl Fault {
    pub(super) fn format(why: impl Into<String>) -> Self {
        Self::Format(why.into())
    }

    /// The error of a file.
    pub(super) fn of(self, path: &Path) -> CheckpointError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => CheckpointError::Io { path, source },
            Self::Pickle(source) => CheckpointError::Pickle { path, source },
            Self::Format(why) => CheckpointError::Format { path, why },
        }
    }
}

impl From<PickleError> for Fault {
    fn from(error: PickleError) -> Self {
        Self::Pickle(error)
    }
}

impl Source {
    /// Opens a file of at most `max` bytes.
    pub(super) fn open(path: &Path, max: u64) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.to_owned(), source };
        // A pipe would never answer, so this is asked before it is opened.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(io(io::Error::other("it is no plain file")));
        }
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        if len > max {
            return Err(CheckpointError::TooLong { path: path.to_owned(), bytes: len, max });
        }
        Ok(Self { path: path.to_owned(), file: SharedFile::new(file), len })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// A part, if it lies within the file.
    pub(super) fn extent(&self, at: u64, bytes: u64) -> Result<Extent, Fault> {
        match at.checked_add(bytes) {
            Some(end) if end <= self.len => Ok(Extent { at, bytes }),
            _ => {
                let len = self.len;
                Err(Fault::format(format!("{bytes} bytes from byte {at} are beyond its {len} bytes, so it is cut")))
            }
        }
    }

    /// The bytes of a part; the caller has bounded their number.
    pub(super) fn read(&self, at: u64, bytes: u64) -> Result<Vec<u8>, Fault> {
        let extent = self.extent(at, bytes)?;
        let len =
            usize::try_from(extent.bytes).map_err(|_| Fault::format("it is longer than this machine's memory"))?;
        self.file.read_at(extent.at, len).map_err(Fault::Io)
    }
}
