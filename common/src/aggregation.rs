//! Aggregation of a band of one member: the weighted mean of the sites' deltas, added to the base.
//!
//! McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", Algorithm 1, in its
//! delta form: `w' = w + sum_k (n_k / n) * d_k`. Sums run in f64 over the contributions in the order given (sorted by
//! site), element by element, so the result does not depend on the order of arrival nor on how the bands are cut.

use crate::error::Invalid;
use crate::limits;

/// The weighted sum of one band, to which deltas are added one at a time in site order: memory does not grow with sites.
#[derive(Debug)]
pub struct BandSum {
    sums: Vec<f64>,
    total: f64,
}

impl BandSum {
    /// An empty sum of `len` elements.
    pub fn new(len: usize) -> Self {
        Self { sums: vec![0.0; len], total: 0.0 }
    }

    /// Adds a delta of the band's length with the weight that its site was given.
    ///
    /// # Errors
    /// When the length differs or the weight is not positive.
    pub fn add(&mut self, weight: f64, delta: &[f32]) -> Result<(), Invalid> {
        if weight.is_nan() || weight <= 0.0 {
            return Err(Invalid::new("aggregation", format!("an update has weight {weight}; it must be positive")));
        }
        if delta.len() != self.sums.len() {
            return Err(Invalid::new("aggregation", "a delta has another length than its base"));
        }
        self.total += weight;
        for (sum, &value) in self.sums.iter_mut().zip(delta) {
            *sum += weight * f64::from(value);
        }
        Ok(())
    }

    /// The base plus the weighted mean of what was added.
    ///
    /// # Errors
    /// When nothing was added, the weights have no finite sum, a length differs, or a result leaves the limits.
    pub fn finish(self, base: &[f32]) -> Result<Vec<f32>, Invalid> {
        let Self { sums, total } = self;
        if !(total > 0.0 && total.is_finite()) {
            return Err(Invalid::new("aggregation", "needs at least one update, each with a positive weight"));
        }
        if base.len() != sums.len() {
            return Err(Invalid::new("aggregation", "the base has another length than its deltas"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is the definition of the result")]
        let mean: Vec<f32> = base.iter().zip(&sums).map(|(&b, sum)| (f64::from(b) + sum / total) as f32).collect();
        check_finite(&mean)?;
        Ok(mean)
    }
}

/// Adds the weighted mean of `deltas` to `base`. Every slice has the same length; `deltas` is in site order, with the
/// weight that each site was given.
///
/// # Errors
/// As [`BandSum`].
pub fn weighted_mean(base: &[f32], deltas: &[(f64, &[f32])]) -> Result<Vec<f32>, Invalid> {
    let mut sum = BandSum::new(base.len());
    for (weight, delta) in deltas {
        sum.add(*weight, delta)?;
    }
    sum.finish(base)
}

/// Refuses a value that is not finite or beyond the limit for weights and deltas.
pub fn check_finite(values: &[f32]) -> Result<(), Invalid> {
    // `abs() <= limit` is false for NaN too.
    if values.iter().all(|v| v.abs() <= limits::MAX_ABS_WEIGHT) {
        return Ok(());
    }
    Err(Invalid::new(
        "weights",
        format!("a value is not finite or beyond {}; the training diverged", limits::MAX_ABS_WEIGHT),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weighs_and_adds() {
        let mean = weighted_mean(&[1.0, 2.0], &[(1.0, &[1.0, 0.0]), (3.0, &[5.0, 4.0])]).unwrap();
        assert_eq!(mean, [5.0, 5.0]);
    }

    #[test]
    fn refuses_what_would_poison() {
        assert!(weighted_mean(&[0.0], &[]).is_err());
        assert!(weighted_mean(&[0.0], &[(0.0, &[1.0])]).is_err());
        assert!(weighted_mean(&[0.0], &[(f64::NAN, &[1.0])]).is_err());
        assert!(weighted_mean(&[0.0], &[(1.0, &[f32::NAN])]).is_err());
        assert!(weighted_mean(&[0.0], &[(1.0, &[1.0, 2.0])]).is_err());
        assert!(weighted_mean(&[0.0], &[(1.0, &[f32::INFINITY])]).is_err());
    }

    proptest! {
        #[test]
        fn bands_do_not_matter(values in prop::collection::vec((-9f32..9.0, -9f32..9.0, -9f32..9.0), 1..50), cut in 0usize..50) {
            let base: Vec<f32> = values.iter().map(|v| v.0).collect();
            let a: Vec<f32> = values.iter().map(|v| v.1).collect();
            let b: Vec<f32> = values.iter().map(|v| v.2).collect();
            let cut = cut.min(base.len());
            let whole = weighted_mean(&base, &[(2.0, &a), (5.0, &b)]).unwrap();
            let mut parts = weighted_mean(&base[..cut], &[(2.0, &a[..cut]), (5.0, &b[..cut])]).unwrap();
            parts.extend(weighted_mean(&base[cut..], &[(2.0, &a[cut..]), (5.0, &b[cut..])]).unwrap());
            prop_assert_eq!(whole, parts);
        }
    }
}
