//! One seed and fold: the first ensemble, what it sees, and what each arm makes of it.

use std::cell::{OnceCell, RefCell};

use consilium_common::Plan;
use consilium_common::bundle::Conventions;
use consilium_common::plan::{Training, UNLABELLED};
use consilium_learning::acquisition::PatchBox;
use consilium_learning::engine::{self, Device, Engine};
use consilium_learning::network::Features;
use consilium_learning::scan::Strip;
use consilium_learning::training::Trainer;
use image::imageops;
use rayon::prelude::*;

use super::arms::Kind;
use super::cell::{Cell, PatchFigures, SiteFigures, WholeFigures, field_figures, foreground};
use super::generation::Members;
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
    /// Trainings that are computed side by side at most, for what they hold.
    pub(super) trainings: usize,
    pub(super) rounds: u32,
    pub(super) cold: bool,
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
    pub(super) seed: u64,
    pub(super) fold: usize,
    /// Of each site: fields held out, fields to learn from.
    pub(super) splits: Vec<(Vec<usize>, Vec<usize>)>,
    pub(super) first: Members,
    /// What the first ensemble sees of the fields to learn from, by site; of the central site nothing.
    looks: OnceCell<Vec<Vec<Look>>>,
    pub(super) features: OnceCell<Vec<Vec<Features>>>,
    /// Misclassified pixels of each true class on the fields that the first ensemble learned from.
    pub(super) errors: OnceCell<Vec<u64>>,
    /// What the central site adds to the first ensemble by a fine-tuning, the last there was: the same for every arm.
    pub(super) central: RefCell<Option<(Training, Members)>>,
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
        self.figures(FIRST, 0, &self.first, &vec![Vec::new(); self.splits.len()], false)
    }

    /// An arm with its budget, which is spent in the setting's rounds.
    pub(super) fn cell(&self, trial: &Trial, budget: u32) -> Result<Cell, ExperimentError> {
        let (sites, rounds) = (self.setting.sites, self.setting.rounds);
        let mut generation = self.first.clone();
        let mut asked: Vec<Vec<Asked>> = vec![Vec::new(); sites.len()];
        for round in 0..rounds {
            let share = budget * (round + 1) / rounds - budget * round / rounds;
            let mut rehearsed = vec![Vec::new(); sites.len()];
            let earlier: Vec<usize> = asked.iter().map(Vec::len).collect();
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
            let learned: Vec<Vec<Asked>> = match trial.plan.rehearsal.replay {
                true => asked.clone(),
                false => asked.iter().zip(earlier).map(|(asked, earlier)| asked[earlier..].to_vec()).collect(),
            };
            let from = if self.setting.cold { &self.first } else { &generation };
            generation = self.round(from, trial, budget, &learned, rehearsed, round)?;
        }
        let cell = self.figures(&trial.name, budget, &generation, &asked, trial.kind == Kind::Full)?;
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

    pub(super) fn engine(&self, members: &Members) -> Result<Engine, ExperimentError> {
        let plan = self.setting.plan;
        Ok(engine::open_for(self.setting.device, &plan.architecture, members, Conventions::default(), &plan.scan)?)
    }

    fn look_at_all(&self, members: &Members) -> Result<Vec<Vec<Look>>, ExperimentError> {
        let engine = self.engine(members)?;
        let none: &[usize] = &[];
        let of_site = |(index, (_, learn)): (usize, &(Vec<usize>, Vec<usize>))| {
            let fields = if self.setting.sites[index].central { none } else { learn };
            self.of_each(&engine, index, fields, |_, look| look)
        };
        self.splits.iter().enumerate().map(of_site).collect()
    }

    /// What `of` makes of each of a site's fields as the engine sees it; side by side where members are, too.
    pub(super) fn of_each<T: Send>(
        &self,
        engine: &Engine,
        site: usize,
        fields: &[usize],
        of: impl Fn(&Field, Look) -> T + Sync,
    ) -> Result<Vec<T>, ExperimentError> {
        let Setting { sites, plan, go_on, .. } = *self.setting;
        let all = &sites[site].fields;
        let one = |&field: &usize| match go_on() {
            false => Err(ExperimentError::Paused),
            true => Ok(of(&all[field], look(engine, &plan.scan, &all[field])?)),
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
        whole: bool,
    ) -> Result<Cell, ExperimentError> {
        let (in_depth, side) = (budget == 0, self.setting.plan.acquisition.patch_px);
        let engine = self.engine(members)?;
        let mut sites = Vec::new();
        for (index, site) in self.setting.sites.iter().enumerate() {
            let (held_out, learn) = &self.splits[index];
            let fields =
                self.of_each(&engine, index, held_out, |field, look| field_figures(field, &look, side, in_depth))?;
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
            let pixels = learn.iter().map(|&f| site.fields[f].labels.len() as u64).sum();
            let whole = (whole && !site.central).then_some(WholeFigures { pixels, foreground: pool });
            sites.push(SiteFigures { site: site.id.to_string(), central: site.central, fields, patches, whole });
        }
        Ok(Cell { seed: self.seed, fold: self.fold, arm: arm.to_owned(), budget, sites })
    }
}

/// The text from which every random choice of a site in a round derives: a site's own, in a study of that seed.
pub(super) fn site_seed(seed: u64, fold: usize, site: &Site, round: u32) -> String {
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
    seed * MAX_FOLDS as u64 + fold as u64
}

pub(super) fn wrong(error: consilium_learning::scan::ScanError) -> ExperimentError {
    ExperimentError::Usage(error.to_string())
}
