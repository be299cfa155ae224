//! Files that survive a power cut: written beside their place, synced, then renamed into it.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use serde::Serialize;

use crate::error::SiteError;

/// Everybody whom the umask lets: patches and reports are for people.
pub(crate) const SHARED: u32 = 0o666;
/// The owner only: keys.
pub(crate) const SECRET: u32 = 0o600;

pub(crate) fn create_dir(path: &Path) -> Result<(), SiteError> {
    fs::create_dir_all(path).map_err(SiteError::io("create", path))
}

/// Creates a folder that only its owner may enter: a site's state holds patches of slides.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), SiteError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(SiteError::io("create", path))
}

/// Writes the whole file or nothing.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SiteError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    create_dir(parent)?;
    let write = || -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        let mut file = builder.prefix(".writing-").permissions(Permissions::from_mode(mode)).tempfile_in(parent)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        File::open(parent)?.sync_all()
    };
    write().map_err(SiteError::io("write", path))
}

/// Writes one of many files that are worth nothing before [`sync_all_in`] has seen them all.
pub(crate) fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<(), SiteError> {
    fs::write(path, bytes).map_err(SiteError::io("write", path))
}

/// Makes a folder and all files in it safe from a power cut: one after the other, when all are written, costs little more
/// than one.
pub(crate) fn sync_all_in(folder: &Path) -> Result<(), SiteError> {
    let sync = || -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            File::open(entry?.path())?.sync_all()?;
        }
        File::open(folder)?.sync_all()
    };
    sync().map_err(SiteError::io("write", folder))
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), SiteError> {
    write_atomic(path, &json_bytes(path, value)?, SHARED)
}

pub(crate) fn json_bytes<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, SiteError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| SiteError::Damaged { path: path.to_owned(), why: format!("cannot be written as JSON: {e}") })?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, SiteError> {
    fs::read(path).map_err(SiteError::io("read", path))
}

/// Takes a lock that goes with the process, however it ends.
pub(crate) fn lock(path: &Path) -> Result<File, SiteError> {
    let file = File::options().create(true).write(true).truncate(false).open(path);
    let file = file.map_err(SiteError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SiteError::Busy(path.parent().unwrap_or(path).to_owned())),
        Err(TryLockError::Error(e)) => Err(SiteError::io("lock", path)(e)),
    }
}

/// Removes what writers that were killed have left half-written in a folder; a folder that is not there is fine.
pub(crate) fn remove_leavings(folder: &Path) -> Result<(), SiteError> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if [".part-", ".writing-"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            remove_file(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder and what is in it; one that is not there is fine.
pub(crate) fn remove_dir(path: &Path) -> Result<(), SiteError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(SiteError::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_file(path: &Path) -> Result<(), SiteError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(SiteError::io("remove", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_folder_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        create_private_dir(&path).unwrap();
        create_private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_secret_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/key.pem");
        write_atomic(&path, b"x", SECRET).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        write_atomic(&path, b"longer", SECRET).unwrap();
        assert_eq!(read(&path).unwrap(), b"longer");
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1, "nothing is left behind");
    }
}
