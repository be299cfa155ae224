//! Blobs by content: `<digest>` is there only when all its bytes are on disk and match the digest. What is on its way lies
//! in a part file of its uploader, grows by appended chunks, and goes on after any interruption where it stopped.
//!
//! All functions block; callers in async code go through `spawn_blocking`. A part belongs to one uploader, so nobody can
//! spoil what another one sends.

pub(crate) mod member;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use consilium_common::{Digest, ErrorCode};
use tempfile::NamedTempFile;

use crate::error::{CoordinatorError, Result, While};

/// A part is flushed to disk whenever it has grown by this much: a power cut costs seconds, not the transfer.
const SYNC_BYTES: u64 = 8 << 20;
/// What is read at once to hash a file.
const HASH_BUFFER: usize = 1 << 20;
const PARTS: &str = "parts";

/// A folder of blobs.
#[derive(Debug)]
pub(crate) struct BlobDir {
    root: PathBuf,
    /// The part that each (uploader, digest) writes to. The number is that of the newest writer: an older one, whose
    /// connection is dead without knowing, finds itself replaced.
    writers: Mutex<BTreeMap<(String, Digest), Newest>>,
}

/// The number of the newest writer of a part; held while a chunk is written.
type Newest = Arc<Mutex<u64>>;

/// One uploader's right to append to one part.
#[derive(Debug)]
pub(crate) struct PartWriter {
    path: PathBuf,
    digest: Digest,
    ticket: u64,
    newest: Newest,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes that are there.
    pub(crate) have: u64,
    /// True when all are there and match.
    pub(crate) complete: bool,
}

impl BlobDir {
    /// Opens the folder, makes it if it is not there, and removes half-made files of an earlier run (not the parts).
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let parts = root.join(PARTS);
        let doing = || format!("opening the blob folder {}", root.display());
        fs::create_dir_all(&parts).doing(doing)?;
        for entry in fs::read_dir(&parts).doing(doing)? {
            let path = entry.doing(doing)?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                fs::remove_file(&path).doing(doing)?;
            }
        }
        Ok(Self { root: root.to_owned(), writers: Mutex::default() })
    }

    /// Where a complete blob lies.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(&name[..2]).join(name)
    }

    fn part_path(&self, owner: &str, digest: &Digest) -> PathBuf {
        self.root.join(PARTS).join(format!("{owner}.{digest}.part"))
    }

    /// Bytes of a complete blob, `None` if it is not there.
    pub(crate) fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        len_of(&self.path(digest))
    }

    /// How far `owner` is with a blob.
    pub(crate) fn extent(&self, owner: &str, digest: &Digest) -> Result<Extent> {
        if let Some(have) = self.size(digest)? {
            return Ok(Extent { have, complete: true });
        }
        let have = len_of(&self.part_path(owner, digest))?.unwrap_or(0);
        Ok(Extent { have, complete: false })
    }

    /// Opens the part of `owner` for writing; an older writer of the same part is cut off.
    pub(crate) fn writer(&self, owner: &str, digest: &Digest) -> PartWriter {
        let key = (owner.to_owned(), *digest);
        let newest = Arc::clone(self.writers.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let ticket = {
            let mut number = newest.lock().unwrap_or_else(PoisonError::into_inner);
            *number += 1;
            *number
        };
        PartWriter { path: self.part_path(owner, digest), digest: *digest, ticket, newest }
    }

    /// Ends a writer's bookkeeping; the part stays.
    pub(crate) fn release(&self, owner: &str, writer: &PartWriter) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = *writer.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest == writer.ticket {
            writers.remove(&(owner.to_owned(), writer.digest));
        }
    }

    /// Turns a full part into the blob. A part whose bytes do not match is dropped.
    pub(crate) fn complete(&self, writer: &PartWriter) -> Result<()> {
        // Whoever holds the newest ticket: a full part is a full part.
        let _turn = writer.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let doing = || format!("completing blob {}", writer.digest.short());
        if self.size(&writer.digest)?.is_some() {
            return self.discard(&writer.path);
        }
        let file = File::open(&writer.path).doing(doing)?;
        file.sync_all().doing(doing)?;
        if hash(file).doing(doing)? != writer.digest {
            fs::remove_file(&writer.path).doing(doing)?;
            let why = format!("the bytes of blob {} do not match its digest; upload it again", writer.digest.short());
            return Err(CoordinatorError::refused(ErrorCode::Unavailable, why));
        }
        self.adopt(&writer.path, &writer.digest).doing(doing)
    }

    fn discard(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.doing(|| format!("removing {}", path.display())),
        }
    }

    fn adopt(&self, from: &Path, digest: &Digest) -> io::Result<()> {
        let to = self.path(digest);
        // A blob's path always has the two-digit folder as its parent.
        let folder = to.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder)?;
        fs::rename(from, &to)?;
        File::open(folder)?.sync_all()
    }

    /// A new file whose digest is not known yet.
    pub(crate) fn create(&self) -> Result<NewBlob> {
        let file = tempfile::Builder::new().suffix(".tmp").tempfile_in(self.root.join(PARTS));
        let file = file.doing(|| format!("creating a blob in {}", self.root.display()))?;
        Ok(NewBlob { file, hasher: blake3::Hasher::new(), bytes: 0 })
    }

    /// Puts a finished new file into its place.
    pub(crate) fn commit(&self, blob: NewBlob) -> Result<(Digest, u64)> {
        let digest = Digest::from(blob.hasher.finalize());
        let doing = || format!("storing blob {}", digest.short());
        blob.file.as_file().sync_all().doing(doing)?;
        let path = blob.file.into_temp_path();
        self.adopt(&path, &digest).doing(doing)?;
        // The file has moved; there is nothing left to delete.
        let _ = path.keep();
        Ok((digest, blob.bytes))
    }

    /// Stores a small blob.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let mut blob = self.create()?;
        blob.write(bytes)?;
        Ok(self.commit(blob)?.0)
    }

    /// Reads a small blob whole; one of more than `limit` bytes is refused.
    pub(crate) fn read_small(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>> {
        let Some(size) = self.size(digest)? else { return Err(not_here(digest)) };
        if size > limit as u64 {
            let why = format!("blob {} has {size} bytes, more than the {limit} that it may have", digest.short());
            return Err(CoordinatorError::refused(ErrorCode::InvalidInput, why));
        }
        fs::read(self.path(digest)).doing(|| format!("reading blob {}", digest.short()))
    }

    /// Opens a complete blob for reading from `offset`.
    pub(crate) fn open_at(&self, digest: &Digest, offset: u64) -> Result<File> {
        let doing = || format!("reading blob {}", digest.short());
        let mut file = File::open(self.path(digest)).doing(doing)?;
        file.seek(SeekFrom::Start(offset)).doing(doing)?;
        Ok(file)
    }

    /// Deletes what `owner` has of a blob, and the blob itself if nobody refers to it.
    pub(crate) fn remove(&self, owner: &str, digest: &Digest, blob_too: bool) -> Result<()> {
        let blob = blob_too.then(|| self.path(digest));
        [Some(self.part_path(owner, digest)), blob].iter().flatten().try_for_each(|path| self.discard(path))
    }
}

/// A blob that is not complete here.
pub(crate) fn not_here(digest: &Digest) -> CoordinatorError {
    let why = format!("blob {} is not complete on the coordinator; upload it first", digest.short());
    CoordinatorError::refused(ErrorCode::NotFound, why)
}

impl PartWriter {
    /// Waits for a chunk of another writer to end; refuses if a newer writer has taken over.
    fn turn(&self) -> Result<std::sync::MutexGuard<'_, u64>> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if *newest == self.ticket {
            return Ok(newest);
        }
        let why = format!("another connection goes on with blob {}; this one ends", self.digest.short());
        Err(CoordinatorError::refused(ErrorCode::Unavailable, why))
    }

    /// Appends a chunk that belongs at `offset`; answers how many bytes are there now.
    pub(crate) fn append(&self, offset: u64, data: &[u8]) -> Result<u64> {
        let _turn = self.turn()?;
        let doing = || format!("writing blob {}", self.digest.short());
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path).doing(doing)?;
        let have = file.metadata().doing(doing)?.len();
        if have != offset {
            let why = format!(
                "blob {} has {have} bytes here and the chunk starts at {offset}; ask Stat and go on from there",
                self.digest.short()
            );
            return Err(CoordinatorError::refused(ErrorCode::Unavailable, why));
        }
        file.write_all(data).doing(doing)?;
        let now = have + data.len() as u64;
        if now / SYNC_BYTES != have / SYNC_BYTES {
            file.sync_data().doing(doing)?;
        }
        Ok(now)
    }

    /// Flushes what has been appended; answers how many bytes are durable.
    pub(crate) fn flush(&self) -> Result<u64> {
        let _turn = self.turn()?;
        let doing = || format!("writing blob {}", self.digest.short());
        match File::open(&self.path) {
            Ok(file) => {
                file.sync_data().doing(doing)?;
                Ok(file.metadata().doing(doing)?.len())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error).doing(doing),
        }
    }
}

/// A blob that is being written; dropped without `commit` it leaves nothing.
pub(crate) struct NewBlob {
    file: NamedTempFile,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl NewBlob {
    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).doing(|| "writing a new blob".into())
    }
}

fn len_of(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("looking at {}", path.display())),
    }
}

/// BLAKE3 of a whole file.
pub(crate) fn hash(file: File) -> io::Result<Digest> {
    let mut reader = BufReader::with_capacity(HASH_BUFFER, file);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; HASH_BUFFER];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            n => hasher.update(&buffer[..n]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(result: Result<u64>) -> ErrorCode {
        result.unwrap_err().code()
    }

    #[test]
    fn an_upload_resumes_after_a_restart_and_completes() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..100_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let digest = Digest::of(&bytes);
        {
            let blobs = BlobDir::open(dir.path()).unwrap();
            let writer = blobs.writer("site-a", &digest);
            assert_eq!(writer.append(0, &bytes[..40_000]).unwrap(), 40_000);
        }
        let blobs = BlobDir::open(dir.path()).unwrap();
        assert_eq!(blobs.extent("site-a", &digest).unwrap(), Extent { have: 40_000, complete: false });
        assert_eq!(blobs.extent("site-b", &digest).unwrap().have, 0, "a part belongs to its uploader");
        let writer = blobs.writer("site-a", &digest);
        assert_eq!(refusal(writer.append(0, &bytes[..10])), ErrorCode::Unavailable);
        assert_eq!(writer.append(40_000, &bytes[40_000..]).unwrap(), 100_000);
        blobs.complete(&writer).unwrap();
        assert_eq!(blobs.extent("site-a", &digest).unwrap(), Extent { have: 100_000, complete: true });
        assert_eq!(fs::read(blobs.path(&digest)).unwrap(), bytes);
    }

    #[test]
    fn a_newer_connection_cuts_off_an_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(dir.path()).unwrap();
        let digest = Digest::of(b"x");
        let old = blobs.writer("site-a", &digest);
        let new = blobs.writer("site-a", &digest);
        assert_eq!(refusal(old.append(0, b"x")), ErrorCode::Unavailable);
        assert_eq!(new.append(0, b"x").unwrap(), 1);
        blobs.release("site-a", &old);
        assert!(blobs.complete(&new).is_ok());
    }

    #[test]
    fn wrong_bytes_never_become_a_blob() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(dir.path()).unwrap();
        let digest = Digest::of(b"right");
        let writer = blobs.writer("operator", &digest);
        writer.append(0, b"wrong").unwrap();
        assert!(blobs.complete(&writer).is_err());
        assert_eq!(blobs.extent("operator", &digest).unwrap(), Extent { have: 0, complete: false });
    }

    #[test]
    fn the_same_content_is_one_blob() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(dir.path()).unwrap();
        let first = blobs.put(b"manifest").unwrap();
        assert_eq!(blobs.put(b"manifest").unwrap(), first);
        assert_eq!(blobs.read_small(&first, 100).unwrap(), b"manifest");
        assert_eq!(blobs.read_small(&first, 3).unwrap_err().code(), ErrorCode::InvalidInput);
        assert_eq!(fs::read_dir(dir.path().join(PARTS)).unwrap().count(), 0);
    }
}
