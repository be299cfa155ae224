//! Why an experiment did not end well, and the exit code of each.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use consilium_common::{Invalid, SiteId};
use consilium_coordinator::CoordinatorError;
use consilium_learning::dataset::DatasetError;
use consilium_learning::engine::EngineError;
use consilium_learning::network::WeightsError;
use consilium_learning::slides::SlideError;
use consilium_learning::training::TrainingError;
use consilium_site_client::SiteError;

use crate::draw::DrawError;
use crate::report::ReportError;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// Options, data or plan cannot be used; the sentence says what to do.
    #[error("{0}")]
    Usage(String),
    /// Another run writes to the folder.
    #[error("{path} is being written by another run; wait for it, or take another --out", path = .0.display())]
    Busy(PathBuf),
    /// A value breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}; check the path, its permissions and the disk", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A JSON file of the experiment cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A picture that a site left cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: image::ImageError,
    },
    /// Slides could not be drawn.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// A data folder cannot be used.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// A slide cannot be read.
    #[error(transparent)]
    Slide(#[from] SlideError),
    /// The networks cannot be computed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A training failed.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// A cell of a comparison could not be computed.
    #[error("cell {name}: {source}; what is finished is kept")]
    Cell {
        /// Its name.
        name: String,
        /// Why.
        source: Box<ExperimentError>,
    },
    /// The first ensemble could not be trained.
    #[error("training the first ensemble: {0}")]
    FirstEnsemble(SiteError),
    /// The coordinator failed.
    #[error("coordinator: {0}")]
    Coordinator(#[from] CoordinatorError),
    /// A site failed.
    #[error("site {site}: {source}")]
    Site {
        /// Which.
        site: SiteId,
        /// Why.
        source: SiteError,
    },
    /// A site or the coordinator ended before the study did.
    #[error("{0} ended before the study did; run.log in the output folder says more")]
    EndedEarly(String),
    /// The study was aborted.
    #[error("the study did not finish: {0}")]
    Unfinished(String),
    /// Weights of a first ensemble cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The report could not be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A person stopped it.
    #[error("stopped; the output folder holds what was finished, and a new run replaces it")]
    Stopped,
    /// A person stopped a comparison.
    #[error("stopped; what was finished is kept, and the same command goes on from there")]
    Paused,
    /// A bug.
    #[error("the comparison broke off; the lines above name the place, please report them")]
    BrokeOff,
}

impl ExperimentError {
    /// For `map_err` on file operations.
    pub fn file(path: &Path) -> impl Fn(std::io::Error) -> Self + '_ {
        move |source| Self::File { path: path.to_owned(), source }
    }

    /// Of a training; one that a person stopped is no failure.
    pub(crate) fn of_training(error: TrainingError) -> Self {
        match error {
            TrainingError::Stopped(_) => Self::Paused,
            error => error.into(),
        }
    }

    /// Of a cell of a comparison; one that a person stopped is no failure.
    pub(crate) fn of_cell(name: &str) -> impl Fn(Self) -> Self + '_ {
        move |error| match error {
            Self::Paused => Self::Paused,
            error => Self::Cell { name: name.to_owned(), source: Box::new(error) },
        }
    }

    /// For `map_err` on JSON.
    pub(crate) fn json(path: &Path, source: serde_json::Error) -> Self {
        Self::Json { path: path.to_owned(), source }
    }

    /// The process exit code: 64 usage, 75 try again later, 70 our bug, 69 something that it needs is not there, full or
    /// damaged, 130 stopped.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Engine(EngineError::NoSuchMember { .. })
            | Self::Draw(DrawError::Invalid(_))
            | Self::Report(ReportError::Figure { .. })
            | Self::EndedEarly(_)
            | Self::Unfinished(_)
            | Self::BrokeOff => 70,
            Self::Engine(_)
            | Self::Training(TrainingError::Engine(_))
            | Self::Draw(_)
            | Self::Report(ReportError::File { .. })
            | Self::Weights(_)
            | Self::Json { .. }
            | Self::Picture { .. } => 69,
            Self::File { source, .. } if is_full(source) => 69,
            Self::Usage(_)
            | Self::Invalid(_)
            | Self::Data(_)
            | Self::Slide(_)
            | Self::Training(_)
            | Self::File { .. } => 64,
            Self::Cell { source, .. } => source.exit_code(),
            Self::Busy(_) => 75,
            Self::Coordinator(error) => error.code().exit_code(),
            Self::Site { source, .. } | Self::FirstEnsemble(source) => source.exit_code(),
            Self::Stopped | Self::Paused => 130,
        }
    }
}

/// Whether there was no more room; what else a file system refuses is a path that the caller gave.
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_fails_is_named_and_one_that_was_stopped_is_no_failure() {
        let diverged = TrainingError::Diverged { step: 3, what: "the loss" };
        let error = ExperimentError::of_cell("seed-1-fold-0-random-5")(diverged.into());
        assert!(error.to_string().starts_with("cell seed-1-fold-0-random-5: training diverged at step 3"), "{error}");
        assert_eq!(error.exit_code(), 64);
        assert!(matches!(ExperimentError::of_cell("a")(ExperimentError::Paused), ExperimentError::Paused));
    }

    #[test]
    fn what_is_not_there_is_neither_usage_nor_our_bug() {
        let of_cell = |error: ExperimentError| ExperimentError::of_cell("a")(error).exit_code();
        let of_file = |kind: ErrorKind| ExperimentError::file(Path::new("p"))(kind.into()).exit_code();
        assert_eq!(
            (of_cell(EngineError::NotBuilt.into()), of_cell(TrainingError::Engine("none".into()).into())),
            (69, 69)
        );
        assert_eq!((of_file(ErrorKind::StorageFull), of_file(ErrorKind::NotFound)), (69, 64));
        assert_eq!(of_cell(EngineError::NoSuchMember { member: 1, members: 1 }.into()), 70);
    }
}
