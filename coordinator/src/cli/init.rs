//! `init`.

use std::net::SocketAddr;

use clap::Args;

use super::DataDir;
use crate::config::default_listen;
use crate::error::Result;
use crate::identity::init::init_listening;

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    dir: DataDir,
    /// A DNS name or IP address under which sites dial this coordinator; may be given several times. localhost,
    /// 127.0.0.1 and ::1 are always there
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Where the one TLS port listens
    #[arg(long, value_name = "ADDR:PORT", default_value_t = default_listen())]
    listen: SocketAddr,
}

pub(super) fn run(args: &InitArgs) -> Result<()> {
    let dir = &args.dir.data_dir;
    let report = init_listening(dir, &args.names, args.listen)?;
    let dir = dir.display();
    println!("A new coordinator is in {dir}.");
    println!("  listens on      {} (`listen` in {})", report.listen, report.config.display());
    println!("  answers to      {}", report.names.join(", "));
    println!("  CA fingerprint  {}", report.ca_fingerprint);
    println!();
    println!("Keep {dir}/identity safe: whoever reads ca.key can pose as any site.");
    println!("Next:");
    println!("  consilium-coordinator serve --data-dir {dir}");
    println!("  consilium-coordinator site invite SITE --data-dir {dir}");
    Ok(())
}
