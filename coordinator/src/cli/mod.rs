//! The command line. `init` and `serve` work on the data folder; everything else goes through gRPC with the operator
//! certificate of that folder, so what a person can do here a script can do from elsewhere.

mod init;
mod serve;
mod site;
mod study;
mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use consilium_common::ErrorCode;

use crate::client::{OperatorClient, OperatorConfig};
use crate::clock::{Clock, SystemClock};
use crate::error::{CoordinatorError, Result};

/// Usage errors, sysexits' EX_USAGE.
const EX_USAGE: u8 = 64;

/// The coordinator of Consilium: holds studies, hands out generations, takes in updates and aggregates them.
#[derive(Debug, Parser)]
#[command(name = "consilium-coordinator", version, about, long_about = None, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a new coordinator: its CA, its certificates and its coordinator.toml
    Init(init::InitArgs),
    /// Serves the coordinator until it is told to stop (Ctrl-C or SIGTERM)
    Serve(serve::ServeArgs),
    /// Invites, lists and revokes sites
    #[command(subcommand)]
    Site(site::SiteCommand),
    /// Creates, shows, ends and exports studies
    #[command(subcommand)]
    Study(study::StudyCommand),
}

#[derive(Debug, Args)]
struct DataDir {
    /// The folder that holds the coordinator
    #[arg(
        long,
        value_name = "DIR",
        env = "CONSILIUM_COORDINATOR_DIR",
        hide_env_values = true,
        default_value = "coordinator"
    )]
    data_dir: PathBuf,
}

/// How a command reaches the running coordinator.
#[derive(Debug, Args)]
struct Connection {
    #[command(flatten)]
    dir: DataDir,
    /// Where the coordinator listens, if not where its coordinator.toml says
    #[arg(long, value_name = "ADDR:PORT")]
    address: Option<SocketAddr>,
}

/// A question: how to reach the coordinator, and how to print its answer.
#[derive(Debug, Args)]
struct Query {
    #[command(flatten)]
    connection: Connection,
    /// Prints JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Connection {
    async fn open(&self) -> Result<OperatorClient> {
        let mut config = OperatorConfig::of_data_dir(&self.dir.data_dir)?;
        if let Some(address) = self.address {
            config = config.at(address);
        }
        OperatorClient::connect(&config).await
    }
}

/// Parses the arguments and does what they say. What goes wrong is one sentence on standard error and an exit code:
/// 0 done, 64 usage, 69 unavailable, 70 our bug, 77 refused.
pub async fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too and are no error.
            let code = if error.use_stderr() { EX_USAGE } else { 0 };
            // A closed terminal cannot be told anything.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let done = match cli.command {
        Command::Init(args) => init::run(&args),
        Command::Serve(args) => serve::run(args).await,
        Command::Site(command) => site::run(command).await,
        Command::Study(command) => study::run(command).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::from(error.code().exit_code())
        }
    }
}

/// The error as a person reads it; a coordinator that is not there gets its next step.
fn sentence(error: &CoordinatorError) -> String {
    let text = error.to_string();
    match error.code() {
        ErrorCode::Unavailable if text.contains("cannot be reached") => {
            format!("{text}; start it with `consilium-coordinator serve`")
        }
        _ => text,
    }
}

/// Prints a value as JSON.
fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| CoordinatorError::internal("writing JSON", e))?;
    println!("{text}");
    Ok(())
}

fn now() -> consilium_common::Timestamp {
    SystemClock.now()
}

#[cfg(test)]
mod tests;
