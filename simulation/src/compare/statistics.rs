//! Means, intervals and paired differences over seeds and folds.

use consilium_learning::network::random;
use rand::Rng;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Interval {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The mean of values and the 2.5 and 97.5 percentiles of the means of resamples with replacement (Efron 1979), drawn from
/// the text `seed`. `None` without values; one value is its own interval.
pub(crate) fn bootstrap(values: &[f64], seed: &str) -> Option<Interval> {
    if values.is_empty() {
        return None;
    }
    let mean = |sum: f64| sum / values.len() as f64;
    let mut rng = random::rng(&format!("bootstrap/{seed}"));
    let mut draw = || values[((u128::from(rng.next_u64()) * values.len() as u128) >> 64) as usize];
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| mean((0..values.len()).map(|_| draw()).sum())).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
    Some(Interval { mean: mean(values.iter().sum()), low: at(0.025), high: at(0.975) })
}

/// Area under a curve of values over budgets by the trapezoidal rule, divided by the range of budgets: a mean Dice.
pub(crate) fn area(points: &[(f64, f64)]) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    let area: f64 = points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0).sum();
    (last.0 > first.0).then(|| area / (last.0 - first.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_the_mean_and_narrow() {
        let few: Vec<f64> = (0..5).map(|i| f64::from(i) / 4.0).collect();
        let many: Vec<f64> = (0..500).map(|i| f64::from(i % 5) / 4.0).collect();
        let (few, many) = (bootstrap(&few, "a").unwrap(), bootstrap(&many, "a").unwrap());
        for interval in [few, many] {
            assert!((interval.mean - 0.5).abs() < 1e-12 && interval.low < 0.5 && interval.high > 0.5, "{interval:?}");
        }
        // The standard error of 500 values with deviation 0.354 is 0.0158.
        assert!((many.high - many.low - 2.0 * 1.96 * 0.0158).abs() < 0.01, "{many:?}");
        assert!(few.high - few.low > 5.0 * (many.high - many.low));
        assert_eq!(bootstrap(&[0.25; 3], "b"), Some(Interval { mean: 0.25, low: 0.25, high: 0.25 }));
        assert_eq!(bootstrap(&[], "c"), None);
    }

    #[test]
    fn the_area_is_a_mean_over_budgets() {
        assert_eq!(area(&[(0.0, 0.5), (10.0, 0.7)]), Some(0.6));
        assert!((area(&[(0.0, 0.5), (5.0, 0.7), (10.0, 0.7)]).unwrap() - 0.65).abs() < 1e-12);
        assert_eq!(area(&[(5.0, 0.5)]), None);
    }
}
