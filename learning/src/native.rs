//! Native libraries, loaded at run time where a site has them and never linked: where each is looked for, and what is said
//! when it cannot be used.
//!
//! A library that somebody named (in site.toml or the environment) is used or refused, never replaced by another.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use consilium_common::limits;

/// Folders that some loaders do not look into.
const FOLDERS: [&str; 3] = ["/usr/lib", "/usr/local/lib", "/opt/homebrew/lib"];

/// A library that may be there.
#[derive(Debug, PartialEq, Eq)]
pub struct NativeLibrary {
    /// What people call it.
    pub(crate) name: &'static str,
    /// The environment variable that names its file or folder.
    pub(crate) variable: &'static str,
    /// Its file names, the newest first.
    pub(crate) names: &'static [&'static str],
    /// What its file names with a version begin with, such as `libx` of `libx.so.1.2.3`; none where all names are known.
    pub(crate) versioned: Option<&'static str>,
    /// Where it lies in a folder; the empty name is the folder itself.
    pub(crate) inside: &'static [&'static str],
    /// The folder beside the program in which it is found without a word.
    pub(crate) beside: &'static str,
    /// The oldest version that is used.
    pub(crate) oldest: (u32, u32),
    /// How to get it; part of every message.
    pub(crate) get: &'static str,
}

/// Why a library cannot be used; reads as the part of a sentence, with the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// It is in none of the places.
    #[error("the {} library was not found (looked for {looked}); {}", .of.name, .of.get)]
    NotFound {
        /// The library.
        of: &'static NativeLibrary,
        /// Names and places.
        looked: String,
    },
    /// The file that was named does not exist or is no library.
    #[error("the {} library {path} cannot be loaded ({why}); {}", .of.name, .of.get, path = .path.display())]
    Unloadable {
        /// The library.
        of: &'static NativeLibrary,
        /// The file.
        path: PathBuf,
        /// What the loader said.
        why: String,
    },
    /// A function is missing.
    #[error("{path} is no {} library or too old, for it lacks {symbol}; {}", .of.name, .of.get, path = .path.display())]
    Symbol {
        /// The library.
        of: &'static NativeLibrary,
        /// The file.
        path: PathBuf,
        /// The function.
        symbol: &'static str,
    },
    /// It is older than the oldest that is used.
    #[error(
        "{path} is {} {version}, older than {}.{}; {}",
        .of.name, .of.oldest.0, .of.oldest.1, .of.get, path = .path.display()
    )]
    TooOld {
        /// The library.
        of: &'static NativeLibrary,
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// It was loaded and did not start.
    #[error("{} {version} ({path}) does not start ({why}); {}", .of.name, .of.get, path = .path.display())]
    Start {
        /// The library.
        of: &'static NativeLibrary,
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
        /// What it said.
        why: String,
    },
}

/// Which file of a library is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryInfo {
    /// The file, or the bare name by which the system's loader found it.
    pub path: PathBuf,
    /// Its version, such as `4.0.1`.
    pub version: String,
}

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// The loader cannot load it.
    Loader(String),
    /// It is a library, without this function.
    Symbol(&'static str),
    /// It is of this version, older than the oldest that is used.
    TooOld(String),
}

impl Unusable {
    /// What the system's loader said: the last cause, for the error itself only names the call.
    pub(crate) fn unloadable(error: &libloading::Error) -> Self {
        Self::Loader(last_cause(error))
    }
}

fn last_cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), last_cause)
}

/// What loading gives: the library and its version.
pub(crate) type Load<T> = fn(&OsStr) -> Result<(T, String), Unusable>;

impl NativeLibrary {
    /// Loads the file or folder that somebody named, by `configured` or else in the environment; if nobody did, the first
    /// that is there.
    pub(crate) fn find<T>(
        &'static self,
        configured: Option<&PathBuf>,
        load: Load<T>,
    ) -> Result<(T, LibraryInfo), LibraryError> {
        match configured.cloned().or_else(|| env::var_os(self.variable).map(PathBuf::from)) {
            Some(path) => self.load_named(&path, load),
            None => self.load_usual(&self.usual_places(), load),
        }
    }

    /// Loads what somebody named: a file, or a folder with the library in it or in one of the places inside.
    pub(crate) fn load_named<T>(&'static self, path: &Path, load: Load<T>) -> Result<(T, LibraryInfo), LibraryError> {
        if !path.is_dir() {
            return self.load(path.as_os_str(), load);
        }
        match self.in_folder(path).first() {
            Some(file) => self.load(file.as_os_str(), load),
            None => {
                let inside: Vec<&str> = self.inside.iter().copied().filter(|place| !place.is_empty()).collect();
                let (names, path) = (self.names.join(", "), path.display());
                let looked = format!("{names} in {path} and its {}", inside.join(", "));
                Err(LibraryError::NotFound { of: self, looked })
            }
        }
    }

    /// Loads the first of `places` that can be loaded; a library that is there and unsuitable is named.
    pub(crate) fn load_usual<T>(
        &'static self,
        places: &[OsString],
        load: Load<T>,
    ) -> Result<(T, LibraryInfo), LibraryError> {
        for place in places {
            match self.load(place, load) {
                Err(LibraryError::Unloadable { path, .. }) if !path.is_file() => {}
                decided => return decided,
            }
        }
        let (names, folders) = (self.names.join(", "), FOLDERS.join(", "));
        let looked =
            format!("{names} with the system's loader, in {folders} and in {} beside this program", self.beside);
        Err(LibraryError::NotFound { of: self, looked })
    }

    /// Beside the program, then as the loader finds it, then folders that it may not know.
    fn usual_places(&self) -> Vec<OsString> {
        let program = env::current_exe().ok().and_then(|exe| exe.parent().map(|folder| folder.join(self.beside)));
        let beside = program.iter().flat_map(|folder| self.in_folder(folder)).map(PathBuf::into_os_string);
        let folders = FOLDERS.iter().flat_map(|folder| self.named_in(Path::new(folder))).map(PathBuf::into_os_string);
        beside.chain(self.names.iter().map(OsString::from)).chain(folders).collect()
    }

    /// The libraries in a folder and the places inside it, the likeliest first.
    pub(crate) fn in_folder(&self, folder: &Path) -> Vec<PathBuf> {
        self.inside.iter().flat_map(|inside| self.named_in(&folder.join(inside))).collect()
    }

    /// The libraries of a folder: known names first, then versioned ones, the newest first.
    fn named_in(&self, folder: &Path) -> Vec<PathBuf> {
        let known = self.names.iter().map(|name| folder.join(name)).filter(|file| file.is_file());
        let mut versioned: Vec<(Vec<u32>, PathBuf)> = Vec::new();
        if self.versioned.is_some() {
            let entries = std::fs::read_dir(folder).into_iter().flatten().take(limits::MAX_FOLDER_ENTRIES).flatten();
            versioned = entries
                .filter_map(|entry| Some((self.version_in(entry.file_name().to_str()?)?, entry.path())))
                .filter(|(_, file)| file.is_file())
                .collect();
            versioned.sort_by(|a, b| b.cmp(a));
        }
        known.chain(versioned.into_iter().map(|(_, file)| file)).collect()
    }

    /// The version in `libx.so.1.31.1` or `libx.1.31.1.dylib`.
    pub(crate) fn version_in(&self, name: &str) -> Option<Vec<u32>> {
        let rest = name.strip_prefix(self.versioned?)?;
        let version = rest.strip_prefix(".so.").or_else(|| rest.strip_prefix('.')?.strip_suffix(".dylib"))?;
        version.split('.').map(|part| part.parse().ok()).collect()
    }

    fn load<T>(&'static self, name: &OsStr, load: Load<T>) -> Result<(T, LibraryInfo), LibraryError> {
        let path = PathBuf::from(name);
        match load(name) {
            Ok((library, version)) => Ok((library, LibraryInfo { path, version })),
            Err(Unusable::Loader(why)) => Err(LibraryError::Unloadable { of: self, path, why }),
            Err(Unusable::Symbol(symbol)) => Err(LibraryError::Symbol { of: self, path, symbol }),
            Err(Unusable::TooOld(version)) => Err(LibraryError::TooOld { of: self, path, version }),
        }
    }

    /// Whether a version is older than the oldest that is used; what is no version is.
    pub(crate) fn is_too_old(&self, version: &str) -> bool {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
        let version = (parts.next().flatten(), parts.next().flatten());
        !matches!(version, (Some(major), Some(minor)) if (major, minor) >= self.oldest)
    }
}
