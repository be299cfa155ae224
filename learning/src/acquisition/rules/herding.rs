//! MaxHerding (Bae, Noh and Sutherland 2024): greedy maximisation of generalised coverage,
//! `sum_x max_{s chosen} exp(-|x - s|^2 / h^2)`, features having length 1 and h being the median distance.

use super::features::{Points, squared_distance};
use super::noise::shuffled;
use super::pool::Selection;

/// Candidates that are looked at, drawn at random where there are more: the kernel takes 4 bytes a pair, 64 MiB.
const MOST: usize = 4096;

/// The rule; without features nothing is chosen.
pub(super) fn max_herding(selection: &mut Selection<'_>, seed: &str) {
    let mut items = shuffled(selection.pool, &format!("{seed}/herding"));
    items.truncate(MOST);
    items.sort_unstable();
    let features = items.iter().map(|&i| selection.pool.items[i].feature.as_slice());
    let Some(points) = Points::of(features).map(Points::unit_length) else { return };
    let kernel = Kernel::new(&points);
    let mut covered = vec![0.0f32; items.len()];
    while selection.wanted() > 0 {
        let mut best = (None, f64::NEG_INFINITY);
        for (i, _) in items.iter().enumerate().filter(|&(_, &item)| selection.is_free(item)) {
            let more = |(k, covered): (&f32, &f32)| f64::from((k - covered).max(0.0));
            let gain: f64 = kernel.row(i).iter().zip(&covered).map(more).sum();
            if gain > best.1 {
                best = (Some(i), gain);
            }
        }
        let Some(next) = best.0 else { return };
        if selection.take(items[next]) {
            covered.iter_mut().zip(kernel.row(next)).for_each(|(covered, k)| *covered = covered.max(*k));
        }
    }
}

/// The kernel of every pair of points.
pub(super) struct Kernel {
    values: Vec<f32>,
    points: usize,
}

impl Kernel {
    pub(super) fn new(points: &Points) -> Self {
        let count = points.len();
        let mut values = vec![0.0f32; count * count];
        for a in 0..count {
            for b in 0..a {
                let squared = squared_distance(points.row(a), points.row(b)) as f32;
                (values[a * count + b], values[b * count + a]) = (squared, squared);
            }
        }
        let below = |a: usize| values[a * count..][..a].iter().copied();
        let width = median((0..count).flat_map(below).map(|squared| f64::from(squared).sqrt()).collect());
        let scale = if width > 0.0 { 1.0 / (width * width) } else { 1.0 };
        values.iter_mut().for_each(|v| *v = (-f64::from(*v) * scale).exp() as f32);
        Self { values, points: count }
    }

    pub(super) fn row(&self, point: usize) -> &[f32] {
        &self.values[point * self.points..][..self.points]
    }
}

/// The median; the mean of the two middle ones of an even number, and 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let even = values.len().is_multiple_of(2);
    let (lower, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if even { f64::midpoint(lower.iter().copied().fold(f64::NEG_INFINITY, f64::max), upper) } else { upper }
}
