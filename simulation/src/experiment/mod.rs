//! One experiment from its options to its report: data, plan, first ensemble, a coordinator and its sites over loopback
//! mutual TLS, then figures. The same code runs the demonstration and data folders that exist.

mod central;
mod collect;
mod console;
mod demo_plan;
mod error;
mod federation;
mod metrics;
mod options;
mod prepare;
mod timing;
mod workspace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use consilium_common::Plan;
use consilium_common::plan::PlanError;
use tokio_util::sync::CancellationToken;

pub(crate) use console::Console;
pub use console::dice_table;
pub(crate) use demo_plan::{DEFAULT_RULE, Material, plan as built_in_plan, rare_plan};
pub use error::ExperimentError;
pub use metrics::{Generation, Metrics, Patch, Rejected};
pub use options::{Options, Source};
pub(crate) use prepare::{find_folders, find_sites, folder_name, material_of};
pub use timing::{Step, Timing};

pub(crate) use collect::STUDY;
use collect::{Collected, collect};
use prepare::{Prepared, portrait, prepare};
use workspace::Workspace;

use crate::report::{CentreStory, Story, write_report};
use crate::work::StopFlag;

/// What an experiment leaves behind.
pub struct Finished {
    /// The numbers, also in `metrics.json`.
    pub metrics: Metrics,
    /// The report.
    pub report: PathBuf,
    /// Seconds that it took.
    pub seconds: f64,
}

/// An experiment under way: what every step needs.
struct Run {
    options: Options,
    workspace: Workspace,
    console: Console,
    timing: Timing,
    /// Set when a person stops the run; blocking work looks at it.
    stop: Arc<AtomicBool>,
    shutdown: CancellationToken,
    since: Instant,
}

impl Run {
    /// Notes the time since the step before.
    fn done(&mut self, what: &str) {
        self.timing.step(what, self.since.elapsed().as_secs_f64());
        self.since = Instant::now();
    }
}

/// Runs an experiment. `command` is the command line that does it again, for the report.
///
/// # Errors
/// When options, plan or data cannot be used, a part of the system fails, or `shutdown` is cancelled.
pub async fn run(
    mut options: Options,
    command: String,
    shutdown: CancellationToken,
) -> Result<Finished, ExperimentError> {
    options.validate()?;
    let own_plan = options.plan.as_deref().map(read_plan).transpose()?;
    if let Some(plan) = &own_plan {
        options.seed = plan.seed;
    }
    let stop = StopFlag::of(shutdown.clone());
    let workspace = Workspace::create(&options.out, options.keep)?;
    let run = Run {
        options,
        workspace,
        console: Console::new(),
        timing: Timing::default(),
        stop: Arc::clone(&stop.flag),
        shutdown,
        since: Instant::now(),
    };
    Box::pin(steps(run, own_plan, command)).await
}

async fn steps(mut run: Run, own_plan: Option<Plan>, command: String) -> Result<Finished, ExperimentError> {
    let prepared = tokio::task::block_in_place(|| prepare(&run.options, &run.workspace, &run.console, &run.stop))?;
    let plan = plan_of(&run, own_plan, &prepared)?;
    run.done(if prepared.material.drawn { "draw slides" } else { "prepare data" });

    let central = run.workspace.data(prepared.central.as_str());
    let bundle = run.workspace.first_ensemble();
    tokio::task::block_in_place(|| central::train(&plan, &central, &bundle, &run.console, &run.stop))?;
    run.done("train first ensemble");

    let study = collect::study_name()?;
    let federation = federation::Federation {
        workspace: &run.workspace,
        sites: &prepared.sites,
        study: &study,
        plan: &plan,
        console: &run.console,
        shutdown: &run.shutdown,
    };
    let view = Box::pin(federation.hold()).await?;
    run.done("rounds of the study");

    let (workspace, timing) = (&run.workspace, &mut run.timing);
    let Collected { metrics, pictures } = collect(&view, &plan, &prepared.sites, &prepared.central, workspace, timing)?;
    let mut centres = Vec::new();
    for site in &prepared.sites {
        let (learn, test, thumbnail) = portrait(workspace, site)?;
        centres.push(CentreStory { site: site.clone(), learn, test, thumbnail });
    }
    metrics.write(&run.workspace.out)?;
    let seconds = run.timing.total() + run.since.elapsed().as_secs_f64();
    run.done("collect figures");
    let drawn = prepared.material.drawn;
    let story = Story { drawn, metrics, timing: run.timing.clone(), plan, command, centres, patches: pictures };
    run.timing.write(&run.workspace.out)?;
    let report = write_report(&run.workspace.out, &story)?;
    run.workspace.finish()?;
    Ok(Finished { metrics: story.metrics, report, seconds })
}

pub(crate) fn read_plan(path: &Path) -> Result<Plan, ExperimentError> {
    read_plan_by(path, Plan::from_toml)
}

/// The same, checked for what it is used for.
pub(crate) fn read_plan_by(path: &Path, parse: fn(&str) -> Result<Plan, PlanError>) -> Result<Plan, ExperimentError> {
    let text = std::fs::read_to_string(path).map_err(ExperimentError::file(path))?;
    parse(&text).map_err(|e| ExperimentError::Usage(format!("{}: {}", path.display(), e.to_string().trim_end())))
}

/// The plan of the experiment: a person's own, or the built-in one with the options; written to `plan.toml`.
fn plan_of(run: &Run, own: Option<Plan>, prepared: &Prepared) -> Result<Plan, ExperimentError> {
    let plan = match own {
        Some(plan) => plan,
        None => demo_plan::plan(&prepared.material, &run.options)?,
    };
    let mut problems = plan.problems();
    if plan.quorum.min_sites > prepared.sites.len() {
        let why = format!("{} is more than the {} sites of this run", plan.quorum.min_sites, prepared.sites.len());
        problems.push(consilium_common::Invalid::new("quorum.min_sites", why));
    }
    if !problems.is_empty() {
        let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(ExperimentError::Usage(format!("the plan cannot be used: {}", list.join("; "))));
    }
    let path = run.workspace.out.join("plan.toml");
    std::fs::write(&path, plan.to_toml()?).map_err(ExperimentError::file(&path))?;
    Ok(plan)
}
