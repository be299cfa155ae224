//! Agreement with an independent NumPy and SciPy computation (`tests/golden/uga.py`, committed vectors) to 1e-5.

use consilium_common::plan::{Acquisition, Score};
use consilium_learning::acquisition::{candidates, uga_score};
use consilium_learning::metrics::SlideEvaluation;
use consilium_learning::scan::{ORDINARY, Strip, gaussian_weights, tile_starts};
use consilium_learning::uncertainty::{mutual_information, predictive_entropy, quantise, uncertainty};
use serde::Deserialize;

const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    members: usize,
    classes: usize,
    height: u32,
    width: u32,
    patch: u32,
    probabilities: Vec<f32>,
    uncertainty: Vec<f64>,
    entropy: Vec<f64>,
    mutual_information: Vec<f64>,
    u8: Vec<u8>,
    patches: Vec<Patch>,
    tissue: Vec<u8>,
    boxes: Vec<FloatBox>,
    labels: Vec<u8>,
    truth: Vec<u8>,
    dice: Vec<Option<f64>>,
    ece: f64,
    gaussian: std::collections::BTreeMap<u32, Vec<f32>>,
    tile_starts: Vec<Starts>,
}

#[derive(Deserialize)]
struct Patch {
    x: usize,
    y: usize,
    max_uncertain: u64,
    uncertainty_score: u64,
}

#[derive(Deserialize)]
struct FloatBox {
    x: u32,
    y: u32,
    tissue: f64,
    u: f64,
    h: f64,
}

#[derive(Deserialize)]
struct Starts {
    length: u32,
    tile: u32,
    step: f64,
    starts: Vec<u32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/uga.json")).expect("uga.json as tests/golden/uga.py writes it")
}

fn assert_close(got: &[f32], expected: &[f64], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (&g, &e)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(g) - e).abs() < TOLERANCE, "{what} at {i}: {g} is not {e}");
    }
}

/// The golden maps as those of a scan.
fn result(g: &Golden) -> Strip {
    let pixels = (g.width * g.height) as usize;
    let mean = |class: usize| {
        let of =
            |i: usize| (0..g.members).map(move |m| f64::from(g.probabilities[(m * g.classes + class) * pixels + i]));
        (0..pixels).map(|i| (of(i).sum::<f64>() / g.members as f64) as f32).collect()
    };
    let mut strip = Strip::background(0, g.height, g.width, g.classes);
    strip.labels = g.labels.clone();
    strip.tissue = g.tissue.clone();
    strip.colour.fill(ORDINARY);
    strip.uncertainty = uncertainty(&g.probabilities, g.members, g.classes);
    strip.entropy = predictive_entropy(&g.probabilities, g.members, g.classes);
    strip.probabilities = (1..g.classes).map(mean).collect();
    strip
}

fn settings(g: &Golden, score: Score) -> Acquisition {
    Acquisition::new(score, 100, g.patch, 0.0)
}

#[test]
fn pixel_scores_agree() {
    let g = golden();
    let u = uncertainty(&g.probabilities, g.members, g.classes);
    assert_close(&u, &g.uncertainty, "uncertainty");
    assert_close(&predictive_entropy(&g.probabilities, g.members, g.classes), &g.entropy, "entropy");
    let mi = mutual_information(&g.probabilities, g.members, g.classes);
    assert_close(&mi, &g.mutual_information, "mutual information");
    let eight_bit: Vec<u8> = u.iter().map(|&nats| quantise(nats)).collect();
    assert_eq!(eight_bit, g.u8);
}

#[test]
fn uga_patch_scores_agree() {
    let g = golden();
    for patch in &g.patches {
        let rows = (patch.y..patch.y + g.patch as usize).map(|y| y * g.width as usize + patch.x);
        let values: Vec<u8> = rows.flat_map(|start| g.u8[start..start + g.patch as usize].to_vec()).collect();
        let score = uga_score(&values).expect("a patch in the table is not all zero");
        assert_eq!((score.max_uncertain, score.uncertainty_score), (patch.max_uncertain, patch.uncertainty_score));
    }
    let mut whole = result(&g);
    whole.tissue.iter_mut().for_each(|t| *t = 1);
    let found = candidates(&whole, "s", &settings(&g, Score::Uga), &[]).expect("maps in memory");
    let keys = |p: &Patch| (p.x as u32, p.y as u32, (100 * p.max_uncertain + p.uncertainty_score) as f64);
    let found: Vec<_> = found.iter().map(|c| (c.patch.x, c.patch.y, c.score)).collect();
    assert_eq!(found, g.patches.iter().map(keys).collect::<Vec<_>>());
}

#[test]
fn float_patch_scores_agree() {
    let g = golden();
    let result = result(&g);
    for score in [Score::UgaMean, Score::Entropy] {
        let found = candidates(&result, "s", &settings(&g, score), &[]).expect("maps in memory");
        assert_eq!(found.len(), g.boxes.len());
        for (candidate, expected) in found.iter().zip(&g.boxes) {
            assert_eq!((candidate.patch.x, candidate.patch.y), (expected.x, expected.y));
            let wanted = if score == Score::Entropy { expected.h } else { expected.u };
            assert!((candidate.score - wanted).abs() < TOLERANCE);
            assert!((candidate.mean_uncertainty - expected.u).abs() < TOLERANCE);
            assert!((candidate.tissue - expected.tissue).abs() < TOLERANCE);
        }
    }
}

#[test]
fn window_agrees_with_nnunet() {
    let g = golden();
    for (&size, expected) in &g.gaussian {
        let weights = gaussian_weights(size);
        assert_eq!(weights.len(), expected.len());
        for (got, want) in weights.iter().zip(expected) {
            // Relative, as a pixel's sum of weights may consist of the small ones only.
            assert!((got - want).abs() <= 1e-5 * want, "size {size}: {got} is not {want}");
        }
    }
    for case in &g.tile_starts {
        assert_eq!(tile_starts(case.length, case.tile, case.step), case.starts, "{} by {}", case.length, case.tile);
    }
}

#[test]
fn metrics_agree() {
    let g = golden();
    let mut result = result(&g);
    result.tissue.iter_mut().for_each(|t| *t = 1);
    let mut evaluation = SlideEvaluation::new(g.classes);
    evaluation.add(&result, &g.truth);
    for (got, want) in evaluation.dice().iter().zip(&g.dice) {
        assert_eq!(got.is_some(), want.is_some());
        assert!((got.unwrap_or(0.0) - want.unwrap_or(0.0)).abs() < TOLERANCE);
    }
    assert!((evaluation.ece().expect("labelled pixels") - g.ece).abs() < TOLERANCE);
}
