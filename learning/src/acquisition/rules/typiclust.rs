//! TypiClust (Hacohen, Dekel and Weinshall 2022): as many clusters as boxes are wanted, and of each the most typical.
//!
//! The typicality of a point is the inverse of its mean distance to its nearest neighbours in the cluster, features
//! having length 1. Where a point may not be chosen the next most typical of the cluster is, and clusters of five
//! points or fewer are left out, as published, unless all are so small.

use super::features::{Points, distance};
use super::kmeans::k_means;
use super::pool::Selection;

/// Clusters of so many points or fewer are left out.
const SMALL: usize = 5;
/// Keeps typicality finite.
const EPSILON: f64 = 1e-5;

/// The rule; without features nothing is chosen.
pub(super) fn typiclust(selection: &mut Selection<'_>, neighbours: usize, seed: &str) {
    let features = selection.pool.items.iter().map(|c| c.feature.as_slice());
    let Some(points) = Points::of(features).map(Points::unit_length) else { return };
    let clusters = k_means(&points, selection.wanted(), &format!("{seed}/typiclust")).members();
    from_clusters(selection, &points, clusters, neighbours);
}

/// The rule with its clusters given, the largest first.
pub(super) fn from_clusters(
    selection: &mut Selection<'_>,
    points: &Points,
    mut clusters: Vec<Vec<usize>>,
    neighbours: usize,
) {
    if clusters.iter().any(|members| members.len() > SMALL) {
        clusters.retain(|members| members.len() > SMALL);
    }
    while selection.wanted() > 0 && !clusters.is_empty() {
        clusters.retain_mut(|members| {
            if selection.wanted() == 0 {
                return false;
            }
            let chosen = most_typical(selection, points, members, neighbours);
            // The typicality of the others is then among those that are left.
            members.retain(|member| Some(*member) != chosen);
            chosen.is_some()
        });
    }
}

/// Chooses the most typical member that may be chosen.
fn most_typical(selection: &mut Selection<'_>, points: &Points, members: &[usize], neighbours: usize) -> Option<usize> {
    let free = selection.free_of(members);
    let keys: Vec<f64> = free.iter().map(|&member| typicality(points, member, members, neighbours)).collect();
    super::pool::descending(&keys).into_iter().map(|i| free[i]).find(|&member| selection.take(member))
}

/// `1 / (mean distance to the K nearest other members + 1e-5)`, where K is `neighbours` or half the cluster.
pub(super) fn typicality(points: &Points, member: usize, members: &[usize], neighbours: usize) -> f64 {
    let others = members.iter().filter(|&&other| other != member);
    let mut distances: Vec<f64> = others.map(|&other| distance(points.row(member), points.row(other))).collect();
    distances.sort_unstable_by(f64::total_cmp);
    distances.truncate(neighbours.min(members.len() / 2).max(1));
    1.0 / (distances.iter().sum::<f64>() / distances.len().max(1) as f64 + EPSILON)
}
