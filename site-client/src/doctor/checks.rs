//! The checks of the machine: folders, disk, identity, clock, network, corrector.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};

use super::Check;
use crate::clock;
use crate::config::{CorrectorConfig, SiteConfig};
use crate::identity::{self, IdentityFiles};
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::link::{Dial, Link, LinkError};

const PATIENCE: Duration = Duration::from_secs(10);
/// An ensemble of five and its deltas take about this much.
const COMFORTABLE_BYTES: u64 = 10 << 30;
const LEAST_BYTES: u64 = 1 << 30;
const DAYS_LEFT: u64 = 14;

pub(super) fn writable(what: &str, dir: &Path) -> Check {
    let made = std::fs::create_dir_all(dir);
    match made.and_then(|()| tempfile::tempfile_in(dir)) {
        Ok(_) => Check::ok(what, format!("{} can be written", dir.display())),
        Err(e) => {
            Check::fail(what, format!("{} cannot be written: {e}", dir.display()), "give this user write permission")
        }
    }
}

/// The state folder holds crops of slides and the site's key: nobody else on the machine has business there.
pub(super) fn private(dir: &Path) -> Option<Check> {
    let mode = std::fs::metadata(dir).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let found = format!("{} is open to other users of this machine (mode {mode:o})", dir.display());
        Check::warn("state folder", found, format!("chmod 700 {}", dir.display()))
    })
}

pub(super) fn space(dir: &Path) -> Check {
    let what = "disk space";
    let Ok(stat) = rustix::fs::statvfs(dir) else {
        return Check::warn(what, "could not be found out", "check it by hand");
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{:.1} GiB free", free as f64 / f64::from(1 << 30));
    match free {
        0..LEAST_BYTES => Check::fail(what, found, "free some space or move state_dir"),
        LEAST_BYTES..COMFORTABLE_BYTES => Check::warn(what, found, "large ensembles need 10 GiB"),
        _ => Check::ok(what, found),
    }
}

pub(super) fn identity(config: &SiteConfig) -> Vec<Check> {
    let files = IdentityFiles::in_dir(&Layout::new(&config.state_dir).identity());
    let enrol = "run `consilium-site enrol` with the token from the central group";
    if files.load().is_err() {
        return vec![Check::fail("identity", "this site is not enrolled", enrol)];
    }
    let mut checks = vec![key(&files)];
    let facts = match files.facts() {
        Ok(facts) => facts,
        Err(e) => {
            checks.push(Check::fail("certificate", e.to_string(), "restore it from backup or enrol again"));
            return checks;
        }
    };
    let wanted = identity::uri(&config.site);
    if !facts.uris.contains(&wanted) {
        let found = format!("is for {}, the config says {wanted}", facts.uris.join(", "));
        checks.push(Check::fail("certificate", found, "correct `site` in the config or enrol again"));
    }
    let now = clock::now();
    let until = clock::text(facts.not_after);
    checks.push(match facts.not_after.seconds_since(now) / 86_400 {
        _ if now > facts.not_after => Check::fail("certificate", format!("expired {until}"), enrol),
        days @ 0..DAYS_LEFT => {
            Check::warn("certificate", format!("valid for {days} more days"), "ask for a new invitation soon")
        }
        days => Check::ok("certificate", format!("valid for {days} more days, until {until}")),
    });
    checks.push(if now < facts.not_before {
        let found = format!("{} is before the certificate was made", clock::text(now));
        Check::fail("clock", found, "set the clock; let it follow a time server")
    } else {
        Check::ok("clock", clock::text(now))
    });
    checks
}

fn key(files: &IdentityFiles) -> Check {
    match std::fs::metadata(&files.key).map(|meta| meta.permissions().mode() & 0o777) {
        Ok(mode) if mode & 0o077 != 0 => Check::warn(
            "key",
            format!("others may read it (mode {mode:o})"),
            format!("chmod 600 {}", files.key.display()),
        ),
        Ok(mode) => Check::ok("key", format!("private (mode {mode:o})")),
        Err(e) => Check::fail("key", e.to_string(), "restore it from backup or enrol again"),
    }
}

pub(super) async fn network(config: &SiteConfig, enrolled: bool) -> Vec<Check> {
    let uri: Option<http::Uri> = config.coordinator.parse().ok();
    let Some((host, port)) = uri.as_ref().and_then(|uri| Some((uri.host()?, uri.port_u16()?))) else {
        return vec![Check::fail("address", config.coordinator.clone(), "write https://host:port")];
    };
    let host = host.trim_matches(['[', ']']);
    let addresses: Vec<_> = match lookup_host((host, port)).await {
        Ok(found) => found.collect(),
        Err(e) => {
            return vec![Check::fail("DNS", format!("{host}: {e}"), "check the name and this machine's resolver")];
        }
    };
    let Some(first) = addresses.first() else {
        return vec![Check::fail("DNS", format!("{host} has no address"), "check the name")];
    };
    let mut checks = vec![Check::ok("DNS", format!("{host} is {}", first.ip()))];
    match tokio::time::timeout(PATIENCE, TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(_)) => checks.push(Check::ok("TCP", format!("port {port} answers"))),
        Ok(Err(e)) => {
            let next = "check that the coordinator runs and that the firewall lets this machine out";
            checks.push(Check::fail("TCP", format!("port {port}: {e}"), next));
            return checks;
        }
        Err(_) => {
            checks.push(Check::fail(
                "TCP",
                format!("port {port} does not answer"),
                "a firewall drops it; open it outbound",
            ));
            return checks;
        }
    }
    checks.push(if enrolled { handshake(config).await } else { Check::warn("TLS", "not tried", "enrol first") });
    checks
}

async fn handshake(config: &SiteConfig) -> Check {
    let layout = Layout::new(&config.state_dir);
    let opened =
        IdentityFiles::in_dir(&layout.identity()).load().and_then(|i| Ok((i, Ledger::open(&layout.ledger())?)));
    let ((identity, ca_pem), ledger) = match opened {
        Ok(opened) => opened,
        Err(e) => return Check::fail("TLS", e.to_string(), ""),
    };
    let dial = Dial::Tls { address: config.coordinator.clone(), identity, ca_pem };
    let link = Link::new(dial, Arc::new(ledger));
    match link.next_task(0).await {
        Ok(_) => Check::ok("TLS", "the coordinator knows this site"),
        Err(LinkError::Refused(why)) => Check::fail("TLS", why, "talk to the central group"),
        Err(e) => Check::fail("TLS", e.to_string(), "try again; then look at the coordinator's log"),
    }
}

pub(super) fn corrector(config: &SiteConfig) -> Option<Check> {
    match &config.corrector {
        CorrectorConfig::Masks => None,
        CorrectorConfig::Folder { dir, .. } => Some(writable("corrections", dir)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use crate::files;

    fn config(dir: &Path, coordinator: &str) -> SiteConfig {
        let site = "hospital-a".parse().unwrap();
        SiteConfig::new(coordinator, site, dir.join("state"), dir.join("data"), CorrectorConfig::Masks)
    }

    #[tokio::test]
    async fn what_is_missing_fails_with_a_next_step() {
        let dir = tempfile::tempdir().unwrap();
        // Port 1 of loopback: nobody listens there.
        let config = config(dir.path(), "https://127.0.0.1:1");
        let checks = network(&config, false).await;
        assert_eq!(checks.last().unwrap().verdict, Verdict::Fail);
        assert!(checks.iter().all(|c| c.verdict == Verdict::Ok || !c.next.is_empty()));
        assert_eq!(identity(&config)[0].verdict, Verdict::Fail);
        assert_eq!(writable("state folder", &config.state_dir).verdict, Verdict::Ok);
        let (shared, usual) = (dir.path().join("corrections"), dir.path().join("usual"));
        assert_eq!(writable("corrections", &shared).verdict, Verdict::Ok);
        std::fs::create_dir(&usual).unwrap();
        let mode = |dir: &Path| std::fs::metadata(dir).unwrap().permissions().mode();
        assert_eq!(mode(&shared), mode(&usual), "the pathologist must be able to enter");
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(private(&shared).unwrap().next.contains("chmod 700"));
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(private(&shared).is_none());
        files::write_atomic(&dir.path().join("plain"), b"", files::SHARED).unwrap();
        assert_eq!(writable("state folder", &dir.path().join("plain/below")).verdict, Verdict::Fail);
    }
}
