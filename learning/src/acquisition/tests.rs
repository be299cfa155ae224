//! Boxes: inside the slide, apart from each other and from earlier ones, within the budget, the same for the same seed.

use consilium_common::Mpp;
use consilium_common::plan::{Acquisition, Score};
use image::{Rgb, RgbImage};
use proptest::prelude::*;

use super::uga::UgaCounts;
use super::{Candidate, PatchBox, Sight, Turn, shortlist, uga_score};
use crate::scan::{BLACK, ORDINARY, Strip, WHITE};

fn settings(score: Score, budget: u32, patch_px: u32) -> Acquisition {
    Acquisition::new(score, budget, patch_px, 0.25)
}

fn candidates(maps: &Strip, slide: &str, settings: &Acquisition, exclude: &[PatchBox]) -> Vec<Candidate> {
    super::candidates(maps, slide, settings, exclude).unwrap()
}

fn second_of_three(seed: &str) -> Turn<'_> {
    Turn { round: 1, rounds: 3, seed }
}

fn select(all: Vec<Candidate>, settings: &Acquisition, seed: &str) -> Vec<Candidate> {
    super::select(&all, settings, &second_of_three(seed)).patches
}

fn result(width: u32, height: u32, uncertainty: impl Fn(u32, u32) -> f32) -> Strip {
    let places = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let mut strip = Strip::background(0, height, width, 2);
    strip.tissue.fill(1);
    strip.colour.fill(ORDINARY);
    strip.uncertainty = places().map(|(x, y)| uncertainty(x, y)).collect();
    strip.entropy = places().map(|(x, y)| ((x * 7 + y * 3) % 11) as f32 / 20.0).collect();
    strip
}

fn hash(x: u32, y: u32, salt: u32) -> u32 {
    (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663) ^ salt.wrapping_mul(83_492_791))
        .wrapping_mul(2_654_435_761)
        >> 8
}

/// Speckles in two thirds of a slide, a slope without any in the rest.
fn in_and_out_of_focus(x: u32, y: u32, salt: u32) -> u8 {
    if hash(x / 25, y / 25, salt).is_multiple_of(3) { (x * 2) as u8 } else { (hash(x, y, salt) % 256) as u8 }
}

#[test]
fn boxes_overlap_only_where_they_share_a_pixel() {
    let a = PatchBox { x: 10, y: 10, side: 10 };
    for (x, y, expected) in
        [(20, 10, false), (19, 10, true), (10, 20, false), (1, 1, true), (0, 10, false), (29, 29, false)]
    {
        let b = PatchBox { x, y, side: 10 };
        assert_eq!((a.overlaps(&b), b.overlaps(&a)), (expected, expected), "{b:?}");
    }
    let edge = PatchBox { x: u32::MAX - 2, y: 0, side: 10 };
    assert!(edge.overlaps(&edge));
}

#[test]
fn uga_scores_relative_to_the_patch_maximum() {
    assert_eq!(uga_score(&[0; 9]), None);
    let score = uga_score(&[5, 4, 1, 0]).unwrap();
    assert_eq!((score.max_uncertain, score.uncertainty_score, score.key()), (1, 10, 110));
    // The defect that the float rules do not have: barely uncertain everywhere beats very uncertain in half of it.
    let flat = uga_score(&[1; 100]).unwrap().key();
    let half: Vec<u8> = (0..100).map(|i| if i < 50 { 100 } else { 0 }).collect();
    assert!(flat > uga_score(&half).unwrap().key());
}

#[test]
fn uga_filters_black_and_glass() {
    let share = |unwanted: u8, percent: usize| {
        (0..100).map(|i| if i < percent { unwanted } else { ORDINARY }).collect::<Vec<_>>()
    };
    let (none, tumour) = ([0u8; 100], [1u8; 100]);
    let uga_keeps = |colour: &[u8], labels: &[u8], classes: usize| {
        let mut counts = UgaCounts::default();
        counts.add(&[0.0; 100], colour, labels, classes);
        counts.keeps()
    };
    assert!(uga_keeps(&share(BLACK, 40), &none, 2));
    assert!(!uga_keeps(&share(BLACK, 41), &tumour, 2));
    assert!(uga_keeps(&share(WHITE, 30), &none, 2));
    assert!(!uga_keeps(&share(WHITE, 31), &none, 2));
    assert!(uga_keeps(&share(WHITE, 99), &tumour, 2));
    assert!(!uga_keeps(&share(WHITE, 99), &tumour, 3), "class 1 of three is benign tissue");
}

#[test]
fn a_flat_patch_does_not_win_under_the_float_rule() {
    let result = result(64, 32, |x, _| if x < 32 { 0.02 } else { 0.9 * (x % 2) as f32 });
    let uga = select(candidates(&result, "s", &settings(Score::Uga, 1, 32), &[]), &settings(Score::Uga, 1, 32), "");
    let rule = settings(Score::UgaMean, 1, 32);
    let float = select(candidates(&result, "s", &rule, &[]), &rule, "");
    assert_eq!((uga[0].patch.x, float[0].patch.x), (0, 32));
    assert!((float[0].score - 0.45).abs() < 1e-6);
}

#[test]
fn means_are_over_tissue_and_glass_is_no_candidate() {
    let mut scan = result(64, 32, |x, _| if x < 16 { 0.5 } else { 9.0 });
    for (i, tissue) in scan.tissue.iter_mut().enumerate() {
        *tissue = u8::from(i % 64 < 16);
    }
    let rule = settings(Score::UgaMean, 9, 32);
    let found = candidates(&scan, "s", &rule, &[]);
    assert_eq!(found.len(), 1, "of boxes at 0, 16 and 32 only the first has a quarter of tissue");
    assert_eq!((found[0].score, found[0].tissue), (0.5, 0.5));
    assert!(candidates(&result(31, 64, |_, _| 1.0), "s", &rule, &[]).is_empty(), "smaller than a patch");
}

#[test]
fn ties_go_to_the_first_slide_then_up_then_left() {
    let rule = settings(Score::UgaMean, 3, 16);
    let scan = result(32, 32, |_, _| 1.0);
    let mut all = candidates(&scan, "b", &rule, &[]);
    all.extend(candidates(&scan, "a", &rule, &[]));
    let places: Vec<_> = select(all, &rule, "").into_iter().map(|p| (p.slide, p.patch.y, p.patch.x)).collect();
    assert_eq!(places, [("a".to_owned(), 0, 0), ("a".to_owned(), 0, 16), ("a".to_owned(), 16, 0)]);
}

#[test]
fn the_random_rule_follows_its_seed_only() {
    let rule = settings(Score::Random, 4, 16);
    let all = candidates(&result(160, 160, |_, _| 1.0), "s", &rule, &[]);
    let mut reversed = all.clone();
    reversed.reverse();
    let draw = |all: &[Candidate], seed: &str| select(all.to_vec(), &rule, seed);
    assert_eq!(draw(&all, "1/site-a/2"), draw(&reversed, "1/site-a/2"));
    assert_ne!(draw(&all, "1/site-a/2"), draw(&all, "1/site-a/3"));
    // Pinned: a change here changes every study that draws at random.
    let places: Vec<_> = draw(&all, "1/site-a/2").iter().map(|p| (p.patch.x, p.patch.y)).collect();
    assert_eq!(places, PINNED);
}

const PINNED: [(u32, u32); 4] = [(88, 112), (0, 88), (88, 96), (16, 104)];

#[test]
fn the_random_rule_is_uniform() {
    let rule = settings(Score::Random, 1, 16);
    let all = candidates(&result(16, 80, |_, _| 1.0), "s", &rule, &[]);
    let mut counts = std::collections::BTreeMap::new();
    for seed in 0..9000 {
        *counts.entry(select(all.clone(), &rule, &seed.to_string())[0].patch.y).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 9);
    assert!(counts.values().all(|&n| (900..1100).contains(&n)), "{counts:?}");
}

#[test]
fn a_score_that_is_no_number_is_never_chosen() {
    let rule = settings(Score::UgaMean, 9, 16);
    let scan = result(32, 16, |x, _| if x < 16 { 1.0 } else { f32::NAN });
    let chosen = select(candidates(&scan, "s", &rule, &[]), &rule, "");
    assert_eq!(chosen.iter().map(|p| p.patch.x).collect::<Vec<_>>(), [0]);
}

proptest! {
    /// What is left of each slide is enough to choose from all of them.
    #[test]
    fn a_shortlist_gives_the_same_choice(
        width in 30u32..120, height in 30u32..120, patch in 16u32..30, budget in 0u32..5, salt in any::<u32>(),
        rule in 0usize..12, control in prop_oneof![Just(0.0), Just(0.4)], per_slide in prop::option::of(1u32..4),
        min_sharpness in prop_oneof![Just(0.0), Just(0.25)],
    ) {
        let settings = settings(Score::ALL[rule], budget, patch);
        let settings = Acquisition { control_share: control, per_slide, min_sharpness, ..settings };
        let (mut all, mut short) = (Vec::new(), Vec::new());
        for (slide, salt) in [("a", salt), ("b", salt ^ 77), ("c", salt ^ 1234)] {
            let mut scan = result(width, height, |x, y| (hash(x / 5, y / 5, salt) % 100) as f32 / 50.0);
            scan.labels.iter_mut().enumerate().for_each(|(i, label)| *label = (hash(i as u32 / 9, 0, salt) % 2) as u8);
            scan.probabilities[0] = (0..width * height).map(|i| (hash(i / 4, 1, salt) % 100) as f32 / 100.0).collect();
            let earlier = [PatchBox { x: salt % width, y: (salt >> 8) % height, side: patch }];
            let pixels = |at: PatchBox| {
                Ok(RgbImage::from_fn(at.side, at.side, |x, y| Rgb([in_and_out_of_focus(at.x + x, at.y + y, salt); 3])))
            };
            let sight = Sight { spacing: Mpp::new(1.0).unwrap(), pixels: &pixels };
            let mut found = candidates(&scan, slide, &settings, &earlier);
            sight.keep_sharp_of(&scan, &mut found, &settings).unwrap();
            all.extend(found);
            short.extend(shortlist(&scan, slide, &settings, &earlier, &second_of_three("s"), &sight).unwrap());
        }
        prop_assert!(short.len() <= all.len());
        prop_assert_eq!(super::select(&short, &settings, &second_of_three("s")), super::select(&all, &settings, &second_of_three("s")));
    }

    #[test]
    fn chosen_boxes_are_inside_apart_and_within_budget(
        width in 1u32..120, height in 1u32..120, patch in 16u32..40, budget in 0u32..12, salt in any::<u32>(), rule in 0usize..12,
    ) {
        let rule = settings(Score::ALL[rule], budget, patch);
        let scan = result(width, height, |x, y| (hash(x / 5, y / 5, salt) % 100) as f32 / 50.0);
        let earlier = [PatchBox { x: salt % width, y: (salt >> 8) % height, side: patch }];
        let mut all = candidates(&scan, "a", &rule, &earlier);
        all.extend(candidates(&scan, "b", &rule, &[]));
        for one in &all {
            prop_assert!(one.patch.x + patch <= width && one.patch.y + patch <= height && one.patch.side == patch);
        }
        let chosen = select(all.clone(), &rule, "seed");
        prop_assert!(chosen.len() <= budget as usize);
        if !matches!(rule.score, Score::Random | Score::ForegroundRandom | Score::ClaspPe) {
            prop_assert!(chosen.windows(2).all(|pair| pair[0].score >= pair[1].score));
        }
        for (i, one) in chosen.iter().enumerate() {
            prop_assert!(!(one.slide == "a" && one.patch.overlaps(&earlier[0])));
            let rest = &chosen[i + 1..];
            prop_assert!(!rest.iter().any(|other| other.slide == one.slide && other.patch.overlaps(&one.patch)));
        }
        // Greedy is complete: whatever was left out overlaps a chosen box, unless the budget was full.
        if chosen.len() < budget as usize {
            let blocked = |c: &Candidate| chosen.iter().any(|o| o.slide == c.slide && o.patch.overlaps(&c.patch));
            prop_assert!(all.iter().all(blocked));
        }
        prop_assert_eq!(chosen, select(all, &rule, "seed"));
    }
}
