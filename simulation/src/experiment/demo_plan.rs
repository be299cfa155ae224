//! The built-in plans and how much is drawn: every constant that was tuned stands here.
//!
//! Measured on 2 cores; a default run is meant to end within 12 minutes and a quick one within 3.

use consilium_common::plan::{
    Acquisition, Aggregation, Architecture, Augmentation, Gate, Norm, Plan, Quorum, Rehearsal, SCHEMA, ScanSettings,
    Score, Task, Training,
};
use consilium_common::{Invalid, Mpp};

use super::options::Options;
use crate::draw::CentreSlides;

/// Centres that are drawn by default.
pub(crate) const SITES: usize = 5;
/// Slides of the drawn central centre.
pub(crate) const CENTRAL_SLIDES: CentreSlides = CentreSlides { learn: 4, test: 2, split: "train" };
/// Slides of the other drawn centres.
pub(crate) const SITE_SLIDES: CentreSlides = CentreSlides { learn: 3, test: 2, split: "pool" };
/// The same for a quick run.
pub(crate) const QUICK_CENTRAL_SLIDES: CentreSlides = CentreSlides { learn: 3, test: 1, split: "train" };
pub(crate) const QUICK_SITE_SLIDES: CentreSlides = CentreSlides { learn: 2, test: 1, split: "pool" };

/// With instance normalisation first on rare tumour, first together with `foreground-random` on MoNuSeg; with batch
/// normalisation and fast learning `entropy` is above it on rare tumour. docs/acquisition-results.md has the tables.
pub(crate) const DEFAULT_RULE: Score = Score::ClaspPe;

/// Of slides without a split, this share is held out, and at least [`MIN_TEST`].
pub(crate) const TEST_SHARE: f64 = 0.3;
pub(crate) const MIN_TEST: usize = 2;

/// What a built-in plan is made for.
pub(crate) struct Material {
    pub(crate) title: String,
    pub(crate) classes: Vec<String>,
    pub(crate) spacing_um: f64,
    /// Drawn slides, or data folders.
    pub(crate) drawn: bool,
    pub(crate) sites: usize,
}

/// The built-in plan with the choices of the command line.
pub(crate) fn plan(material: &Material, options: &Options) -> Result<Plan, Invalid> {
    let base = if material.drawn { drawn(options.quick) } else { folders(options.quick) };
    let base = Base {
        rounds: options.rounds.unwrap_or(base.rounds),
        members: options.members.unwrap_or(base.members),
        acquisition: Acquisition {
            score: options.acquisition.unwrap_or(DEFAULT_RULE),
            budget: options.budget.unwrap_or(base.acquisition.budget),
            ..base.acquisition
        },
        ..base
    };
    whole(material, options.seed, base)
}

/// The plan for drawn centres with rare tumour.
pub(crate) fn rare_plan(sites: usize, seed: u64) -> Result<Plan, Invalid> {
    let material = Material {
        title: format!("Rare tumour in drawn tissue of {sites} centres"),
        classes: vec!["background".into(), "tumour".into()],
        spacing_um: 4.0,
        drawn: true,
        sites,
    };
    whole(&material, seed, rare())
}

fn whole(material: &Material, seed: u64, base: Base) -> Result<Plan, Invalid> {
    Ok(Plan {
        schema: SCHEMA,
        title: material.title.clone(),
        seed,
        rounds: base.rounds,
        members: base.members,
        task: Task { classes: material.classes.clone(), spacing_um: Mpp::new(material.spacing_um)? },
        architecture: Architecture {
            norm: base.norm,
            ..Architecture::plain(material.classes.len(), base.features, base.stages)
        },
        scan: base.scan,
        acquisition: base.acquisition,
        initial_training: base.initial_training,
        fine_tuning: base.fine_tuning,
        rehearsal: base.rehearsal,
        aggregation: Aggregation::default(),
        quorum: Quorum { min_sites: material.sites, deadline_s: None },
        gate: Gate::default(),
    })
}

struct Base {
    rounds: u32,
    members: usize,
    features: usize,
    stages: usize,
    norm: Norm,
    scan: ScanSettings,
    acquisition: Acquisition,
    initial_training: Training,
    fine_tuning: Training,
    rehearsal: Rehearsal,
}

/// Drawn slides at 4 um/px: 512 x 512 px a slide, tumour islands of 25 to 100 px.
fn drawn(quick: bool) -> Base {
    Base {
        rounds: if quick { 2 } else { 3 },
        members: if quick { 3 } else { 5 },
        features: 8,
        stages: 4,
        norm: Norm::Batch,
        scan: ScanSettings { tile_px: 256, ..ScanSettings::default() },
        acquisition: Acquisition::new(DEFAULT_RULE, 5, 96, 0.5),
        initial_training: Training {
            momentum: 0.9,
            augmentation: Augmentation { hed: 0.02, ..Augmentation::default() },
            ..Training::new(if quick { 120 } else { 240 }, 4, 96, 0.03)
        },
        fine_tuning: Training {
            momentum: 0.9,
            freeze_norm_statistics: true,
            augmentation: Augmentation { hed: 0.05, ..Augmentation::default() },
            ..Training::new(if quick { 30 } else { 50 }, 4, 96, 0.005)
        },
        rehearsal: Rehearsal::default(),
    }
}

/// Slides of 4.1 mm with rare tumour at 4 um/px: 1024 x 1024 px a slide, clusters of 10 to 45 px, patches of 0.4 mm.
///
/// Half of what is trained on is centred on tumour: by chance alone a patch would hardly meet any.
/// Instance normalisation: in a trial (one seed and fold, one network, 900 iterations) batch normalisation found nothing of
/// a macrometastasis in another stain (Dice 0.0), instance normalisation most of it (0.85) and hardly any cluster (0.04).
///
/// Rehearsal: without it, sites whose patches held no tumour unlearned it (Dice of macrometastases 0.05 after ten patches).
/// No stain jitter at the sites: with 0.05 ten random patches gave 0.026 less on seed 111, and five rules with five and ten
/// patches 0.003 less on average on seeds 101 and 102.
fn rare() -> Base {
    let training = |iterations: u32, learning_rate: f64| Training {
        momentum: 0.9,
        foreground_share: 0.5,
        ..Training::new(iterations, 4, 96, learning_rate)
    };
    Base {
        rounds: 3,
        members: 3,
        features: 8,
        stages: 4,
        norm: Norm::Instance,
        scan: ScanSettings { tile_px: 256, ..ScanSettings::default() },
        acquisition: Acquisition::new(DEFAULT_RULE, 5, 96, 0.5),
        initial_training: Training {
            augmentation: Augmentation { hed: 0.02, ..Augmentation::default() },
            ..training(600, 0.03)
        },
        fine_tuning: Training {
            augmentation: Augmentation { hed: 0.0, ..Augmentation::default() },
            ..training(60, 0.005)
        },
        rehearsal: Rehearsal { patches: 10, ..Rehearsal::default() },
    }
}

/// Fields of a millimetre or less with nuclei or glands, at twice the finest spacing.
///
/// Instance normalisation: on MoNuSeg batch normalisation, whose running statistics are those of the central site's
/// stain, begins at a mean Dice of 0.60 and tops out at 0.73; instance normalisation begins at 0.75 and more.
///
/// No stain jitter at the sites, which are to learn their own stain, and a learning rate of 0.003: on seeds 11 and 12 that had
/// 0.003 less Dice than 0.01 (-0.014 to +0.007, ten random patches, 30 steps), and the central site forgot less (0.738 in
/// place of 0.723). docs/acquisition-settings.md has the figures.
fn folders(quick: bool) -> Base {
    Base {
        rounds: if quick { 2 } else { 3 },
        members: if quick { 3 } else { 5 },
        features: 8,
        stages: 4,
        norm: Norm::Instance,
        scan: ScanSettings { tile_px: 256, ..ScanSettings::default() },
        acquisition: Acquisition::new(DEFAULT_RULE, 5, 128, 0.3),
        initial_training: Training {
            momentum: 0.9,
            augmentation: Augmentation { hed: 0.1, ..Augmentation::default() },
            ..Training::new(if quick { 300 } else { 1200 }, 4, 128, 0.03)
        },
        fine_tuning: Training {
            momentum: 0.9,
            freeze_norm_statistics: true,
            augmentation: Augmentation { hed: 0.0, ..Augmentation::default() },
            ..Training::new(if quick { 30 } else { 60 }, 4, 128, 0.003)
        },
        rehearsal: Rehearsal::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::options::Source;

    #[test]
    fn built_in_plans_are_valid() {
        for (drawn, quick) in [(true, false), (true, true), (false, false), (false, true)] {
            let options = Options { quick, ..sample() };
            let material = Material {
                title: "t".into(),
                classes: vec!["background".into(), "tumour".into()],
                spacing_um: 4.0,
                drawn,
                sites: 5,
            };
            assert_eq!(plan(&material, &options).unwrap().problems(), vec![], "drawn {drawn}, quick {quick}");
        }
    }

    #[test]
    fn the_plan_for_rare_tumour_is_valid_and_a_document() {
        let plan = rare_plan(5, 3).unwrap();
        assert_eq!(plan.problems(), vec![]);
        assert_eq!(Plan::from_toml(&plan.to_toml().unwrap()).unwrap(), plan);
    }

    fn sample() -> Options {
        Options::new(Source::Drawn, "x".into())
    }
}
