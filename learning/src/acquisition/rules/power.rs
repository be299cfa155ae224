//! Rules that disturb the order of scores with Gumbel noise, so that a batch is not the same patch many times over
//! (Kirsch et al. 2023, "Stochastic Batch Acquisition").

use super::noise::gumbels;
use super::pool::{Selection, descending};

/// `ln(score) + gumbel / beta`, where `gumbel` has the standard distribution; a score of 0 comes last.
pub(super) fn power_key(score: f64, gumbel: f64, beta: f64) -> f64 {
    score.max(0.0).ln() + gumbel / beta
}

/// `-ln(rank) + gumbel / beta` for a rank that counts from 1.
pub(super) fn soft_rank_key(rank: usize, gumbel: f64, beta: f64) -> f64 {
    -(rank as f64).ln() + gumbel / beta
}

/// The highest power keys of the scores.
pub(super) fn power(selection: &mut Selection<'_>, beta: f64, seed: &str) {
    let items = selection.pool.items.iter().zip(gumbels(selection.pool, seed, 1));
    let keys: Vec<f64> = items.map(|(c, noise)| power_key(c.score, noise[0], beta)).collect();
    selection.take_all(descending(&keys));
}

/// The highest soft-rank keys of the twice as many best.
pub(super) fn soft_rank(selection: &mut Selection<'_>, beta: f64, seed: &str) {
    let noise = gumbels(selection.pool, seed, 1);
    soft_rank_with(selection, beta, &noise);
}

/// The same with noise that is given, by item.
pub(super) fn soft_rank_with(selection: &mut Selection<'_>, beta: f64, noise: &[Vec<f64>]) {
    let best = selection.oversampled();
    let keys: Vec<f64> = (1..).zip(&best).map(|(rank, &item)| soft_rank_key(rank, noise[item][0], beta)).collect();
    selection.take_all(descending(&keys).into_iter().map(|i| best[i]));
}
