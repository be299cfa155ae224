//! `consilium-site scan`: what can be typed, and the tables that are printed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::{Args, ValueEnum};
use consilium_common::Mpp;
use consilium_learning::tissue::{Sensitivity, TissueSettings};
use consilium_site_client::SiteError;
use consilium_site_client::config::{SCAN_MEMORY_MB, SCAN_MEMORY_RANGE_MB};
use consilium_site_client::offline::{self, DryRun, Phase, ScanReport, ScanRequest};
use tokio_util::sync::CancellationToken;

use super::{ScanArgs, bar, complain, plain};

/// Exit code when some slides could not be scanned.
const SOME_FAILED: u8 = 69;

#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// Data folders, other folders of slides, or single slides.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The bundle: a folder with ensemble.json.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Where the outputs go.
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Look at the slides and say what would be done and how long it would take; write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Go on where an earlier scan of the same slides with the same bundle and settings was stopped.
    #[arg(long)]
    resume: bool,
    /// Only these slides, by name, without the ending.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Spacing in um per pixel of slides outside a data folder, in place of what their files say.
    #[arg(long, value_name = "UM")]
    mpp: Option<f64>,
    /// How pale tissue may be: `high` also finds mucin and faint fat, and takes uneven glass for tissue.
    #[arg(long, value_name = "HOW", default_value = "normal")]
    tissue: Paleness,
    /// Megabytes to use beyond the weights of the ensemble, whatever the size of the slides.
    #[arg(long, value_name = "MB", default_value_t = 2 * SCAN_MEMORY_MB)]
    memory_mb: u64,
    #[command(flatten)]
    settings: ScanArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Paleness {
    Low,
    Normal,
    High,
}

impl Scan {
    /// The request, and whether it is to be carried out.
    fn request(self) -> Result<(ScanRequest, bool), SiteError> {
        if !SCAN_MEMORY_RANGE_MB.contains(&self.memory_mb) {
            return Err(SiteError::Usage(format!("--memory-mb {} must be 256 to 1048576", self.memory_mb)));
        }
        let sensitivity = match self.tissue {
            Paleness::Low => Sensitivity::Low,
            Paleness::Normal => Sensitivity::Normal,
            Paleness::High => Sensitivity::High,
        };
        let request = ScanRequest {
            bundle: self.bundle,
            settings: self.settings.settings()?,
            paths: self.paths,
            only: self.only,
            mpp: self.mpp.map(Mpp::new).transpose()?,
            tissue: TissueSettings { sensitivity, ..TissueSettings::default() },
            device: self.settings.device,
            memory_bytes: self.memory_mb << 20,
            out: self.out.unwrap_or_default(),
            resume: self.resume,
        };
        Ok((request, !self.dry_run))
    }
}

/// Scans, or says what a scan would do. A stop keeps what is finished.
pub(crate) fn perform(scan: Scan, stop: &CancellationToken) -> Result<ExitCode, SiteError> {
    let (request, real) = scan.request()?;
    let (bar, said) = (bar(), Mutex::new((Phase::Looking, 0)));
    let seen = |phase: Phase, done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
        let what = if phase == Phase::Looking { "looking" } else { "scanning" };
        bar.set_message(what);
        // Where nobody sees a bar, a log hears of every tenth.
        let now = (phase, (done * 10).checked_div(total).unwrap_or(0));
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if now > *said {
            *said = now;
            if bar.is_hidden() && now.1 > 0 {
                eprintln!("{what}: {}0 % done", now.1);
            }
        }
        !stop.is_cancelled()
    };
    let failed = if real {
        let report = offline::scan(&request, &seen);
        bar.finish_and_clear();
        let report = report.inspect_err(|error| {
            if matches!(error, SiteError::Stopped) {
                eprintln!("what is finished is kept: the same command with --resume goes on");
            }
        })?;
        println!("{}", table(&report));
        println!("{} slides scanned into {}", report.slides.len(), request.out.display());
        report.failed
    } else {
        let run = offline::dry_run(&request, &seen);
        bar.finish_and_clear();
        let run = run?;
        println!("{}", prospects(&run));
        run.failed
    };
    complain(&failed);
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(SOME_FAILED) })
}

fn table(report: &ScanReport) -> String {
    let mut table = plain(["slide", "tissue", "foreground", "uncertainty", "time", "speed", ""]);
    for line in &report.slides {
        let mut notes = Vec::new();
        if line.took.is_none() {
            notes.push("was finished before".to_owned());
        }
        if line.holes > 0 {
            notes.push(format!("{} damaged tiles, see its JSON", line.holes));
        }
        table.add_row([
            line.slide.clone(),
            format!("{:.2} mm2", line.tissue_mm2),
            line.foreground_share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0)),
            line.mean_uncertainty_nats.map_or("-".to_owned(), |nats| format!("{nats:.3} nats")),
            line.took.map_or(String::new(), |(seconds, _)| duration(seconds)),
            line.took.map_or(String::new(), |(_, speed)| format!("{speed:.3} mm2/s")),
            notes.join(", "),
        ]);
    }
    table.trim_fmt()
}

fn prospects(run: &DryRun) -> String {
    let mut table = plain(["slide", "format", "size", "spacing", "tissue", "tiles", "time", ""]);
    let (mut tiles, mut area) = (0, 0.0);
    for slide in &run.slides {
        let todo = if slide.finished { 0 } else { slide.tiles };
        tiles += todo;
        area += slide.tissue_mm2;
        let note = if slide.finished { "is finished" } else { "" };
        table.add_row([
            slide.slide.clone(),
            slide.format.clone(),
            format!("{} x {}", slide.size.0, slide.size.1),
            slide.mpp.to_string(),
            format!("{:.2} mm2", slide.tissue_mm2),
            slide.tiles.to_string(),
            duration(todo as f64 * run.seconds_per_tile),
            note.to_owned(),
        ]);
    }
    let mut text = table.trim_fmt();
    for slide in &run.slides {
        for warning in &slide.warnings {
            text.push_str(&format!("\nnote: {}: {warning}", slide.slide));
        }
    }
    let seconds = tiles as f64 * run.seconds_per_tile;
    text + &format!(
        "\n{} slides, {area:.1} mm2 of tissue, {tiles} tiles: about {} on this machine",
        run.slides.len(),
        duration(seconds)
    )
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) => format!("{seconds:.1} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02} min"),
        (hours, minutes, _) => format!("{hours}:{minutes:02} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_for_people() {
        assert_eq!(
            [4.24, 59.6, 61.0, 3599.9, 3700.0].map(duration),
            ["4.2 s", "1:00 min", "1:01 min", "1:00 h", "1:01 h"]
        );
    }
}
