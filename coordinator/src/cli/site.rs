//! `site invite|list|revoke`.

use clap::{Args, Subcommand};
use consilium_common::SiteId;

use super::table::{self, Cells};
use super::{Connection, Query, now, print_json};
use crate::error::Result;
use crate::view::Standing;

#[derive(Debug, Subcommand)]
pub(super) enum SiteCommand {
    /// Makes a one-time token with which a new site enrols
    Invite(InviteArgs),
    /// Lists the sites with their standing
    List(Query),
    /// Revokes a site: its connections are refused from now on, and running studies go on without it
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(super) struct InviteArgs {
    /// The site's name: a-z, 0-9 and -
    site: SiteId,
    /// Days that the token lives
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=90))]
    valid_days: u64,
    #[command(flatten)]
    query: Query,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The site's name
    site: SiteId,
    /// Why, for the record
    #[arg(long, default_value = "no reason given")]
    reason: String,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(command: SiteCommand) -> Result<()> {
    match command {
        SiteCommand::Invite(args) => invite(args).await,
        SiteCommand::List(query) => list(&query).await,
        SiteCommand::Revoke(args) => {
            args.connection.open().await?.revoke(&args.site, &args.reason).await?;
            println!(
                "Site {} is revoked. To let it in again: consilium-coordinator site invite {}",
                args.site, args.site
            );
            Ok(())
        }
    }
}

async fn invite(args: InviteArgs) -> Result<()> {
    let invitation = args.query.connection.open().await?.invite(&args.site, args.valid_days * 86_400).await?;
    if args.query.json {
        return print_json(&invitation);
    }
    let (site, until) = (&args.site, table::day(invitation.expires));
    println!("Hand this to site {site} over a channel you trust. The token works once, until {until}.");
    println!();
    println!(
        "  consilium-site enrol --config site.toml --token {} --ca-fingerprint {}",
        invitation.token, invitation.ca_fingerprint
    );
    println!();
    println!("Its site.toml needs site = \"{site}\" and this coordinator's address as https://host:port.");
    Ok(())
}

async fn list(query: &Query) -> Result<()> {
    let sites = query.connection.open().await?.sites().await?;
    if query.json {
        return print_json(&sites);
    }
    if sites.is_empty() {
        println!("No sites yet. Invite one: consilium-coordinator site invite SITE");
        return Ok(());
    }
    let now = now();
    let rows = sites.iter().map(|site| -> Cells {
        let standing = match site.standing {
            Standing::Invited => "invited",
            Standing::Enrolled => "enrolled",
            Standing::Revoked => "revoked",
        };
        let expires = site.certificate_expires.map_or_else(|| "-".into(), table::day);
        vec![site.site.to_string(), standing.into(), table::ago(site.last_seen, now), expires]
    });
    println!("{}", table::render(&["site", "standing", "last seen", "certificate until"], rows));
    Ok(())
}
