//! `doctor`: everything that can be wrong at a site, checked one after the other, each with its next step. Changes
//! nothing, except that it makes the folders to write to where they are missing, and sends nothing but the empty
//! question whether there is something to do.

mod checks;
mod engines;
mod slides;

use comfy_table::{ContentArrangement, Table, presets};

use crate::config::SiteConfig;
use crate::files;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, but look at it.
    Warn,
    /// Will not work.
    Fail,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; empty if nothing.
    pub next: String,
}

impl Check {
    fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Ok, found: found.into(), next: String::new() }
    }
    fn warn(what: impl Into<String>, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Warn, found: found.into(), next: next.into() }
    }
    fn fail(what: impl Into<String>, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Fail, found: found.into(), next: next.into() }
    }
}

/// All checks of a site, and with `speed` a measurement of every engine. `seen` hears how many slides are checked, of how
/// many.
pub async fn examine(config: &SiteConfig, speed: bool, seen: impl Fn(u64, u64) + Send + Sync + 'static) -> Vec<Check> {
    let mut all = vec![Check::ok("config", format!("site {}, coordinator {}", config.site, config.coordinator))];
    // Where that fails, the check says why.
    let _ = files::create_private_dir(&config.state_dir);
    all.push(checks::writable("state folder", &config.state_dir));
    all.extend(checks::private(&config.state_dir));
    all.push(checks::space(&config.state_dir));
    let identity = checks::identity(config);
    let enrolled = identity.iter().all(|check| check.verdict != Verdict::Fail);
    all.extend(identity);
    all.extend(checks::network(config, enrolled).await);
    all.extend(checks::corrector(config));
    all.push(slides::openslide());
    all.extend(engines::chosen(config));
    if speed {
        let crashed = |_| vec![Check::fail("speed", "measuring the engines stopped unexpectedly", "report it")];
        all.extend(tokio::task::spawn_blocking(engines::speeds).await.unwrap_or_else(crashed));
    }
    let owned = config.clone();
    let data = tokio::task::spawn_blocking(move || slides::data(&owned, &seen)).await;
    all.extend(
        data.unwrap_or_else(|_| vec![Check::fail("data", "checking the slides stopped unexpectedly", "report it")]),
    );
    all
}

/// The worst verdict.
pub fn worst(checks: &[Check]) -> Verdict {
    checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok)
}

/// The checks as a table.
pub fn table(checks: &[Check]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["check", "", "found", "next step"]);
    for check in checks {
        table.add_row([&check.what, check.verdict.text(), &check.found, &check.next]);
    }
    table.trim_fmt()
}
