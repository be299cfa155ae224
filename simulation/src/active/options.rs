//! What a person may choose about a run, in the words of MONAI's tutorial.

use std::path::PathBuf;

use consilium_common::limits;
use consilium_common::plan::Plan;
use consilium_learning::engine::Device;
use consilium_learning::uncertainty::UncertaintyMap;
use serde_json::json;

use crate::experiment::{
    Console, ExperimentError, Options, Source, built_in_plan, find_folders, folder_name, material_of, read_plan,
};
use crate::fields::{Field, fields_of};

/// How pictures are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Strategy {
    /// The highest mean variance of the passes, summed over the foreground (MONAI's).
    Variance,
    /// The highest mean entropy of the passes' mean.
    Entropy,
    /// The highest mean mutual information of prediction and pass (BALD).
    Bald,
    /// By chance: the control.
    Random,
}

impl Strategy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Variance => "variance",
            Self::Entropy => "entropy",
            Self::Bald => "bald",
            Self::Random => "random",
        }
    }

    /// The map whose mean is the score; none for chance.
    pub(super) fn map(self) -> Option<UncertaintyMap> {
        match self {
            Self::Variance => Some(UncertaintyMap::Variance),
            Self::Entropy => Some(UncertaintyMap::Entropy),
            Self::Bald => Some(UncertaintyMap::MutualInformation),
            Self::Random => None,
        }
    }
}

/// Steps of a training without a wish.
pub const STEPS: u32 = 200;
/// Steps that one network may learn in all.
const MAX_STEPS: u32 = 10_000_000;

/// The choices of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveOptions {
    /// A data folder, or a folder of data folders, whose pictures are taken together.
    pub data: PathBuf,
    /// The folder for everything that is written.
    pub out: PathBuf,
    /// Seed of everything random; without a wish that of a plan of one's own, else 1.
    pub seed: Option<u64>,
    /// Trainings of each strategy, the first on the initial pool.
    pub active_iters: u32,
    /// Pictures that are labelled at the start.
    pub initial_pool: u32,
    /// Pictures that are asked for after each training but the last.
    pub queries: u32,
    /// Strategies to compare.
    pub strategies: Vec<Strategy>,
    /// Passes of Monte Carlo dropout.
    pub mc_number: u32,
    /// Share of channels that a pass leaves out.
    pub dropout_ratio: f64,
    /// Optimiser steps of each training; without a wish those of a plan of one's own, else [`STEPS`].
    pub steps: Option<u32>,
    /// Epochs between validations.
    pub val_interval: u32,
    /// A plan of one's own, for architecture, spacing and training.
    pub plan: Option<PathBuf>,
    /// What computes.
    pub device: Device,
}

impl ActiveOptions {
    pub(super) fn validate(&self) -> Result<(), ExperimentError> {
        let within = |name: &str, value: u32, most: u32| {
            let why = format!("--{name} {value} must be 1 to {most}");
            if (1..=most).contains(&value) { Ok(()) } else { Err(ExperimentError::Usage(why)) }
        };
        within("active-iters", self.active_iters, 1000)?;
        within("initial-pool", self.initial_pool, 1_000_000)?;
        within("queries", self.queries, 1_000_000)?;
        within("mc-number", self.mc_number, limits::MAX_DROPOUT_PASSES)?;
        if self.mc_number < 2 {
            return Err(ExperimentError::Usage(
                "--mc-number 1: passes are compared with each other; use 2 or more".into(),
            ));
        }
        within("steps", self.steps.unwrap_or(1), MAX_STEPS)?;
        within("val-interval", self.val_interval, 1_000_000)?;
        let mut seen = Vec::new();
        for strategy in &self.strategies {
            if seen.contains(strategy) {
                return Err(ExperimentError::Usage(format!("--strategy names {} twice", strategy.name())));
            }
            seen.push(*strategy);
        }
        if self.dropout_ratio > 0.0 && self.dropout_ratio < 1.0 {
            return Ok(());
        }
        Err(ExperimentError::Usage(format!("--dropout-ratio {} must be above 0 and below 1", self.dropout_ratio)))
    }

    /// The plan, and every picture with a mask.
    pub(super) fn material(&self, console: &Console) -> Result<(Plan, Vec<Field>), ExperimentError> {
        let folders = self.folders()?;
        let material = material_of(&self.data, &folders, console)?;
        let mut plan = match &self.plan {
            Some(path) => read_plan(path)?,
            None => built_in_plan(&material, &self.as_experiment())?,
        };
        plan.members = 1;
        plan.quorum.min_sites = 1;
        plan.initial_training.snapshots = 1;
        match (self.steps, &self.plan) {
            (None, Some(_)) => {}
            (steps, _) => plan.initial_training.iterations = steps.unwrap_or(STEPS),
        }
        plan.seed = self.seed.unwrap_or(plan.seed);
        // What has learned from everything has as many steps as a strategy in all.
        if u64::from(plan.initial_training.iterations) * u64::from(self.active_iters) > u64::from(MAX_STEPS) {
            let why = format!("--active-iters times --steps is more than {MAX_STEPS}");
            return Err(ExperimentError::Usage(why));
        }
        if let Some(problem) = plan.problems().first() {
            return Err(ExperimentError::Usage(format!("the plan cannot be used: {problem}")));
        }
        let mut fields = Vec::new();
        for folder in &folders {
            let found = fields_of(folder, &plan)?;
            fields.extend(found.into_iter().map(|field| match folders.len() {
                1 => field,
                _ => Field { name: format!("{}/{}", folder_name(folder), field.name), ..field },
            }));
        }
        let needed = super::pool::least(fields.len(), self.initial_pool as usize);
        if fields.len() < needed {
            return Err(ExperimentError::Usage(format!(
                "{} has {} pictures with masks; --initial-pool {} with validation and test needs {needed}",
                self.data.display(),
                fields.len(),
                self.initial_pool
            )));
        }
        Ok((plan, fields))
    }

    /// The data folders.
    fn folders(&self) -> Result<Vec<PathBuf>, ExperimentError> {
        if self.data.join("slides").is_dir() { Ok(vec![self.data.clone()]) } else { find_folders(&self.data) }
    }

    fn as_experiment(&self) -> Options {
        Options {
            seed: self.seed.unwrap_or(1),
            members: Some(1),
            ..Options::new(Source::Folders { data: self.data.clone(), central: String::new() }, self.out.clone())
        }
    }

    /// What must be the same to go on. Strategies and iterations may be added.
    pub(super) fn terms(&self, plan: &Plan, fields: &[Field], computed_by: &str) -> serde_json::Value {
        let fields: Vec<(&str, String)> = fields.iter().map(|field| (field.name.as_str(), field.digest())).collect();
        json!({
            "plan": plan, "fields": fields, "initial_pool": self.initial_pool,
            "queries": self.queries, "mc_number": self.mc_number, "dropout_ratio": self.dropout_ratio,
            "val_interval": self.val_interval, "computed_by": computed_by, "version": env!("CARGO_PKG_VERSION"),
        })
    }
}
