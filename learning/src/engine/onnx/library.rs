//! Where the ONNX Runtime library is looked for, and what is said when it is not there.
//!
//! A library that somebody named (in site.toml or `CONSILIUM_ONNXRUNTIME`) is used or refused, never replaced by another.
//! The library is loaded at most once, on first use, and stays loaded.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use consilium_common::limits;
use ort::environment::Environment;
use ort::logging::LogLevel;

use super::ffi::{Library, Unusable};
use super::quietly;

/// Names of the library.
const NAMES: [&str; 4] = ["libonnxruntime.so", "libonnxruntime.so.1", "libonnxruntime.dylib", "onnxruntime.dll"];
/// Folders that some loaders do not look into.
const FOLDERS: [&str; 3] = ["/usr/lib", "/usr/local/lib", "/opt/homebrew/lib"];
/// Where the library lies in a folder: in itself, in an unpacked wheel, in an unpacked release.
const INSIDE: [&str; 4] = ["", "onnxruntime/capi", "capi", "lib"];
/// The oldest version that builds graphs in memory.
const OLDEST: &str = "1.22";
/// How to get it; part of several messages.
pub(super) const GET: &str = "run deploy/onnxruntime.sh, or `pip install onnxruntime` and set `onnx_library` in site.toml \
                              or CONSILIUM_ONNXRUNTIME to the folder onnxruntime/capi in it";

static CONFIGURED: OnceLock<PathBuf> = OnceLock::new();
static LOADED: OnceLock<Result<Loaded, LibraryError>> = OnceLock::new();

/// Why ONNX Runtime cannot be used; reads as the part of a sentence, with the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// It is in none of the places.
    #[error("the ONNX Runtime library was not found (looked for {looked}); {GET}")]
    NotFound {
        /// Names and places.
        looked: String,
    },
    /// The file that was named does not exist or is no library.
    #[error("the ONNX Runtime library {path} cannot be loaded ({why}); {GET}", path = .path.display())]
    Unloadable {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        why: String,
    },
    /// A function is missing.
    #[error("{path} is no ONNX Runtime library, for it lacks {symbol}; {GET}", path = .path.display())]
    Symbol {
        /// The file.
        path: PathBuf,
        /// The function.
        symbol: &'static str,
    },
    /// The library is older than the oldest that is used.
    #[error("{path} is ONNX Runtime {version}, older than {OLDEST}; {GET}", path = .path.display())]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// The library was loaded and did not start.
    #[error("ONNX Runtime {version} ({path}) does not start ({why}); {GET}", path = .path.display())]
    Start {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
        /// What it said.
        why: String,
    },
}

/// Which ONNX Runtime library is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxInfo {
    /// The file, or the bare name by which the system's loader found it.
    pub path: PathBuf,
    /// Its version, such as `1.31.1`.
    pub version: String,
}

/// The library of this process, started.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) environment: Environment,
    pub(super) info: OnnxInfo,
}

/// Says which ONNX Runtime library to use: its file, or a folder with it. The first call counts; it must come before the
/// first engine is opened. Without a call `CONSILIUM_ONNXRUNTIME` decides, and then the usual places.
pub fn set_onnx_library(path: &Path) {
    // The first call counts, as documented: a second one is no error.
    let _ = CONFIGURED.set(path.to_owned());
}

/// The ONNX Runtime library in use, loaded now if it was not before.
///
/// # Errors
/// It is not found, cannot be loaded, is too old or does not start.
pub fn onnx_library() -> Result<OnnxInfo, LibraryError> {
    loaded().map(|loaded| loaded.info.clone())
}

/// The library of this process.
pub(super) fn loaded() -> Result<&'static Loaded, LibraryError> {
    let named = || CONFIGURED.get().cloned().or_else(|| env::var_os("CONSILIUM_ONNXRUNTIME").map(PathBuf::from));
    let found = LOADED.get_or_init(|| match named() {
        Some(path) => load_named(&path).and_then(start),
        None => load_usual(&usual_places()).and_then(start),
    });
    found.as_ref().map_err(Clone::clone)
}

/// Makes a library that of the process. It sends no telemetry and prints nothing: what it has to say comes as errors.
fn start((library, info): (Library, OnnxInfo)) -> Result<Loaded, LibraryError> {
    let fail = |why: String| {
        let OnnxInfo { path, version } = info.clone();
        LibraryError::Start { path, version, why }
    };
    if !library.activate() {
        return Err(fail("another one was started before".into()));
    }
    let environment = quietly(|| {
        let silent = Arc::new(|_: LogLevel, _: &str, _: &str, _: &str, _: &str| {});
        let environment = ort::init().with_name("consilium").with_telemetry(false).with_logger(silent).build()?;
        environment.set_log_level(LogLevel::Fatal);
        Ok(environment)
    });
    Ok(Loaded { environment: environment.map_err(fail)?, info })
}

/// Loads what somebody named: a file, or a folder with the library in it, in its `lib`, or as a wheel unpacks.
pub(super) fn load_named(path: &Path) -> Result<(Library, OnnxInfo), LibraryError> {
    if !path.is_dir() {
        return load(path.as_os_str());
    }
    match in_folder(path).into_iter().next() {
        Some(file) => load(file.as_os_str()),
        None => Err(LibraryError::NotFound {
            looked: format!("{} or a versioned name in {} and its onnxruntime/capi", NAMES.join(", "), path.display()),
        }),
    }
}

/// Loads the first of `places` that can be loaded; a library that is there and unsuitable is named.
pub(super) fn load_usual(places: &[OsString]) -> Result<(Library, OnnxInfo), LibraryError> {
    for place in places {
        match load(place) {
            Err(LibraryError::Unloadable { path, .. }) if !path.is_file() => {}
            decided => return decided,
        }
    }
    let folders = FOLDERS.join(", ");
    let looked =
        format!("{} with the system's loader, in {folders} and in onnxruntime beside this program", NAMES.join(", "));
    Err(LibraryError::NotFound { looked })
}

/// Beside the program, then as the loader finds it, then folders that it may not know.
fn usual_places() -> Vec<OsString> {
    let program = env::current_exe().ok().and_then(|exe| exe.parent().map(|folder| folder.join("onnxruntime")));
    let beside = program.iter().flat_map(|folder| in_folder(folder)).map(PathBuf::into_os_string);
    let folders = FOLDERS.iter().flat_map(|folder| named_in(Path::new(folder))).map(PathBuf::into_os_string);
    beside.chain(NAMES.iter().map(OsString::from)).chain(folders).collect()
}

/// The libraries in a folder and the places inside it, the likeliest first.
fn in_folder(folder: &Path) -> Vec<PathBuf> {
    INSIDE.iter().flat_map(|inside| named_in(&folder.join(inside))).collect()
}

/// The libraries of a folder: plain names first, then versioned ones, the newest first.
fn named_in(folder: &Path) -> Vec<PathBuf> {
    let plain = NAMES.map(|name| folder.join(name)).into_iter().filter(|file| file.is_file());
    let entries = std::fs::read_dir(folder).into_iter().flatten().take(limits::MAX_FOLDER_ENTRIES).flatten();
    let mut versioned: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| Some((version_in(entry.file_name().to_str()?)?, entry.path())))
        .filter(|(_, file)| file.is_file())
        .collect();
    versioned.sort_by(|a, b| b.cmp(a));
    plain.chain(versioned.into_iter().map(|(_, file)| file)).collect()
}

/// The version in `libonnxruntime.so.1.31.1` or `libonnxruntime.1.31.1.dylib`.
fn version_in(name: &str) -> Option<Vec<u32>> {
    let linux = name.strip_prefix("libonnxruntime.so.");
    let version = linux.or_else(|| name.strip_prefix("libonnxruntime.")?.strip_suffix(".dylib"))?;
    version.split('.').map(|part| part.parse().ok()).collect()
}

fn load(name: &OsStr) -> Result<(Library, OnnxInfo), LibraryError> {
    let path = PathBuf::from(name);
    let library = Library::load(name).map_err(|e| match e {
        Unusable::Loader(why) => LibraryError::Unloadable { path: path.clone(), why },
        Unusable::Symbol(symbol) => LibraryError::Symbol { path: path.clone(), symbol },
        Unusable::TooOld(version) => LibraryError::TooOld { path: path.clone(), version },
    })?;
    let version = library.version().to_owned();
    Ok((library, OnnxInfo { path, version }))
}

#[cfg(test)]
mod tests {
    use super::super::ffi::too_old;
    use super::*;

    #[test]
    fn versions() {
        for (version, old) in
            [("1.31.1", false), ("1.22.0", false), ("1.21.9", true), ("2.0", false), ("", true), ("x.y", true)]
        {
            assert_eq!(too_old(version), old, "{version}");
        }
        assert_eq!(OLDEST, format!("1.{}", ort::MINOR_VERSION));
    }

    #[test]
    fn the_newest_of_the_versioned_names() {
        let folder = tempfile::tempdir().unwrap();
        let capi = folder.path().join("onnxruntime/capi");
        std::fs::create_dir_all(&capi).unwrap();
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.31.1",
            "libonnxruntime_providers_shared.so",
            "libonnxruntime.so.1.x",
        ] {
            std::fs::write(capi.join(name), b"no library").unwrap();
        }
        let names = ["libonnxruntime.so.1.31.1", "libonnxruntime.so.1.9.0"].map(|name| capi.join(name));
        assert_eq!(in_folder(folder.path()), names);
        assert_eq!(in_folder(&capi), names);
        std::fs::write(capi.join("libonnxruntime.so"), b"no library").unwrap();
        assert_eq!(in_folder(&capi)[0], capi.join("libonnxruntime.so"));
        assert_eq!(version_in("libonnxruntime.1.31.1.dylib"), Some(vec![1, 31, 1]));
    }

    #[test]
    fn a_library_that_is_nowhere_says_how_to_get_it() {
        let message = load_usual(&[OsString::from("libno-such-onnxruntime.so.7")]).unwrap_err().to_string();
        for part in ["not found", "libonnxruntime.so.1", "/usr/local/lib", "deploy/onnxruntime.sh", "onnx_library"] {
            assert!(message.contains(part), "{message}\nlacks {part}");
        }
        let folder = tempfile::tempdir().unwrap();
        let message = load_named(folder.path()).unwrap_err().to_string();
        assert!(message.contains(&folder.path().display().to_string()), "{message}");
    }

    #[test]
    fn a_named_library_is_used_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libonnxruntime.so");
        let message = load_named(&file).unwrap_err().to_string();
        assert!(message.contains("cannot be loaded") && message.contains("libonnxruntime.so"), "{message}");
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
        assert!(matches!(error, LibraryError::Symbol { symbol: "OrtGetApiBase", .. }), "{error}");
        assert!(error.to_string().contains("lacks OrtGetApiBase"), "{error}");
    }
}
