//! Gathers what coordinator and sites left: generations with their evaluations, asked patches with their pictures, times.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use consilium_common::plan::Plan;
use consilium_common::{RoundNumber, SiteId, StudyId};
use consilium_coordinator::view::{GenerationView, SiteEvaluation, StudyView};
use consilium_site_client::PatchReport;
use consilium_site_client::layout::Layout;
use image::DynamicImage;
use serde::de::DeserializeOwned;

use super::ExperimentError;
use super::metrics::{Generation, Metrics, Patch, Rejected, SCHEMA, mean_of, steady};
use super::timing::Timing;
use super::workspace::Workspace;
use crate::report::PatchPicture;

/// Reads a site's JSON file; absent where the round did not get so far.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ExperimentError> {
    match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(ExperimentError::file(path)(e)),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| ExperimentError::json(path, e)),
    }
}

/// Everything of a study that is over.
pub(crate) struct Collected {
    pub(crate) metrics: Metrics,
    pub(crate) pictures: Vec<PatchPicture>,
}

/// Collects the numbers and the pictures; site times go into `timing`.
pub(crate) fn collect(
    view: &StudyView,
    plan: &Plan,
    sites: &[SiteId],
    central: &SiteId,
    workspace: &Workspace,
    timing: &mut Timing,
) -> Result<Collected, ExperimentError> {
    let study = &view.summary.study;
    let (mut patches, mut pictures) = (Vec::new(), Vec::new());
    for site in sites {
        let layout = Layout::new(&workspace.state(site.as_str()));
        for round in 0..=plan.rounds {
            let folder = layout.round(study, RoundNumber(round));
            if let Some(stages) = read::<BTreeMap<String, f64>>(&folder.join("timing.json"))? {
                let total = timing.sites.entry(site.clone()).or_default();
                stages.into_iter().for_each(|(stage, seconds)| *total.entry(stage).or_default() += seconds);
            }
            for report in read::<Vec<PatchReport>>(&folder.join("patches.json"))?.unwrap_or_default() {
                // What is shown is what the rule asked for.
                if !report.control {
                    pictures.push(picture(site, round, &report, &folder)?);
                }
                patches.push(patch(site, round, &report));
            }
        }
    }
    let mut generations: Vec<Generation> = view.generations.iter().map(generation).collect();
    let mean_over = steady(sites, central, generations.iter().map(|g| &g.sites));
    generations.iter_mut().for_each(|g| g.mean_dice = mean_of(&g.sites, &mean_over));
    let metrics = Metrics {
        schema: SCHEMA,
        study: study.clone(),
        seed: plan.seed,
        plan: view.plan,
        central: central.clone(),
        sites: sites.to_vec(),
        mean_over,
        generations,
        rejected: rejected(view),
        patches,
    };
    Ok(Collected { metrics, pictures })
}

/// One generation's figures; the mean comes when all are known.
fn generation(g: &GenerationView) -> Generation {
    let figures = |f: fn(&SiteEvaluation) -> Option<f64>| {
        g.evaluations.iter().filter_map(|e| Some((e.site.clone(), f(e)?))).collect::<BTreeMap<SiteId, f64>>()
    };
    Generation {
        generation: g.generation.0,
        manifest: g.manifest,
        mean_dice: None,
        sites: figures(|e| e.mean_dice),
        ece: figures(|e| e.ece),
    }
}

fn rejected(view: &StudyView) -> Vec<Rejected> {
    view.rejected.iter().map(|(round, reason)| Rejected { round: round.0, reason: reason.clone() }).collect()
}

fn patch(site: &SiteId, round: u32, report: &PatchReport) -> Patch {
    Patch {
        site: site.clone(),
        round,
        slide: report.slide.clone(),
        x: report.x,
        y: report.y,
        score: report.score,
        mean_uncertainty: report.mean_uncertainty,
        control: report.control,
        dice_before: report.dice_before,
    }
}

fn picture(site: &SiteId, round: u32, report: &PatchReport, folder: &Path) -> Result<PatchPicture, ExperimentError> {
    let open = |name: &str| -> Result<DynamicImage, ExperimentError> {
        let path = folder.join(name);
        image::open(&path).map_err(|source| ExperimentError::Picture { path, source })
    };
    let correction = report.correction.as_deref().map(open).transpose()?;
    Ok(PatchPicture {
        site: site.clone(),
        round,
        mean_uncertainty: report.mean_uncertainty,
        dice_before: report.dice_before,
        image: open(&report.image)?.to_rgb8(),
        prediction: open(&report.prediction)?.to_luma8(),
        uncertainty: open(&report.uncertainty)?.to_luma8(),
        correction: correction.map(|c| c.to_luma8()),
    })
}

/// The name of every study of an experiment.
pub(crate) const STUDY: &str = "simulation";

/// The study's name in every experiment: the folder tells experiments apart.
pub(crate) fn study_name() -> Result<StudyId, ExperimentError> {
    Ok(STUDY.parse()?)
}
