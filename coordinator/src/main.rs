//! The coordinator's binary: parse, run, exit code.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    consilium_coordinator::cli::run().await
}
