//! consilium-simulate: parse, run, exit code.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Parser;
use consilium_simulation::active::learn;
use consilium_simulation::cli::{Action, Cli};
use consilium_simulation::compare::{compare, draw_summary, render};
use consilium_simulation::experiment::{ExperimentError, Finished, Options, dice_table, run};
use consilium_simulation::mosaic::{MosaicOptions, mosaic};
use consilium_simulation::rare::{DrawOptions, draw_centres};
use consilium_simulation::work::Reported;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

fn main() -> ExitCode {
    let command = std::env::args_os()
        .map(|a| quoted(&a.to_string_lossy()))
        .skip(1)
        .fold("consilium-simulate".to_owned(), |line, arg| line + " " + &arg);
    let action = match Cli::try_parse().and_then(Cli::action) {
        Ok(action) => action,
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let done = match action {
        Action::Experiment(options) => start(*options, command).map(|finished| {
            println!("\n{}", dice_table(&finished.metrics));
            println!("{:.1} minutes. Report: {}", finished.seconds / 60.0, finished.report.display());
        }),
        Action::Compare(options) => {
            until_stopped(|shutdown| Box::pin(compare(*options, command, shutdown))).map(|done| tell(&done))
        }
        Action::Render(file) if file.is_file() => {
            draw_summary(&file).map(|drawn| drawn.iter().for_each(|figure| println!("{}", figure.display())))
        }
        Action::Render(folder) => {
            render(&folder).map(|done| println!("{}\nReport: {}", done.table, done.report.display()))
        }
        Action::ActiveLearning(options) => {
            until_stopped(|shutdown| Box::pin(learn(*options, command, shutdown))).map(|done| tell(&done))
        }
        Action::Mosaic(options) => make_mosaic(&options),
        Action::Draw(options) => make_centres(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Says what came of a comparison or of active learning.
fn tell(done: &Reported) {
    println!("\n{}", done.table);
    println!("{:.1} minutes. Report: {}", done.seconds / 60.0, done.report.display());
}

/// Makes a mosaic and says what came of it.
fn make_mosaic(options: &MosaicOptions) -> Result<(), ExperimentError> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} rows, {eta} left");
    let bar =
        ProgressBar::new(options.height.into()).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let made = mosaic(options, &|done, _| bar.set_position(done.into()))?;
    bar.finish_and_clear();
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{}: {} x {} px at {} from {} fields, {:.1} MB\n{}: {:.1} MB\n{:.1} s",
        options.out.display(),
        options.width,
        options.height,
        made.mpp,
        made.fields,
        mb(made.slide_bytes),
        made.mask.display(),
        mb(made.mask_bytes),
        made.seconds
    );
    Ok(())
}

/// Draws centres with rare tumour and says what came of it.
fn make_centres(options: &DrawOptions) -> Result<(), ExperimentError> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} slides, {eta} left");
    let bar = ProgressBar::new((options.sites.saturating_mul(options.slides)) as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let drawn = draw_centres(options, &|| bar.inc(1))?;
    bar.finish_and_clear();
    println!("{}", drawn.summary(options, quoted));
    Ok(())
}

fn start(options: Options, command: String) -> Result<Finished, ExperimentError> {
    // An earlier provider, if any, serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = LogFile { path: options.out.join("run.log"), file: OnceLock::new() };
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(log).init();
    until_stopped(|shutdown| Box::pin(run(options, command, shutdown)))
}

/// Runs work that a person may stop with Ctrl-C.
fn until_stopped<T, F>(work: impl FnOnce(CancellationToken) -> F) -> Result<T, ExperimentError>
where
    F: Future<Output = Result<T, ExperimentError>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(ExperimentError::file(std::path::Path::new("the runtime's threads")))?;
    let shutdown = CancellationToken::new();
    runtime.block_on(async {
        tokio::spawn({
            let shutdown = shutdown.clone();
            async move {
                if tokio::signal::ctrl_c().await.is_ok() {
                    eprintln!("\nstopping ...");
                    shutdown.cancel();
                }
            }
        });
        work(shutdown).await
    })
}

/// `run.log` in the output folder, opened at the first event, when the folder is there. Bars and log would spoil each
/// other on one screen.
struct LogFile {
    path: PathBuf,
    file: OnceLock<Option<File>>,
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Box<dyn Write + 'a>;

    fn make_writer(&'a self) -> Self::Writer {
        match self.file.get_or_init(|| File::create(&self.path).ok()) {
            Some(file) => Box::new(file),
            None => Box::new(io::sink()),
        }
    }
}

/// A word of the command line as a shell would need it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
