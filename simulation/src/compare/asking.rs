//! Which boxes a site of a comparison is asked about.

use consilium_common::plan::{Acquisition, UNLABELLED};
use consilium_learning::acquisition::{
    self, Aggregation, Budget, Candidate, Layout, Method, PatchBox, Rule, Sight, Turn, candidates, choose, describe,
    leave_out_near,
};
use consilium_learning::metrics::Confusion;
use consilium_learning::network::{Features, InputScale, Predictor};
use consilium_learning::scan::Strip;
use consilium_learning::uncertainty::{UncertaintyMap, uncertainty_map};
use image::imageops;

use super::arms::Kind;
use super::trials::Trial;
use super::world::{Asked, World, boxes_of, labelled, wrong};
use crate::experiment::ExperimentError;
use crate::fields::{Field, Site};
use crate::look::Look;

impl World<'_> {
    /// The boxes that a site is asked about.
    #[expect(clippy::too_many_arguments, reason = "what a choice depends on")]
    pub(super) fn ask(
        &self,
        trial: &Trial,
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
        let turn = Turn { round, rounds: self.setting.rounds, seed };
        let settings = match &trial.kind {
            Kind::Study(score) => Acquisition { score: *score, budget, ..trial.plan.acquisition.clone() },
            _ => Acquisition { budget, ..trial.plan.acquisition.clone() },
        };
        let least = settings.min_feature_distance;
        let corrected = if least > 0.0 { self.features_of(site, before) } else { Vec::new() };
        let mut all = Vec::new();
        for (place, (&field, look)) in learn.iter().zip(looks).enumerate() {
            let mut found =
                self.candidates_of(&trial.kind, &settings, &fields[field], look, &boxes_of(before, field))?;
            if trial.needs_features() {
                self.fill_features(site, place, &mut found);
                leave_out_near(&mut found, &corrected, least);
            }
            all.extend(found);
        }
        let chosen: Vec<Candidate> = match &trial.kind {
            Kind::Full => Vec::new(),
            Kind::Study(_) => acquisition::select(&all, &settings, &turn).patches,
            Kind::Rule(Method { rule, .. }) => {
                let rule = match rule {
                    Rule::ClassError { foreground_weight, .. } => {
                        Rule::ClassError { errors: self.class_errors()?.clone(), foreground_weight: *foreground_weight }
                    }
                    other => other.clone(),
                };
                let places = choose(&rule, &all, &Budget::under(&settings, budget), &turn);
                places.into_iter().map(|place| all[place].clone()).collect()
            }
        };
        Ok(chosen.into_iter().filter_map(|c| Some(Asked { field: by_name(&c.slide)?, patch: c.patch })).collect())
    }

    /// The sharp boxes of a field that may be asked about, none of which overlaps one that was `taken`.
    fn candidates_of(
        &self,
        kind: &Kind,
        settings: &Acquisition,
        field: &Field,
        look: &Look,
        taken: &[PatchBox],
    ) -> Result<Vec<Candidate>, ExperimentError> {
        let strip = labelled(&look.strip, field);
        let mut found = match kind {
            Kind::Full => Vec::new(),
            Kind::Study(_) => candidates(&strip, &field.name, settings, taken).map_err(wrong)?,
            Kind::Rule(Method { map, aggregation, .. }) => {
                let mut found = described(settings, (*map, *aggregation), field, look);
                found.retain(|candidate| !taken.iter().any(|other| other.overlaps(&candidate.patch)));
                found
            }
        };
        self.keep_sharp(settings, &mut found, field, &strip)?;
        Ok(found)
    }

    /// Leaves out what the plan holds for blurred, as a site does.
    fn keep_sharp(
        &self,
        settings: &Acquisition,
        found: &mut Vec<Candidate>,
        field: &Field,
        maps: &Strip,
    ) -> Result<(), ExperimentError> {
        let pixels =
            |PatchBox { x, y, side }: PatchBox| Ok(imageops::crop_imm(&field.image, x, y, side, side).to_image());
        let sight = Sight { spacing: self.setting.plan.task.spacing_um, pixels: &pixels };
        sight.keep_sharp_of(maps, found, settings).map_err(wrong)
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

    /// Those of boxes that were asked about.
    fn features_of(&self, site: usize, asked: &[Asked]) -> Vec<Vec<f32>> {
        let features = &self.features.get_or_init(|| self.all_features())[site];
        let place = |field: usize| self.splits[site].1.iter().position(|&learned| learned == field);
        let of =
            |&Asked { field, patch: PatchBox { x, y, side } }: &Asked| Some(features[place(field)?].mean(x, y, side));
        asked.iter().filter_map(of).collect()
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
        for (index, site) in self.setting.sites.iter().enumerate().filter(|(_, site)| site.central) {
            let learn = &self.splits[index].1;
            let said = self.of_each(&engine, index, learn, |_, look| look.strip.labels)?;
            for (&field, labels) in learn.iter().zip(said) {
                confusion.add(&labels, site.fields[field].labels.as_raw());
            }
        }
        let errors = (0..classes).map(|class| confusion.false_negatives(class)).collect();
        Ok(self.errors.get_or_init(|| errors))
    }
}

/// The boxes of a field by what members say of it.
fn described(
    settings: &Acquisition,
    (map, aggregation): (UncertaintyMap, Aggregation),
    field: &Field,
    look: &Look,
) -> Vec<Candidate> {
    let map = uncertainty_map(map, &look.probabilities, look.members, look.classes);
    // There is no answer for what is not labelled.
    let excluded: Vec<u8> = field.labels.as_raw().iter().map(|&l| u8::from(l == UNLABELLED)).collect();
    let mean = look.strip.mean();
    let seen = acquisition::Field::of_strip(&look.strip, &field.name, &map, &mean, &excluded);
    describe(&seen, &Layout::of(settings, aggregation))
}
