//! The OpenSlide library of this process: loaded at most once, on first use, and never unloaded.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::ffi::Library;
use crate::native::{LibraryError, LibraryInfo, NativeLibrary, Unusable};
use crate::slides::SlideError;

/// Where it lies: in a folder, or as the wheel `openslide-bin` unpacks. The oldest version is the first with
/// `openslide_detect_vendor`, and with NDPI and Ventana slides.
pub(super) static OPENSLIDE: NativeLibrary = NativeLibrary {
    name: "OpenSlide",
    variable: "CONSILIUM_OPENSLIDE",
    names: &["libopenslide.so.1", "libopenslide.so.0", "libopenslide.1.dylib", "libopenslide-1.dll"],
    versioned: None,
    inside: &["", "openslide_bin"],
    beside: "openslide",
    oldest: (3, 4),
    get: "run deploy/openslide.sh, or `pip install openslide-bin` and set `openslide_library` in site.toml or \
          CONSILIUM_OPENSLIDE to the libopenslide file in it, or install the system package libopenslide0",
};

static CONFIGURED: OnceLock<PathBuf> = OnceLock::new();
static LOADED: OnceLock<Result<Loaded, LibraryError>> = OnceLock::new();

/// The library and its file.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) api: Library,
    pub(super) info: LibraryInfo,
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
pub fn openslide_library() -> Result<LibraryInfo, SlideError> {
    loaded().map(|loaded| loaded.info.clone()).map_err(|why| SlideError::OpenSlideLibrary { why: Box::new(why) })
}

/// The library of this process.
pub(super) fn loaded() -> Result<&'static Loaded, LibraryError> {
    let find = || OPENSLIDE.find(CONFIGURED.get(), load).map(|(api, info)| Loaded { api, info });
    LOADED.get_or_init(find).as_ref().map_err(Clone::clone)
}

fn load(name: &OsStr) -> Result<(Library, String), Unusable> {
    let api = Library::load(name)?;
    let version = api.version();
    if OPENSLIDE.is_too_old(&version) { Err(Unusable::TooOld(version)) } else { Ok((api, version)) }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn load_named(path: &Path) -> Result<(Library, LibraryInfo), LibraryError> {
        OPENSLIDE.load_named(path, load)
    }

    fn load_usual(places: &[OsString]) -> Result<(Library, LibraryInfo), LibraryError> {
        OPENSLIDE.load_usual(places, load)
    }

    #[test]
    fn versions() {
        for (version, old) in
            [("4.0.1", false), ("3.4.1", false), ("3.3.3", true), ("5.0", false), ("", true), ("x.y", true)]
        {
            assert_eq!(OPENSLIDE.is_too_old(version), old, "{version}");
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
