//! site.toml: parsed strictly, validated whole, immutable afterwards. All problems are named at once.

use std::fs;
use std::path::{Path, PathBuf};

use consilium_common::SiteId;
use consilium_learning::engine::Device;
use serde::{Deserialize, Serialize};

use crate::error::SiteError;

/// Megabytes of a scan when nothing is said.
pub const SCAN_MEMORY_MB: u64 = 1024;
/// What a scan's memory may be set to: less cannot hold one lane, more is a typing error.
pub const SCAN_MEMORY_RANGE_MB: std::ops::RangeInclusive<u64> = 256..=1 << 20;

/// Who corrects the selected patches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum CorrectorConfig {
    /// An oracle that reads the reference masks of the data folder: for simulation and trials.
    Masks,
    /// A person who saves corrected label maps into this folder.
    Folder {
        /// The folder that site and person share.
        dir: PathBuf,
        /// Who corrects, for the provenance of each correction.
        #[serde(skip_serializing_if = "Option::is_none")]
        person: Option<String>,
    },
}

/// The configuration of one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteConfig {
    /// `https://host:port` of the coordinator.
    pub coordinator: String,
    /// The name under which the central group invited this site.
    pub site: SiteId,
    /// Key, journal, models, corrections and the ledger live here.
    pub state_dir: PathBuf,
    /// `slides/`, `masks/` and `slides.csv`. Never written to.
    pub data_dir: PathBuf,
    /// Members that are fine-tuned side by side; absent: as many as the processor has room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Megabytes that a scan may use beyond the weights of the ensemble; absent: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan_memory_mb: Option<u64>,
    /// libopenslide, for vendor formats; absent: it is looked for in the usual places.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openslide_library: Option<PathBuf>,
    /// What computes the networks of a scan.
    #[serde(skip_serializing_if = "is_auto")]
    pub device: Device,
    /// libonnxruntime; absent: it is looked for in the usual places.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnx_library: Option<PathBuf>,
    /// Who corrects.
    pub corrector: CorrectorConfig,
}

fn is_auto(device: &Device) -> bool {
    *device == Device::Auto
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    coordinator: Option<String>,
    site: Option<String>,
    state_dir: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    threads: Option<usize>,
    scan_memory_mb: Option<u64>,
    openslide_library: Option<PathBuf>,
    device: Option<String>,
    onnx_library: Option<PathBuf>,
    corrector: Option<RawCorrector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCorrector {
    kind: String,
    dir: Option<PathBuf>,
    person: Option<String>,
}

impl SiteConfig {
    /// A configuration with defaults where there are some.
    pub fn new(
        coordinator: &str,
        site: SiteId,
        state_dir: PathBuf,
        data_dir: PathBuf,
        corrector: CorrectorConfig,
    ) -> Self {
        Self {
            coordinator: coordinator.to_owned(),
            site,
            state_dir,
            data_dir,
            threads: None,
            scan_memory_mb: None,
            openslide_library: None,
            device: Device::Auto,
            onnx_library: None,
            corrector,
        }
    }

    /// Bytes that a scan may use beyond the weights of the ensemble.
    pub fn scan_memory_bytes(&self) -> u64 {
        self.scan_memory_mb.unwrap_or(SCAN_MEMORY_MB) << 20
    }

    /// Reads site.toml. Relative paths count from the file's own folder.
    pub fn load(path: &Path) -> Result<Self, SiteError> {
        let fail = |why: String| SiteError::Config { file: path.display().to_string(), problems: vec![why] };
        let text = fs::read_to_string(path).map_err(|e| {
            fail(format!("cannot be read ({e}); copy the commented sample deploy/site.toml and give it by --config"))
        })?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::parse(&text, &base).map_err(|problems| SiteError::Config { file: path.display().to_string(), problems })
    }

    /// Parses and validates; relative paths are joined to `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Vec<String>> {
        let raw: Raw = toml::from_str(text).map_err(|e| vec![e.to_string().trim_end().to_owned()])?;
        let mut problems = Vec::new();
        let missing = |key: &str| format!("`{key}` is missing");
        let coordinator = raw.coordinator.unwrap_or_default();
        if !is_address(&coordinator) {
            problems.push(format!("`coordinator` is `{coordinator}`; write https://host:port"));
        }
        let site = match raw.site.as_deref().map(str::parse::<SiteId>) {
            Some(Ok(site)) => Some(site),
            Some(Err(e)) => {
                problems.push(e.to_string());
                None
            }
            None => {
                problems.push(missing("site"));
                None
            }
        };
        let mut folder = |key: &str, value: Option<PathBuf>| match value {
            Some(path) if !path.as_os_str().is_empty() => base.join(path),
            _ => {
                problems.push(missing(key));
                PathBuf::new()
            }
        };
        let state_dir = folder("state_dir", raw.state_dir);
        let data_dir = folder("data_dir", raw.data_dir);
        if raw.threads == Some(0) {
            problems.push("`threads` is 0; leave it out to use every core".to_owned());
        }
        if let Some(mb) = raw.scan_memory_mb.filter(|mb| !SCAN_MEMORY_RANGE_MB.contains(mb)) {
            problems
                .push(format!("`scan_memory_mb` is {mb}; write 256 to 1048576, or leave it out for {SCAN_MEMORY_MB}"));
        }
        let device = raw.device.as_deref().map_or(Ok(Device::Auto), str::parse::<Device>);
        let device = device.unwrap_or_else(|e| {
            problems.push(format!("`device`: {e}"));
            Device::Auto
        });
        let corrector = match raw.corrector.map(|c| corrector(c, base)) {
            Some(Ok(corrector)) => Some(corrector),
            Some(Err(why)) => {
                problems.push(why);
                None
            }
            None => {
                problems.push("the section [corrector] is missing; see deploy/site.toml".to_owned());
                None
            }
        };
        match (site, corrector) {
            (Some(site), Some(corrector)) if problems.is_empty() => {
                let (threads, scan_memory_mb) = (raw.threads, raw.scan_memory_mb);
                let openslide_library = raw.openslide_library.map(|path| base.join(path));
                let onnx_library = raw.onnx_library.map(|path| base.join(path));
                Ok(Self {
                    coordinator,
                    site,
                    state_dir,
                    data_dir,
                    threads,
                    scan_memory_mb,
                    openslide_library,
                    device,
                    onnx_library,
                    corrector,
                })
            }
            _ => Err(problems),
        }
    }

    /// The effective configuration as TOML.
    pub fn to_toml(&self) -> Result<String, SiteError> {
        toml::to_string(self).map_err(|e| SiteError::Usage(format!("the configuration cannot be shown: {e}")))
    }
}

fn is_address(text: &str) -> bool {
    let uri: Option<http::Uri> = text.parse().ok();
    uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some() && uri.port_u16().is_some())
}

fn corrector(raw: RawCorrector, base: &Path) -> Result<CorrectorConfig, String> {
    match (raw.kind.as_str(), raw.dir) {
        ("masks", None) if raw.person.is_none() => Ok(CorrectorConfig::Masks),
        ("masks", _) => Err("corrector `masks` takes neither `dir` nor `person`".to_owned()),
        ("folder", Some(dir)) => Ok(CorrectorConfig::Folder { dir: base.join(dir), person: raw.person }),
        ("folder", None) => Err("corrector `folder` needs `dir`, the folder shared with the pathologist".to_owned()),
        (other, _) => Err(format!("corrector kind `{other}` is not known; use \"masks\" or \"folder\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_right() {
        let config = SiteConfig::parse(include_str!("../../deploy/site.toml"), Path::new("/etc/consilium")).unwrap();
        assert_eq!(config.site.as_str(), "hospital-a");
        assert!(matches!(config.corrector, CorrectorConfig::Folder { .. }));
        let again = SiteConfig::parse(&config.to_toml().unwrap(), Path::new("/elsewhere")).unwrap();
        assert_eq!(again, config, "the effective configuration reads back");
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let text = "coordinator = \"http://x\"\nsite = \"A b\"\nthreads = 0\nscan_memory_mb = 1\ndevice = \"gpu\"\n[corrector]\nkind = \"robot\"\n";
        let problems = SiteConfig::parse(text, Path::new("")).unwrap_err();
        insta::assert_snapshot!(problems.join("\n"), @r###"
        `coordinator` is `http://x`; write https://host:port
        site: `A b` is not a name; use 1 to 63 of a-z, 0-9 and -, with - only inside
        `state_dir` is missing
        `data_dir` is missing
        `threads` is 0; leave it out to use every core
        `scan_memory_mb` is 1; write 256 to 1048576, or leave it out for 1024
        `device`: `gpu` is no device of this program; give auto, cpu, onnx, libtorch or cuda:N with N the number of the card, from 0
        corrector kind `robot` is not known; use "masks" or "folder"
        "###);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let problems = SiteConfig::parse("colour = 1\n", Path::new("")).unwrap_err();
        assert!(problems[0].contains("unknown field `colour`") && problems[0].contains("line 1"), "{problems:?}");
    }
}
