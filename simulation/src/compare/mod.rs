//! Acquisition rules against each other: the same first ensembles, the same patches' worth of a pathologist's time, every
//! field held out once. What is finished is kept, so that a comparison that was stopped goes on where it was, to the
//! same bytes.

mod arms;
mod asking;
mod cell;
mod chart_budgets;
mod chart_colour;
mod chart_stages;
mod charts;
mod colour;
mod exports;
mod figures;
mod first_ensemble;
mod folder;
mod free_memory;
mod generation;
mod memory;
mod options;
mod render;
mod report;
mod round;
mod stages;
mod statistics;
mod summarise;
mod summary;
mod tables;
mod trials;
mod world;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use consilium_common::{Plan, SiteId};
use consilium_learning::network::MemberWeights;
use consilium_learning::training::Trainer;
use tokio_util::sync::CancellationToken;

pub use options::CompareOptions;
pub use render::{draw_summary, render};

use crate::experiment::{Console, ExperimentError, find_sites, material_of};
use crate::fields::Site;
use crate::look::engine_name;
use crate::work::{Reported, until_stopped};
use colour::SiteColours;
use folder::{Folder, Request};
use generation::Members;
use memory::trainings_at_once;
use summary::FIRST;
use trials::{Trial, trials};
use world::{Setting, World};

/// Runs a comparison, or what is missing of it. `command` is the command line that does it again, for the report.
///
/// # Errors
/// When options, plan or data cannot be used, the folder holds another comparison, something fails, or `shutdown` is
/// cancelled; what was finished stays.
pub async fn compare(
    options: CompareOptions,
    command: String,
    shutdown: CancellationToken,
) -> Result<Reported, ExperimentError> {
    until_stopped(shutdown, move |stop| run(&options, &command, stop)).await
}

fn run(options: &CompareOptions, command: &str, stop: &AtomicBool) -> Result<Reported, ExperimentError> {
    let since = Instant::now();
    let arms = options.arms()?;
    let console = Console::new();
    let names = find_sites(&options.data, &options.central, options.sites)?;
    let folders: Vec<PathBuf> = names.iter().map(|name| options.data.join(name.as_str())).collect();
    let plan = options.plan(&material_of(&options.data, &folders, &console)?)?;
    let trials = trials(&plan, &arms, &options.acquisition, &options.vary)?;
    if options.cold && trials.iter().any(|trial| !trial.plan.rehearsal.replay) {
        let why = "--cold begins every round anew: with rehearsal.replay = false it would not learn from what was corrected \
                   before; leave one of them out";
        return Err(ExperimentError::Usage(why.into()));
    }
    let sites = load(options, &names, &plan, &console)?;
    let trainings = trainings_at_once(&sites, &plan, &trials, options.folds, options.rounds)?;
    if let Some(drop) = plan.gate.max_dice_drop {
        console.note(&format!("the plan's gate ({drop}) is not applied: a comparison measures every generation"));
    }
    let (trainer, trains) = Trainer::on(options.device)?;
    let scans = engine_name(options.device, &plan)?;
    console.note(&format!("{scans}; {trains}"));
    let folder = Folder::open(&options.out, &options.terms(&plan, &sites, &format!("{scans}; {trainer:?}")))?;
    folder.keep_colours(&sites.iter().map(SiteColours::of).collect::<Result<Vec<_>, _>>()?)?;
    let go_on = || !stop.load(Ordering::Relaxed);
    let (device, rounds, cold) = (options.device, options.rounds, options.cold);
    let setting = Setting { sites: &sites, plan: &plan, device, trainer, trainings, rounds, cold, go_on: &go_on };
    compute(options, &trials, &folder, &setting, command, &console)?;
    let (report, table) = render::written(&folder)?;
    Ok(Reported { report, table, seconds: since.elapsed().as_secs_f64() })
}

/// Computes the cells that are not there yet.
fn compute(
    options: &CompareOptions,
    trials: &[Trial],
    folder: &Folder,
    setting: &Setting<'_>,
    command: &str,
    console: &Console,
) -> Result<(), ExperimentError> {
    let worlds: Vec<(u64, usize)> =
        options.seeds().flat_map(|seed| (0..options.folds).map(move |fold| (seed, fold))).collect();
    let wanted = wanted(trials, &options.budgets);
    let named = |seed, fold, trial: Option<&Trial>, budget| {
        folder::name(seed, fold, trial.map_or(FIRST, |trial| trial.name.as_str()), budget)
    };
    let all = worlds
        .iter()
        .flat_map(|&(seed, fold)| wanted.iter().map(move |&(trial, budget)| named(seed, fold, trial, budget)));
    folder.keep_request(&Request { command: command.to_owned(), cells: all.collect() })?;
    let bar = console.stage("cells", (worlds.len() * wanted.len()) as u64);
    // Cells that are there are counted before the first new one: they say nothing of the time that is left.
    let mut left = Vec::new();
    for &(seed, fold) in &worlds {
        let mut cells = Vec::new();
        for &(trial, budget) in &wanted {
            let name = named(seed, fold, trial, budget);
            match folder.cell(&name)? {
                Some(_) => bar.skip(1),
                None => cells.push((name, trial, budget)),
            }
        }
        left.push((seed, fold, cells));
    }
    for (seed, fold, cells) in left.into_iter().filter(|(.., cells)| !cells.is_empty()) {
        let first = first_ensemble(folder, setting, seed, fold, options.folds)?;
        let world = World::new(setting, seed, fold, options.folds, first);
        for (name, trial, budget) in cells {
            let cell = match trial {
                None => world.baseline(),
                Some(trial) => world.cell(trial, budget),
            }
            .map_err(ExperimentError::of_cell(&name))?;
            folder.keep(&name, &cell)?;
            bar.advance(1);
        }
    }
    bar.finish(&format!("{} cells of {} arms", worlds.len() * wanted.len(), trials.len()));
    Ok(())
}

/// Every arm with every budget, the first ensemble first. Of the whole data there is no budget.
fn wanted<'a>(trials: &'a [Trial], budgets: &[u32]) -> Vec<(Option<&'a Trial>, u32)> {
    let mut wanted = vec![(None, 0)];
    for trial in trials {
        let spent = budgets.iter().copied().filter(|&budget| budget > 0);
        match trial.kind {
            arms::Kind::Full => wanted.extend(spent.max().map(|budget| (Some(trial), budget))),
            _ => wanted.extend(spent.map(|budget| (Some(trial), budget))),
        }
    }
    wanted
}

fn load(
    options: &CompareOptions,
    names: &[SiteId],
    plan: &Plan,
    console: &Console,
) -> Result<Vec<Site>, ExperimentError> {
    let bar = console.stage("reading fields", names.len() as u64);
    let mut sites = Vec::new();
    for id in names {
        let (central, folder) = (id.as_str() == options.central, options.data.join(id.as_str()));
        sites.push(Site::load(id.clone(), central, &folder, plan)?);
        bar.advance(1);
    }
    let fields: usize = sites.iter().map(|site| site.fields.len()).sum();
    bar.finish(&format!("{fields} fields of {} sites", sites.len()));
    Ok(sites)
}

/// The first ensemble of a seed and fold, trained at the central site on what is not held out there.
fn first_ensemble(
    folder: &Folder,
    setting: &Setting<'_>,
    seed: u64,
    fold: usize,
    folds: usize,
) -> Result<Members, ExperimentError> {
    let dir = folder.models.join(format!("seed-{seed}-fold-{fold}"));
    let path = |member: usize| dir.join(format!("member-{member}.safetensors"));
    let plan = setting.plan;
    if (0..plan.members).all(|member| path(member).exists()) {
        let read = |member| MemberWeights::read(&path(member), &plan.architecture);
        return Ok((0..plan.members).map(read).collect::<Result<_, _>>()?);
    }
    let mut images = Vec::new();
    for site in setting.sites.iter().filter(|site| site.central) {
        let (_, learn) = site.split(seed, fold, folds);
        images.extend(learn.into_iter().map(|field| site.fields[field].whole()));
    }
    let members = generation::first(
        plan,
        setting.trainer,
        setting.trainings,
        &images,
        world::study_seed(seed, fold),
        setting.go_on,
    )?;
    fs::create_dir_all(&dir).map_err(ExperimentError::file(&dir))?;
    for (index, member) in members.iter().enumerate() {
        member.write(&path(index))?;
    }
    Ok(members)
}
