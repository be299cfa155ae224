//! A made-up experiment, so that the report can be tested and looked at without running one.

use std::collections::BTreeMap;

use consilium_common::plan::{
    Acquisition, Aggregation, Architecture, Gate, Plan, Quorum, ScanSettings, Score, Task, Training,
};
use consilium_common::{Digest, Mpp, SiteId};
use image::{GrayImage, Luma, RgbImage};

use super::{CentreStory, PatchPicture, Story};
use crate::draw::{centres, draw_slide};
use crate::experiment::{Generation, Metrics, Patch, Step, Timing};

fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

fn wobble(n: usize) -> f64 {
    ((n * 7919 + 13) % 101) as f64 / 101.0 - 0.5
}

pub(crate) fn plan() -> Plan {
    Plan {
        schema: 1,
        title: "Tumour in drawn tissue".into(),
        seed: 7,
        rounds: 3,
        members: 5,
        task: Task { classes: vec!["background".into(), "tumour".into()], spacing_um: Mpp::new(4.0).unwrap() },
        architecture: Architecture::plain(2, 8, 4),
        scan: ScanSettings::default(),
        acquisition: Acquisition::new(Score::UgaMean, 5, 96, 0.5),
        initial_training: Training::new(300, 4, 96, 0.01),
        fine_tuning: Training::new(40, 4, 96, 0.005),
        rehearsal: Default::default(),
        aggregation: Aggregation::default(),
        quorum: Quorum { min_sites: 5, deadline_s: None },
        gate: Gate::default(),
    }
}

pub(crate) fn metrics() -> Metrics {
    let sites: Vec<SiteId> = centres(5, 7).iter().map(|c| site(&c.name)).collect();
    let start = [0.86, 0.42, 0.55, 0.38, 0.61];
    let generations = (0..4u32).map(|g| {
        let dice = |i: usize| {
            (start[i] + (0.88 - start[i]) * (1.0 - 0.55f64.powi(g as i32)) + 0.02 * wobble(i + 9 * g as usize)).min(1.0)
        };
        let of: BTreeMap<SiteId, f64> = sites.iter().cloned().enumerate().map(|(i, s)| (s, dice(i))).collect();
        let mean = sites[1..].iter().map(|s| of[s]).sum::<f64>() / 4.0;
        Generation {
            generation: g,
            manifest: Digest::of(&[g as u8]),
            mean_dice: Some(mean),
            ece: of.iter().map(|(k, v)| (k.clone(), 0.2 * (1.0 - v))).collect(),
            sites: of,
        }
    });
    let patches = (0..75usize).map(|n| {
        let uncertainty = 0.25 + 0.2 * wobble(3 * n) + 0.1 * wobble(n);
        Patch {
            site: sites[n % 5].clone(),
            round: (n / 25) as u32 + 1,
            slide: format!("{}-0{}", sites[n % 5], n % 3 + 1),
            x: 96 * n as i64,
            y: 512,
            score: uncertainty,
            mean_uncertainty: uncertainty,
            control: false,
            dice_before: (n % 9 != 0).then(|| (0.9 - 1.4 * uncertainty + 0.3 * wobble(11 * n + 5)).clamp(0.0, 1.0)),
        }
    });
    Metrics {
        schema: 1,
        study: "demo".parse().unwrap(),
        seed: 7,
        plan: plan().digest().unwrap(),
        central: sites[0].clone(),
        mean_over: sites[1..].to_vec(),
        generations: generations.collect(),
        rejected: Vec::new(),
        patches: patches.collect(),
        sites,
    }
}

pub(crate) fn timing() -> Timing {
    let step = |what: &str, seconds| Step { what: what.into(), seconds };
    let steps = vec![
        step("draw slides", 31.0),
        step("train first ensemble", 140.0),
        step("start", 1.5),
        step("rounds", 260.0),
        step("report", 4.0),
    ];
    let stages = [
        ("download", 0.4),
        ("scan", 90.0),
        ("select", 0.1),
        ("correct", 0.6),
        ("fine-tune", 75.0),
        ("upload", 0.6),
        ("evaluate", 42.0),
    ];
    let of = |i: usize| stages.iter().map(|(k, v)| ((*k).to_owned(), v * (1.0 + 0.1 * i as f64))).collect();
    Timing { steps, sites: metrics().sites.into_iter().enumerate().map(|(i, s)| (s, of(i))).collect() }
}

/// A whole story with pictures; `side` sets how large slides are drawn.
pub(crate) fn story(side: u32) -> Story {
    let metrics = metrics();
    let (mut shown, mut patches) = (Vec::new(), Vec::new());
    for (index, centre) in centres(5, 7).iter().enumerate() {
        let slide = draw_slide(centre, &format!("7/{}-01", centre.name), side);
        let thumbnail = image::imageops::thumbnail(&slide.image, 300, 300);
        let small: RgbImage = image::imageops::thumbnail(&slide.image, side / 8, side / 8);
        shown.push(CentreStory { site: site(&centre.name), learn: 3, test: 2, thumbnail });
        for round in [1, 3] {
            let at = (side / 16 - 48, side / 16 - 60 + 8 * round);
            let mask = |x: u32, y: u32| slide.mask.get_pixel((at.0 + x) * 2, (at.1 + y) * 2)[0];
            patches.push(PatchPicture {
                site: site(&centre.name),
                round,
                mean_uncertainty: 0.4 - 0.07 * f64::from(round) + 0.02 * index as f64,
                dice_before: (index != 2).then_some(0.4 + 0.1 * f64::from(round)),
                image: image::imageops::crop_imm(&small, at.0, at.1, 96, 96).to_image(),
                prediction: GrayImage::from_fn(96, 96, |x, y| Luma([mask((x + 9).min(95), y) * u8::from(x > 20)])),
                uncertainty: GrayImage::from_fn(96, 96, |x, y| {
                    Luma([if mask(x, y) != mask((x + 9).min(95), y) { 44 } else { 6 }])
                }),
                correction: (index != 4 || round != 3).then(|| GrayImage::from_fn(96, 96, |x, y| Luma([mask(x, y)]))),
            });
        }
    }
    Story {
        drawn: true,
        metrics,
        timing: timing(),
        plan: plan(),
        command: "consilium-simulate --seed 7".into(),
        centres: shown,
        patches,
    }
}
