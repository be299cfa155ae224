//! What is done with the answers of a round: what each site learns from, fine-tuning side by side, aggregation.

use std::borrow::Cow;
use std::collections::BTreeMap;

use consilium_common::Plan;
use consilium_common::plan::{UNLABELLED, Weighting};
use consilium_learning::acquisition::{Candidate, PatchBox, rehearsal_labels, rehearsal_of_site, rehearsal_of_slide};
use consilium_learning::network::InputScale;
use consilium_learning::training::TrainingImage;
use image::{GrayImage, RgbImage, imageops};

use super::arms::Kind;
use super::generation::{Learning, Members, aggregated, fine_tuned};
use super::trials::Trial;
use super::world::{Asked, Setting, World, boxes_of, labelled, site_seed, wrong};
use crate::experiment::ExperimentError;
use crate::look::Look;

/// More than so many times an arm's steps are not spent on whole fields.
const MOST_STEPS: f64 = 10.0;

impl World<'_> {
    /// Fine-tunes `from` at every site that has something to learn from, side by side, and aggregates.
    pub(super) fn round(
        &self,
        from: &Members,
        trial: &Trial,
        budget: u32,
        asked: &[Vec<Asked>],
        rehearsed: Vec<Vec<TrainingImage>>,
        round: u32,
    ) -> Result<Members, ExperimentError> {
        let Setting { sites, trainer, trainings, go_on, .. } = *self.setting;
        let plan = &trial.plan;
        let known = self.central.borrow().clone();
        let central = known.filter(|(by, _)| round == 0 && *by == plan.fine_tuning).map(|(_, delta)| delta);
        let learns = |(site, rehearsed): (usize, Vec<TrainingImage>)| {
            let here = &sites[site];
            if here.central && central.is_some() {
                return None;
            }
            let images = self.images(site, &trial.kind, &asked[site], rehearsed);
            if images.is_empty() {
                return None;
            }
            let whole = trial.kind == Kind::Full && !here.central;
            let plan = if whole { Cow::Owned(as_often(plan, &images, budget)) } else { Cow::Borrowed(plan) };
            Some(Learning { site, plan, images, seed: site_seed(self.seed, self.fold, here, round) })
        };
        let learning: Vec<Learning<'_>> = rehearsed.into_iter().enumerate().filter_map(learns).collect();
        let deltas = fine_tuned(&learning, trainer, trainings, from, go_on)?;
        let mut deltas: BTreeMap<usize, Members> = learning.iter().map(|of| of.site).zip(deltas).collect();
        for (index, _) in sites.iter().enumerate().filter(|(_, site)| site.central) {
            if let Some(delta) = &central {
                deltas.insert(index, delta.clone());
            } else if round == 0
                && let Some(delta) = deltas.get(&index)
            {
                self.central.replace(Some((plan.fine_tuning.clone(), delta.clone())));
            }
        }
        let updates: Vec<(f64, Members)> =
            deltas.into_iter().map(|(index, delta)| (self.weight(plan, index, asked), delta)).collect();
        aggregated(from, &updates)
    }

    /// What a site learns from: whole fields, or patches with what it rehearses; nothing where nothing is labelled.
    fn images(&self, index: usize, kind: &Kind, asked: &[Asked], rehearsed: Vec<TrainingImage>) -> Vec<TrainingImage> {
        let site = &self.setting.sites[index];
        let mut images: Vec<TrainingImage> = if site.central || *kind == Kind::Full {
            self.splits[index].1.iter().map(|&field| site.fields[field].whole()).collect()
        } else {
            let cut =
                |asked: &Asked| cut(&site.fields[asked.field].image, &site.fields[asked.field].labels, asked.patch);
            asked.iter().map(cut).collect()
        };
        let labelled = |image: &TrainingImage| image.labels.as_raw().iter().any(|&label| label != UNLABELLED);
        images.retain(labelled);
        if !images.is_empty() {
            images.extend(rehearsed.into_iter().filter(labelled));
        }
        images
    }

    /// What a site rehearses: boxes of its fields that nobody was asked about, as the generation sees them.
    pub(super) fn rehearsed(
        &self,
        plan: &Plan,
        site: usize,
        looks: &[Look],
        before: &[Asked],
        asked: &[Asked],
        seed: &str,
    ) -> Result<Vec<TrainingImage>, ExperimentError> {
        let fields = &self.setting.sites[site].fields;
        let (acquisition, settings) = (&plan.acquisition, &plan.rehearsal);
        if settings.is_off() {
            return Ok(Vec::new());
        }
        let learn = || self.splits[site].1.iter().zip(looks);
        let mut all = Vec::new();
        for (&field, look) in learn() {
            let (name, taken) = (&fields[field].name, boxes_of(before, field));
            let strip = labelled(&look.strip, &fields[field]);
            all.extend(rehearsal_of_slide(&strip, name, acquisition, settings, &taken, seed).map_err(wrong)?);
        }
        let asked: Vec<(&str, PatchBox)> =
            asked.iter().map(|asked| (fields[asked.field].name.as_str(), asked.patch)).collect();
        let image = |candidate: Candidate| {
            let (&field, look) = learn().find(|(field, _)| fields[**field].name == candidate.slide)?;
            let labels = rehearsal_labels(&look.strip.labels, &look.strip.entropy, look.classes, settings);
            let (width, height) = fields[field].image.dimensions();
            Some(cut(&fields[field].image, &GrayImage::from_raw(width, height, labels)?, candidate.patch))
        };
        let drawn = rehearsal_of_site(&all, &asked, acquisition, settings, seed);
        Ok(drawn.into_iter().filter_map(image).collect())
    }

    /// What a site's update counts, as the plan says: patches that were asked for, or whole fields in patches.
    fn weight(&self, plan: &Plan, site: usize, asked: &[Vec<Asked>]) -> f64 {
        let sites = self.setting.sites;
        match plan.aggregation.weighting {
            Weighting::Equal => 1.0,
            Weighting::Patches if asked[site].is_empty() => {
                let side = f64::from(plan.acquisition.patch_px);
                let area = |&field: &usize| {
                    f64::from(sites[site].fields[field].image.width() * sites[site].fields[field].image.height())
                };
                self.splits[site].1.iter().map(|field| (area(field) / (side * side)).round().max(1.0)).sum()
            }
            Weighting::Patches => asked[site].len() as f64,
        }
    }
}

/// The plan with as many more steps as whole fields are larger than the patches of a budget, so that each of their pixels is
/// seen as often as a patch's; up to [`MOST_STEPS`] times as many.
fn as_often(plan: &Plan, fields: &[TrainingImage], budget: u32) -> Plan {
    let pixels: f64 = fields.iter().map(|field| field.labels.len() as f64).sum();
    let patches = f64::from(budget) * f64::from(plan.acquisition.patch_px).powi(2);
    let mut longer = plan.clone();
    let steps = f64::from(plan.fine_tuning.iterations) * (pixels / patches).clamp(1.0, MOST_STEPS);
    longer.fine_tuning.iterations = steps.round() as u32;
    longer
}

/// A box of a field to learn from.
fn cut(image: &RgbImage, labels: &GrayImage, PatchBox { x, y, side }: PatchBox) -> TrainingImage {
    TrainingImage {
        image: imageops::crop_imm(image, x, y, side, side).to_image(),
        labels: imageops::crop_imm(labels, x, y, side, side).to_image(),
        input: InputScale::RGB_TO_01,
    }
}

#[cfg(test)]
mod tests {
    use consilium_common::plan::{Acquisition, Score, Training};

    use super::*;
    use crate::report::sample;

    #[test]
    fn whole_fields_are_passed_over_as_often_as_patches() {
        let mut plan = sample::plan();
        plan.acquisition = Acquisition::new(Score::Uga, 5, 10, 0.5);
        plan.fine_tuning = Training::new(30, 4, 10, 0.01);
        let field = |width, height| TrainingImage {
            image: RgbImage::new(width, height),
            labels: GrayImage::new(width, height),
            input: InputScale::RGB_TO_01,
        };
        let steps = |fields: &[TrainingImage]| as_often(&plan, fields, 5).fine_tuning.iterations;
        assert_eq!(steps(&[field(50, 10), field(50, 20)]), 90, "three times the pixels");
        assert_eq!((steps(&[field(10, 10)]), steps(&[field(1000, 100)])), (30, 300), "neither fewer nor too many");
    }
}
