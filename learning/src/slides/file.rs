//! One open file that several threads read at once, by position; and what kind of file or folder it is, by its content.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use consilium_common::limits;

use super::error::SlideError;

/// A kind of image file or folder that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tiff,
    Png,
    Jpeg,
    /// An instance, or a folder of them.
    Dicom,
    /// A folder of arrays.
    Zarr,
}

/// Names of which a Zarr folder has one: groups of version 2, their attributes, and version 3.
const ZARR_FILES: [&str; 3] = [".zgroup", ".zattrs", "zarr.json"];
/// The word at the 128th byte of a DICOM file.
const DICOM_MAGIC: (usize, &[u8]) = (128, b"DICM");

/// Tells the kind of a file or folder from its content; names lie.
pub(super) fn kind(path: &Path) -> Result<Kind, SlideError> {
    if path.is_dir() {
        return folder_kind(path);
    }
    refuse_device(path)?;
    let head = head(path).map_err(|e| SlideError::read(path, "first bytes", e))?;
    let starts = |magic: &[u8]| head.starts_with(magic);
    if is_dicom_head(&head) {
        Ok(Kind::Dicom)
    } else if starts(b"II*\0") || starts(b"MM\0*") || starts(b"II+\0") || starts(b"MM\0+") {
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

/// Refuses what is there and neither a file nor a folder: a pipe would never answer, a device never end.
pub(super) fn refuse_device(path: &Path) -> Result<(), SlideError> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            let source = io::Error::other("it is a pipe or a device, neither a file nor a folder");
            Err(SlideError::Unreadable { path: path.to_owned(), source })
        }
        // What is missing or may not be seen says so when it is opened.
        _ => Ok(()),
    }
}

fn folder_kind(path: &Path) -> Result<Kind, SlideError> {
    if is_zarr(path) {
        return Ok(Kind::Zarr);
    }
    match holds_dicom(path) {
        Ok(true) => Ok(Kind::Dicom),
        Ok(false) => Err(SlideError::UnknownFormat { path: path.to_owned() }),
        Err(e) => Err(SlideError::read(path, "files", e)),
    }
}

/// Whether a folder holds DICOM instances, by as many of its files as a slide has.
pub(crate) fn holds_dicom(folder: &Path) -> io::Result<bool> {
    let items = fs::read_dir(folder)?.take(2 * limits::MAX_DICOM_INSTANCES);
    Ok(items.flatten().any(|item| is_dicom(&item.path())))
}

/// Whether a folder is one of Zarr arrays.
pub fn is_zarr(folder: &Path) -> bool {
    ZARR_FILES.iter().any(|name| folder.join(name).is_file())
}

/// Whether a file is a DICOM instance.
pub(crate) fn is_dicom(path: &Path) -> bool {
    // A pipe would never answer.
    path.is_file() && head(path).is_ok_and(|head| is_dicom_head(&head))
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(DICOM_MAGIC.0 as u64 + 4).read_to_end(&mut head)?;
    Ok(head)
}

fn is_dicom_head(head: &[u8]) -> bool {
    head.get(DICOM_MAGIC.0..) == Some(DICOM_MAGIC.1)
}

/// A file read by position, without a shared cursor where the system can do that.
#[derive(Debug)]
pub(crate) struct SharedFile {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
}

impl SharedFile {
    #[cfg(unix)]
    pub(crate) fn new(file: File) -> Self {
        Self { file }
    }

    #[cfg(unix)]
    pub(crate) fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    #[cfg(not(unix))]
    pub(crate) fn new(file: File) -> Self {
        Self { file: std::sync::Mutex::new(file) }
    }

    #[cfg(not(unix))]
    pub(crate) fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        use std::io::{Seek, SeekFrom};
        let mut bytes = vec![0; len];
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
