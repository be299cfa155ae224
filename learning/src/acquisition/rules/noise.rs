//! Chance that belongs to a box: drawn from the seed and the box's place alone, so neither the order nor the number of
//! the other candidates changes it.

use rand::Rng;

use super::{Candidate, pool::Pool};
use crate::network::random;

/// Numbers of the items in a random order: by the BLAKE3 of seed and place, as the plan's random rule.
pub(super) fn shuffled(pool: &Pool<'_>, seed: &str) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pool.len()).collect();
    order.sort_by_cached_key(|&i| *blake3::hash(place(pool.items[i], seed).as_bytes()).as_bytes());
    order
}

/// So many uniform numbers in (0, 1) for each item.
pub(super) fn units(pool: &Pool<'_>, seed: &str, each: usize) -> Vec<Vec<f64>> {
    let of_item = |candidate: &&Candidate| {
        let mut rng = random::rng(&place(candidate, seed));
        (0..each).map(|_| ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64).collect()
    };
    pool.items.iter().map(of_item).collect()
}

/// So many numbers for each item with the standard Gumbel distribution, `-ln(-ln u)`.
pub(super) fn gumbels(pool: &Pool<'_>, seed: &str, each: usize) -> Vec<Vec<f64>> {
    let mut numbers = units(pool, seed, each);
    numbers.iter_mut().flatten().for_each(|u| *u = -(-u.ln()).ln());
    numbers
}

fn place(candidate: &Candidate, seed: &str) -> String {
    format!("{seed}/{}/{}/{}", candidate.slide, candidate.patch.y, candidate.patch.x)
}
