//! The ONNX Runtime library of this process: loaded and started at most once, on first use, and never unloaded.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::ffi::Library;
use super::quietly;
use crate::native::{LibraryError, LibraryInfo, NativeLibrary, Unusable};

/// Where it lies: in a folder, in an unpacked wheel, in an unpacked release. The oldest version is the first that builds
/// graphs in memory.
pub(super) static ONNX_RUNTIME: NativeLibrary = NativeLibrary {
    name: "ONNX Runtime",
    variable: "CONSILIUM_ONNXRUNTIME",
    names: &["libonnxruntime.so", "libonnxruntime.so.1", "libonnxruntime.dylib", "onnxruntime.dll"],
    versioned: Some("libonnxruntime"),
    inside: &["", "onnxruntime/capi", "capi", "lib"],
    beside: "onnxruntime",
    oldest: (1, ort::MINOR_VERSION),
    get: "run deploy/onnxruntime.sh, or `pip install onnxruntime` and set `onnx_library` in site.toml or \
          CONSILIUM_ONNXRUNTIME to the folder onnxruntime/capi in it",
};

static CONFIGURED: OnceLock<PathBuf> = OnceLock::new();
static LOADED: OnceLock<Result<Loaded, LibraryError>> = OnceLock::new();

/// The library of this process, started.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) environment: Environment,
    pub(super) info: LibraryInfo,
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
pub fn onnx_library() -> Result<LibraryInfo, LibraryError> {
    loaded().map(|loaded| loaded.info.clone())
}

/// The library of this process.
pub(super) fn loaded() -> Result<&'static Loaded, LibraryError> {
    let found = LOADED.get_or_init(|| ONNX_RUNTIME.find(CONFIGURED.get(), load).and_then(start));
    found.as_ref().map_err(Clone::clone)
}

/// Makes a library that of the process. It sends no telemetry and prints nothing: what it has to say comes as errors.
fn start((library, info): (Library, LibraryInfo)) -> Result<Loaded, LibraryError> {
    let fail = |why: String| {
        let LibraryInfo { path, version } = info.clone();
        LibraryError::Start { of: &ONNX_RUNTIME, path, version, why }
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

fn load(name: &OsStr) -> Result<(Library, String), Unusable> {
    let library = Library::load(name)?;
    let version = library.version().to_owned();
    Ok((library, version))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn load_named(path: &Path) -> Result<(Library, LibraryInfo), LibraryError> {
        ONNX_RUNTIME.load_named(path, load)
    }

    fn load_usual(places: &[OsString]) -> Result<(Library, LibraryInfo), LibraryError> {
        ONNX_RUNTIME.load_usual(places, load)
    }

    #[test]
    fn versions() {
        for (version, old) in
            [("1.31.1", false), ("1.22.0", false), ("1.21.9", true), ("2.0", false), ("", true), ("x.y", true)]
        {
            assert_eq!(ONNX_RUNTIME.is_too_old(version), old, "{version}");
        }
        assert_eq!(ONNX_RUNTIME.oldest, (1, 22));
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
        assert_eq!(ONNX_RUNTIME.in_folder(folder.path()), names);
        assert_eq!(ONNX_RUNTIME.in_folder(&capi), names);
        std::fs::write(capi.join("libonnxruntime.so"), b"no library").unwrap();
        assert_eq!(ONNX_RUNTIME.in_folder(&capi)[0], capi.join("libonnxruntime.so"));
        assert_eq!(ONNX_RUNTIME.version_in("libonnxruntime.1.31.1.dylib"), Some(vec![1, 31, 1]));
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
