//! The two kinds of failure that every part shares: a value that breaks a rule (`Invalid`), and the short list of codes
//! by which a failure crosses the wire and becomes an exit code.

use serde::{Deserialize, Serialize};

/// A value from outside broke a rule. `what` names the field, `why` the rule and the next step, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{what}: {why}")]
pub struct Invalid {
    /// The field, file or argument at fault.
    pub what: String,
    /// Which rule it broke and what would be accepted.
    pub why: String,
}

impl Invalid {
    /// Builds the error from the field and the rule that it broke.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

/// Why a call failed, in terms that a caller can act on. The wire and the exit codes are derived from this, in one
/// place each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request is malformed or breaks a limit; sending it again will not help.
    InvalidInput,
    /// The caller has no certificate, or one that is not known.
    Unauthenticated,
    /// The caller is known and may not do this.
    Forbidden,
    /// The named study, site, round or blob does not exist.
    NotFound,
    /// Another value was accepted before.
    Conflict,
    /// The request is right but the state has moved on (a closed round, an aborted study).
    OutOfDate,
    /// Something is full or busy; try again later.
    Unavailable,
    /// A bug or a broken disk on the answering side.
    Internal,
}

impl ErrorCode {
    /// True where the same request may succeed later without anybody changing anything.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::Internal)
    }

    /// The process exit code (sysexits where one fits): 64 usage or configuration, 69 unavailable, 70 our bug,
    /// 77 refused.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::InvalidInput | Self::NotFound | Self::Conflict | Self::OutOfDate => 64,
            Self::Unauthenticated | Self::Forbidden => 77,
            Self::Unavailable => 69,
            Self::Internal => 70,
        }
    }
}
