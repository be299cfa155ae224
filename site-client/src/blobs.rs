//! Content-addressed files: members that came and deltas that go, each under its BLAKE3. A file that comes grows as
//! `.part` and gets its name only when it is whole and its digest right.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use consilium_common::{Digest, Invalid};

use crate::error::SiteError;
use crate::files;
use crate::link::{Link, LinkError, Size};

/// A folder of blobs.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    pub(crate) fn open(dir: &Path) -> Result<Self, SiteError> {
        files::create_dir(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Keeps these bytes; answers their address.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, SiteError> {
        let digest = Digest::of(bytes);
        if !self.has(&digest) {
            files::write_atomic(&self.path(&digest), bytes, files::SECRET)?;
        }
        Ok(digest)
    }

    /// Fetches a blob, for as long as it takes, resuming after every interruption and every restart.
    pub(crate) async fn fetch(
        &self,
        link: &Link,
        digest: &Digest,
        size: Size,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<PathBuf, SiteError> {
        let path = self.path(digest);
        if path.is_file() {
            return Ok(path);
        }
        let part = self.dir.join(format!("{digest}.part"));
        let fetched = link
            .patience
            .until_done("fetching the ensemble", async || link.download(digest, size, &part, seen).await)
            .await;
        if let Err(LinkError::Content(invalid)) = fetched {
            // The part may be of no use to anybody: begin afresh next time.
            files::remove_file(&part)?;
            return Err(invalid.into());
        }
        fetched?;
        let (done, digest) = (part.clone(), *digest);
        let found = tokio::task::spawn_blocking(move || hash_file(&done)).await;
        let found = found.map_err(|_| SiteError::Crashed("checking a digest"))??;
        if found != digest {
            files::remove_file(&part)?;
            let why = format!("what came has {}, not {}; it is fetched again", found.short(), digest.short());
            return Err(Invalid::new("digest of a downloaded file", why).into());
        }
        fs::rename(&part, &path).map_err(SiteError::io("rename", &part))?;
        Ok(path)
    }

    /// Removes every blob and part that is not named.
    pub(crate) fn keep_only(&self, keep: &BTreeSet<Digest>) -> Result<(), SiteError> {
        let entries = fs::read_dir(&self.dir).map_err(SiteError::io("list", &self.dir))?;
        for entry in entries {
            let path = entry.map_err(SiteError::io("list", &self.dir))?.path();
            let name = path.file_stem().and_then(|n| n.to_str()).and_then(|n| n.parse::<Digest>().ok());
            if name.is_some_and(|digest| !keep.contains(&digest)) {
                files::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// BLAKE3 of a file, read in pieces.
pub(crate) fn hash_file(path: &Path) -> Result<Digest, SiteError> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).map_err(SiteError::io("read", path))?;
    hasher.update_reader(file).map_err(SiteError::io("read", path))?;
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let (a, b) = (blobs.put(b"a").unwrap(), blobs.put(b"b").unwrap());
        fs::write(dir.path().join(format!("{b}.part")), b"x").unwrap();
        blobs.keep_only(&BTreeSet::from([a])).unwrap();
        assert!(blobs.has(&a) && !blobs.has(&b));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(hash_file(&blobs.path(&a)).unwrap(), a);
    }
}
