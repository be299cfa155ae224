//! One open file that several threads read at once, by position; and what kind of file it is, by its first bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::SlideError;

/// A kind of image file that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tiff,
    Png,
    Jpeg,
}

/// Tells the kind of a file from its content; names lie.
pub(super) fn kind(path: &Path) -> Result<Kind, SlideError> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(8).read_to_end(&mut head))
        .map_err(|e| SlideError::read(path, "first bytes", e))?;
    let starts = |magic: &[u8]| head.starts_with(magic);
    if starts(b"II*\0") || starts(b"MM\0*") || starts(b"II+\0") || starts(b"MM\0+") {
        Ok(Kind::Tiff)
    } else if starts(b"\x89PNG\r\n\x1a\n") {
        Ok(Kind::Png)
    } else if starts(b"\xff\xd8\xff") {
        Ok(Kind::Jpeg)
    } else if head.is_empty() {
        Err(SlideError::Truncated { path: path.to_owned(), what: "first byte".to_owned() })
    } else {
        Err(SlideError::UnknownFormat { path: path.to_owned() })
    }
}

/// A file read by position, without a shared cursor where the system can do that.
#[derive(Debug)]
pub(super) struct SharedFile {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
}

impl SharedFile {
    #[cfg(unix)]
    pub(super) fn new(file: File) -> Self {
        Self { file }
    }

    #[cfg(unix)]
    pub(super) fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    #[cfg(not(unix))]
    pub(super) fn new(file: File) -> Self {
        Self { file: std::sync::Mutex::new(file) }
    }

    #[cfg(not(unix))]
    pub(super) fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        use std::io::{Seek, SeekFrom};
        let mut bytes = vec![0; len];
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
