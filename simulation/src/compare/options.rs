//! What a person may choose about a comparison, and the terms under which its cells can be compared.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use consilium_common::plan::{Plan, Score};
use consilium_learning::engine::Device;
use serde_json::json;

use super::arms::{ALWAYS, Arm, NAMES};
use crate::experiment::{ExperimentError, Material, Options, Source, built_in_plan, read_plan_by};
use crate::fields::{Field, Site};

/// The choices of one comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareOptions {
    /// The folder that holds the sites' folders.
    pub data: PathBuf,
    /// The site that trains the first ensemble.
    pub central: String,
    /// The folder for everything that is written.
    pub out: PathBuf,
    /// Rules by name; the controls are there in any case.
    pub acquisition: Vec<String>,
    /// Settings of the plan, each with values that the named rules are also tried with: `TABLE.KEY=VALUE,VALUE...`.
    pub vary: Vec<String>,
    /// Patches that each site is asked for, in all rounds together.
    pub budgets: Vec<u32>,
    /// Rounds in which a budget is spent.
    pub rounds: u32,
    /// Every round's fine-tuning begins with the first ensemble, not with the generation before.
    pub cold: bool,
    /// The first seed.
    pub seed: u64,
    /// How many seeds.
    pub seeds: u64,
    /// Sites that take part, the central one included; all without it.
    pub sites: Option<usize>,
    /// Parts into which each site's fields are divided; each part is held out once.
    pub folds: usize,
    /// Networks in the ensemble.
    pub members: Option<usize>,
    /// Less of everything.
    pub quick: bool,
    /// A plan of one's own instead of the built-in one.
    pub plan: Option<PathBuf>,
    /// What computes.
    pub device: Device,
}

/// Raised whenever the same terms no longer give the same cells: other folds, figures or arithmetic.
const CELLS: u32 = 4;
/// The largest first seed.
const MAX_SEED: u64 = 1 << 53;
/// Parts into which fields can be divided.
pub(super) const MAX_FOLDS: usize = 10;

impl CompareOptions {
    /// The arms: the controls, then those that were named.
    pub(super) fn arms(&self) -> Result<Vec<Arm>, ExperimentError> {
        let usage = |why: String| Err(ExperimentError::Usage(why));
        self.as_experiment().validate()?;
        if self.budgets.iter().all(|&budget| budget == 0) || self.budgets.iter().any(|&budget| budget > 1000) {
            return usage("--budget needs numbers of patches up to 1000, one of them above 0".into());
        }
        if !(2..=MAX_FOLDS).contains(&self.folds) || self.seeds == 0 || self.seeds > 1000 {
            return usage(format!("--folds must be 2 to {MAX_FOLDS} and --seeds 1 to 1000"));
        }
        if self.seed > MAX_SEED {
            return usage(format!("--seed must be at most {MAX_SEED}: of it and a fold the seed of a study is made"));
        }
        if self.rounds == 0 || self.budgets.iter().any(|&budget| budget > 0 && budget < self.rounds) {
            return usage(format!("--rounds {} needs at least one patch a round in every budget", self.rounds));
        }
        if self.cold && self.rounds == 1 {
            return usage(
                "--cold needs --rounds 2 or more: the first round begins with the first ensemble anyway".into(),
            );
        }
        let mut arms: Vec<Arm> = Vec::new();
        for name in ALWAYS.into_iter().chain(self.acquisition.iter().map(String::as_str)) {
            match Arm::named(name) {
                None => return usage(format!("`{name}` is no rule; there are {}", NAMES.join(", "))),
                Some(arm) if !arms.contains(&arm) => arms.push(arm),
                Some(_) => {}
            }
        }
        Ok(arms)
    }

    /// The seeds.
    pub(super) fn seeds(&self) -> RangeInclusive<u64> {
        self.seed..=self.seed + (self.seeds - 1)
    }

    /// A person's own plan, or the built-in one for such data.
    pub(super) fn plan(&self, material: &Material) -> Result<Plan, ExperimentError> {
        let mut plan = match &self.plan {
            Some(path) => read_plan_by(path, Plan::from_toml_for_comparison)?,
            None => built_in_plan(material, &self.as_experiment())?,
        };
        plan.members = self.members.unwrap_or(plan.members);
        plan.quorum.min_sites = material.sites;
        if plan.acquisition.control_share > 0.0 {
            let why = "a comparison measures on held-out fields and asks for no control patches; set \
                       acquisition.control_share to 0 in the plan";
            return Err(ExperimentError::Usage(why.into()));
        }
        match plan.problems().first() {
            None => Ok(plan),
            Some(problem) => Err(ExperimentError::Usage(format!("the plan cannot be used: {problem}"))),
        }
    }

    fn as_experiment(&self) -> Options {
        let (data, central) = (self.data.clone(), self.central.clone());
        Options {
            seed: self.seed,
            rounds: Some(self.rounds),
            budget: self.budgets.iter().copied().max(),
            acquisition: Some(Score::UgaMean),
            sites: self.sites,
            members: self.members,
            quick: self.quick,
            ..Options::new(Source::Folders { data, central }, self.out.clone())
        }
    }

    /// What must be the same for cells to be compared. Arms, budgets and seeds may be added later.
    pub(super) fn terms(&self, plan: &Plan, sites: &[Site], computed_by: &str) -> serde_json::Value {
        let mut plan = plan.clone();
        (plan.seed, plan.acquisition.budget) = (0, 0);
        // A field's name says in which fold it is.
        let of_field = |field: &Field| (field.name.clone(), field.digest());
        let fields: Vec<_> = sites
            .iter()
            .map(|site| (site.id.to_string(), site.fields.iter().map(of_field).collect::<Vec<_>>()))
            .collect();
        let (central, folds, rounds) = (&self.central, self.folds, self.rounds);
        json!({
            "plan": plan, "fields": fields, "central": central, "folds": folds, "rounds": rounds, "cold": self.cold,
            "computed_by": computed_by, "version": env!("CARGO_PKG_VERSION"), "cells": CELLS,
            "arms": NAMES.map(|name| format!("{:?}", Arm::named(name))),
        })
    }
}
