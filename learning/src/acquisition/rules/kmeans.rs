//! k-means: seeds by k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's iterations to convergence.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::features::{Points, squared_distance};
use crate::network::random;

/// Bound of Lloyd's iterations.
const ITERATIONS: usize = 100;
/// Bound of the number of clusters, as in TypiClust.
const MAX_CLUSTERS: usize = 500;

/// Clusters of points.
#[derive(Clone, Debug)]
pub(super) struct Clusters {
    pub(super) centres: Points,
    /// The cluster of each point.
    pub(super) labels: Vec<usize>,
}

impl Clusters {
    /// The points of each cluster that has any, the largest first, equal ones by their first point.
    pub(super) fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.centres.len()];
        self.labels.iter().enumerate().for_each(|(point, &label)| members[label].push(point));
        members.retain(|points| !points.is_empty());
        members.sort_by_key(|points| (std::cmp::Reverse(points.len()), points[0]));
        members
    }
}

/// At most k clusters, and at most as many as there are different points.
pub(super) fn k_means(points: &Points, k: usize, seed: &str) -> Clusters {
    let centres = seeds(points, k.clamp(1, MAX_CLUSTERS), &mut random::rng(seed));
    lloyd(points, centres)
}

/// The first centre uniformly, each further in proportion to the squared distance from the nearest one.
fn seeds(points: &Points, k: usize, rng: &mut ChaCha8Rng) -> Points {
    let mut centres = Points::none(points.dimensions());
    let mut next = random::below(rng, points.len());
    let mut nearest = vec![f64::INFINITY; points.len()];
    for _ in 0..k.min(points.len()) {
        centres.push(points.row(next));
        let mut total = 0.0;
        for (point, nearest) in nearest.iter_mut().enumerate() {
            *nearest = nearest.min(squared_distance(points.row(point), points.row(next)));
            total += *nearest;
        }
        if total <= 0.0 {
            break;
        }
        let mut left = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
        // Rounding may leave a little at the end: then the last point that is no centre.
        for (point, &weight) in nearest.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            next = point;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    centres
}

/// Until no point changes its cluster, at most 100 times. The lower cluster wins a tie; one that loses all its points
/// keeps its centre.
pub(super) fn lloyd(points: &Points, mut centres: Points) -> Clusters {
    let mut labels = assigned(points, &centres);
    for _ in 0..ITERATIONS {
        let mut counts = vec![0usize; centres.len()];
        let mut sums = vec![0.0; centres.len() * points.dimensions()];
        for (point, &label) in labels.iter().enumerate() {
            counts[label] += 1;
            let sum = &mut sums[label * points.dimensions()..][..points.dimensions()];
            sum.iter_mut().zip(points.row(point)).for_each(|(sum, v)| *sum += v);
        }
        for (label, sum) in sums.chunks_exact(points.dimensions()).enumerate().filter(|&(label, _)| counts[label] > 0) {
            centres.row_mut(label).iter_mut().zip(sum).for_each(|(centre, sum)| *centre = sum / counts[label] as f64);
        }
        let before = std::mem::replace(&mut labels, assigned(points, &centres));
        if before == labels {
            break;
        }
    }
    Clusters { centres, labels }
}

fn assigned(points: &Points, centres: &Points) -> Vec<usize> {
    let nearest = |point: usize| {
        let mut best = (0, f64::INFINITY);
        for centre in 0..centres.len() {
            let distance = squared_distance(points.row(point), centres.row(centre));
            if distance < best.1 {
                best = (centre, distance);
            }
        }
        best.0
    };
    (0..points.len()).map(nearest).collect()
}
