//! The arms of a comparison: rules by the names that a command line gives them.

use consilium_common::plan::Score;
use consilium_learning::acquisition::{Aggregation, Method, Rule};
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
    /// A rule that a study's plan can name, chosen as a site chooses.
    Study(Score),
    /// Any other rule, on any map.
    Rule(Method),
}

/// Arms that are there in every comparison, beside the first ensemble itself.
pub(crate) const ALWAYS: [&str; 2] = ["random", "uga"];

/// The arm that learns from every field, and so knows one budget only.
pub(crate) const FULL: &str = "full";

/// What there is, for messages. The help of `compare` names the same.
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

impl Arm {
    /// The arm of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        use UncertaintyMap::{Entropy, MutualInformation, Variance};
        let method = |rule, map, aggregation| Some(Kind::Rule(Method { rule, map, aggregation }));
        let of = |rule| method(rule, Entropy, Aggregation::Tissue);
        let bald = |rule| method(rule, MutualInformation, Aggregation::Tissue);
        let kind = match name {
            FULL => Some(Kind::Full),
            "bald" => bald(Rule::Top),
            "variance" => method(Rule::Top, Variance, Aggregation::Tissue),
            "monai-variance" => method(Rule::Top, Variance, Aggregation::Whole),
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
            _ => Score::named(name).map(Kind::Study),
        };
        Some(Self { name: name.to_owned(), kind: kind? })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_name_is_an_arm() {
        for name in NAMES {
            assert_eq!(Arm::named(name).map(|arm| arm.name).as_deref(), Some(name));
        }
        assert!(ALWAYS.iter().all(|name| NAMES.contains(name)));
        assert_eq!(Arm::named("best"), None);
        let known = |score: Score| NAMES.contains(&score.name());
        assert!(Score::ALL.into_iter().all(known), "what a study can use can be compared");
        let cli = Cli::command();
        let help = cli.find_subcommand("compare").unwrap().get_long_about().unwrap().to_string();
        let told: Vec<&str> = help.split([' ', ',', ';', '.', '\n']).collect();
        assert!(NAMES.iter().all(|name| told.contains(name)), "{help}");
    }
}
