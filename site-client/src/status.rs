//! `status`: what the site does, what it waits for and since when, what left last, and which slides cannot be used.
//! Reads the state folder only, beside a running daemon or without one.

use std::fmt::Write;
use std::fs::File;

use consilium_common::Timestamp;

use crate::clock;
use crate::config::SiteConfig;
use crate::error::SiteError;
use crate::identity::IdentityFiles;
use crate::journal::{Journal, Now, SlideProblem};
use crate::layout::Layout;
use crate::ledger::{self, Entry};

const LEDGER_LINES: usize = 5;

/// Everything that `status` shows.
#[derive(Debug)]
struct Status {
    site: String,
    running: bool,
    enrolled_until: Option<Timestamp>,
    now: Option<Now>,
    problems: Vec<SlideProblem>,
    left: Vec<Entry>,
}

/// The status of a site as text.
pub async fn status(config: &SiteConfig) -> Result<String, SiteError> {
    let layout = Layout::new(&config.state_dir);
    let files = IdentityFiles::in_dir(&layout.identity());
    let enrolled_until = if files.exists() { Some(files.facts()?.not_after) } else { None };
    let mut status = Status {
        site: config.site.to_string(),
        running: is_running(&layout),
        enrolled_until,
        now: None,
        problems: vec![],
        left: ledger::tail(&layout.ledger(), LEDGER_LINES)?,
    };
    if layout.journal().is_file() {
        let journal = Journal::open_to_read(&layout.journal()).await?;
        status.now = journal.now().await?;
        status.problems = journal.problems().await?;
        journal.close().await;
    }
    Ok(render(&status, clock::now()))
}

fn is_running(layout: &Layout) -> bool {
    File::open(layout.lock()).is_ok_and(|file| file.try_lock_shared().is_err())
}

fn render(status: &Status, now: Timestamp) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<10} {value}");
    };
    line("site", status.site.clone());
    line(
        "enrolled",
        match status.enrolled_until {
            Some(until) => format!("yes, certificate valid until {}", clock::text(until)),
            None => "no; run `consilium-site enrol` with the token from the central group".to_owned(),
        },
    );
    line("daemon", if status.running { "running".to_owned() } else { "not running".to_owned() });
    match &status.now {
        Some(current) => {
            line("now", current.state.to_string());
            line("since", format!("{} ({})", clock::text(current.since), clock::ago(current.since, now)));
            if let Some(note) = &current.note {
                line("note", note.clone());
            }
        }
        None => line("now", "nothing yet; the daemon has not run".to_owned()),
    }
    let _ = writeln!(out, "\nslides that cannot be used: {}", status.problems.len());
    for problem in &status.problems {
        let _ = writeln!(out, "  {} (seen {}): {}", problem.slide, clock::text(problem.seen), problem.problem);
    }
    let _ = writeln!(out, "\nlast to leave this site (all of it: ledger.jsonl)");
    if status.left.is_empty() {
        let _ = writeln!(out, "  nothing yet");
    }
    for entry in &status.left {
        let study = entry.study.as_ref().map_or("-".to_owned(), ToString::to_string);
        let round = entry.round.map_or("-".to_owned(), |r| r.to_string());
        let digest = entry.digest.short();
        let Entry { time, what, bytes, .. } = entry;
        let _ = writeln!(out, "  {time}  {study}  round {round}  {what}  {bytes} bytes  {digest}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{AgentState, LearnStep};
    use consilium_common::messages::WorkOrder;
    use consilium_common::{Digest, GenerationNumber, RoundNumber};

    #[test]
    fn it_says_what_it_waits_for_and_since_when() {
        let order = WorkOrder {
            study: "liver".parse().unwrap(),
            plan: Digest::of(b"p"),
            round: RoundNumber(3),
            generation: GenerationNumber(2),
            manifest: Digest::of(b"m"),
        };
        let state = AgentState::Learning { order, step: LearnStep::Correct { corrected: 3, asked: 5 } };
        let moment = Timestamp(1_700_000_000_000);
        let entry = Entry {
            time: clock::text(moment),
            study: Some("liver".parse().unwrap()),
            round: Some(RoundNumber(2)),
            what: "update".into(),
            bytes: 321,
            digest: Digest::of(b"abc"),
        };
        let problem = SlideProblem { slide: "S7".into(), problem: "ends early; copy it again".into(), seen: moment };
        let status = Status {
            site: "hospital-a".into(),
            running: true,
            enrolled_until: Some(moment.plus_seconds(864_000)),
            now: Some(Now { state, since: moment, note: None }),
            problems: vec![problem],
            left: vec![entry],
        };
        insta::assert_snapshot!(render(&status, moment.plus_seconds(200_000)), @r"
        site       hospital-a
        enrolled   yes, certificate valid until 2023-11-24T22:13:20Z
        daemon     running
        now        liver, round 3: waiting for corrections: 3 of 5
        since      2023-11-14T22:13:20Z (2 days)

        slides that cannot be used: 1
          S7 (seen 2023-11-14T22:13:20Z): ends early; copy it again

        last to leave this site (all of it: ledger.jsonl)
          2023-11-14T22:13:20Z  liver  round 2  update  321 bytes  6437b3ac3846
        ");
    }
}
