//! The command line: what can be typed, and what is printed. The work is in the library.

mod exchange;
mod scan;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use comfy_table::{Table, presets};
use consilium_common::Plan;
use consilium_common::plan::ScanSettings;
use consilium_learning::engine::{Device, set_onnx_library};
use consilium_learning::slides::set_openslide_library;
use consilium_site_client::offline::{self, Evaluated, LeftOut, Tick};
use consilium_site_client::{SiteConfig, SiteError, doctor};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

/// Takes part in Consilium studies from inside a hospital: no image leaves.
#[derive(Debug, Parser)]
#[command(name = "consilium-site", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes this site's key, and exchanges a one-time token for its certificate.
    Enrol {
        #[command(flatten)]
        config: ConfigArg,
        /// The one-time token from the central group.
        #[arg(long)]
        token: String,
        /// The SHA-256 fingerprint of the coordinator's CA, from the central group.
        #[arg(long, value_name = "SHA256")]
        ca_fingerprint: String,
    },
    /// Works as a daemon until it is stopped.
    Run {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Shows what the site does, what it waits for, what left last, and slides that cannot be used.
    Status {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Checks everything that can be wrong at a site, with the next step for each.
    Doctor {
        #[command(flatten)]
        config: ConfigArg,
        /// Also measure every engine of this machine, for ten seconds each.
        #[arg(long)]
        speed: bool,
    },
    /// Shows the configuration that is in effect, or every mistake in it.
    CheckConfig {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Scans slides with a bundle, offline: label, probability and uncertainty maps that QuPath and OpenSlide open, label
    /// outlines (GeoJSON), overlays and figures of each.
    ///
    /// Of a slide NAME come NAME-labels.tif, NAME-probability-CLASS.tif, NAME-uncertainty.tif, NAME-entropy.tif,
    /// NAME-labels.geojson, NAME-tissue.geojson (edit it, put it into tissue/ of the data folder, and scan again),
    /// NAME-overlay.png, NAME-labels-overlay.png, NAME.json and NAME-timing.json. Exit code 69 when a slide failed.
    Scan(scan::Scan),
    /// Makes a bundle of an ensemble that was trained with nnU-Net; nothing in its files is run.
    Import(exchange::Import),
    /// Writes a bundle in the form of another program.
    Export(exchange::Export),
    /// Trains a first ensemble, offline, on the train slides that have masks.
    Train {
        /// The plan, TOML.
        #[arg(long)]
        plan: PathBuf,
        /// The data folder.
        #[arg(long)]
        data: PathBuf,
        /// The bundle to write.
        #[arg(long)]
        out: PathBuf,
        /// In place of the plan's seed.
        #[arg(long)]
        seed: Option<u64>,
        /// What trains: auto (the fastest that is there), cpu, or in a program built with libtorch also libtorch and cuda:N, both
        /// with :bf16 for numbers of half the size between the layers.
        #[arg(long, default_value_t = Device::Auto)]
        device: Device,
    },
    /// Evaluates a bundle, offline, on the test slides that have masks.
    Evaluate {
        /// The bundle: a folder with ensemble.json.
        #[arg(long)]
        bundle: PathBuf,
        #[command(flatten)]
        settings: ScanArgs,
        /// The data folder.
        #[arg(long)]
        data: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArg {
    /// The site's configuration; deploy/site.toml is a commented sample.
    #[arg(long = "config", value_name = "FILE", default_value = "site.toml")]
    path: PathBuf,
}

impl ConfigArg {
    /// The configuration, where slides will be scanned: its libraries are those of this process.
    fn load_for_slides(&self) -> Result<SiteConfig, SiteError> {
        let config = SiteConfig::load(&self.path)?;
        if let Some(library) = &config.openslide_library {
            set_openslide_library(library);
        }
        if let Some(library) = &config.onnx_library {
            set_onnx_library(library);
        }
        Ok(config)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// Take the scan settings from this plan, TOML.
    #[arg(long, conflicts_with_all = ["tile_px", "step"])]
    plan: Option<PathBuf>,
    /// Side of a network tile in pixels [default: 256].
    #[arg(long)]
    tile_px: Option<u32>,
    /// Step between tiles as a fraction of the tile [default: 0.5].
    #[arg(long)]
    step: Option<f64>,
    /// What computes the networks: auto, cpu, onnx (ONNX Runtime, if its library is there) or cuda:N; in a program built
    /// with libtorch also libtorch, and both with :bf16 for numbers of half the size between the layers.
    #[arg(long, default_value_t = Device::Auto)]
    device: Device,
}

impl ScanArgs {
    fn settings(&self) -> Result<ScanSettings, SiteError> {
        if let Some(path) = &self.plan {
            return Ok(read_plan(path)?.scan);
        }
        let mut settings = ScanSettings::default();
        settings.tile_px = self.tile_px.unwrap_or(settings.tile_px);
        settings.step = self.step.unwrap_or(settings.step);
        if !(0.1..=1.0).contains(&settings.step) {
            return Err(SiteError::Usage(format!("--step {} must be 0.1 to 1", settings.step)));
        }
        Ok(settings)
    }
}

/// Carries out a command.
pub(crate) async fn perform(command: Command) -> Result<ExitCode, SiteError> {
    match command {
        Command::Enrol { config, token, ca_fingerprint } => {
            let config = SiteConfig::load(&config.path)?;
            let report = consilium_site_client::enrol(&config, token.trim(), ca_fingerprint.trim()).await?;
            println!("enrolled as {}", report.uri);
            println!("next: `consilium-site doctor`, then `consilium-site run`");
        }
        Command::Run { config } => {
            let config = config.load_for_slides()?;
            let shutdown = CancellationToken::new();
            tokio::spawn(stop_on_signal(shutdown.clone()));
            consilium_site_client::run(config, shutdown).await?;
        }
        Command::Status { config } => {
            print!("{}", consilium_site_client::status(&SiteConfig::load(&config.path)?).await?);
        }
        Command::Doctor { config, speed } => return Ok(examine(&config.load_for_slides()?, speed).await),
        Command::CheckConfig { config } => print!("{}", SiteConfig::load(&config.path)?.to_toml()?),
        Command::Scan(scan) => {
            let stop = CancellationToken::new();
            tokio::spawn(stop_on_signal(stop.clone()));
            return blocking(move || scan::perform(scan, &stop)).await;
        }
        Command::Import(import) => blocking(move || import.run()).await?,
        Command::Export(export) => blocking(move || export.run()).await?,
        Command::Train { plan, data, out, seed, device } => {
            blocking(move || train(&plan, &data, &out, seed, device)).await?;
        }
        Command::Evaluate { bundle, settings, data } => {
            let (device, settings) = (settings.device, settings.settings()?);
            let stop = CancellationToken::new();
            tokio::spawn(stop_on_signal(stop.clone()));
            blocking(move || evaluate(&bundle, &settings, &data, device, &stop)).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, SiteError> + Send + 'static,
) -> Result<T, SiteError> {
    tokio::task::spawn_blocking(run).await.map_err(|_| SiteError::Crashed("the command"))?
}

async fn stop_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    if let Ok(mut terminate) = signal(SignalKind::terminate()) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    } else {
        let _ = tokio::signal::ctrl_c().await;
    }
    shutdown.cancel();
}

async fn examine(config: &SiteConfig, speed: bool) -> ExitCode {
    let bar = bar();
    let ticks = bar.clone();
    let checks = doctor::examine(config, speed, move |done, total| {
        ticks.set_length(total);
        ticks.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    println!("{}", doctor::table(&checks));
    match doctor::worst(&checks) {
        doctor::Verdict::Fail => ExitCode::from(69),
        _ => ExitCode::SUCCESS,
    }
}

fn train(plan: &Path, data: &Path, out: &Path, seed: Option<u64>, device: Device) -> Result<(), SiteError> {
    let plan = read_plan(plan)?;
    let bar = bar();
    let trainings = plan.members as u64 / u64::from(plan.initial_training.snapshots.max(1));
    bar.set_length(trainings * u64::from(plan.initial_training.iterations));
    let step = |_| {
        bar.inc(1);
        true
    };
    let done = offline::train(&plan, data, out, seed, device, &step);
    bar.finish_and_clear();
    let report = done?;
    for (training, (first, last)) in report.losses.iter().enumerate() {
        println!("training {training}: loss {first:.3} -> {last:.3}");
    }
    println!("{}", report.trainer);
    println!("trained on {} slides; bundle {} ({})", report.slides.len(), out.display(), report.manifest.short());
    complain(&report.left_out);
    Ok(())
}

fn evaluate(
    bundle: &Path,
    settings: &ScanSettings,
    data: &Path,
    device: Device,
    stop: &CancellationToken,
) -> Result<(), SiteError> {
    let bar = bar();
    let seen = |tick| {
        show(&bar, tick);
        !stop.is_cancelled()
    };
    let done = offline::evaluate(bundle, settings, data, device, &seen);
    bar.finish_and_clear();
    let Evaluated { report, left_out, held_out } = done?;
    let figure = |value: &Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.4}"));
    let list = |values: &[Option<f64>]| values.iter().map(figure).collect::<Vec<_>>().join(" ");
    let mut table = plain(["slide", "mean Dice", "Dice by class"]);
    for slide in &report.slides {
        table.add_row([slide.name.clone(), figure(&slide.mean_dice), list(&slide.dice)]);
    }
    println!("{}", table.trim_fmt());
    println!("generation {}, {} slides", report.generation, report.slides.len());
    println!(
        "mean Dice {}, pooled {}, ECE {}",
        figure(&report.mean_dice),
        list(&report.pooled_dice),
        figure(&report.ece)
    );
    if !held_out {
        println!("No slide is marked `test` in slides.csv: these slides may have been trained on.");
    }
    complain(&left_out);
    Ok(())
}

fn read_plan(path: &Path) -> Result<Plan, SiteError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| SiteError::Usage(format!("the plan {} cannot be read: {e}", path.display())))?;
    Ok(Plan::from_toml(&text)?)
}

fn complain(left_out: &[LeftOut]) {
    for slide in left_out {
        eprintln!("left out: {}: {}", slide.slide, slide.why);
    }
}

fn plain<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} % {eta}");
    let bar = ProgressBar::new(0);
    // A template that does not parse would only cost the looks.
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

fn show(bar: &ProgressBar, tick: Tick) {
    let items = tick.items.max(1) as u64;
    bar.set_length(items * 1000);
    bar.set_position(tick.item as u64 * 1000 + (tick.done * 1000).checked_div(tick.total).unwrap_or(0));
    bar.set_message(format!("{} of {}", tick.item + 1, tick.items));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn help() {
        let mut all = String::new();
        let mut command = Cli::command().term_width(100);
        all.push_str(&command.render_long_help().to_string());
        for name in ["enrol", "run", "scan", "train", "evaluate"] {
            let sub = command.find_subcommand_mut(name).unwrap();
            all.push_str(&format!("\n---- {name}\n{}", sub.render_long_help()));
        }
        insta::assert_snapshot!(all);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
