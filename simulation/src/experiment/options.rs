//! What a person may choose about an experiment, checked before anything is written.

use std::path::PathBuf;

use consilium_common::Invalid;
use consilium_common::plan::Score;

/// Where the slides come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Drawn by this program.
    Drawn,
    /// Data folders that exist, one a site.
    Folders {
        /// The folder that holds the sites' folders.
        data: PathBuf,
        /// The central site's name.
        central: String,
    },
}

/// The choices of one experiment. What is absent takes the default of `demo_plan`.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where the slides come from.
    pub source: Source,
    /// The folder for everything that is written.
    pub out: PathBuf,
    /// The seed of everything random.
    pub seed: u64,
    /// Sites that take part, the central one included.
    pub sites: Option<usize>,
    /// Rounds of learning.
    pub rounds: Option<u32>,
    /// Patches that a site is asked to correct in a round.
    pub budget: Option<u32>,
    /// How patches are chosen.
    pub acquisition: Option<Score>,
    /// Networks in the ensemble.
    pub members: Option<usize>,
    /// Less of everything.
    pub quick: bool,
    /// A plan of one's own instead of the built-in one.
    pub plan: Option<PathBuf>,
    /// Keep slides, certificates and the state of coordinator and sites.
    pub keep: bool,
}

impl Options {
    /// The most sites of one run: beyond this one machine is the wrong place.
    pub const MAX_SITES: usize = 40;

    /// Everything by default, with the seed 1.
    pub fn new(source: Source, out: PathBuf) -> Self {
        Self {
            source,
            out,
            seed: 1,
            sites: None,
            rounds: None,
            budget: None,
            acquisition: None,
            members: None,
            quick: false,
            plan: None,
            keep: false,
        }
    }

    /// Checks what the plan does not check.
    pub fn validate(&self) -> Result<(), Invalid> {
        if let Some(sites) = self.sites
            && !(2..=Self::MAX_SITES).contains(&sites)
        {
            let why = format!("{sites} must be 2 to {}: a central site and at least one other", Self::MAX_SITES);
            return Err(Invalid::new("--sites", why));
        }
        Ok(())
    }
}
