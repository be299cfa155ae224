//! What holds for every rule and any candidates.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::features::cosine_distance;
use super::tests::{candidate, every_rule, turn};
use super::{Budget, Candidate, Rule, choose, choose_with_control};

/// Overlapping boxes of some slides with few different scores, so that there are ties.
fn some() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0u8..3, 0u32..12, 0u32..12, 0u8..6, prop::collection::vec(-1.0f32..1.0, 4), 0.0..1.0f64);
    prop::collection::vec(one, 0..60).prop_map(|list| {
        let places: BTreeMap<_, _> = list.into_iter().map(|one| ((one.0, one.1, one.2), one)).collect();
        let make = |(slide, x, y, score, feature, share): (u8, u32, u32, u8, Vec<f32>, f64)| {
            let class_scores = vec![0.1, share * f64::from(score), 0.2 * (1.0 - share)];
            let shares = vec![1.0 - share, share / 2.0, share / 2.0];
            let parts = (0..4).map(|i| feature.iter().map(|f| f * (i as f32 + 0.5)).collect()).collect();
            let (foreground, border) = (share, f64::from(score) / 12.0);
            Candidate {
                foreground,
                border,
                shares,
                class_scores,
                parts,
                feature,
                ..candidate(["a", "b", "c"][usize::from(slide)], 4 * x, 4 * y, f64::from(score) / 4.0)
            }
        };
        places.into_values().map(make).collect()
    })
}

fn overlap(a: &Candidate, b: &Candidate) -> bool {
    a.slide == b.slide && a.patch.overlaps(&b.patch)
}

fn near(a: &Candidate, b: &Candidate, budget: &Budget) -> bool {
    let distance = cosine_distance(&a.feature, &b.feature);
    budget.min_feature_distance.is_some_and(|least| distance.is_some_and(|d| d < least))
}

fn budgets() -> impl Strategy<Value = Budget> {
    (0u32..14, prop::option::of(0u32..6), prop::option::of(0.0f64..0.5))
        .prop_map(|(total, per_slide, min_feature_distance)| Budget { total, per_slide, min_feature_distance })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn boxes_are_apart_within_budget_and_as_many_as_fit(
        all in some(), budget in budgets(), control in 0.0..1.0f64, round in 0u32..5,
    ) {
        for rule in every_rule() {
            let (chosen, control) = choose_with_control(&rule, &all, &budget, &turn(round, 4, "seed"), control);
            let both: Vec<&Candidate> = chosen.iter().chain(&control).map(|&i| &all[i]).collect();
            prop_assert!(both.len() <= budget.total as usize, "{:?}", rule);
            for (i, one) in both.iter().enumerate() {
                prop_assert!(!both[i + 1..].iter().any(|other| overlap(one, other) || near(one, other, &budget)));
            }
            let of = |slide: &str| both.iter().filter(|c| c.slide == slide).count() as u32;
            let full = |slide: &str| budget.per_slide.is_some_and(|most| of(slide) >= most);
            prop_assert!(all.iter().all(|c| budget.per_slide.is_none_or(|most| of(&c.slide) <= most)));
            if both.len() < budget.total as usize {
                let blocked =
                    |c: &Candidate| full(&c.slide) || both.iter().any(|o| overlap(o, c) || near(o, c, &budget));
                prop_assert!(all.iter().all(blocked), "{:?} left out what fits", rule);
            }
        }
    }

    #[test]
    fn the_order_of_candidates_does_not_matter(all in some(), budget in budgets(), by in 0usize..60) {
        let mut other: Vec<(usize, Candidate)> = all.iter().cloned().enumerate().rev().collect();
        other.rotate_left(by % all.len().max(1));
        let (places, other): (Vec<usize>, Vec<Candidate>) = other.into_iter().unzip();
        for rule in every_rule() {
            let (chosen, control) = choose_with_control(&rule, &all, &budget, &turn(1, 4, "seed"), 0.3);
            let again = choose_with_control(&rule, &other, &budget, &turn(1, 4, "seed"), 0.3);
            let back = |list: Vec<usize>| list.into_iter().map(|i| places[i]).collect::<Vec<_>>();
            prop_assert_eq!((chosen, control), (back(again.0), back(again.1)), "{:?}", rule);
        }
    }

    /// A smaller budget takes the first of a larger one, where the rule does not look at the budget.
    #[test]
    fn smaller_budgets_are_prefixes(all in some(), total in 0u32..12, per_slide in prop::option::of(1u32..6)) {
        let rules = [
            Rule::Top,
            Rule::Random,
            Rule::ForegroundRandom { foreground: 0.66 },
            Rule::PowerBald { beta: 1.0 },
            Rule::MaxHerding,
            Rule::TwoStage { k1: 3, k2: 2 },
        ];
        for rule in rules {
            let of = |total: u32| {
                choose(&rule, &all, &Budget { per_slide, ..Budget::of(total) }, &turn(0, 1, "seed"))
            };
            let (fewer, more) = (of(total), of(total + 3));
            prop_assert_eq!(&more[..fewer.len()], &fewer[..], "{:?}", rule);
        }
    }

    /// Boxes of other slides do not change what these rules choose of a slide.
    #[test]
    fn slides_do_not_disturb_each_other(all in some()) {
        let own: Vec<Candidate> = all.iter().filter(|c| c.slide == "a").cloned().collect();
        for rule in [Rule::Top, Rule::Random, Rule::PowerBald { beta: 1.0 }] {
            let chosen = choose(&rule, &all, &Budget::of(1000), &turn(0, 1, "seed"));
            let here: Vec<&Candidate> = chosen.iter().map(|&i| &all[i]).filter(|c| c.slide == "a").collect();
            let alone = choose(&rule, &own, &Budget::of(1000), &turn(0, 1, "seed"));
            prop_assert_eq!(here, alone.iter().map(|&i| &own[i]).collect::<Vec<_>>(), "{:?}", rule);
        }
    }
}
