//! The identities behind the formulas; agreement with an independent NumPy computation is in `tests/golden.rs`.

use proptest::prelude::*;

use consilium_common::bundle::Averaging;

use super::{Combiner, RowOutput, mutual_information, predictive_entropy, quantise, uncertainty};

fn softmax_planes(raw: &[f32], members: usize, classes: usize) -> Vec<f32> {
    let pixels = raw.len() / (members * classes);
    let mut out = vec![0.0; raw.len()];
    for m in 0..members {
        for x in 0..pixels {
            let at = |c: usize| (m * classes + c) * pixels + x;
            let sum: f32 = (0..classes).map(|c| raw[at(c)].exp()).sum();
            for c in 0..classes {
                out[at(c)] = raw[at(c)].exp() / sum;
            }
        }
    }
    out
}

#[test]
fn quantisation_truncates_and_saturates() {
    assert_eq!(quantise(-1.0), 0);
    assert_eq!(quantise(4.0 / 255.0 * 0.99), 0);
    assert_eq!(quantise(4.0 / 255.0 * 1.01), 1);
    assert_eq!(quantise(3.0f32.ln()), 70);
    assert_eq!(quantise(4.0), 255);
    assert_eq!(quantise(f32::INFINITY), 255);
    assert_eq!(quantise(f32::NAN), 0);
}

#[test]
fn one_member_is_its_own_entropy() {
    let p = [0.7, 0.2, 0.1];
    let h = -(0.7f64 * 0.7f64.ln() + 0.2 * 0.2f64.ln() + 0.1 * 0.1f64.ln());
    assert!((f64::from(uncertainty(&p, 1, 3)[0]) - h).abs() < 1e-6);
    assert!((f64::from(predictive_entropy(&p, 1, 3)[0]) - h).abs() < 1e-6);
    assert!(mutual_information(&p, 1, 3)[0] < 1e-6);
}

#[test]
fn total_disagreement_is_bounded_by_epsilon() {
    // Two certain members that contradict each other: half of -ln 1e-8 for each class.
    let u = uncertainty(&[1.0, 0.0, 0.0, 1.0], 2, 2)[0];
    assert!((f64::from(u) - 0.5 * -(1e-8f64.ln())).abs() < 1e-5, "{u}");
    let all = [[1.0f32, 0.0], [0.0, 1.0]].repeat(16).concat();
    assert!(uncertainty(&all, 32, 2)[0].is_finite(), "the product of 32 members stays inside f64");
}

#[test]
fn no_pixels_give_no_values() {
    assert!(uncertainty(&[], 2, 3).is_empty());
    assert!(mutual_information(&[], 0, 0).is_empty());
}

#[test]
fn any_number_of_members_is_summed() {
    // Two members, two classes, three pixels: sure and wrong, unsure, sure.
    let two = [1.0, 0.25, 0.0, 0.0, 0.75, 1.0, 0.0, 0.5, 0.0, 1.0, 0.5, 1.0];
    let expected = uncertainty(&two, 2, 2);
    assert!((expected[0] - 9.21034).abs() < 1e-4, "ln 1e-8 for half of the members, {expected:?}");
    for times in [15, 16, 17, 64, 100] {
        let many = uncertainty(&two.repeat(times), 2 * times, 2);
        assert!(many.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{times}: {many:?} {expected:?}");
    }
}

proptest! {
    /// `U = H(pbar) + mean KL(pbar || p_m)`, so `U >= H(pbar) >= mutual information >= 0`.
    #[test]
    fn uncertainty_is_entropy_plus_divergence(
        raw in prop::collection::vec(-3.0f32..3.0, 3 * 4 * 5), members in Just(3usize), classes in Just(4usize),
    ) {
        let p = softmax_planes(&raw, members, classes);
        let (u, h) = (uncertainty(&p, members, classes), predictive_entropy(&p, members, classes));
        let mi = mutual_information(&p, members, classes);
        for x in 0..5 {
            let at = |m: usize, c: usize| f64::from(p[(m * classes + c) * 5 + x]);
            let mut kl = 0.0;
            for m in 0..members {
                for c in 0..classes {
                    let mean = (0..members).map(|k| at(k, c)).sum::<f64>() / members as f64;
                    kl += mean * (mean / at(m, c)).ln() / members as f64;
                }
            }
            prop_assert!((f64::from(u[x]) - f64::from(h[x]) - kl).abs() < 1e-4);
            prop_assert!(h[x] + 1e-6 >= mi[x] && mi[x] >= 0.0);
        }
    }
}

proptest! {
    #[test]
    fn where_logits_are_averaged_the_label_is_that_of_their_mean(
        raw in prop::collection::vec(-4.0f32..4.0, 3 * 4 * 5), scale in prop::collection::vec(0.2f32..3.0, 5),
    ) {
        let (members, classes, n) = (3, 4, 5);
        let plane = |member: usize, class: usize| &raw[(member * classes + class) * n..][..n];
        let (mut labels, mut uncertain, mut entropy, mut shown) = (vec![9; n], vec![0.0; n], vec![0.0; n], vec![0.0; 3 * n]);
        let mut out =
            RowOutput { labels: &mut labels, uncertainty: &mut uncertain, entropy: &mut entropy, probabilities: &mut shown };
        Combiner::new(members, classes, Averaging::Logits).run(plane, &scale, &[1, 1, 1, 1, 0], &mut out);
        let scaled: Vec<f32> = raw.iter().enumerate().map(|(i, v)| v * scale[i % n]).collect();
        let p = softmax_planes(&scaled, members, classes);
        let (u, h) = (uncertainty(&p, members, classes), predictive_entropy(&p, members, classes));
        let mean: Vec<f32> =
            (0..classes * n).map(|i| (0..members).map(|m| scaled[m * classes * n + i]).sum::<f32>() / 3.0).collect();
        let pooled = softmax_planes(&mean, 1, classes);
        for x in 0..4 {
            let best = usize::from(labels[x]);
            prop_assert!((0..classes).all(|c| mean[c * n + x] <= mean[best * n + x] + 1e-5));
            prop_assert!((uncertain[x] - u[x]).abs() < 1e-4 && (entropy[x] - h[x]).abs() < 1e-4);
            for c in 1..classes {
                prop_assert!((shown[(c - 1) * n + x] - pooled[c * n + x]).abs() < 1e-5);
            }
        }
        prop_assert_eq!((labels[4], uncertain[4]), (9, 0.0), "not wanted");
    }
}
