//! Active learning on one folder of pictures, as MONAI's tutorial has it: one network, a labelled pool that grows by the
//! pictures that a strategy asks for, trained on from iteration to iteration, and all pictures at once as the upper line.
//! There is no federation here; what is asked for is a whole field, not a patch.
//!
//! What is finished is kept: pools as JSON, the best network of every iteration, and figures, so that a run that was
//! stopped goes on where it was, to the same bytes.

mod figure;
mod learn;
mod options;
mod pool;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use consilium_common::Plan;
use consilium_learning::network::MemberWeights;
use consilium_learning::training::{Trainer, member_seed};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use options::{ActiveOptions, STEPS, Strategy};

use crate::experiment::{Console, ExperimentError};
use crate::fields::Field;
use crate::files;
use crate::look::engine_name;
use crate::work::{Reported, until_stopped};
use learn::Network;
use pool::Pool;

/// The run that learns from every picture at once.
const FULL: &str = "full";

/// One iteration of one strategy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Iteration {
    /// Counts from 0.
    pub(crate) iteration: u32,
    /// Pictures that were learned from.
    pub(crate) pool: usize,
    /// Optimiser steps of its training.
    pub(crate) steps: u32,
    /// Mean loss of every epoch.
    pub(crate) epoch_loss: Vec<f32>,
    /// Steps done and mean Dice of the validation pictures, every `--val-interval` epochs and at the end.
    pub(crate) validation: Vec<(u32, Option<f64>)>,
    /// Mean Dice of the test pictures, of the network that did best in validation.
    pub(crate) test_dice: Option<f64>,
    /// What is asked for next, the highest score first; after the last iteration nobody answers.
    pub(crate) asked: Vec<(String, f64)>,
}

/// A strategy with its iterations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) strategy: String,
    pub(crate) iterations: Vec<Iteration>,
}

/// Runs all strategies and the whole data, or what is missing of them.
///
/// # Errors
/// When options or data cannot be used, the folder holds another run, something fails, or `shutdown` is cancelled; what
/// was finished stays.
pub async fn learn(
    options: ActiveOptions,
    command: String,
    shutdown: CancellationToken,
) -> Result<Reported, ExperimentError> {
    until_stopped(shutdown, move |stop| run(&options, &command, stop)).await
}

/// What every iteration needs.
struct Run<'a> {
    options: &'a ActiveOptions,
    plan: Plan,
    fields: Vec<Field>,
    trainer: Trainer,
    go_on: &'a (dyn Fn() -> bool + Sync),
}

fn run(options: &ActiveOptions, command: &str, stop: &AtomicBool) -> Result<Reported, ExperimentError> {
    let since = Instant::now();
    options.validate()?;
    let console = Console::new();
    let (plan, fields) = options.material(&console)?;
    let (trainer, why) = Trainer::on(options.device)?;
    let scans = engine_name(options.device, &plan)?;
    console.note(&format!("{scans}; {why}"));
    let go_on = || !stop.load(Ordering::Relaxed);
    let run = Run { options, plan, fields, trainer, go_on: &go_on };
    let terms = options.terms(&run.plan, &run.fields, &format!("{scans}; {trainer:?}"));
    let _claim = files::claim(&options.out, &terms, "another run")?;
    let strategies = options.strategies.iter().map(|strategy| (strategy.name(), Some(*strategy)));
    let mut lines = Vec::new();
    for (name, strategy) in strategies.chain([(FULL, None)]) {
        let bar = console.stage(name, strategy.map_or(1, |_| options.active_iters.into()));
        lines.push(Line { strategy: name.to_owned(), iterations: run.line(name, strategy, &|| bar.advance(1))? });
        bar.finish(&format!("{name} finished"));
    }
    let report = figure::write(&options.out, &lines, command)?;
    Ok(Reported { report, table: figure::table(&lines), seconds: since.elapsed().as_secs_f64() })
}

impl Run<'_> {
    /// The iterations of a strategy, as long as there is something to ask for; without one everything at once, for as many
    /// steps as a strategy has in all.
    fn line(&self, name: &str, strategy: Option<Strategy>, done: &dyn Fn()) -> Result<Vec<Iteration>, ExperimentError> {
        let ActiveOptions { out, active_iters, initial_pool, .. } = self.options;
        let (seed, steps) = (self.plan.seed, self.plan.initial_training.iterations);
        let (rounds, steps, initial) = match strategy {
            Some(_) => (*active_iters, steps, Some(*initial_pool as usize)),
            None => (1, steps * active_iters, None),
        };
        let mut pool = Pool::divide(&self.fields, seed, initial);
        let mut weights = MemberWeights::initialise(&self.plan.architecture, member_seed(&format!("{seed}/start"), 0));
        let mut iterations: Vec<Iteration> = Vec::new();
        for iteration in 0..rounds {
            if iterations.last().is_some_and(|last| last.asked.is_empty()) {
                break;
            }
            let place = |kind: &str, end: &str| out.join(kind).join(format!("{name}-{iteration}.{end}"));
            let (record, best) = (place("iterations", "json"), place("models", "safetensors"));
            files::write(&place("pools", "json"), &pool)?;
            let kept: Option<Iteration> = files::read(&record)?;
            let (known, after) = match kept.filter(|known| known.steps == steps && best.exists()) {
                Some(known) => (known, MemberWeights::read(&best, &self.plan.architecture)?),
                None => {
                    let (known, after) = self.iteration(iteration, steps, &pool, strategy, &weights)?;
                    files::make_parent(&best)?;
                    after.write(&best)?;
                    files::write(&record, &known)?;
                    (known, after)
                }
            };
            pool.take(known.asked.iter().map(|(picture, _)| picture.as_str()));
            weights = after;
            iterations.push(known);
            done();
        }
        Ok(iterations)
    }

    /// Trains on from some weights, keeps the best, and asks for more.
    fn iteration(
        &self,
        iteration: u32,
        steps: u32,
        pool: &Pool,
        strategy: Option<Strategy>,
        from: &MemberWeights,
    ) -> Result<(Iteration, MemberWeights), ExperimentError> {
        // Strategies that have the same pool train the same network.
        let seed = format!("{}/iteration-{iteration}", self.plan.seed);
        let network = Network { run: self, seed: &seed };
        let trained = network.train(pool, from, steps)?;
        let test_dice = network.dice(&trained.weights, &pool.test)?;
        let asked = strategy.map_or(Ok(Vec::new()), |strategy| network.ask(&trained.weights, pool, strategy))?;
        let (epoch_loss, validation) = (trained.epoch_loss, trained.validation);
        let pool = pool.training.len();
        Ok((Iteration { iteration, pool, steps, epoch_loss, validation, test_dice, asked }, trained.weights))
    }
}
