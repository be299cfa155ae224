//! Each rule does what its name says.

use std::collections::BTreeMap;

use super::class_error::{class_of, parts};
use super::features::{Points, cosine_distance};
use super::kmeans::k_means;
use super::noise::gumbels;
use super::pool::{Pool, descending};
use super::*;
use crate::acquisition::PatchBox;

/// A box of eight pixels without features.
pub(super) fn candidate(slide: &str, x: u32, y: u32, score: f64) -> Candidate {
    Candidate { tissue: 1.0, score, shares: vec![1.0, 0.0, 0.0], ..Candidate::at(slide, PatchBox { x, y, side: 8 }) }
}

pub(super) fn turn(round: u32, rounds: u32, seed: &str) -> Turn<'_> {
    Turn { round, rounds, seed }
}

pub(super) fn every_rule() -> Vec<Rule> {
    vec![
        Rule::Top,
        Rule::Random,
        Rule::ForegroundRandom { foreground: 2.0 / 3.0 },
        Rule::ClaspPe { class_share: 0.66, beta_first: 1.0, beta_last: 100.0 },
        Rule::PowerBald { beta: 1.0 },
        Rule::SoftRank { beta: 1.0 },
        Rule::StochasticBatches { batches: 100 },
        Rule::StochasticBatches { batches: 3 },
        Rule::KMeans,
        Rule::FarthestFirst,
        Rule::Typiclust { neighbours: 20 },
        Rule::MaxHerding,
        Rule::TwoStage { k1: 6, k2: 4 },
        Rule::ClassError { errors: vec![1, 5, 2], foreground_weight: 10.0 },
    ]
}

/// Boxes in a row, none of which overlaps another.
fn row(scores: &[f64]) -> Vec<Candidate> {
    (0..).zip(scores).map(|(i, &score)| candidate("s", 8 * i, 0, score)).collect()
}

fn with_features(features: &[[f32; 2]]) -> Vec<Candidate> {
    let scores: Vec<f64> = (0..features.len()).map(|i| 1.0 - i as f64 / 100.0).collect();
    let fill = |(c, feature): (Candidate, &[f32; 2])| {
        let parts = vec![feature.to_vec(); 4];
        Candidate { feature: feature.to_vec(), parts, ..c }
    };
    row(&scores).into_iter().zip(features).map(fill).collect()
}

fn chosen(rule: &Rule, candidates: &[Candidate], total: u32) -> Vec<usize> {
    choose(rule, candidates, &Budget::of(total), &turn(0, 4, "seed"))
}

#[test]
fn ties_go_to_the_first_slide_then_up_then_left() {
    let all =
        [candidate("b", 0, 0, 1.0), candidate("a", 0, 8, 1.0), candidate("a", 8, 0, 1.0), candidate("a", 0, 0, 1.0)];
    assert_eq!(chosen(&Rule::Top, &all, 4), [3, 2, 1, 0]);
    assert_eq!(chosen(&Rule::Top, &row(&[-0.0, 0.0, 0.5]), 3), [2, 0, 1]);
    assert!(chosen(&Rule::Random, &row(&[f64::NAN, f64::INFINITY]), 9).is_empty());
}

#[test]
fn without_features_rules_that_need_them_choose_by_score() {
    let all = row(&[0.2, 0.9, 0.4, 0.7]);
    for rule in every_rule().into_iter().filter(Rule::needs_features) {
        assert_eq!(chosen(&rule, &all, 3), [1, 3, 2], "{rule:?}");
        let mut half = with_features(&[[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [3.0, 5.0]]);
        half[2].feature.pop();
        assert_eq!(chosen(&rule, &half, 3), [0, 1, 2], "{rule:?}");
    }
}

#[test]
fn hardly_any_noise_is_no_noise() {
    let all = row(&[0.2, 0.9, 0.4, 0.7, 0.0]);
    for rule in [Rule::PowerBald { beta: 1e9 }, Rule::SoftRank { beta: 1e9 }] {
        assert_eq!(chosen(&rule, &all, 5), [1, 3, 2, 0, 4], "{rule:?}");
    }
    let clasp = Rule::ClaspPe { class_share: 0.0, beta_first: 1e9, beta_last: 1e9 };
    assert_eq!(chosen(&clasp, &all, 5), [1, 3, 2, 0, 4], "without class scores by score");
}

#[test]
fn noise_has_the_gumbel_distribution() {
    let all = row(&vec![1.0; 4000]);
    let numbers: Vec<f64> = gumbels(&Pool::new(&all), "seed", 2).into_iter().flatten().collect();
    let mean = numbers.iter().sum::<f64>() / 8000.0;
    let variance = numbers.iter().map(|g| (g - mean) * (g - mean)).sum::<f64>() / 8000.0;
    assert!((mean - 0.5772).abs() < 0.05, "{mean}");
    assert!((variance - std::f64::consts::PI.powi(2) / 6.0).abs() < 0.12, "{variance}");
}

#[test]
fn foreground_random_draws_from_each_area_equally() {
    let mut all = row(&[1.0; 100]);
    all[17].foreground = 0.4;
    all[42].border = 0.1;
    let rule = Rule::ForegroundRandom { foreground: 2.0 / 3.0 };
    let mut counts = BTreeMap::new();
    for seed in 0..3000 {
        let first = choose(&rule, &all, &Budget::of(1), &turn(0, 1, &seed.to_string()))[0];
        *counts.entry(first).or_insert(0) += 1;
    }
    assert!((900..1150).contains(&counts[&17]) && (900..1150).contains(&counts[&42]), "{counts:?}");
    let never = Rule::ForegroundRandom { foreground: 0.0 };
    let order = |rule: &Rule| choose(rule, &all, &Budget::of(100), &turn(0, 1, "7"));
    assert_eq!(order(&never), order(&Rule::Random));
}

#[test]
fn foreground_random_draws_in_proportion() {
    let mut all = row(&[1.0; 3]);
    (all[0].foreground, all[1].foreground) = (0.2, 0.6);
    let rule = Rule::ForegroundRandom { foreground: 2.0 };
    let first = |seed: i32| choose(&rule, &all, &Budget::of(1), &turn(0, 1, &seed.to_string()))[0];
    let second = (0..2000).filter(|&seed| first(seed) == 1).count();
    assert!((1400..1600).contains(&second), "{second}");
    assert!((0..2000).all(|seed| first(seed) != 2));
}

#[test]
fn clasp_pe_gives_every_class_its_part() {
    let mut all = row(&[1.0; 20]);
    for (i, c) in all.iter_mut().enumerate() {
        c.class_scores = if i < 16 { vec![0.9, 0.1, 0.0] } else { vec![0.0, 0.0, 1e-3] };
    }
    let rule = Rule::ClaspPe { class_share: 0.66, beta_first: 100.0, beta_last: 100.0 };
    let of_second = chosen(&rule, &all, 10).into_iter().filter(|&i| i >= 16).count();
    assert_eq!(of_second, 3, "half of int(6.6), although its entropy is the lowest");
    assert!(chosen(&rule, &all, 20).len() == 20, "what a class cannot use goes to the others");
    assert_eq!(clasp::beta(1.0, 100.0, 9, 5), 100.0);
    assert_eq!(clasp::beta(1.0, 100.0, 3, 1), 1.0);
}

#[test]
fn more_batches_are_no_worse() {
    let scores: Vec<f64> = (0..30).map(|i| f64::from(i * 7 % 30) / 30.0).collect();
    let all = row(&scores);
    let mean = |batches| {
        let chosen = chosen(&Rule::StochasticBatches { batches }, &all, 5);
        assert!(chosen.windows(2).all(|pair| scores[pair[0]] >= scores[pair[1]]));
        chosen.iter().map(|&i| scores[i]).sum::<f64>() / 5.0
    };
    assert!(mean(1) < mean(200) && mean(200) <= mean(2000));
}

#[test]
fn clusters_are_found() {
    let centres = [[10.0, 0.0], [0.0, 10.0], [-10.0, -10.0]];
    let near = |i: usize| centres[i % 3].map(|c: f32| c + (i / 3) as f32 * 0.1);
    let blobs: Vec<[f32; 2]> = (0..30).map(near).collect();
    let all = with_features(&blobs);
    let points = Points::of(all.iter().map(|c| c.feature.as_slice())).unwrap();
    for seed in 0..20 {
        let members = k_means(&points, 3, &seed.to_string()).members();
        assert_eq!(members.len(), 3);
        assert!(members.iter().all(|cluster| cluster.iter().all(|i| i % 3 == cluster[0] % 3)), "{seed}");
    }
    for rule in [Rule::KMeans, Rule::Typiclust { neighbours: 3 }, Rule::MaxHerding, Rule::TwoStage { k1: 3, k2: 2 }] {
        let mut blobs: Vec<usize> = chosen(&rule, &all, 3).into_iter().map(|i| i % 3).collect();
        blobs.sort_unstable();
        assert_eq!(blobs, [0, 1, 2], "{rule:?}");
    }
    assert_eq!(chosen(&Rule::KMeans, &all, 3), [0, 1, 2], "the best of each");
}

#[test]
fn points_that_are_all_the_same_make_one_cluster() {
    let all = with_features(&[[2.0, 2.0]; 9]);
    for rule in every_rule() {
        assert_eq!(chosen(&rule, &all, 5).len(), 5, "{rule:?}");
    }
}

#[test]
fn near_duplicates_are_left_out() {
    let all = with_features(&[[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]);
    let budget = Budget { min_feature_distance: Some(0.1), ..Budget::of(9) };
    for rule in every_rule() {
        let mut chosen = choose(&rule, &all, &budget, &turn(0, 1, "seed"));
        chosen.sort_unstable();
        assert_eq!(chosen.len(), 4, "{rule:?}");
        assert_eq!(chosen[1..], [2, 3, 4], "{rule:?}: a feature of 0 is near nothing");
    }
    let mut left = all;
    leave_out_near(&mut left, &[vec![2.0, 0.0], vec![0.0, 0.0]], 0.1);
    let left: Vec<&[f32]> = left.iter().map(|candidate| candidate.feature.as_slice()).collect();
    assert_eq!(left, [[0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]);
    assert_eq!(cosine_distance(&[1.0, 0.0], &[-2.0, 0.0]), Some(2.0));
    assert_eq!(cosine_distance(&[1.0], &[1.0, 0.0]), None);
    assert_eq!(cosine_distance(&[], &[]), None);
}

#[test]
fn control_boxes_are_drawn_from_all_before_the_rule_chooses() {
    let all = row(&(0..20).map(f64::from).collect::<Vec<_>>());
    let mut counts = vec![0; 20];
    for seed in 0..2000 {
        let budget = Budget::of(4);
        let (chosen, control) = choose_with_control(&Rule::Top, &all, &budget, &turn(0, 1, &seed.to_string()), 0.25);
        let best: Vec<usize> = (0..20).rev().filter(|i| *i != control[0]).take(3).collect();
        assert_eq!((chosen, control.len()), (best, 1));
        counts[control[0]] += 1;
    }
    assert!(counts.iter().all(|n| (60..140).contains(n)), "{counts:?}");
    let all_control = choose_with_control(&Rule::Top, &all, &Budget::of(4), &turn(0, 1, ""), 7.0);
    assert_eq!((all_control.0.len(), all_control.1.len()), (0, 4));
    let none = choose_with_control(&Rule::Top, &all, &Budget::of(4), &turn(0, 1, ""), f64::NAN);
    assert_eq!((none.0.len(), none.1.len()), (4, 0));
}

#[test]
fn errors_decide_how_much_of_each_class() {
    assert_eq!(parts(&[1, 5, 2], 16), [2, 10, 4]);
    assert_eq!(parts(&[1, 1, 1], 5), [2, 2, 1]);
    assert_eq!(parts(&[0, u64::MAX, u64::MAX], 3), [0, 2, 1]);
    assert_eq!(parts(&[0, 0], 3), [0, 0]);
    let of = |shares: [f64; 3]| class_of(&Candidate { shares: shares.to_vec(), ..candidate("s", 0, 0, 1.0) }, 10.0);
    assert_eq!([of([0.92, 0.08, 0.0]), of([0.5, 0.3, 0.2]), of([0.8, 0.09, 0.09]), of([0.0; 3])], [0, 1, 2, 0]);
    let mut all = row(&[1.0; 30]);
    all.iter_mut().enumerate().for_each(|(i, c)| c.shares = (0..3).map(|k| f64::from(u8::from(k == i % 3))).collect());
    let counts = |errors: &[u64], total| {
        let rule = Rule::ClassError { errors: errors.to_vec(), foreground_weight: 10.0 };
        let mut counts = [0; 3];
        chosen(&rule, &all, total).into_iter().for_each(|i| counts[i % 3] += 1);
        counts
    };
    assert_eq!(counts(&[1, 5, 2], 8), [1, 5, 2]);
    assert_eq!(counts(&[0, 0, 0], 9), [3, 3, 3]);
    assert_eq!(counts(&[], 9), [3, 3, 3]);
    assert_eq!(counts(&[0, 9, 0], 14).iter().sum::<i32>(), 14, "a class that has too few leaves room for others");
    assert_eq!(counts(&[0, 9, 0], 14)[1], 10);
}

#[test]
fn what_is_no_number_is_last() {
    assert_eq!(descending(&[f64::NAN, 1.0, f64::NEG_INFINITY, 2.0]), [3, 1, 0, 2]);
}

/// Pinned: a change here changes every study that draws at random.
#[test]
fn chance_is_the_same_everywhere() {
    let places = (0..19 * 19).map(|i| candidate("s", 8 * (i % 19), 8 * (i / 19), f64::from(i * 7 % 19)));
    let all: Vec<Candidate> = places.map(|c| Candidate { patch: PatchBox { side: 16, ..c.patch }, ..c }).collect();
    let of = |rule: Rule| {
        let chosen = choose(&rule, &all, &Budget::of(4), &turn(1, 4, "1/site-a/2")).into_iter();
        chosen.map(|i| (all[i].patch.x, all[i].patch.y)).collect::<Vec<_>>()
    };
    assert_eq!(of(Rule::Random), RANDOM);
    assert_eq!(of(Rule::PowerBald { beta: 1.0 }), POWER);
    assert_eq!(of(Rule::StochasticBatches { batches: 10 }), BATCHES);
}

/// The same as under the plan's random rule.
const RANDOM: [(u32, u32); 4] = [(88, 112), (0, 88), (88, 96), (16, 104)];
const POWER: [(u32, u32); 4] = [(40, 112), (144, 112), (128, 24), (128, 144)];
const BATCHES: [(u32, u32); 4] = [(104, 8), (144, 96), (32, 88), (96, 56)];
