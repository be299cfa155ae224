//! Rules that spread a selection over the features of the twice as many best. Without features they do nothing, and the
//! selection is filled by score.

use super::features::{Points, squared_distance};
use super::kmeans::k_means;
use super::pool::Selection;

/// The twice as many best, and their standardised features.
fn best(selection: &Selection<'_>) -> (Vec<usize>, Option<Points>) {
    let best = selection.oversampled();
    let points = Points::of(best.iter().map(|&i| selection.pool.items[i].feature.as_slice()));
    (best, points.map(Points::standardised))
}

/// The best of each cluster, the best of all first; where that is not enough, the second best of each, and so on.
pub(super) fn k_means_rule(selection: &mut Selection<'_>, seed: &str) {
    let (best, Some(points)) = best(selection) else { return };
    // Points are numbered from the best on, and so are the members of a cluster.
    let mut clusters = k_means(&points, selection.wanted(), &format!("{seed}/k-means")).members();
    clusters.sort();
    let queues: Vec<Vec<usize>> =
        clusters.iter().map(|points| points.iter().map(|&point| best[point]).collect()).collect();
    selection.take_in_turn(&queues);
}

/// The best, then each time the one with the largest distance from the nearest that was chosen; a tie goes to the
/// better.
pub(super) fn farthest_first(selection: &mut Selection<'_>) {
    let (best, Some(points)) = best(selection) else { return };
    let mut nearest = vec![f64::INFINITY; best.len()];
    while selection.wanted() > 0 {
        let farther = |a: Option<usize>, b: usize| Some(a.filter(|&a| nearest[a] >= nearest[b]).unwrap_or(b));
        let Some(next) = (0..best.len()).filter(|&i| selection.is_free(best[i])).fold(None, farther) else { return };
        if selection.take(best[next]) {
            for (i, nearest) in nearest.iter_mut().enumerate() {
                *nearest = nearest.min(squared_distance(points.row(i), points.row(next)));
            }
        }
    }
}
