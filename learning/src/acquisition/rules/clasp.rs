//! ClaSP PE (Lüth et al. 2026, arXiv 2601.13677): a share of the budget for each foreground class, and Gumbel noise
//! that fades from round to round.

use super::noise::gumbels;
use super::pool::{Selection, descending};
use super::power::power_key;
use super::{Candidate, pool::Pool};
use crate::network::random;

/// `first * (last / first)^(round / (rounds - 1))`: `first` in round 0, `last` in round `rounds - 1` and after it.
pub(super) fn beta(first: f64, last: f64, round: u32, rounds: u32) -> f64 {
    let end = rounds.saturating_sub(1);
    let done = if end == 0 { 0.0 } else { f64::from(round.min(end)) / f64::from(end) };
    first * (last / first).powf(done)
}

/// The rule at a round's beta. Where the classes cannot share equally, those that get one more are drawn.
pub(super) fn clasp_pe(selection: &mut Selection<'_>, class_share: f64, beta: f64, seed: &str) {
    let pool = selection.pool;
    let classes = classes(pool);
    let mut foreground: Vec<usize> = (1..classes).collect();
    let mut rng = random::rng(&format!("{seed}/classes"));
    for i in (1..foreground.len()).rev() {
        foreground.swap(i, random::below(&mut rng, i + 1));
    }
    stratified(selection, class_share, &foreground, beta, &gumbels(pool, seed, classes.max(1)));
}

fn classes(pool: &Pool<'_>) -> usize {
    pool.items.iter().map(|c| c.class_scores.len()).max().unwrap_or(0)
}

/// The orders in which the rule takes items: by plain entropy, then by each foreground class.
pub(super) fn queues(pool: &Pool<'_>, beta: f64, seed: &str) -> Vec<Vec<usize>> {
    let classes = classes(pool).max(1);
    let noise = gumbels(pool, seed, classes);
    let of_class = |class| by_class(pool, &noise, class, beta);
    [by_entropy(pool, &noise, beta)].into_iter().chain((1..classes).map(of_class)).collect()
}

fn by_class(pool: &Pool<'_>, noise: &[Vec<f64>], class: usize, beta: f64) -> Vec<usize> {
    positive(pool, noise, |(c, noise)| power_key(c.class_scores.get(class).copied().unwrap_or(0.0), noise[class], beta))
}

fn by_entropy(pool: &Pool<'_>, noise: &[Vec<f64>], beta: f64) -> Vec<usize> {
    positive(pool, noise, |(c, noise)| power_key(entropy(c), noise[0], beta))
}

/// The rule with its chance given: foreground classes in the order of their turn, and noise `[item][class]`, that of
/// class 0 being for the plain entropy.
pub(super) fn stratified(
    selection: &mut Selection<'_>,
    class_share: f64,
    foreground: &[usize],
    beta: f64,
    noise: &[Vec<f64>],
) {
    let pool = selection.pool;
    // A share that is no number is 0.
    let stratified = (class_share.clamp(0.0, 1.0) * selection.wanted() as f64) as usize;
    let mut queues = Vec::new();
    for (turn, &class) in foreground.iter().enumerate() {
        let quota = stratified / foreground.len() + usize::from(turn < stratified % foreground.len());
        queues.push((quota, by_class(pool, noise, class, beta).into_iter()));
    }
    while queues.iter().any(|(quota, _)| *quota > 0) {
        for (quota, queue) in queues.iter_mut().filter(|(quota, _)| *quota > 0) {
            *quota = if queue.any(|item| selection.take(item)) { *quota - 1 } else { 0 };
        }
    }
    selection.take_all(by_entropy(pool, noise, beta));
}

/// The mean entropy of a box, which its class scores add up to; its score where it has none.
fn entropy(candidate: &Candidate) -> f64 {
    if candidate.class_scores.is_empty() { candidate.score } else { candidate.class_scores.iter().sum() }
}

/// Items by falling key, without those whose score is 0.
fn positive<'a>(pool: &Pool<'a>, noise: &[Vec<f64>], key: impl Fn((&&'a Candidate, &Vec<f64>)) -> f64) -> Vec<usize> {
    let keys: Vec<f64> = pool.items.iter().zip(noise).map(key).collect();
    descending(&keys).into_iter().filter(|&i| keys[i] > f64::NEG_INFINITY).collect()
}
