//! What an experiment found, as numbers: `metrics.json` and `metrics.csv`. No time and no path goes in, so that two runs
//! with the same seed give the same bytes; seconds are kept in `timing.json`.

use std::collections::BTreeMap;
use std::path::Path;

use consilium_common::{Digest, SiteId, StudyId};
use serde::{Deserialize, Serialize};

use super::ExperimentError;

/// The schema of `metrics.json`.
pub(super) const SCHEMA: u32 = 1;

/// `metrics.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Version of this document, `SCHEMA`.
    pub schema: u32,
    /// The study's name.
    pub study: StudyId,
    /// The seed of everything random.
    pub seed: u64,
    /// The digest of the plan.
    pub plan: Digest,
    /// The centre that trained the first ensemble; it takes part but is left out of `mean_dice`.
    pub central: SiteId,
    /// All sites, sorted.
    pub sites: Vec<SiteId>,
    /// The sites that the mean is over: those but the central one that have a figure for every generation.
    pub mean_over: Vec<SiteId>,
    /// One entry a generation, the first being the centrally trained ensemble.
    pub generations: Vec<Generation>,
    /// Rounds whose candidate was refused or could not be aggregated, with the reason.
    pub rejected: Vec<Rejected>,
    /// Every patch that was asked for.
    pub patches: Vec<Patch>,
}

/// How one generation does on held-out slides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Its number.
    pub generation: u32,
    /// The digest of its `ensemble.json`.
    pub manifest: Digest,
    /// Mean over `mean_over`; absent where that is nobody.
    pub mean_dice: Option<f64>,
    /// Dice by site: mean over its held-out slides of the mean foreground Dice.
    pub sites: BTreeMap<SiteId, f64>,
    /// Expected calibration error by site.
    pub ece: BTreeMap<SiteId, f64>,
}

/// A round without a new generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejected {
    /// The round.
    pub round: u32,
    /// Why.
    pub reason: String,
}

/// One patch that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Where.
    pub site: SiteId,
    /// In which round.
    pub round: u32,
    /// On which slide.
    pub slide: String,
    /// Top-left corner in level-0 pixels.
    pub x: i64,
    /// The same, downwards.
    pub y: i64,
    /// The score that it was chosen by.
    pub score: f64,
    /// Mean uncertainty in nats.
    pub mean_uncertainty: f64,
    /// Drawn at random as a control, and never learned from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
    /// Dice of the prediction against the correction; absent where both are empty.
    pub dice_before: Option<f64>,
}

impl Metrics {
    /// Mean Dice of the first and the last generation that have one.
    pub fn span(&self) -> Option<(f64, f64)> {
        let known: Vec<f64> = self.generations.iter().filter_map(|g| g.mean_dice).collect();
        Some((*known.first()?, *known.last()?))
    }

    /// Writes `metrics.json` and `metrics.csv` into a folder.
    pub fn write(&self, out: &Path) -> Result<(), ExperimentError> {
        let path = out.join("metrics.json");
        let mut text = serde_json::to_string_pretty(self).map_err(|e| ExperimentError::json(&path, e))?;
        text.push('\n');
        std::fs::write(&path, text).map_err(ExperimentError::file(&path))?;
        let path = out.join("metrics.csv");
        std::fs::write(&path, self.csv()).map_err(ExperimentError::file(&path))
    }

    /// One row a generation and site. Site names hold no comma.
    fn csv(&self) -> String {
        let mut text = String::from("generation,site,central,dice,ece\n");
        let number = |v: Option<&f64>| v.map(ToString::to_string).unwrap_or_default();
        for generation in &self.generations {
            for site in &self.sites {
                text.push_str(&format!(
                    "{},{site},{},{},{}\n",
                    generation.generation,
                    *site == self.central,
                    number(generation.sites.get(site)),
                    number(generation.ece.get(site))
                ));
            }
            text.push_str(&format!(
                "{},mean,false,{},\n",
                generation.generation,
                number(generation.mean_dice.as_ref())
            ));
        }
        text
    }
}

/// The sites but the central one that have a figure in every generation: a mean over sites that come and go would tell
/// who has a figure, not who got better.
pub(crate) fn steady<'a>(
    sites: &[SiteId],
    central: &SiteId,
    generations: impl Iterator<Item = &'a BTreeMap<SiteId, f64>> + Clone,
) -> Vec<SiteId> {
    let everywhere = |site: &&SiteId| generations.clone().all(|figures| figures.contains_key(*site));
    sites.iter().filter(|site| *site != central).filter(everywhere).cloned().collect()
}

/// Mean Dice of some sites, all of which have a figure.
pub(crate) fn mean_of(figures: &BTreeMap<SiteId, f64>, over: &[SiteId]) -> Option<f64> {
    (!over.is_empty()).then(|| over.iter().filter_map(|site| figures.get(site)).sum::<f64>() / over.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_central_site_does_not_count_in_the_mean() {
        let site = |name: &str| name.parse::<SiteId>().unwrap();
        let first = BTreeMap::from([(site("a"), 0.2), (site("b"), 0.4), (site("c"), 0.0), (site("home"), 1.0)]);
        let second = BTreeMap::from([(site("a"), 0.3), (site("b"), 0.5), (site("home"), 1.0)]);
        let all = [site("a"), site("b"), site("c"), site("home")];
        let over = steady(&all, &site("home"), [&first, &second].into_iter());
        assert_eq!(over, [site("a"), site("b")], "c has no figure in the second generation");
        assert!((mean_of(&first, &over).unwrap() - 0.3).abs() < 1e-12);
        assert_eq!(mean_of(&first, &[]), None);
    }

    #[test]
    fn the_documents_keep_their_schema() {
        let metrics = crate::report::sample::metrics();
        let json = serde_json::to_value(&metrics).unwrap();
        assert_eq!(json["schema"], 1);
        for key in ["seed", "plan", "central", "sites", "generations", "patches"] {
            assert!(!json[key].is_null(), "{key} is missing");
        }
        let generation = &json["generations"][0];
        assert!(generation["mean_dice"].is_f64() && generation["sites"]["lakeside"].is_f64());
        let patch = &json["patches"][0];
        for key in ["site", "round", "slide", "x", "y", "score", "mean_uncertainty", "dice_before"] {
            assert!(patch.get(key).is_some(), "{key} is missing");
        }
        let text = serde_json::to_string(&metrics).unwrap();
        assert!(!text.contains("seconds") && !text.contains("/tmp"));
        let again: Metrics = serde_json::from_str(&text).unwrap();
        assert_eq!((again.patches.len(), &again.sites), (metrics.patches.len(), &metrics.sites));
        assert_eq!(metrics.csv().lines().count(), 1 + metrics.generations.len() * (metrics.sites.len() + 1));
    }
}
