//! `study create|list|status|watch|abort|export`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use consilium_common::{GenerationNumber, Invalid, Plan, SiteId, StudyId, limits};

use super::{Connection, Query, now, print_json, table};
use crate::error::{Result, While};

#[derive(Debug, Subcommand)]
pub(super) enum StudyCommand {
    /// Creates a study from a plan and a first ensemble
    Create(CreateArgs),
    /// Lists the studies, one line each
    List(Query),
    /// Shows where a study stands and for whom it waits
    Status(StudyArgs),
    /// Shows it again at every change, until the study ends
    Watch(StudyArgs),
    /// Ends a study for good; what was published stays
    Abort(AbortArgs),
    /// Downloads a published generation as a bundle
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The new study's name: a-z, 0-9 and -
    study: StudyId,
    /// The plan, TOML
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// The first ensemble: a folder with ensemble.json and one file a member
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// A site that takes part; give it once for each
    #[arg(long = "site", value_name = "SITE", required = true)]
    sites: Vec<SiteId>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct StudyArgs {
    /// The study's name
    study: StudyId,
    #[command(flatten)]
    query: Query,
}

#[derive(Debug, Args)]
pub(super) struct AbortArgs {
    /// The study's name
    study: StudyId,
    /// Why; the sites are told
    #[arg(long, default_value = "no reason given")]
    reason: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The study's name
    study: StudyId,
    /// The generation's number; the newest published one if left out
    #[arg(long, value_name = "N")]
    generation: Option<u32>,
    /// The folder for the bundle; an interrupted export into it goes on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(command: StudyCommand) -> Result<()> {
    match command {
        StudyCommand::Create(args) => create(args).await,
        StudyCommand::List(query) => list(&query).await,
        StudyCommand::Status(args) => {
            let view = args.query.connection.open().await?.status(&args.study).await?;
            if args.query.json {
                return print_json(&view);
            }
            println!("{}", table::study(&view, now()));
            Ok(())
        }
        StudyCommand::Watch(args) => watch(args).await,
        StudyCommand::Abort(args) => {
            args.connection.open().await?.abort(&args.study, &args.reason).await?;
            println!("Study {} is aborted. Its published generations can still be exported.", args.study);
            Ok(())
        }
        StudyCommand::Export(args) => {
            let wanted = args.generation.map(GenerationNumber);
            let number = args.connection.open().await?.export(&args.study, wanted, &args.out).await?;
            println!("Generation {number} of study {} is in {}.", args.study, args.out.display());
            Ok(())
        }
    }
}

async fn create(args: CreateArgs) -> Result<()> {
    let CreateArgs { study, plan: path, bundle, sites, connection } = args;
    let doing = || format!("reading {}", path.display());
    if fs::metadata(&path).doing(doing)?.len() > limits::MAX_DOCUMENT_BYTES as u64 {
        return Err(Invalid::new(path.display().to_string(), "is too long to be a plan").into());
    }
    let plan = Plan::from_toml(&fs::read_to_string(&path).doing(doing)?)?;
    let digest = connection.open().await?.create_study(&study, &plan, &bundle, &sites).await?;
    println!(
        "Study {study} is created: {} rounds, {} members, {} sites, plan {}.",
        plan.rounds,
        plan.members,
        sites.len(),
        digest.short()
    );
    println!("Next: consilium-coordinator study watch {study}");
    Ok(())
}

async fn list(query: &Query) -> Result<()> {
    let studies = query.connection.open().await?.studies().await?;
    if query.json {
        return print_json(&studies);
    }
    if studies.is_empty() {
        println!(
            "No studies yet. Create one: consilium-coordinator study create STUDY --plan FILE --bundle DIR --site SITE"
        );
        return Ok(());
    }
    println!("{}", table::studies(&studies, now()));
    Ok(())
}

async fn watch(args: StudyArgs) -> Result<()> {
    let mut watch = args.query.connection.open().await?.watch(&args.study).await?;
    while let Some(view) = watch.next().await? {
        if args.query.json {
            print_json(&view)?;
        } else {
            println!("{}\n", table::study(&view, now()));
        }
    }
    Ok(())
}
