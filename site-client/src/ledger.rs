//! The ledger: one line of JSON for everything that left this site, for hospital IT to read. A line is written, and for
//! content synced to the disk, *before* the bytes go, so nothing can leave unlisted.
//!
//! Not listed is the empty question "is there something to do?", which carries no content at all.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use consilium_common::{Digest, RoundNumber, StudyId};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::SiteError;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, RFC 3339.
    pub time: String,
    /// For which study; absent for enrolment.
    pub study: Option<StudyId>,
    /// For which round; absent where there is none.
    pub round: Option<RoundNumber>,
    /// What: `update`, `evaluation`, `progress`, `delta of member 3`, `join`, `question about blobs`, `certificate request`.
    pub what: String,
    /// Bytes of content.
    pub bytes: u64,
    /// BLAKE3 of the content.
    pub digest: Digest,
}

/// The ledger file, open for appending.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: Mutex<File>,
}

impl Ledger {
    /// Opens the ledger, or begins it. A line that a power cut tore in two is closed, so that the next stands alone.
    pub fn open(path: &Path) -> Result<Self, SiteError> {
        let open = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
            if file.metadata()?.len() > 0 {
                let mut last = [0u8];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                if last != *b"\n" {
                    file.write_all(b"\n")?;
                }
            }
            Ok(file)
        };
        let file = open().map_err(SiteError::io("open the ledger", path))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    /// Writes one line; `durable` waits for the disk.
    pub(crate) fn write(
        &self,
        about: Option<(&StudyId, Option<RoundNumber>)>,
        what: impl Into<String>,
        bytes: u64,
        digest: Digest,
        durable: bool,
    ) -> std::io::Result<()> {
        let entry = Entry {
            time: clock::text(clock::now()),
            study: about.map(|(study, _)| study.clone()),
            round: about.and_then(|(_, round)| round),
            what: what.into(),
            bytes,
            digest,
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        file.write_all(&line)?;
        if durable { file.sync_data() } else { Ok(()) }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The last lines, oldest first; a damaged line is left out.
pub fn tail(path: &Path, lines: usize) -> Result<Vec<Entry>, SiteError> {
    const WINDOW: u64 = 256 << 10;
    let mut file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(SiteError::io("read", path))?,
    };
    let mut read = || -> std::io::Result<Vec<u8>> {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(WINDOW).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(SiteError::io("read", path))?;
    let mut found: Vec<Entry> =
        bytes.split(|&b| b == b'\n').rev().filter_map(|line| serde_json::from_slice(line).ok()).take(lines).collect();
    found.reverse();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_harms_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        let study: StudyId = "s".parse().unwrap();
        let write = |what: &str| {
            let ledger = Ledger::open(&path).unwrap();
            ledger.write(Some((&study, Some(RoundNumber(1)))), what, 3, Digest::of(b"abc"), true).unwrap();
        };
        write("update");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"time\":\"20").unwrap();
        write("evaluation");
        let names: Vec<String> = tail(&path, 10).unwrap().into_iter().map(|e| e.what).collect();
        assert_eq!(names, ["update", "evaluation"]);
        assert_eq!(tail(&path, 1).unwrap()[0].what, "evaluation");
    }
}
