//! Rules that draw: the baselines that a rule has to beat, and stochastic batches.

use super::noise::{shuffled, units};
use super::pool::{Pool, Selection, descending};
use crate::network::random;

/// Uniformly at random.
pub(super) fn random(selection: &mut Selection<'_>, seed: &str) {
    selection.take_all(shuffled(selection.pool, seed));
}

/// Each time an area, then a box in proportion to what it has of that area; where no box that may be chosen has any, a
/// box uniformly.
pub(super) fn foreground_random(selection: &mut Selection<'_>, foreground: f64, seed: &str) {
    let queues = areas(selection.pool, seed);
    let mut queues = queues.each_ref().map(|queue| queue.iter());
    let mut areas = random::rng(&format!("{seed}/areas"));
    while selection.wanted() > 0 {
        let draw = f64::from(random::unit(&mut areas));
        let area = if draw < foreground / 2.0 { 0 } else { usize::from(draw >= foreground) + 1 };
        let mut next = |area: usize| queues[area].any(|&item| selection.take(item));
        if !next(area) && !next(2) {
            return;
        }
    }
}

/// Items in the order in which they are drawn in proportion to foreground, in proportion to border, and uniformly.
pub(super) fn areas(pool: &Pool<'_>, seed: &str) -> [Vec<usize>; 3] {
    let chance = units(pool, seed, 2);
    // The largest ln(u) / weight first is a draw in proportion to weights, one after the other (Efraimidis and Spirakis
    // 2006); it does not hang on what else there is.
    let drawn = |area: usize, weight: fn(&super::Candidate) -> f64| -> Vec<usize> {
        let keys: Vec<f64> = chance.iter().zip(&pool.items).map(|(u, c)| u[area].ln() / weight(c).max(0.0)).collect();
        descending(&keys).into_iter().filter(|&i| keys[i].is_finite()).collect()
    };
    [drawn(0, |c| c.foreground), drawn(1, |c| c.border), shuffled(pool, seed)]
}

/// Of random selections the largest, and of those the one with the highest mean score; then by score.
pub(super) fn stochastic_batches(selection: &mut Selection<'_>, batches: u32, seed: &str) {
    let (pool, first) = (selection.pool, selection.taken().len());
    let mut best: Option<(usize, f64, Vec<usize>)> = None;
    for batch in 0..batches.max(1) {
        let mut drawn = selection.clone();
        let mut rng = random::rng(&format!("{seed}/batch-{batch}"));
        let mut items: Vec<usize> = (0..pool.len()).collect();
        // Fisher and Yates, as far as it is needed.
        for i in 0..items.len() {
            if drawn.wanted() == 0 {
                break;
            }
            let other = i + random::below(&mut rng, items.len() - i);
            items.swap(i, other);
            drawn.take(items[i]);
        }
        let mut chosen = drawn.taken()[first..].to_vec();
        chosen.sort_unstable();
        let mean = chosen.iter().map(|&i| pool.items[i].score).sum::<f64>() / chosen.len().max(1) as f64;
        if best.as_ref().is_none_or(|(count, value, _)| (chosen.len(), mean) > (*count, *value)) {
            best = Some((chosen.len(), mean, chosen));
        }
    }
    if let Some((_, _, chosen)) = best {
        let scores: Vec<f64> = chosen.iter().map(|&i| pool.items[i].score).collect();
        selection.take_all(descending(&scores).into_iter().map(|i| chosen[i]));
    }
}
