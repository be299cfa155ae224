//! `init`: makes a coordinator's data folder with its CA, its server certificate and the first operator's certificate.
//! Nothing that exists is overwritten; keys are readable by their owner only.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use consilium_common::Invalid;

use super::authority::Authority;
use super::{CA_CERT, CA_KEY, OPERATOR_CERT, OPERATOR_KEY, SERVER_CERT, SERVER_KEY};
use crate::clock::{Clock, SystemClock};
use crate::config::{CoordinatorConfig, Paths, default_listen};
use crate::error::{CoordinatorError, Result, While};

/// The operator that `init` makes a certificate for.
pub(crate) const FIRST_OPERATOR: &str = "admin";
/// Names under which the coordinator can always be dialled on its own machine.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What `init` made.
#[derive(Clone, Debug)]
pub struct InitReport {
    /// SHA-256 of the CA certificate, hexadecimal: what a site pins when it enrols.
    pub ca_fingerprint: String,
    /// The DNS names and addresses that the server certificate holds.
    pub names: Vec<String>,
    /// Where the coordinator will listen.
    pub listen: SocketAddr,
    /// The new configuration file.
    pub config: PathBuf,
}

/// Makes a new coordinator in `data_dir`, reachable under `names` and from its own machine.
///
/// # Errors
/// When one is there already, a name cannot stand in a certificate, or the folder cannot be written.
pub fn init(data_dir: &Path, names: &[String]) -> Result<InitReport> {
    init_listening(data_dir, names, default_listen())
}

/// The same with another address to listen on.
///
/// # Errors
/// As [`init`].
pub fn init_listening(data_dir: &Path, names: &[String], listen: SocketAddr) -> Result<InitReport> {
    let paths = Paths::of(data_dir);
    for path in [&paths.identity, &paths.database] {
        if path.exists() {
            return Err(CoordinatorError::Exists { path: path.clone() });
        }
    }
    // A configuration that lies there already, from a person or from an init that was killed, is kept.
    let kept = if paths.config.exists() { Some(CoordinatorConfig::load(data_dir)?) } else { None };
    if let Some(kept) = kept.as_ref().filter(|kept| listen != default_listen() && kept.listen != listen) {
        let why = format!("{} says {}; change it there, or leave --listen out", paths.config.display(), kept.listen);
        return Err(Invalid::new("--listen", why).into());
    }
    let names = all_names(names)?;
    let now = SystemClock.now();
    let (authority, ca_key) = Authority::create(now)?;
    let server = authority.server(&names, now)?;
    let operator = authority.operator(FIRST_OPERATOR, now)?;

    // Everything is written to a folder aside and moved into place at the end: a failed init leaves nothing behind.
    fs::create_dir_all(data_dir).doing(|| format!("creating {}", data_dir.display()))?;
    let aside = data_dir.join("identity.new");
    if aside.exists() {
        fs::remove_dir_all(&aside).doing(|| format!("removing the leftover {}", aside.display()))?;
    }
    fs::DirBuilder::new().mode(0o700).create(&aside).doing(|| format!("creating {}", aside.display()))?;
    for (name, text, secret) in [
        (CA_CERT, authority.pem(), false),
        (CA_KEY, &ca_key, true),
        (SERVER_CERT, &server.certificate, false),
        (SERVER_KEY, &server.key, true),
        (OPERATOR_CERT, &operator.certificate, false),
        (OPERATOR_KEY, &operator.key, true),
    ] {
        write_new(&aside.join(name), text, secret)?;
    }
    let config = match kept {
        Some(kept) => kept,
        None => {
            let config = CoordinatorConfig { data_dir: data_dir.to_owned(), listen };
            config.write_new()?;
            config
        }
    };
    fs::rename(&aside, &paths.identity).doing(|| format!("creating {}", paths.identity.display()))?;
    Ok(InitReport { ca_fingerprint: authority.fingerprint(), names, listen: config.listen, config: paths.config })
}

fn all_names(given: &[String]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in given.iter().map(String::as_str).chain(LOCAL_NAMES) {
        let dns = |name: &str| {
            let label = |l: &str| {
                !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'*')
            };
            name.len() <= 253 && name.split('.').all(label)
        };
        if name.parse::<IpAddr>().is_err() && !dns(name) {
            let why = format!(
                "`{name}` is neither a DNS name nor an IP address; give the host only, without https:// and port"
            );
            return Err(Invalid::new("--name", why).into());
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn write_new(path: &Path, text: &str, secret: bool) -> Result<()> {
    let mode = if secret { 0o600 } else { 0o644 };
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.doing(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_private_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let report = init(dir.path(), &["fl.example.org".into(), "localhost".into()]).unwrap();
        assert_eq!(report.names, ["fl.example.org", "localhost", "127.0.0.1", "::1"]);
        assert_eq!(report.ca_fingerprint.len(), 64);
        for key in [CA_KEY, SERVER_KEY, OPERATOR_KEY] {
            let mode = fs::metadata(dir.path().join("identity").join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        let again = init(dir.path(), &[]).unwrap_err();
        assert!(again.to_string().contains("is not overwritten"), "{again}");
        let loaded = Authority::load(&dir.path().join("identity")).unwrap();
        assert_eq!(loaded.fingerprint(), report.ca_fingerprint);
    }

    #[test]
    fn an_init_that_was_killed_can_be_run_again() {
        let dir = tempfile::tempdir().unwrap();
        let listen = "127.0.0.1:9999".parse().unwrap();
        CoordinatorConfig { data_dir: dir.path().to_owned(), listen }.write_new().unwrap();
        let other = init_listening(dir.path(), &[], "127.0.0.1:9998".parse().unwrap()).unwrap_err();
        assert!(other.to_string().contains("says 127.0.0.1:9999"), "{other}");
        let report = init(dir.path(), &[]).unwrap();
        assert_eq!(report.listen, listen, "what the configuration says is kept");
        assert_eq!(CoordinatorConfig::load(dir.path()).unwrap().listen, listen);
    }

    #[test]
    fn a_url_is_not_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = init(dir.path(), &["https://fl.example.org".into()]).unwrap_err();
        assert!(error.to_string().contains("without https://"), "{error}");
        assert!(!dir.path().join("identity").exists());
    }
}
