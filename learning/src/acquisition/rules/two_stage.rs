//! Lou et al. (TMI 2022), stage 1: clusters of boxes, in each the largest cluster of quarters, and the box whose
//! quarter in it has the lowest sum of three distances.

use std::collections::BTreeMap;

use super::features::{Points, distance};
use super::kmeans::k_means;
use super::pool::{Selection, descending};

/// Quarters of a box.
const PARTS: usize = 4;

/// The rule: the best box of each cluster, the largest cluster first, then the second best of each, and so on;
/// published is one of each. Boxes without a quarter in the largest cluster of quarters are not scored. Without
/// features of boxes and of their four quarters nothing is chosen.
pub(super) fn two_stage(selection: &mut Selection<'_>, (k1, k2): (usize, usize), seed: &str) {
    let items = &selection.pool.items;
    if items.iter().any(|candidate| candidate.parts.len() != PARTS) {
        return;
    }
    let boxes = Points::of(items.iter().map(|c| c.feature.as_slice()));
    let quarters = Points::of(items.iter().flat_map(|c| c.parts.iter().map(Vec::as_slice)));
    let (Some(boxes), Some(quarters)) = (boxes, quarters) else { return };
    let mut queues = Vec::new();
    for (number, members) in k_means(&boxes, k1, &format!("{seed}/boxes")).members().iter().enumerate() {
        let own = quarters_of(members);
        let clusters = k_means(&quarters.pick(&own), k2, &format!("{seed}/quarters-{number}")).members();
        let largest: Vec<usize> = clusters.first().into_iter().flatten().map(|&i| own[i]).collect();
        queues.push(ranked(&scores(&boxes, &quarters, members, &largest)));
    }
    selection.take_in_turn(&queues);
}

/// Numbers of the quarters of some boxes.
fn quarters_of(boxes: &[usize]) -> Vec<usize> {
    boxes.iter().flat_map(|&j| PARTS * j..PARTS * (j + 1)).collect()
}

/// Boxes by rising score.
fn ranked(scores: &BTreeMap<usize, f64>) -> Vec<usize> {
    let boxes: Vec<usize> = scores.keys().copied().collect();
    descending(&scores.values().map(|score| -score).collect::<Vec<_>>()).into_iter().map(|i| boxes[i]).collect()
}

/// `|F_j - C| + (1/4) sum_i |f_i - S| + max_{a,b} |f_a - f_b|` of every box j with a quarter in the largest cluster of
/// quarters: F and f are the features of the box and of its quarters, C and S the centres of the box's cluster and of
/// the largest cluster of quarters.
pub(super) fn scores(boxes: &Points, quarters: &Points, members: &[usize], largest: &[usize]) -> BTreeMap<usize, f64> {
    let (centre, typical) = (boxes.mean(members), quarters.mean(largest));
    let score = |j: usize| {
        let own: Vec<&[f64]> = (PARTS * j..PARTS * (j + 1)).map(|i| quarters.row(i)).collect();
        let inter = distance(boxes.row(j), &centre);
        let intra = own.iter().map(|f| distance(f, &typical)).sum::<f64>() / PARTS as f64;
        let pairs = own.iter().flat_map(|a| own.iter().map(|b| distance(a, b)));
        inter + intra + pairs.fold(0.0, f64::max)
    };
    largest.iter().map(|&quarter| quarter / PARTS).map(|j| (j, score(j))).collect()
}
