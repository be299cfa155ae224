//! The arms of a comparison: rules by the names that a command line gives them.

use consilium_learning::acquisition::{Aggregation, Rule};
use consilium_learning::uncertainty::UncertaintyMap;

/// An arm.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arm {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What is done at the sites.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Every field that may be learned from, whole: what more patches could reach.
    Full,
    /// UGA's own grid, filters and score.
    Uga,
    /// A rule on the scores of a map.
    Rule { rule: Rule, map: UncertaintyMap, aggregation: Aggregation },
}

/// Arms that are there in every comparison, beside the first ensemble itself.
pub(crate) const ALWAYS: [&str; 2] = ["random", "uga"];

/// The arm that learns from every field, and so knows one budget only.
pub(crate) const FULL: &str = "full";

/// What there is, for messages and help.
pub(crate) const NAMES: [&str; 25] = [
    "random",
    "foreground-random",
    "uga",
    "uga-mean",
    "entropy",
    "entropy-foreground",
    "entropy-border",
    "entropy-top",
    "bald",
    "kl",
    "variance",
    "margin",
    "least-confidence",
    "clasp-pe",
    "power-bald",
    "soft-rank-bald",
    "stochastic-batches",
    "k-means",
    "farthest-first",
    "typiclust",
    "max-herding",
    "two-stage",
    "class-error",
    "monai-variance",
    FULL,
];

/// Radius of the band around predicted boundaries, pixels.
const BORDER: u32 = 8;
/// Share of a patch's pixels that `entropy-top` looks at.
const TOP: f64 = 0.1;

impl Arm {
    /// The arm of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        use UncertaintyMap::{Entropy, Kl, LeastConfidence, Margin, MutualInformation, Uga, Variance};
        let rule = |rule, map, aggregation| Some(Kind::Rule { rule, map, aggregation });
        let top = |map| rule(Rule::Top, map, Aggregation::Tissue);
        let of = |value: Rule| rule(value, Entropy, Aggregation::Tissue);
        let bald = |value: Rule| rule(value, MutualInformation, Aggregation::Tissue);
        let kind = match name {
            FULL => Some(Kind::Full),
            "uga" => Some(Kind::Uga),
            "random" => of(Rule::Random),
            "foreground-random" => of(Rule::ForegroundRandom { foreground: 2.0 / 3.0 }),
            "uga-mean" => top(Uga),
            "entropy" => top(Entropy),
            "entropy-foreground" => rule(Rule::Top, Entropy, Aggregation::Foreground),
            "entropy-border" => rule(Rule::Top, Entropy, Aggregation::Border { radius: BORDER }),
            "entropy-top" => rule(Rule::Top, Entropy, Aggregation::TopShare { share: TOP }),
            "bald" => top(MutualInformation),
            "kl" => top(Kl),
            "variance" => top(Variance),
            "monai-variance" => rule(Rule::Top, Variance, Aggregation::Whole),
            "margin" => top(Margin),
            "least-confidence" => top(LeastConfidence),
            "clasp-pe" => of(Rule::ClaspPe { class_share: 0.66, beta_first: 1.0, beta_last: 100.0 }),
            "power-bald" => bald(Rule::PowerBald { beta: 1.0 }),
            "soft-rank-bald" => bald(Rule::SoftRank { beta: 1.0 }),
            "stochastic-batches" => of(Rule::StochasticBatches { batches: 100 }),
            "k-means" => of(Rule::KMeans),
            "farthest-first" => of(Rule::FarthestFirst),
            "typiclust" => of(Rule::Typiclust { neighbours: 20 }),
            "max-herding" => of(Rule::MaxHerding),
            "two-stage" => of(Rule::TwoStage { k1: 6, k2: 4 }),
            // The errors are those of the first ensemble on what it learned from, filled in when they are known: what is
            // held out must not choose.
            "class-error" => of(Rule::ClassError { errors: Vec::new(), foreground_weight: 10.0 }),
            _ => None,
        };
        Some(Self { name: name.to_owned(), kind: kind? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_an_arm() {
        for name in NAMES {
            assert_eq!(Arm::named(name).map(|arm| arm.name).as_deref(), Some(name));
        }
        assert!(ALWAYS.iter().all(|name| NAMES.contains(name)));
        assert_eq!(Arm::named("best"), None);
    }
}
