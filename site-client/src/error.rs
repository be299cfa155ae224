//! Everything that can stop a site, with the exit code that goes with it. Messages name what, where and the next step;
//! they reach the person at this site only, never the coordinator.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};

use consilium_common::Invalid;
use consilium_common::plan::PlanError;

use crate::link::LinkError;

/// A failure of the site client.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The configuration cannot be used; all problems at once.
    #[error("{file}: {}", problems.join("; "))]
    Config {
        /// The file.
        file: String,
        /// What is wrong with it.
        problems: Vec<String>,
    },
    /// An argument or a combination of arguments makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No certificate yet.
    #[error("this site is not enrolled: {} is missing; run `consilium-site enrol` with the token from the central group", .0.display())]
    NotEnrolled(PathBuf),
    /// Enrolling again would throw a certificate away.
    #[error("this site has a certificate already in {}; move that folder away first if you want to enrol again", .0.display())]
    AlreadyEnrolled(PathBuf),
    /// The coordinator does not want this site, or this site does not believe the coordinator.
    #[error("refused: {0}")]
    Refused(String),
    /// The coordinator could not be reached, or answered with a failure.
    #[error("{0}")]
    Link(LinkError),
    /// Another daemon works on the same state.
    #[error("another consilium-site works with {}; stop it first", .0.display())]
    Busy(PathBuf),
    /// The journal could not be read or written.
    #[error("the journal failed while {doing}: {source}")]
    Journal {
        /// What was being done.
        doing: &'static str,
        /// The database's own words.
        #[source]
        source: sqlx::Error,
    },
    /// The journal is of another version.
    #[error("the journal {} cannot be opened: {source}; a newer consilium-site may have written it", path.display())]
    Schema {
        /// The journal.
        path: PathBuf,
        /// What the migration said.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// Read, write, create ...
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of this site's own state was damaged or changed by somebody.
    #[error("{} {why}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// The plan of a study cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A value from outside breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Slides, networks or training failed.
    #[error("{doing}: {source}")]
    Learning {
        /// While doing what.
        doing: &'static str,
        /// What went wrong, with its next step.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A background computation ended abnormally: our bug.
    #[error("{0} stopped unexpectedly; this is a bug in consilium, please report it with the lines above")]
    Crashed(&'static str),
    /// The work was told to stop; what is finished is kept.
    #[error("stopped")]
    Stopped,
}

impl SiteError {
    /// The process exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } | Self::Usage(_) | Self::NotEnrolled(_) | Self::AlreadyEnrolled(_) => 64,
            Self::Plan(_) | Self::Invalid(_) | Self::Learning { .. } => 64,
            Self::Refused(_) => 77,
            Self::Link(error) => error.exit_code(),
            Self::Busy(_) | Self::Stopped => 75,
            Self::Io { .. } | Self::Damaged { .. } | Self::Journal { .. } | Self::Schema { .. } => 69,
            Self::Crashed(_) => 70,
        }
    }

    /// True where only a person can change something, so that the daemon ends instead of trying again.
    pub fn ends_daemon(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NotEnrolled(_) | Self::Busy(_) | Self::Schema { .. })
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn learning<E: StdError + Send + Sync + 'static>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Learning { doing, source: Box::new(source) }
    }

    pub(crate) fn journal(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Journal { doing, source }
    }
}

impl From<LinkError> for SiteError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Refused(why) => Self::Refused(why),
            other => Self::Link(other),
        }
    }
}
