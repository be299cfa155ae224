//! `coordinator.toml` and the places of everything inside the data folder.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use consilium_common::Invalid;
use serde::{Deserialize, Serialize};

use crate::error::{CoordinatorError, Result, While};

const FILE: &str = "coordinator.toml";
const DEFAULT_PORT: u16 = 7443;

/// A coordinator's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// The folder that holds identity, database and blobs.
    pub data_dir: PathBuf,
    /// Where the one TLS port listens; port 0 takes a free one.
    pub listen: SocketAddr,
}

/// What stands in the file; `data_dir` is where the file lies.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileConfig {
    #[serde(default = "default_listen")]
    listen: SocketAddr,
}

/// 127.0.0.1:7443.
pub fn default_listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into()
}

impl CoordinatorConfig {
    /// Reads `coordinator.toml` in `data_dir`.
    ///
    /// # Errors
    /// When the folder holds no coordinator, or the file has an unknown key or a wrong value.
    pub fn load(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(CoordinatorError::NotInitialised { path: data_dir.to_owned() });
            }
            other => other.doing(|| format!("reading {}", path.display()))?,
        };
        let file: FileConfig = toml::from_str(&text)
            .map_err(|e| Invalid::new(path.display().to_string(), e.to_string().trim_end().replace('\n', " ")))?;
        Ok(Self { data_dir: data_dir.to_owned(), listen: file.listen })
    }

    /// Writes a new `coordinator.toml`.
    pub(crate) fn write_new(&self) -> Result<()> {
        let text = format!(
            "# The one TLS port of this coordinator: ADDRESS:PORT. 0.0.0.0 listens on all interfaces; the certificate must\n\
             # name what sites dial (see `init --name`).\nlisten = \"{}\"\n",
            self.listen
        );
        let path = self.data_dir.join(FILE);
        let doing = || format!("writing {}", path.display());
        // Whole or not at all: an empty file would mean the defaults.
        let aside = path.with_extension("toml.new");
        fs::write(&aside, text).doing(doing)?;
        fs::rename(&aside, &path).doing(doing)
    }

    /// The places inside the data folder.
    pub(crate) fn paths(&self) -> Paths {
        Paths::of(&self.data_dir)
    }
}

/// Where things lie inside a data folder.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) config: PathBuf,
    pub(crate) identity: PathBuf,
    pub(crate) database: PathBuf,
    pub(crate) blobs: PathBuf,
    pub(crate) lock: PathBuf,
}

impl Paths {
    pub(crate) fn of(data_dir: &Path) -> Self {
        Self {
            config: data_dir.join(FILE),
            identity: data_dir.join("identity"),
            database: data_dir.join("coordinator.sqlite"),
            blobs: data_dir.join("blobs"),
            lock: data_dir.join("coordinator.lock"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_unknown_keys_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = CoordinatorConfig { data_dir: dir.path().to_owned(), listen: "0.0.0.0:443".parse().unwrap() };
        config.write_new().unwrap();
        assert_eq!(CoordinatorConfig::load(dir.path()).unwrap(), config);
        fs::write(dir.path().join(FILE), "lissen = 3").unwrap();
        let error = CoordinatorConfig::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("lissen"), "{error}");
        assert_eq!(error.code(), consilium_common::ErrorCode::InvalidInput);
    }

    #[test]
    fn the_sample_holds_the_defaults() {
        let file: FileConfig = toml::from_str(include_str!("../../deploy/coordinator.toml")).unwrap();
        assert_eq!(file.listen, default_listen());
    }

    #[test]
    fn an_empty_folder_says_how_to_begin() {
        let error = CoordinatorConfig::load(Path::new("/nonexistent-folder")).unwrap_err();
        assert!(error.to_string().contains("init --data-dir"), "{error}");
    }
}
