//! Where things lie under the state folder. Every name is made from ids, digests and numbers; none comes from outside.

use std::path::{Path, PathBuf};

use consilium_common::{RoundNumber, StudyId};

/// The state folder of one site.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below this folder.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Key, certificate and CA.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal.sqlite")
    }

    /// Held by the running daemon.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// One line for everything that left.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger.jsonl")
    }

    /// Content-addressed files: members that came, deltas that go.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// What a round leaves for people.
    pub fn round(&self, study: &StudyId, round: RoundNumber) -> PathBuf {
        self.root.join("studies").join(study.as_str()).join(format!("round-{round}"))
    }

    /// Candidate patches of scanned slides, until the selection is made.
    pub(crate) fn scans(&self, study: &StudyId, round: RoundNumber) -> PathBuf {
        self.round(study, round).join("scans")
    }

    /// Maps of held-out slides, until the evaluation is finished.
    pub(crate) fn evaluations(&self, study: &StudyId, round: RoundNumber) -> PathBuf {
        self.round(study, round).join("evaluations")
    }

    /// Scans and evaluations of other rounds of a study: of rounds that were put aside, they would stay for ever.
    pub(crate) fn scratch_of_other_rounds(&self, study: &StudyId, round: RoundNumber) -> Vec<PathBuf> {
        let this = self.round(study, round);
        let rounds = std::fs::read_dir(this.parent().unwrap_or(&self.root)).into_iter().flatten().flatten();
        let others = rounds.map(|entry| entry.path()).filter(|path| *path != this);
        others
            .flat_map(|path| ["scans", "evaluations"].map(|name| path.join(name)))
            .filter(|path| path.is_dir())
            .collect()
    }
}
