//! The coordinator's binary: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads could be started: {error}");
            return ExitCode::from(70);
        }
    };
    let code = runtime.block_on(consilium_coordinator::cli::run());
    // An aggregation that still runs is not waited for: the next start asks for it again.
    runtime.shutdown_background();
    code
}
