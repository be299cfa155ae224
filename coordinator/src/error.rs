//! What can go wrong in a coordinator, apart: outcomes of the protocol (`Refused`), which the caller caused and can act
//! on, and failures of the house (disk, database, network), after which the same call may be tried again.

use std::io;
use std::path::PathBuf;

use consilium_common::plan::PlanError;
use consilium_common::round::Refusal;
use consilium_common::{ErrorCode, Invalid};

/// A failure of the coordinator or of a call to it.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The request cannot be granted; the sentence says why and what to do.
    #[error("{message}")]
    Refused {
        /// The kind.
        code: ErrorCode,
        /// One sentence with the next step.
        message: String,
    },
    /// A value breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A plan cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// `init` on a folder that already holds a coordinator.
    #[error(
        "{path} already exists and is not overwritten; choose another --data-dir, or start what is there with `serve`"
    )]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// A folder that holds no coordinator.
    #[error("there is no coordinator in {path}; create one with `consilium-coordinator init --data-dir {path}`")]
    NotInitialised {
        /// The folder.
        path: PathBuf,
    },
    /// Another process serves the same folder.
    #[error("another coordinator is already running on {path}; stop it first")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The database was written by a newer program.
    #[error("{path} was written by a newer version of consilium-coordinator (schema {found}); install that version")]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
    },
    /// A file could not be read or written.
    #[error("{doing}: {source}")]
    Io {
        /// While doing what.
        doing: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The database did not do what it was asked.
    #[error("{doing}: {source}")]
    Store {
        /// While doing what.
        doing: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// Something of the coordinator's own cannot be used: a key, a certificate, a generation; or a computation crashed.
    #[error("{doing}: {why}")]
    Internal {
        /// While doing what.
        doing: String,
        /// What the library said.
        why: String,
    },
    /// The coordinator is on its way down.
    #[error("the coordinator is shutting down; try again in a moment")]
    Closing,
}

/// Result of this crate.
pub type Result<T, E = CoordinatorError> = std::result::Result<T, E>;

impl CoordinatorError {
    /// A refusal with its sentence.
    pub fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    pub(crate) fn internal(doing: impl Into<String>, why: impl ToString) -> Self {
        Self::Internal { doing: doing.into(), why: why.to_string() }
    }

    /// What the caller can do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Invalid(_) | Self::Plan(_) | Self::Newer { .. } => ErrorCode::InvalidInput,
            Self::Exists { .. } => ErrorCode::Conflict,
            Self::NotInitialised { .. } => ErrorCode::NotFound,
            Self::Locked { .. } | Self::Io { .. } | Self::Store { .. } | Self::Closing => ErrorCode::Unavailable,
            Self::Internal { .. } => ErrorCode::Internal,
        }
    }

    /// True for failures of the house, which belong in its own log with all details.
    pub fn is_infrastructure(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Store { .. } | Self::Internal { .. })
    }
}

impl From<Refusal> for CoordinatorError {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal.code, refusal.message)
    }
}

/// Names what was being done when the system said no. A full disk is said in words.
pub(crate) trait While<T, What> {
    fn doing(self, what: What) -> Result<T>;
}

impl<T, What: FnOnce() -> String> While<T, What> for io::Result<T> {
    fn doing(self, what: What) -> Result<T> {
        self.map_err(|source| {
            let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            let hint = if full { " (the disk is full; nothing is lost, it goes on when there is room)" } else { "" };
            CoordinatorError::Io { doing: format!("{}{hint}", what()), source }
        })
    }
}

impl<T> While<T, &'static str> for std::result::Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|source| CoordinatorError::Store { doing, source })
    }
}
