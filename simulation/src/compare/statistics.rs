//! Means, intervals and paired differences over seeds and fields.

use std::collections::{BTreeMap, BTreeSet};

use consilium_learning::network::random;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2_000;

/// A value of every field of every site for every seed; what has no value is not there.
pub(crate) type Values = BTreeMap<(String, String), BTreeMap<u64, f64>>;

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Interval {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Interval {
    /// Of a share, in percent.
    pub(crate) fn percent(self) -> Self {
        Self { mean: 100.0 * self.mean, low: 100.0 * self.low, high: 100.0 * self.high }
    }
}

/// The mean over sites of the mean over fields and seeds, and the 2.5 and 97.5 percentiles of the same of resamples: seeds
/// and, within each site, fields are drawn with replacement (Efron 1979; Davison and Hinkley 1997, 3.8), from the text
/// `seed`. `None` without values.
pub(crate) fn bootstrap(values: &Values, seed: &str) -> Option<Interval> {
    let seeds: Vec<u64> =
        values.values().flat_map(BTreeMap::keys).copied().collect::<BTreeSet<_>>().into_iter().collect();
    let mut sites: BTreeMap<&str, Vec<&BTreeMap<u64, f64>>> = BTreeMap::new();
    for ((site, _), of_field) in values {
        sites.entry(site).or_default().push(of_field);
    }
    let sites: Vec<Vec<&BTreeMap<u64, f64>>> = sites.into_values().collect();
    let mean = over(&sites, &seeds)?;
    let mut rng = random::rng(&format!("bootstrap/{seed}"));
    let mut means: Vec<f64> = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let seeds = drawn(&seeds, &mut rng);
        let fields: Vec<_> = sites.iter().map(|fields| drawn(fields, &mut rng)).collect();
        means.extend(over(&fields, &seeds));
    }
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((means.len() - 1) as f64 * share).round() as usize];
    Some(Interval { mean, low: at(0.025), high: at(0.975) })
}

/// The mean over sites of the mean over fields and seeds.
pub(crate) fn mean_of(values: &Values, only: Option<u64>) -> Option<f64> {
    let mut sites: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for ((site, _), of_field) in values {
        let own = of_field.iter().filter(|(seed, _)| only.is_none_or(|only| **seed == only)).map(|(_, value)| *value);
        sites.entry(site).or_default().extend(own);
    }
    mean(sites.into_values().filter_map(|values| mean(values.into_iter())))
}

fn over(sites: &[Vec<&BTreeMap<u64, f64>>], seeds: &[u64]) -> Option<f64> {
    let of_site = |fields: &Vec<&BTreeMap<u64, f64>>| {
        mean(fields.iter().flat_map(|field| seeds.iter().filter_map(|seed| field.get(seed).copied())))
    };
    mean(sites.iter().filter_map(of_site))
}

fn drawn<T: Copy>(from: &[T], rng: &mut ChaCha8Rng) -> Vec<T> {
    let mut place = || ((u128::from(rng.next_u64()) * from.len() as u128) >> 64) as usize;
    (0..from.len()).map(|_| from[place()]).collect()
}

/// The mean of values; none of none.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    (n > 0.0).then(|| sum / n)
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

    fn values(fields: usize, seeds: u64, value: impl Fn(usize, u64) -> f64) -> Values {
        let of = |field: usize| (0..seeds).map(|seed| (seed, value(field, seed))).collect();
        (0..fields).map(|field| (("site".into(), format!("{field:03}")), of(field))).collect()
    }

    #[test]
    fn intervals_hold_the_mean_and_narrow() {
        let of = |fields: usize, seeds| {
            bootstrap(&values(fields, seeds, |field, seed| ((field + seed as usize) % 5) as f64 / 4.0), "a").unwrap()
        };
        let (few, many) = (of(5, 1), of(500, 1));
        for interval in [few, many] {
            assert!((interval.mean - 0.5).abs() < 1e-12 && interval.low < 0.5 && interval.high > 0.5, "{interval:?}");
        }
        // The standard error of 500 values with deviation 0.354 is 0.0158.
        assert!((many.high - many.low - 2.0 * 1.96 * 0.0158).abs() < 0.012, "{many:?}");
        assert!(few.high - few.low > 5.0 * (many.high - many.low));
        let same = bootstrap(&values(3, 2, |_, _| 0.25), "b");
        assert_eq!(same, Some(Interval { mean: 0.25, low: 0.25, high: 0.25 }));
        assert_eq!(bootstrap(&Values::new(), "c"), None);
    }

    #[test]
    fn what_differs_between_seeds_is_in_the_interval() {
        let by_seed = bootstrap(&values(50, 4, |_, seed| seed as f64), "a").unwrap();
        assert!(by_seed.high - by_seed.low > 1.5, "{by_seed:?}");
    }

    #[test]
    fn sites_count_alike() {
        let mut all = values(9, 1, |_, _| 1.0);
        all.insert(("other".into(), "x".into()), BTreeMap::from([(0, 0.0)]));
        assert_eq!(mean_of(&all, None), Some(0.5));
        assert_eq!(bootstrap(&all, "a").map(|i| i.mean), Some(0.5));
        assert_eq!(mean_of(&all, Some(7)), None);
    }

    #[test]
    fn the_area_is_a_mean_over_budgets() {
        assert_eq!(area(&[(0.0, 0.5), (10.0, 0.7)]), Some(0.6));
        assert!((area(&[(0.0, 0.5), (5.0, 0.7), (10.0, 0.7)]).unwrap() - 0.65).abs() < 1e-12);
        assert_eq!(area(&[(5.0, 0.5)]), None);
    }
}
