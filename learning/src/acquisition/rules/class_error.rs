//! Fuster et al. (EUSIPCO 2023): the more a class is mistaken on validation, the more of it is asked for.

use super::Candidate;
use super::noise::shuffled;
use super::pool::Selection;

/// The rule: each class's part of the budget, at random, the class with most errors first; then any box at random.
pub(super) fn class_error(selection: &mut Selection<'_>, errors: &[u64], weight: f64, seed: &str) {
    let pool = selection.pool;
    let order = shuffled(pool, seed);
    let of: Vec<usize> = pool.items.iter().map(|candidate| class_of(candidate, weight)).collect();
    let classes = of.iter().map(|&class| class + 1).max().unwrap_or(0);
    let present: Vec<u64> = (0..classes).map(|class| u64::from(of.contains(&class))).collect();
    let errors: Vec<u64> = (0..classes).map(|class| errors.get(class).copied().unwrap_or(0)).collect();
    let errors = if errors.iter().all(|&n| n == 0) { present } else { errors };
    let mut turns: Vec<usize> = (0..classes).collect();
    turns.sort_by_key(|&class| std::cmp::Reverse(errors[class]));
    let parts = parts(&errors, selection.wanted());
    for class in turns {
        let mut left = parts[class];
        for &item in order.iter().filter(|&&item| of[item] == class) {
            if left == 0 {
                break;
            }
            left -= usize::from(selection.take(item));
        }
    }
    selection.take_all(order);
}

/// The class of a box: the largest share of its area, foreground counting `weight` times; the higher class wins a tie.
/// Background where shares are unknown.
pub(super) fn class_of(candidate: &Candidate, weight: f64) -> usize {
    let weighed = |class: usize, share: f64| if class == 0 { share } else { share * weight };
    let mut best = (0, f64::NEG_INFINITY);
    for (class, &share) in candidate.shares.iter().enumerate() {
        let share = weighed(class, share);
        if share > 0.0 && share >= best.1 {
            best = (class, share);
        }
    }
    best.0
}

/// `floor(n_c / sum n * total)` for each class, as published, and what that leaves to the largest remainders, so that
/// nothing is lost; all 0 where every n is.
pub(super) fn parts(errors: &[u64], total: usize) -> Vec<usize> {
    let sum: u128 = errors.iter().map(|&n| u128::from(n)).sum();
    if sum == 0 {
        return vec![0; errors.len()];
    }
    // A budget is below 2^32, so products stay inside 128 bits.
    let exact = |n: u64| u128::from(n) * total as u128;
    let mut parts: Vec<usize> = errors.iter().map(|&n| (exact(n) / sum) as usize).collect();
    let mut order: Vec<usize> = (0..errors.len()).collect();
    order.sort_by_key(|&class| std::cmp::Reverse(exact(errors[class]) % sum));
    let left = total - parts.iter().sum::<usize>();
    order.iter().take(left).for_each(|&class| parts[class] += 1);
    parts
}
