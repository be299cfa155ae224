//! Seconds by stage: `timing.json`. Apart from the metrics, because no two runs take equally long.

use std::collections::BTreeMap;
use std::path::Path;

use consilium_common::SiteId;
use serde::{Deserialize, Serialize};

use super::ExperimentError;

/// `timing.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Seconds of the whole run by step, in the order in which they were taken.
    pub steps: Vec<Step>,
    /// Seconds by site and stage, all rounds together.
    pub sites: BTreeMap<SiteId, BTreeMap<String, f64>>,
}

/// One step of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What was done.
    pub what: String,
    /// Seconds that it took.
    pub seconds: f64,
}

impl Timing {
    /// Notes a step.
    pub(crate) fn step(&mut self, what: &str, seconds: f64) {
        self.steps.push(Step { what: what.to_owned(), seconds });
    }

    /// Writes `timing.json` into a folder.
    pub(crate) fn write(&self, out: &Path) -> Result<(), ExperimentError> {
        let path = out.join("timing.json");
        let mut text = serde_json::to_string_pretty(self).map_err(|e| ExperimentError::json(&path, e))?;
        text.push('\n');
        std::fs::write(&path, text).map_err(ExperimentError::file(&path))
    }

    /// Seconds of the whole run.
    pub fn total(&self) -> f64 {
        self.steps.iter().map(|s| s.seconds).sum()
    }
}
