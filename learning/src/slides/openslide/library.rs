//! Where the OpenSlide library is looked for, and what is said when it is not there.
//!
//! A library that somebody named (in site.toml or `CONSILIUM_OPENSLIDE`) is used or refused, never replaced by another.
//! The library is loaded at most once, on first use, and stays loaded.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::ffi::{Library, Unusable};
use crate::slides::SlideError;

/// Names of the library, the newest first.
const NAMES: [&str; 4] = ["libopenslide.so.1", "libopenslide.so.0", "libopenslide.1.dylib", "libopenslide-1.dll"];
/// Folders that some loaders do not look into.
const FOLDERS: [&str; 3] = ["/usr/lib", "/usr/local/lib", "/opt/homebrew/lib"];
/// The oldest version with `openslide_detect_vendor`, and with NDPI and Ventana slides.
const OLDEST: (u32, u32) = (3, 4);
/// How to get it; part of several messages.
const GET: &str = "run deploy/openslide.sh, or `pip install openslide-bin` and set `openslide_library` in site.toml or \
                   CONSILIUM_OPENSLIDE to the libopenslide file in it, or install the system package libopenslide0";

static CONFIGURED: OnceLock<PathBuf> = OnceLock::new();
static LOADED: OnceLock<Result<Loaded, LibraryError>> = OnceLock::new();

/// Why OpenSlide cannot be used; reads as the part of a sentence, with the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// It is in none of the places.
    #[error("the OpenSlide library was not found (looked for {looked}); {GET}")]
    NotFound {
        /// Names and places.
        looked: String,
    },
    /// The file that was named does not exist or is no library.
    #[error("the OpenSlide library {path} cannot be loaded ({why}); {GET}", path = .path.display())]
    Unloadable {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        why: String,
    },
    /// A function is missing.
    #[error("{path} is no OpenSlide library or too old, for it lacks {symbol}; {GET}", path = .path.display())]
    Symbol {
        /// The file.
        path: PathBuf,
        /// The function.
        symbol: &'static str,
    },
    /// The library is older than the oldest that is used.
    #[error("{path} is OpenSlide {version}, older than {}.{}; {GET}", OLDEST.0, OLDEST.1, path = .path.display())]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
    },
}

/// Which OpenSlide library is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSlideInfo {
    /// The file, or the bare name by which the system's loader found it.
    pub path: PathBuf,
    /// Its version, such as `4.0.1`.
    pub version: String,
}

/// A loaded library and what it is.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) library: Library,
    pub(super) info: OpenSlideInfo,
}

/// Says which OpenSlide library to use: its file, or a folder with it. The first call counts; it must come before the
/// first slide is opened. Without a call `CONSILIUM_OPENSLIDE` decides, and then the usual places.
pub fn set_openslide_library(path: &Path) {
    // The first call counts, as documented: a second one is no error.
    let _ = CONFIGURED.set(path.to_owned());
}

/// The OpenSlide library in use, loaded now if it was not before.
///
/// # Errors
/// It is not found, cannot be loaded, or is too old.
pub fn openslide_library() -> Result<OpenSlideInfo, SlideError> {
    loaded().map(|loaded| loaded.info.clone()).map_err(|why| SlideError::OpenSlideLibrary { why: Box::new(why) })
}

/// The library of this process.
pub(super) fn loaded() -> Result<&'static Loaded, LibraryError> {
    let named = || CONFIGURED.get().cloned().or_else(|| env::var_os("CONSILIUM_OPENSLIDE").map(PathBuf::from));
    let found = LOADED.get_or_init(|| match named() {
        Some(path) => load_named(&path),
        None => load_usual(&usual_places()),
    });
    found.as_ref().map_err(Clone::clone)
}

/// Loads what somebody named: a file, or a folder with the library in it or in its `openslide_bin`.
pub(super) fn load_named(path: &Path) -> Result<Loaded, LibraryError> {
    if !path.is_dir() {
        return load(path.as_os_str());
    }
    match in_folder(path).find(|file| file.is_file()) {
        Some(file) => load(file.as_os_str()),
        None => Err(LibraryError::NotFound { looked: format!("{} in {}", NAMES.join(", "), path.display()) }),
    }
}

/// Loads the first of `places` that can be loaded; a library that is there and unsuitable is named.
pub(super) fn load_usual(places: &[OsString]) -> Result<Loaded, LibraryError> {
    for place in places {
        match load(place) {
            Err(LibraryError::Unloadable { path, .. }) if !path.is_file() => {}
            decided => return decided,
        }
    }
    let folders = FOLDERS.join(", ");
    let looked = format!("{} with the system's loader, in {folders} and beside this program", NAMES.join(", "));
    Err(LibraryError::NotFound { looked })
}

/// Beside the program, then as the loader finds it, then folders that it may not know.
fn usual_places() -> Vec<OsString> {
    let program = env::current_exe().ok().and_then(|exe| exe.parent().map(|folder| folder.join("openslide")));
    let beside = program.iter().flat_map(|folder| in_folder(folder).filter(|file| file.is_file()));
    let named = NAMES.iter().map(OsString::from);
    let folders = FOLDERS.iter().flat_map(|folder| NAMES.map(|name| Path::new(folder).join(name)));
    beside.map(PathBuf::into_os_string).chain(named).chain(folders.map(PathBuf::into_os_string)).collect()
}

/// Where the library may lie in a folder: in itself, or as the wheel `openslide-bin` unpacks.
fn in_folder(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let folders = [folder.to_owned(), folder.join("openslide_bin")];
    folders.into_iter().flat_map(|folder| NAMES.map(|name| folder.join(name)))
}

fn load(name: &OsStr) -> Result<Loaded, LibraryError> {
    let path = PathBuf::from(name);
    let library = Library::load(name).map_err(|e| match e {
        Unusable::Loader(why) => LibraryError::Unloadable { path: path.clone(), why },
        Unusable::Symbol(symbol) => LibraryError::Symbol { path: path.clone(), symbol },
    })?;
    let version = library.version();
    if too_old(&version) {
        return Err(LibraryError::TooOld { path, version });
    }
    Ok(Loaded { library, info: OpenSlideInfo { path, version } })
}

/// Whether a version is older than the oldest that is used; what is no version is.
fn too_old(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let version = (parts.next().flatten(), parts.next().flatten());
    !matches!(version, (Some(major), Some(minor)) if (major, minor) >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, old) in
            [("4.0.1", false), ("3.4.1", false), ("3.3.3", true), ("5.0", false), ("", true), ("x.y", true)]
        {
            assert_eq!(too_old(version), old, "{version}");
        }
    }

    #[test]
    fn a_library_that_is_nowhere_says_how_to_get_it() {
        let message = load_usual(&[OsString::from("libno-such-openslide.so.7")]).unwrap_err().to_string();
        for part in ["not found", "libopenslide.so.1", "/usr/local/lib", "openslide-bin", "openslide_library"] {
            assert!(message.contains(part), "{message}\nlacks {part}");
        }
        let folder = tempfile::tempdir().unwrap();
        let message = load_named(folder.path()).unwrap_err().to_string();
        assert!(message.contains(&folder.path().display().to_string()), "{message}");
    }

    #[test]
    fn a_named_library_is_used_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libopenslide.so.1");
        let message = load_named(&file).unwrap_err().to_string();
        assert!(message.contains("cannot be loaded") && message.contains("libopenslide.so.1"), "{message}");
        assert!(!cfg!(target_os = "linux") || message.contains("No such file"), "the loader's reason: {message}");
        std::fs::write(&file, b"no library").unwrap();
        for named in [&file, &folder.path().to_owned()] {
            let error = load_named(named).unwrap_err();
            assert!(matches!(&error, LibraryError::Unloadable { path, .. } if *path == file), "{error}");
        }
        // Found in a usual place and broken: named, not passed over.
        assert!(matches!(load_usual(&[file.into_os_string()]), Err(LibraryError::Unloadable { .. })));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_library_lacks_the_functions() {
        let error = load_named(Path::new("libc.so.6")).unwrap_err();
        assert!(matches!(error, LibraryError::Symbol { symbol: "openslide_get_version", .. }), "{error}");
        assert!(error.to_string().contains("lacks openslide_get_version"), "{error}");
    }
}
