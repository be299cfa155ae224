//! `serve`: telemetry, signals, and the coordinator between them.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

use super::DataDir;
use crate::boot::serve;
use crate::config::CoordinatorConfig;
use crate::error::{Result, While};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    dir: DataDir,
    /// How the log on standard error is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: a level, or `module=level` pairs
    #[arg(long, value_name = "FILTER", env = "CONSILIUM_LOG", hide_env_values = true, default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(super) async fn run(args: ServeArgs) -> Result<()> {
    let config = CoordinatorConfig::load(&args.dir.data_dir)?;
    start_log(&args)?;
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).doing(|| "listening for SIGTERM".into())?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            // If Ctrl-C cannot be listened for, SIGTERM still works.
            Ok(()) = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        info!("asked to stop");
        stop.cancel();
    });
    let (ready, _) = oneshot::channel();
    serve(config, ready, shutdown).await
}

fn start_log(args: &ServeArgs) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|e| consilium_common::Invalid::new("--log", format!("`{}` is no filter: {e}", args.log)))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
