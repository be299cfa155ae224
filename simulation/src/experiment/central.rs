//! The first ensemble, trained at the central site as `consilium-site train` does it: the same plan and slides give the
//! same bytes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use consilium_common::plan::Plan;
use consilium_learning::engine::Device;
use consilium_site_client::offline;

use super::ExperimentError;
use super::console::Console;

/// Trains the ensemble on the train slides of a data folder and writes the bundle.
pub(crate) fn train(
    plan: &Plan,
    data: &Path,
    bundle: &Path,
    console: &Console,
    stop: &AtomicBool,
) -> Result<(), ExperimentError> {
    let training = &plan.initial_training;
    let trainings = plan.members as u64 / u64::from(training.snapshots.max(1));
    let total = trainings * u64::from(training.iterations);
    let bar = console.stage("training the first ensemble", total);
    let trained = offline::train(plan, data, bundle, None, Device::Cpu, &|_| {
        bar.advance(1);
        !stop.load(Ordering::Relaxed)
    });
    if stop.load(Ordering::Relaxed) {
        return Err(ExperimentError::Stopped);
    }
    let trained = trained.map_err(ExperimentError::FirstEnsemble)?;
    for slide in &trained.left_out {
        console.warn(&format!("{} is left out of the first ensemble: {}", slide.slide, slide.why));
    }
    bar.finish(&format!("{} networks trained on {} slides of the central site", plan.members, trained.slides.len()));
    Ok(())
}
