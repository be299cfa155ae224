//! One seed and fold: the first ensemble, what it sees, and what each arm makes of it.

use std::cell::OnceCell;

use consilium_common::Plan;
use consilium_common::bundle::Conventions;
use consilium_common::plan::{Acquisition, Score, UNLABELLED, Weighting};
use consilium_learning::acquisition::{
    self, Budget, Candidate, Layout, PatchBox, Rule, ScoredPatch, candidates, choose, describe,
};
use consilium_learning::engine::{self, Device, Engine};
use consilium_learning::metrics::Confusion;
use consilium_learning::network::{Features, InputScale, Predictor};
use consilium_learning::training::{Trainer, TrainingImage};
use consilium_learning::uncertainty::uncertainty_map;
use image::imageops;

use super::arms::{Arm, Kind};
use super::cell::{Cell, PatchFigures, SiteFigures, field_figures, foreground};
use super::fields::{Field, Site};
use super::generation::{Members, aggregated, fine_tuned};
use super::look::{Look, look};
use super::summary::FIRST;
use crate::experiment::ExperimentError;

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
#[derive(Clone, Copy, Debug)]
struct Asked {
    field: usize,
    patch: PatchBox,
}

/// One seed and fold.
pub(super) struct World<'a> {
    setting: &'a Setting<'a>,
    seed: u64,
    fold: usize,
    /// Of each site: fields held out, fields to learn from.
    splits: Vec<(Vec<usize>, Vec<usize>)>,
    first: Members,
    /// What the first ensemble sees of the fields to learn from, by site; of the central site nothing.
    looks: OnceCell<Vec<Vec<Look>>>,
    features: OnceCell<Vec<Vec<Features>>>,
    /// Misclassified pixels of each true class on the fields that the first ensemble learned from.
    errors: OnceCell<Vec<u64>>,
    /// What the central site adds to the first ensemble: the same for every arm.
    central: OnceCell<Members>,
}

impl<'a> World<'a> {
    pub(super) fn new(setting: &'a Setting<'a>, seed: u64, fold: usize, folds: usize, first: Members) -> Self {
        let splits = setting.sites.iter().map(|site| site.split(seed, fold, folds)).collect();
        let (looks, features) = (OnceCell::new(), OnceCell::new());
        let (errors, central) = (OnceCell::new(), OnceCell::new());
        Self { setting, seed, fold, splits, first, looks, features, errors, central }
    }

    /// The first ensemble by itself.
    pub(super) fn baseline(&self) -> Result<Cell, ExperimentError> {
        self.figures(FIRST, 0, &self.first, &vec![Vec::new(); self.splits.len()])
    }

    /// An arm with its budget, which is spent in the setting's rounds.
    pub(super) fn cell(&self, arm: &Arm, budget: u32) -> Result<Cell, ExperimentError> {
        let (sites, rounds) = (self.setting.sites, self.setting.rounds);
        let mut generation = self.first.clone();
        let mut asked: Vec<Vec<Asked>> = vec![Vec::new(); sites.len()];
        for round in 0..rounds {
            let share = budget * (round + 1) / rounds - budget * round / rounds;
            if arm.kind != Kind::Full {
                let later = if round == 0 { None } else { Some(self.look_at_all(&generation)?) };
                let looks = later.as_ref().map_or_else(|| self.looks(), Ok)?;
                for (index, site) in sites.iter().enumerate().filter(|(_, site)| !site.central) {
                    let text = format!("{}/select", self.seed_text(site, round));
                    let more = self.ask(arm, index, &looks[index], &asked[index], share, round, &text)?;
                    asked[index].extend(more);
                }
            }
            generation = self.round(&generation, arm, &asked, round)?;
        }
        self.figures(&arm.name, budget, &generation, &asked)
    }

    /// The text from which every random choice of a site in a round derives.
    fn seed_text(&self, site: &Site, round: u32) -> String {
        format!("{}/fold-{}/{}/round-{}", self.seed, self.fold, site.id, round + 1)
    }

    /// Fine-tunes at every site that has something to learn from, and aggregates.
    fn round(&self, from: &Members, arm: &Arm, asked: &[Vec<Asked>], round: u32) -> Result<Members, ExperimentError> {
        let Setting { sites, plan, trainer, go_on, .. } = *self.setting;
        let mut updates = Vec::new();
        for (index, site) in sites.iter().enumerate() {
            if let (true, 0, Some(delta)) = (site.central, round, self.central.get()) {
                updates.push((self.weight(index, asked), delta.clone()));
                continue;
            }
            let whole = site.central || arm.kind == Kind::Full;
            let mut images: Vec<TrainingImage> = if whole {
                self.splits[index].1.iter().map(|&field| whole_image(&site.fields[field])).collect()
            } else {
                asked[index].iter().map(|asked| patch_image(&site.fields[asked.field], asked.patch)).collect()
            };
            images.retain(|image| image.labels.as_raw().iter().any(|&label| label != UNLABELLED));
            if images.is_empty() {
                continue;
            }
            let delta = fine_tuned(plan, trainer, from, &images, &self.seed_text(site, round), go_on)?;
            if site.central && round == 0 {
                let _ = self.central.set(delta.clone());
            }
            updates.push((self.weight(index, asked), delta));
        }
        aggregated(from, &updates)
    }

    /// What a site's update counts, as the plan says: patches that were asked for, or whole fields in patches.
    fn weight(&self, site: usize, asked: &[Vec<Asked>]) -> f64 {
        let Setting { sites, plan, .. } = *self.setting;
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

    fn engine(&self, members: &Members) -> Result<Engine, ExperimentError> {
        let plan = self.setting.plan;
        Ok(engine::open_for(self.setting.device, &plan.architecture, members, Conventions::default(), &plan.scan)?)
    }

    fn look_at_all(&self, members: &Members) -> Result<Vec<Vec<Look>>, ExperimentError> {
        let engine = self.engine(members)?;
        let mut all = Vec::new();
        for (site, (_, learn)) in self.setting.sites.iter().zip(&self.splits) {
            let fields = learn.iter().filter(|_| !site.central).map(|&field| &site.fields[field]);
            let looks = fields.map(|field| {
                if !(self.setting.go_on)() {
                    return Err(ExperimentError::Paused);
                }
                look(&engine, &self.setting.plan.scan, field)
            });
            all.push(looks.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(all)
    }

    fn looks(&self) -> Result<&Vec<Vec<Look>>, ExperimentError> {
        if let Some(looks) = self.looks.get() {
            return Ok(looks);
        }
        let looks = self.look_at_all(&self.first)?;
        Ok(self.looks.get_or_init(|| looks))
    }

    /// The boxes that a site is asked about.
    #[expect(clippy::too_many_arguments, reason = "what a choice depends on")]
    fn ask(
        &self,
        arm: &Arm,
        site: usize,
        looks: &[Look],
        before: &[Asked],
        budget: u32,
        round: u32,
        seed: &str,
    ) -> Result<Vec<Asked>, ExperimentError> {
        let learn = &self.splits[site].1;
        let fields = &self.setting.sites[site].fields;
        let by_name = |name: &str| learn.iter().copied().find(|&field| fields[field].name == name);
        let taken = |field: usize| {
            before.iter().filter(|asked| asked.field == field).map(|asked| asked.patch).collect::<Vec<PatchBox>>()
        };
        let chosen: Vec<(String, PatchBox)> = match &arm.kind {
            Kind::Full => Vec::new(),
            Kind::Uga => {
                let settings = Acquisition { score: Score::Uga, budget, ..self.setting.plan.acquisition.clone() };
                let mut all: Vec<ScoredPatch> = Vec::new();
                for (&field, look) in learn.iter().zip(looks) {
                    let mut strip = look.strip.clone();
                    for (tissue, &label) in strip.tissue.iter_mut().zip(fields[field].labels.as_raw()) {
                        *tissue *= u8::from(label != UNLABELLED);
                    }
                    all.extend(candidates(&strip, &fields[field].name, &settings, &taken(field)).map_err(wrong)?);
                }
                acquisition::select(all, &settings, seed).into_iter().map(|p| (p.slide, p.patch)).collect()
            }
            Kind::Rule { rule, .. } => {
                let mut all = Vec::new();
                for (place, (&field, look)) in learn.iter().zip(looks).enumerate() {
                    let mut found = self.described(arm, &fields[field], look);
                    found.retain(|candidate| !taken(field).iter().any(|other| other.overlaps(&candidate.patch)));
                    if rule.needs_features() {
                        self.fill_features(site, place, &mut found);
                    }
                    all.extend(found);
                }
                let rule = match rule {
                    Rule::ClassError { foreground_weight, .. } => {
                        Rule::ClassError { errors: self.class_errors()?.clone(), foreground_weight: *foreground_weight }
                    }
                    other => other.clone(),
                };
                let places = choose(&rule, &all, &Budget::of(budget), round, self.setting.rounds, seed);
                places.into_iter().map(|place| (all[place].slide.clone(), all[place].patch)).collect()
            }
        };
        Ok(chosen.into_iter().filter_map(|(name, patch)| Some(Asked { field: by_name(&name)?, patch })).collect())
    }

    fn layout(&self, aggregation: acquisition::Aggregation) -> Layout {
        let Acquisition { patch_px: side, min_tissue, .. } = self.setting.plan.acquisition;
        Layout { side, stride: side / 2, min_tissue, aggregation }
    }

    fn described(&self, arm: &Arm, field: &Field, look: &Look) -> Vec<Candidate> {
        let Kind::Rule { map, aggregation, .. } = &arm.kind else { return Vec::new() };
        let pixels = look.strip.labels.len();
        let map = uncertainty_map(*map, &look.probabilities, look.members, look.classes);
        let mut mean = vec![0.0f32; look.classes * pixels];
        for planes in look.probabilities.chunks_exact(look.classes * pixels) {
            mean.iter_mut().zip(planes).for_each(|(sum, p)| *sum += p / look.members as f32);
        }
        let seen = acquisition::Field {
            slide: &field.name,
            width: field.image.width(),
            height: field.image.height(),
            classes: look.classes,
            tissue: &look.strip.tissue,
            // There is no answer for what is not labelled.
            excluded: &field.labels.as_raw().iter().map(|&l| u8::from(l == UNLABELLED)).collect::<Vec<u8>>(),
            labels: &look.strip.labels,
            mean: &mean,
            map: &map,
        };
        describe(&seen, &self.layout(*aggregation))
    }

    /// Features are those of the first ensemble's first member: what is alike stays alike while it learns.
    fn fill_features(&self, site: usize, place: usize, candidates: &mut [Candidate]) {
        let features = &self.features.get_or_init(|| self.all_features())[site][place];
        for candidate in candidates {
            let PatchBox { x, y, side } = candidate.patch;
            let half = side / 2;
            candidate.feature = features.mean(x, y, side);
            candidate.parts = [(0, 0), (half, 0), (0, half), (half, half)]
                .map(|(dx, dy)| features.mean(x + dx, y + dy, half))
                .to_vec();
        }
    }

    fn all_features(&self) -> Vec<Vec<Features>> {
        let predictor = Predictor::of_members(&self.setting.plan.architecture, &self.first[..1]);
        let of_site = |(site, (_, learn)): (&Site, &(Vec<usize>, Vec<usize>))| {
            let fields = learn.iter().filter(|_| !site.central).map(|&field| &site.fields[field].image);
            fields.map(|image| predictor.features(0, image, &InputScale::RGB_TO_01)).collect()
        };
        self.setting.sites.iter().zip(&self.splits).map(of_site).collect()
    }

    fn class_errors(&self) -> Result<&Vec<u64>, ExperimentError> {
        if let Some(errors) = self.errors.get() {
            return Ok(errors);
        }
        let (engine, classes) = (self.engine(&self.first)?, self.setting.plan.architecture.classes);
        let mut confusion = Confusion::new(classes);
        for (site, (_, learn)) in self.setting.sites.iter().zip(&self.splits).filter(|(site, _)| site.central) {
            for &field in learn {
                let look = look(&engine, &self.setting.plan.scan, &site.fields[field])?;
                confusion.add(&look.strip.labels, site.fields[field].labels.as_raw());
            }
        }
        let errors = (0..classes).map(|class| confusion.false_negatives(class)).collect();
        Ok(self.errors.get_or_init(|| errors))
    }

    fn figures(
        &self,
        arm: &str,
        budget: u32,
        members: &Members,
        asked: &[Vec<Asked>],
    ) -> Result<Cell, ExperimentError> {
        let engine = self.engine(members)?;
        let (in_depth, side) = (budget == 0, self.setting.plan.acquisition.patch_px);
        let mut sites = Vec::new();
        for (index, site) in self.setting.sites.iter().enumerate() {
            let (held_out, learn) = &self.splits[index];
            let mut fields = Vec::new();
            for &field in held_out {
                if !(self.setting.go_on)() {
                    return Err(ExperimentError::Paused);
                }
                let field = &site.fields[field];
                fields.push(field_figures(field, &look(&engine, &self.setting.plan.scan, field)?, side, in_depth));
            }
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

fn wrong(error: consilium_learning::scan::ScanError) -> ExperimentError {
    ExperimentError::Usage(error.to_string())
}

/// A field to learn from whole.
pub(super) fn whole_image(field: &Field) -> TrainingImage {
    TrainingImage { image: field.image.clone(), labels: field.labels.clone(), input: InputScale::RGB_TO_01 }
}

fn patch_image(field: &Field, patch: PatchBox) -> TrainingImage {
    let PatchBox { x, y, side } = patch;
    TrainingImage {
        image: imageops::crop_imm(&field.image, x, y, side, side).to_image(),
        labels: imageops::crop_imm(&field.labels, x, y, side, side).to_image(),
        input: InputScale::RGB_TO_01,
    }
}
