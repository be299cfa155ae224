//! Agreement with NumPy, SciPy and scikit-learn; vectors by tests/interop/golden_acquisition.py.

use consilium_common::plan::{Acquisition, Score};
use serde_json::Value;

use super::features::Points;
use super::pool::{Pool, Selection, descending};
use super::tests::turn;
use super::{Budget, Candidate, Rule, choose, clasp, diverse, herding, kmeans, power, two_stage, typiclust};
use crate::acquisition::describe::{Aggregation, Field, Layout, describe};
use crate::acquisition::uga::UgaCounts;
use crate::acquisition::{PatchBox, candidates as boxes_of, select as select_boxes, uga_score};
use crate::metrics::{Calibration, aurc, error_auroc};
use crate::scan::{BLACK, ORDINARY, Strip, WHITE};
use crate::uncertainty::{UncertaintyMap, quantise, uncertainty_map};

const GOLDEN: &str = include_str!("../../../tests/golden/acquisition.json");
const CLASSES: usize = 3;

fn golden(part: &str) -> Value {
    serde_json::from_str::<Value>(GOLDEN).unwrap()[part].take()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

fn assert_close(ours: &[f64], theirs: &[f64], tolerance: f64, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() < tolerance, "{what} at {i}: {a} is not {b}");
    }
}

/// The generator of the script.
struct Numbers(u32);

impl Numbers {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1u32 << 24)
    }

    fn units(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.unit()).collect()
    }

    fn probabilities(&mut self, planes: usize, pixels: usize) -> Vec<f32> {
        let raw: Vec<f64> = self.units(planes * CLASSES * pixels).iter().map(|u| u * u * u * u + 0.001).collect();
        let at = |i: usize| (i / (CLASSES * pixels) * CLASSES * pixels) + i % pixels;
        let sum = |i: usize| (0..CLASSES).map(|class| raw[at(i) + class * pixels]).sum::<f64>();
        (0..raw.len()).map(|i| (raw[i] / sum(i)) as f32).collect()
    }

    /// One number for each block of pixels.
    fn blocks(&mut self, width: usize, height: usize, size: usize) -> Vec<f64> {
        let columns = width.div_ceil(size);
        let coarse = self.units(columns * height.div_ceil(size));
        (0..width * height).map(|i| coarse[i / width / size * columns + i % width / size]).collect()
    }
}

#[test]
fn maps_are_those_of_scipy() {
    let (members, pixels) = (3, 40);
    let mut p = Numbers(11).probabilities(members, pixels);
    for member in 0..members {
        for class in 0..CLASSES {
            let start = (member * CLASSES + class) * pixels;
            p[start] = f32::from(u8::from(member == class));
            p[start + 1] = f32::from(u8::from(class == 1));
        }
    }
    let golden = golden("maps");
    assert_eq!(golden.as_object().unwrap().len(), UncertaintyMap::ALL.len());
    for (name, theirs) in golden.as_object().unwrap() {
        let ours: Vec<f64> =
            uncertainty_map(name.parse().unwrap(), &p, members, CLASSES).into_iter().map(f64::from).collect();
        assert_close(&ours, &floats(theirs), 2e-6, name);
    }
}

#[test]
fn boxes_are_those_of_numpy() {
    let (width, height) = (40, 33);
    let mut draw = Numbers(23);
    let below = |values: Vec<f64>, bound: f64| values.iter().map(|&v| u8::from(v < bound)).collect::<Vec<_>>();
    let tissue = below(draw.blocks(width, height, 5), 0.55);
    let excluded = below(draw.blocks(width, height, 3), 0.15);
    let labels: Vec<u8> = draw.blocks(width, height, 6).iter().map(|v| (v * 3.0) as u8).collect();
    let mean = draw.probabilities(1, width * height);
    let map: Vec<f32> = draw.units(width * height).iter().map(|v| (v * 1.5) as f32).collect();
    let (tissue, excluded, labels, mean, map) = (&tissue[..], &excluded[..], &labels[..], &mean[..], &map[..]);
    let field = Field {
        slide: "s",
        width: 40,
        height: 33,
        classes: CLASSES,
        tissue,
        excluded,
        labels,
        mean,
        map,
        uncertainty: map,
    };
    let golden = golden("describe");
    for (name, aggregation) in [
        ("tissue", Aggregation::Tissue),
        ("foreground", Aggregation::Foreground),
        ("border", Aggregation::Border { radius: 2 }),
        ("top-share", Aggregation::TopShare { share: 0.2 }),
        ("whole", Aggregation::Whole),
    ] {
        let found = describe(&field, &Layout { side: 16, stride: 7, min_tissue: 0.5, aggregation });
        assert_eq!(found.len(), golden.as_array().unwrap().len());
        for (ours, theirs) in found.iter().zip(golden.as_array().unwrap()) {
            let place = [f64::from(ours.patch.x), f64::from(ours.patch.y)];
            let one = [place[0], place[1], ours.tissue, ours.foreground, ours.score];
            let of = |key: &str| theirs[key].as_f64().unwrap();
            let other = [of("x"), of("y"), of("tissue"), of("foreground"), theirs["scores"][name].as_f64().unwrap()];
            assert_close(&one, &other, 2e-9, name);
            assert_close(&ours.shares, &floats(&theirs["shares"]), 2e-9, "shares");
            assert_close(&ours.class_scores, &floats(&theirs["class_scores"]), 2e-9, "class scores");
            if name == "border" {
                assert_close(&[ours.border], &[of("border")], 2e-9, "border");
            }
        }
    }
}

/// The script's candidates: none overlaps, and they come in the order that rules number them in.
fn candidates() -> Vec<Candidate> {
    let mut draw = Numbers(31);
    let centres: Vec<f64> = draw.units(4 * 5).iter().map(|u| u * 4.0 - 2.0).collect();
    let mut candidate = |i: usize| {
        let centre = &centres[i % 4 * 5..][..5];
        let feature: Vec<f32> = centre.iter().map(|c| (c + (draw.unit() - 0.5) * 1.6) as f32).collect();
        let score = draw.unit();
        let class_scores = draw.units(CLASSES).iter().map(|u| u * 0.3).collect();
        let mut part =
            |_| -> Vec<f32> { feature.iter().map(|&f| (f64::from(f) + (draw.unit() - 0.5)) as f32).collect() };
        let parts = (0..4).map(&mut part).collect();
        let patch = PatchBox { x: 20 * (i as u32 % 8), y: 0, side: 16 };
        let slide = ["a", "b", "c"][i / 8];
        Candidate { tissue: 1.0, score, class_scores, feature, parts, ..Candidate::at(slide, patch) }
    };
    (0..24).map(&mut candidate).collect()
}

fn noise() -> Vec<Vec<f64>> {
    golden("noise").as_array().unwrap().iter().map(floats).collect()
}

fn select(total: u32, rule: impl FnOnce(&mut Selection<'_>)) -> Vec<usize> {
    let candidates = candidates();
    let pool = Pool::new(&candidates);
    let mut selection = Selection::new(&pool, &Budget::of(total));
    rule(&mut selection);
    selection.indices()
}

fn points() -> Points {
    Points::of(candidates().iter().map(|c| c.feature.as_slice())).unwrap()
}

#[test]
fn power_and_soft_rank_keys_are_those_of_numpy() {
    let (golden, noise) = (golden("power"), noise());
    let beta = golden["beta"].as_f64().unwrap();
    let keys: Vec<f64> =
        candidates().iter().zip(&noise).map(|(c, noise)| power::power_key(c.score, noise[0], beta)).collect();
    assert_close(&keys, &floats(&golden["keys"]), 1e-8, "power");
    assert_eq!(descending(&keys), numbers(&golden["order"]));
    let chosen = select(6, |selection| power::soft_rank_with(selection, beta, &noise));
    assert_eq!(chosen, numbers(&golden["soft_rank"]));
}

#[test]
fn clasp_pe_shares_out_as_numpy_does() {
    let (golden, noise) = (golden("clasp"), noise());
    let beta = golden["beta"].as_f64().unwrap();
    let key = |(c, noise): (&Candidate, &Vec<f64>)| power::power_key(c.class_scores[2], noise[2], beta);
    let keys: Vec<f64> = candidates().iter().zip(&noise).map(key).collect();
    assert_close(&keys, &floats(&golden["keys"]), 1e-8, "class 2");
    let chosen = select(12, |selection| clasp::stratified(selection, 0.66, &[2, 1], beta, &noise));
    assert_eq!(chosen, numbers(&golden["order"]));
    let betas: Vec<f64> = (0..5).map(|round| clasp::beta(1.0, 100.0, round, 5)).collect();
    assert_close(&betas, &floats(&golden["betas"]), 1e-6, "betas");
}

#[test]
fn typiclust_chooses_as_scikit_learn_does() {
    let clusters: Vec<Vec<usize>> = [0..9, 9..16, 16..21, 21..24].into_iter().map(Iterator::collect).collect();
    let points = points().unit_length();
    let chosen = select(6, |selection| typiclust::from_clusters(selection, &points, clusters, 4));
    assert_eq!(chosen, numbers(&golden("typiclust")));
}

#[test]
fn max_herding_chooses_as_scikit_learn_does() {
    let golden = golden("herding");
    assert_eq!(select(8, |selection| herding::max_herding(selection, "")), numbers(&golden["order"]));
    let points = points().unit_length();
    let pairs = (0..24).flat_map(|a| (0..a).map(move |b| (a, b)));
    let distances = pairs.map(|(a, b)| super::features::distance(points.row(a), points.row(b))).collect();
    assert_close(&[herding::median(distances)], &[golden["width"].as_f64().unwrap()], 1e-8, "width");
    let kernel = herding::Kernel::new(&points);
    let sums: Vec<f64> = (0..24).map(|i| kernel.row(i).iter().map(|&k| f64::from(k)).sum()).collect();
    assert_close(&sums, &floats(&golden["sums"]), 1e-5, "kernel");
}

#[test]
fn farthest_first_chooses_as_scikit_learn_does() {
    assert_eq!(select(6, diverse::farthest_first), numbers(&golden("farthest_first")));
}

#[test]
fn lloyd_ends_where_scikit_learn_does() {
    let (golden, points) = (golden("k_means"), points());
    let clusters = kmeans::lloyd(&points, points.pick(&[0, 4, 8, 1]));
    assert_eq!(clusters.labels, numbers(&golden["labels"]));
    for (centre, theirs) in golden["centres"].as_array().unwrap().iter().enumerate() {
        assert_close(clusters.centres.row(centre), &floats(theirs), 1e-6, "centre");
    }
}

#[test]
fn lous_scores_are_those_of_numpy() {
    let candidates = candidates();
    let quarters = Points::of(candidates.iter().flat_map(|c| c.parts.iter().map(Vec::as_slice))).unwrap();
    let members: Vec<usize> = (0..24).step_by(4).collect();
    let largest = [1, 2, 4 * 4, 4 * 8 + 3, 4 * 12 + 1, 4 * 12 + 2, 4 * 20];
    let ours = two_stage::scores(&points(), &quarters, &members, &largest);
    let golden = golden("two_stage");
    assert_eq!(ours.len(), golden.as_object().unwrap().len());
    for (j, score) in ours {
        assert_close(&[score], &[golden[j.to_string()].as_f64().unwrap()], 1e-8, "box");
    }
}

#[test]
fn ugas_selection_is_that_of_its_table() {
    let golden = golden("uga");
    let mut draw = Numbers(47);
    let (mut table, mut kept) = (Vec::new(), Vec::new());
    for (patch, scale) in [0.0, 0.03, 4.5, 1.0, 2.0, 0.6, 3.0, 1.5, 0.2].into_iter().enumerate() {
        let (black, white) = ([0.0, 0.3, 0.45][patch % 3], [0.0, 0.35, 0.2][patch / 3]);
        let nats: Vec<f32> = draw.units(1024).iter().map(|u| (u * u * scale) as f32).collect();
        let class = |u: &f64| [BLACK, WHITE, ORDINARY][usize::from(*u >= black) + usize::from(*u >= black + white)];
        let colour: Vec<u8> = draw.units(1024).iter().map(class).collect();
        let mut counts = UgaCounts::default();
        counts.add(&nats, &colour, &[if patch == 4 || patch == 5 { 2 } else { 1 }; 1024], CLASSES);
        if let Some(score) = uga_score(&nats.iter().map(|&u| quantise(u)).collect::<Vec<_>>()) {
            table.push((patch, score.max_uncertain, score.uncertainty_score));
        }
        if let Some(key) = counts.key() {
            let patch = PatchBox { x: 32 * patch as u32, y: 0, side: 32 };
            kept.push(Candidate { patch, score: key as f64, ..candidates()[0].clone() });
        }
    }
    let row = |row: &Value| {
        let of = |key: &str| row[key].as_u64().unwrap();
        (of("patch") as usize, of("max_uncertain"), of("uncertainty_score"))
    };
    assert_eq!(table, golden["table"].as_array().unwrap().iter().map(row).collect::<Vec<_>>());
    let chosen = choose(&Rule::Top, &kept, &Budget::of(9), &turn(0, 1, ""));
    let patches: Vec<usize> = chosen.iter().map(|&i| kept[i].patch.x as usize / 32).collect();
    assert_eq!(patches, numbers(&golden["order"]));
}

#[test]
fn ugas_boxes_of_whole_maps_are_those_of_numpy() {
    let golden = golden("uga_of_maps");
    let mut draw = Numbers(61);
    let settings = Acquisition::new(Score::Uga, 7, 32, 0.0);
    let names = ["a", "b"];
    let mut all = Vec::new();
    for (name, (width, height)) in names.into_iter().zip([(200u32, 170u32), (165, 230)]) {
        let (wide, high) = (width as usize, height as usize);
        let squares: Vec<f64> = draw.units(wide * high).iter().map(|u| u * u).collect();
        let scale = draw.blocks(wide, high, 24);
        let mut strip = Strip::background(0, height, width, CLASSES);
        strip.tissue.fill(1);
        strip.uncertainty = squares.iter().zip(&scale).map(|(u, scale)| (u * scale * 6.0) as f32).collect();
        let class = |u: &f64| [BLACK, WHITE, ORDINARY][usize::from(*u >= 0.3) + usize::from(*u >= 0.6)];
        strip.colour = draw.blocks(wide, high, 16).iter().map(class).collect();
        strip.labels = draw.blocks(wide, high, 40).iter().map(|u| if *u < 0.2 { 2 } else { 1 }).collect();
        all.extend(boxes_of(&strip, name, &settings, &[]).unwrap());
    }
    assert_eq!(all.len(), golden["rows"].as_u64().unwrap() as usize);
    let chosen = select_boxes(&all, &settings, &turn(0, 1, "")).patches;
    let boxes: Vec<Vec<usize>> = golden["boxes"].as_array().unwrap().iter().map(numbers).collect();
    let place =
        |c: &Candidate| vec![names.iter().position(|n| *n == c.slide).unwrap(), c.patch.x as usize, c.patch.y as usize];
    assert_eq!(chosen.iter().map(place).collect::<Vec<_>>(), boxes);
}

#[test]
fn metrics_are_those_of_scikit_learn() {
    let golden = golden("metrics");
    let mut draw = Numbers(67);
    let [score, error, confidence, right] = [(); 4].map(|()| draw.units(60));
    let pairs = |of: fn(f64) -> f64| -> Vec<(f32, bool)> {
        score.iter().zip(&error).map(|(&score, &error)| (of(score) as f32, error < 0.3)).collect()
    };
    let mut calibration = Calibration::default();
    for (confidence, right) in confidence.iter().zip(&right) {
        calibration.add((0.34 + 0.66 * confidence) as f32, *right < 0.7);
    }
    let ours = [
        ("auroc", error_auroc(&mut pairs(|score| score))),
        ("auroc_tied", error_auroc(&mut pairs(|score| (score * 8.0).floor() / 8.0))),
        ("aurc", aurc(&mut pairs(|score| score))),
        ("ece", calibration.ece()),
    ];
    for (name, ours) in ours {
        assert_close(&[ours.unwrap()], &[golden[name].as_f64().unwrap()], 1e-7, name);
    }
}
