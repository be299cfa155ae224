//! One seed and fold: the first ensemble, what it sees, and what each arm makes of it.

use std::cell::{OnceCell, RefCell};

use consilium_common::Plan;
use consilium_common::bundle::Conventions;
use consilium_common::plan::{Training, UNLABELLED, Weighting};
use consilium_learning::acquisition::{Candidate, PatchBox, rehearsal_labels, rehearsal_of_site, rehearsal_of_slide};
use consilium_learning::engine::{self, Device, Engine};
use consilium_learning::network::{Features, InputScale};
use consilium_learning::scan::Strip;
use consilium_learning::training::{Trainer, TrainingImage};
use image::{GrayImage, RgbImage, imageops};
use rayon::prelude::*;

use super::arms::Kind;
use super::cell::{Cell, PatchFigures, SiteFigures, field_figures, foreground};
use super::generation::{Members, aggregated, fine_tuned};
use super::options::MAX_FOLDS;
use super::summary::FIRST;
use super::trials::Trial;
use crate::experiment::{ExperimentError, STUDY};
use crate::fields::{Field, Site};
use crate::look::{Look, look};

/// What all worlds of a comparison share.
pub(super) struct Setting<'a> {
    pub(super) sites: &'a [Site],
    pub(super) plan: &'a Plan,
    pub(super) device: Device,
    pub(super) trainer: Trainer,
    pub(super) rounds: u32,
    pub(super) go_on: &'a (dyn Fn() -> bool + Sync),
}

/// A box of a site's field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) field: usize,
    pub(super) patch: PatchBox,
}

/// A cell with its plan and what was asked of each site for it.
struct Done {
    plan: Plan,
    asked: Vec<Vec<Asked>>,
    cell: Cell,
}

/// One seed and fold.
pub(super) struct World<'a> {
    pub(super) setting: &'a Setting<'a>,
    seed: u64,
    fold: usize,
    /// Of each site: fields held out, fields to learn from.
    pub(super) splits: Vec<(Vec<usize>, Vec<usize>)>,
    pub(super) first: Members,
    /// What the first ensemble sees of the fields to learn from, by site; of the central site nothing.
    looks: OnceCell<Vec<Vec<Look>>>,
    pub(super) features: OnceCell<Vec<Vec<Features>>>,
    /// Misclassified pixels of each true class on the fields that the first ensemble learned from.
    pub(super) errors: OnceCell<Vec<u64>>,
    /// What the central site adds to the first ensemble by a fine-tuning, the last there was: the same for every arm.
    central: RefCell<Option<(Training, Members)>>,
    /// What was asked of each site for cells that are done: rules that ask for the same have the same figures.
    done: RefCell<Vec<Done>>,
}

impl<'a> World<'a> {
    pub(super) fn new(setting: &'a Setting<'a>, seed: u64, fold: usize, folds: usize, first: Members) -> Self {
        let splits = setting.sites.iter().map(|site| site.split(seed, fold, folds)).collect();
        let (looks, features) = (OnceCell::new(), OnceCell::new());
        let (errors, central, done) = (OnceCell::new(), RefCell::default(), RefCell::default());
        Self { setting, seed, fold, splits, first, looks, features, errors, central, done }
    }

    /// The first ensemble by itself.
    pub(super) fn baseline(&self) -> Result<Cell, ExperimentError> {
        self.figures(FIRST, 0, &self.first, &vec![Vec::new(); self.splits.len()])
    }

    /// An arm with its budget, which is spent in the setting's rounds.
    pub(super) fn cell(&self, trial: &Trial, budget: u32) -> Result<Cell, ExperimentError> {
        let (sites, rounds) = (self.setting.sites, self.setting.rounds);
        let mut generation = self.first.clone();
        let mut asked: Vec<Vec<Asked>> = vec![Vec::new(); sites.len()];
        for round in 0..rounds {
            let share = budget * (round + 1) / rounds - budget * round / rounds;
            let mut rehearsed = vec![Vec::new(); sites.len()];
            if trial.kind != Kind::Full {
                let later = if round == 0 { None } else { Some(self.look_at_all(&generation)?) };
                let looks = later.as_ref().map_or_else(|| self.looks(), Ok)?;
                for (index, site) in sites.iter().enumerate().filter(|(_, site)| !site.central) {
                    let text = format!("{}/select", site_seed(self.seed, self.fold, site, round));
                    let more = self.ask(trial, index, &looks[index], &asked[index], share, round, &text)?;
                    let before = asked[index].clone();
                    asked[index].extend(more);
                    let text = format!("{}/rehearsal", site_seed(self.seed, self.fold, site, round));
                    rehearsed[index] =
                        self.rehearsed(&trial.plan, index, &looks[index], &before, &asked[index], &text)?;
                }
            }
            if round + 1 == rounds
                && let Some(known) = self.known(trial, budget, &asked)
            {
                return Ok(known);
            }
            generation = self.round(&generation, trial, &asked, rehearsed, round)?;
        }
        let cell = self.figures(&trial.name, budget, &generation, &asked)?;
        if trial.kind != Kind::Full {
            self.done.borrow_mut().push(Done { plan: trial.plan.clone(), asked, cell: cell.clone() });
        }
        Ok(cell)
    }

    /// The cell of another arm that asked for the same with the same budget, under this arm's name: neither seeds nor
    /// anything else that is done with the answers knows the arm.
    fn known(&self, trial: &Trial, budget: u32, asked: &[Vec<Asked>]) -> Option<Cell> {
        if trial.kind == Kind::Full {
            return None;
        }
        let same = |done: &&Done| done.cell.budget == budget && done.plan == trial.plan && done.asked == asked;
        let done = self.done.borrow();
        Some(Cell { arm: trial.name.clone(), ..done.iter().find(same)?.cell.clone() })
    }

    /// Fine-tunes at every site that has something to learn from, side by side, and aggregates.
    fn round(
        &self,
        from: &Members,
        trial: &Trial,
        asked: &[Vec<Asked>],
        rehearsed: Vec<Vec<TrainingImage>>,
        round: u32,
    ) -> Result<Members, ExperimentError> {
        let Setting { sites, trainer, go_on, .. } = *self.setting;
        let (seed, fold, plan) = (self.seed, self.fold, &trial.plan);
        let known = self.central.borrow().clone();
        let central = known.filter(|(by, _)| round == 0 && *by == plan.fine_tuning).map(|(_, delta)| delta);
        let learn = |(site, images): (&Site, Vec<TrainingImage>)| match &central {
            Some(delta) if site.central => Ok(Some(delta.clone())),
            _ if images.is_empty() => Ok(None),
            _ => fine_tuned(plan, trainer, from, &images, &site_seed(seed, fold, site, round), go_on).map(Some),
        };
        let images: Vec<(&Site, Vec<TrainingImage>)> = (sites.iter().zip(rehearsed).enumerate())
            .map(|(index, (site, rehearsed))| (site, self.images(index, &trial.kind, &asked[index], rehearsed)))
            .collect();
        let deltas: Vec<Result<Option<Members>, ExperimentError>> = images.into_par_iter().map(learn).collect();
        let mut updates = Vec::new();
        for (index, delta) in deltas.into_iter().enumerate() {
            let Some(delta) = delta? else { continue };
            if sites[index].central && round == 0 && central.is_none() {
                self.central.replace(Some((plan.fine_tuning.clone(), delta.clone())));
            }
            updates.push((self.weight(plan, index, asked), delta));
        }
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
        images.retain(|image| image.labels.as_raw().iter().any(|&label| label != UNLABELLED));
        if images.is_empty() {
            return images;
        }
        images.extend(rehearsed);
        images.retain(|image| image.labels.as_raw().iter().any(|&label| label != UNLABELLED));
        images
    }

    /// What a site rehearses: boxes of its fields that nobody was asked about, as the generation sees them.
    fn rehearsed(
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

    pub(super) fn engine(&self, members: &Members) -> Result<Engine, ExperimentError> {
        let plan = self.setting.plan;
        Ok(engine::open_for(self.setting.device, &plan.architecture, members, Conventions::default(), &plan.scan)?)
    }

    fn look_at_all(&self, members: &Members) -> Result<Vec<Vec<Look>>, ExperimentError> {
        let sites = self.setting.sites.iter().zip(&self.splits);
        let fields = sites
            .flat_map(|(site, (_, learn))| learn.iter().filter(|_| !site.central).map(|&field| &site.fields[field]));
        let mut looks = self.of_each(members, &fields.collect::<Vec<_>>(), |_, look| look)?.into_iter();
        let sites = self.setting.sites.iter().zip(&self.splits);
        Ok(sites
            .map(|(site, (_, learn))| looks.by_ref().take(if site.central { 0 } else { learn.len() }).collect())
            .collect())
    }

    /// What `of` makes of each field as the members see it; side by side where the engine leaves room for it.
    fn of_each<T: Send>(
        &self,
        members: &Members,
        fields: &[&Field],
        of: impl Fn(&Field, Look) -> T + Sync,
    ) -> Result<Vec<T>, ExperimentError> {
        let Setting { plan, go_on, .. } = *self.setting;
        let engine = self.engine(members)?;
        let one = |field: &&Field| match go_on() {
            false => Err(ExperimentError::Paused),
            true => Ok(of(field, look(&engine, &plan.scan, field)?)),
        };
        match engine.predictor().at_once() {
            0 | 1 => fields.iter().map(one).collect(),
            _ => fields.par_iter().map(one).collect(),
        }
    }

    fn looks(&self) -> Result<&Vec<Vec<Look>>, ExperimentError> {
        if let Some(looks) = self.looks.get() {
            return Ok(looks);
        }
        let looks = self.look_at_all(&self.first)?;
        Ok(self.looks.get_or_init(|| looks))
    }

    fn figures(
        &self,
        arm: &str,
        budget: u32,
        members: &Members,
        asked: &[Vec<Asked>],
    ) -> Result<Cell, ExperimentError> {
        let (in_depth, side) = (budget == 0, self.setting.plan.acquisition.patch_px);
        let held_out =
            |index: usize| self.splits[index].0.iter().map(move |&field| &self.setting.sites[index].fields[field]);
        let all: Vec<&Field> = (0..self.splits.len()).flat_map(held_out).collect();
        let figures = self.of_each(members, &all, |field, look| field_figures(field, &look, side, in_depth))?;
        let mut figures = figures.into_iter();
        let mut sites = Vec::new();
        for (index, site) in self.setting.sites.iter().enumerate() {
            let (held_out, learn) = &self.splits[index];
            let fields = figures.by_ref().take(held_out.len()).collect();
            let pool: f64 = learn.iter().map(|&f| foreground(site.fields[f].labels.as_raw())).sum::<f64>();
            let pool = pool / learn.len().max(1) as f64;
            let patch = |asked: &Asked| {
                let Asked { patch: PatchBox { x, y, side }, field } = *asked;
                let field = &site.fields[field];
                let labels = imageops::crop_imm(&field.labels, x, y, side, side).to_image();
                let (foreground, field) = (foreground(labels.as_raw()), field.name.clone());
                PatchFigures { field, x, y, side, foreground, foreground_of_pool: pool }
            };
            let patches = asked[index].iter().map(patch).collect();
            sites.push(SiteFigures { site: site.id.to_string(), central: site.central, fields, patches });
        }
        Ok(Cell { seed: self.seed, fold: self.fold, arm: arm.to_owned(), budget, sites })
    }
}

/// The text from which every random choice of a site in a round derives: a site's own, in a study of that seed.
fn site_seed(seed: u64, fold: usize, site: &Site, round: u32) -> String {
    format!("{}/{STUDY}/{}/round-{}", study_seed(seed, fold), site.id, round + 1)
}

/// The boxes of one field.
pub(super) fn boxes_of(asked: &[Asked], field: usize) -> Vec<PatchBox> {
    asked.iter().filter(|asked| asked.field == field).map(|asked| asked.patch).collect()
}

/// A field's maps without the tissue for which there is no answer.
pub(super) fn labelled(strip: &Strip, field: &Field) -> Strip {
    let mut strip = strip.clone();
    for (tissue, &label) in strip.tissue.iter_mut().zip(field.labels.as_raw()) {
        *tissue *= u8::from(label != UNLABELLED);
    }
    strip
}

/// The seed of the study that a seed and fold are: the plan of a run over gRPC that gives the same numbers has it.
pub(super) fn study_seed(seed: u64, fold: usize) -> u64 {
    seed.saturating_mul(MAX_FOLDS as u64).saturating_add(fold as u64)
}

pub(super) fn wrong(error: consilium_learning::scan::ScanError) -> ExperimentError {
    ExperimentError::Usage(error.to_string())
}

/// A box of a field to learn from.
fn cut(image: &RgbImage, labels: &GrayImage, PatchBox { x, y, side }: PatchBox) -> TrainingImage {
    TrainingImage {
        image: imageops::crop_imm(image, x, y, side, side).to_image(),
        labels: imageops::crop_imm(labels, x, y, side, side).to_image(),
        input: InputScale::RGB_TO_01,
    }
}
