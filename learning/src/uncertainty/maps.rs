//! Every map of uncertainty that a study can choose, from the same probabilities.
//!
//! `p_m` is the softmax of member m, `pbar` the mean over the M members, C the number of classes, eps = 1e-8;
//! logarithms are natural. Sums are in f64, results in f32 and never below 0.

use std::str::FromStr;

use serde::de::IntoDeserializer;
use serde::de::value::Error;
use serde::{Deserialize, Serialize};

use super::{mutual_information, predictive_entropy, uncertainty};

/// What is called uncertain. Entropy, margin and least confidence look at the mean only; mutual information, KL and
/// variance at the disagreement of the members only, and are 0 for one member; UGA's at both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UncertaintyMap {
    /// `(1/M) sum_m [ -sum_c pbar_c ln(p_mc + eps) ]`, nats (UGA, 2024): [`uncertainty`].
    Uga,
    /// `H(pbar) = -sum_c pbar_c ln pbar_c`, nats (Shannon 1948): [`predictive_entropy`].
    Entropy,
    /// `H(pbar) - (1/M) sum_m H(p_m)`, which is the mean of `KL(p_m || pbar)`, nats (BALD, Houlsby et al. 2011):
    /// [`mutual_information`].
    MutualInformation,
    /// `(1/M) sum_m (1/C) sum_c pbar_c ln(pbar_c / (p_mc + eps))`, nats a class: UGA's own later variant, the
    /// divergence from the mean to the members. It is `(Uga - Entropy) / C`.
    Kl,
    /// `sum_{c>0} (1/M) sum_m (p_mc - pbar_c)^2`, the population variance summed over the foreground (MONAI).
    Variance,
    /// `1 - (p1 - p2)`, of the two largest of `pbar` (Scheffer et al. 2001).
    Margin,
    /// `1 - max_c pbar_c` (Lewis and Gale 1994).
    LeastConfidence,
}

impl UncertaintyMap {
    /// Every map, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Uga,
        Self::Entropy,
        Self::MutualInformation,
        Self::Kl,
        Self::Variance,
        Self::Margin,
        Self::LeastConfidence,
    ];
}

/// From the name that serde uses, such as `mutual-information`.
impl FromStr for UncertaintyMap {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::deserialize(name.into_deserializer())
    }
}

/// One value a pixel, from probabilities laid out as `[members, classes, pixels]`.
pub fn uncertainty_map(kind: UncertaintyMap, probabilities: &[f32], members: usize, classes: usize) -> Vec<f32> {
    let planes = Planes::new(probabilities, members, classes);
    match kind {
        UncertaintyMap::Uga => uncertainty(probabilities, members, classes),
        UncertaintyMap::Entropy => predictive_entropy(probabilities, members, classes),
        UncertaintyMap::MutualInformation => mutual_information(probabilities, members, classes),
        UncertaintyMap::Kl => planes.map(|pixel| planes.divergence(pixel)),
        UncertaintyMap::Variance => planes.map(|pixel| planes.variance(pixel)),
        UncertaintyMap::Margin => planes.map(|pixel| {
            let (first, second) = planes.largest(pixel);
            1.0 - (first - second)
        }),
        UncertaintyMap::LeastConfidence => planes.map(|pixel| 1.0 - planes.largest(pixel).0),
    }
}

struct Planes<'a> {
    values: &'a [f32],
    members: usize,
    classes: usize,
    pixels: usize,
}

impl<'a> Planes<'a> {
    fn new(values: &'a [f32], members: usize, classes: usize) -> Self {
        let pixels = values.len().checked_div(members * classes).unwrap_or(0);
        Self { values, members, classes, pixels }
    }

    fn map(&self, value: impl Fn(usize) -> f64) -> Vec<f32> {
        (0..self.pixels).map(|pixel| value(pixel).max(0.0) as f32).collect()
    }

    fn of_members(&self, class: usize, pixel: usize) -> impl Iterator<Item = f64> + '_ {
        (0..self.members).map(move |m| f64::from(self.values[(m * self.classes + class) * self.pixels + pixel]))
    }

    fn mean(&self, class: usize, pixel: usize) -> f64 {
        self.of_members(class, pixel).sum::<f64>() / self.members as f64
    }

    fn divergence(&self, pixel: usize) -> f64 {
        let of_class = |class: usize| {
            let mean = self.mean(class, pixel);
            let ratio = |p: f64| (mean / (p + super::EPSILON)).ln();
            if mean > 0.0 { self.of_members(class, pixel).map(|p| mean * ratio(p)).sum() } else { 0.0 }
        };
        (0..self.classes).map(of_class).sum::<f64>() / (self.members * self.classes) as f64
    }

    fn variance(&self, pixel: usize) -> f64 {
        let of_class = |class: usize| {
            let mean = self.mean(class, pixel);
            self.of_members(class, pixel).map(|p| (p - mean) * (p - mean)).sum::<f64>()
        };
        (1..self.classes).map(of_class).sum::<f64>() / self.members as f64
    }

    /// The two largest of the mean; the second is 0 where there is one class.
    fn largest(&self, pixel: usize) -> (f64, f64) {
        (0..self.classes)
            .map(|class| self.mean(class, pixel))
            .fold((0.0, 0.0), |(first, second), p| if p > first { (p, first) } else { (first, f64::max(second, p)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_serde() {
        for kind in UncertaintyMap::ALL {
            let name = serde_json::to_value(kind).unwrap();
            assert_eq!(name.as_str().unwrap().parse::<UncertaintyMap>().unwrap(), kind);
        }
        assert_eq!("least-confidence".parse(), Ok(UncertaintyMap::LeastConfidence));
        let error = "magic".parse::<UncertaintyMap>().unwrap_err().to_string();
        assert!(error.contains("magic") && error.contains("mutual-information"), "{error}");
    }

    #[test]
    fn certain_members_that_agree_are_nowhere_uncertain() {
        let agree = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        let differ = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        for kind in UncertaintyMap::ALL {
            let (low, high) = (uncertainty_map(kind, &agree, 2, 3)[0], uncertainty_map(kind, &differ, 2, 3)[0]);
            assert!((0.0..1e-6).contains(&low), "{kind:?}: {low}");
            assert!(high > 0.2, "{kind:?}: {high}");
        }
    }

    #[test]
    fn kl_is_the_disagreement_in_ugas_figure() {
        let p = [0.7, 0.2, 0.1, 0.1, 0.3, 0.6, 0.3, 0.3, 0.4];
        let of = |kind| f64::from(uncertainty_map(kind, &p, 3, 3)[0]);
        let disagreement = of(UncertaintyMap::Uga) - of(UncertaintyMap::Entropy);
        assert!((of(UncertaintyMap::Kl) - disagreement / 3.0).abs() < 1e-6);
    }

    #[test]
    fn no_pixels_give_no_values() {
        for kind in UncertaintyMap::ALL {
            assert!(uncertainty_map(kind, &[], 2, 3).is_empty());
            assert!(uncertainty_map(kind, &[], 0, 0).is_empty());
        }
    }
}
