//! What can go wrong in a scan.

use std::path::{Path, PathBuf};

use consilium_common::Mpp;

use crate::engine::EngineError;
use crate::slides::SlideError;
use crate::uncertainty::UncertaintyMap;

/// A scan that failed; other slides can go on.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The slide could not be read.
    #[error(transparent)]
    Slide(#[from] SlideError),
    /// The networks could not be computed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Ensemble and task do not fit.
    #[error("the ensemble has {ensemble} classes and the task has {task}; use an ensemble that was made for this task")]
    Classes {
        /// Classes of the ensemble.
        ensemble: usize,
        /// Classes of the task.
        task: usize,
    },
    /// A map was asked for that needs every member's own answer.
    #[error("a scan keeps no map of {0:?}, which needs every member's own answer; use another rule")]
    NoMap(UncertaintyMap),
    /// There is nothing to predict with.
    #[error("the ensemble has no members; use one that was trained")]
    NoMembers,
    /// The network cannot take tiles of this size.
    #[error(
        "scan.tile_px is {tile} and must be a multiple of {stride}, the network's total stride; change it in the plan"
    )]
    Tile {
        /// Side of a tile.
        tile: u32,
        /// What it must be a multiple of.
        stride: u32,
    },
    /// The slide has more pixels at the plan's spacing than a result may hold.
    #[error(
        "the slide has {width} x {height} pixels at {spacing}, more than can be scanned at once; check its mpp, or use a \
         coarser spacing in the plan"
    )]
    TooLarge {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The plan's spacing.
        spacing: Mpp,
    },
    /// A network gave values that are no probabilities, or no logits.
    #[error("member {member} of the ensemble gives values that mean nothing; its training has diverged")]
    NotProbabilities {
        /// The member.
        member: usize,
    },
    /// A network gave an output of another size than its input asks for.
    #[error("member {member} of the ensemble gave {got} values where {expected} were expected; this is a bug")]
    Shape {
        /// The member.
        member: usize,
        /// Values that the batch asks for.
        expected: usize,
        /// Values that came.
        got: usize,
    },
    /// The caller told the scan to stop; what was finished is kept.
    #[error("the scan was stopped; what was finished is kept, scan again to go on")]
    Stopped,
    /// The maps of a scan that did not come to its end.
    #[error("the scan of this slide is not finished; scan it again")]
    Unfinished,
    /// The maps of a scan cannot be read back.
    #[error("{path}: the maps of this scan cannot be read ({why}); scan the slide again")]
    Maps {
        /// The file.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// The system gave no threads.
    #[error("no threads could be started ({0}); close other programs or raise the limit of processes")]
    Threads(String),
    /// The merging thread ended before its work was done.
    #[error("merging the tiles stopped before its end; this is a bug, the log above names the place")]
    MergerStopped,
    /// The reading thread ended before its work was done.
    #[error("reading the slide stopped before its end; this is a bug, the log above names the place")]
    ReaderStopped,
    /// A name that cannot be part of a file name.
    #[error(
        "`{0}` cannot be used in a file name; give the slide a name without / and \\ that does not begin with a dot"
    )]
    Name(String),
    /// An output could not be written.
    #[error("cannot write {path}: {why}; check the folder's permissions and free space")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        why: String,
    },
}

impl ScanError {
    pub(super) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Write { path: path.to_owned(), why: source.to_string() }
    }
}
