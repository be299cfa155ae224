//! The rules by name, with their parameters and where they were published.

/// Which candidates are chosen. `score` is that of the candidate, whatever map and aggregation made it.
///
/// Rules that need features choose by score, as [`Rule::Top`], where a candidate has none or they differ in length.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Rule {
    /// The highest score.
    #[default]
    Top,
    /// Uniformly at random.
    Random,
    /// Random with a bias to what is predicted to be foreground (nnActive, arXiv 2511.19183): each time an area is
    /// drawn, then a box: with half the share each, in proportion to its foreground or to its border, otherwise
    /// uniformly.
    ForegroundRandom {
        /// Share of draws from the foreground and from its border together: 2/3 draws equally from the three areas,
        /// 1/3 is nnActive's other variant.
        foreground: f64,
    },
    /// Class-stratified scheduled power predictive entropy (ClaSP PE, arXiv 2601.13677). A share of the budget goes in
    /// equal parts to the foreground classes, each by its class score, the rest by the mean entropy, each score x as
    /// `ln x + Gumbel(0, 1/beta)`, where beta goes from first to last exponentially over the rounds.
    ClaspPe {
        /// Share of the budget, rounded down, that is divided among the classes.
        class_share: f64,
        /// In the first round.
        beta_first: f64,
        /// In the last round.
        beta_last: f64,
    },
    /// The highest `ln(score) + Gumbel(0, 1/beta)` (Kirsch et al. 2023).
    PowerBald {
        /// The larger, the closer to [`Rule::Top`].
        beta: f64,
    },
    /// The highest `-ln(rank) + Gumbel(0, 1/beta)` of the twice as many best (Kirsch et al. 2023).
    SoftRank {
        /// The larger, the closer to [`Rule::Top`].
        beta: f64,
    },
    /// Of random selections the one with the highest mean score (Gaillochet et al. 2023).
    StochasticBatches {
        /// How many are drawn; at least one.
        batches: u32,
    },
    /// The best of each cluster (k-means, as many as boxes are wanted) of the twice as many best, in standardised features
    /// (Zhdanov 2019, "Diverse mini-batch Active Learning", without its weights); needs features.
    KMeans,
    /// Of the twice as many best the first, and each time the one farthest from all chosen, in standardised features
    /// (Gonzalez 1985; nnActive's KMeansBALD draws in proportion to squared
    /// distance instead); needs features.
    FarthestFirst,
    /// The most typical of each cluster, the largest clusters first (Hacohen et al. 2022); needs features, not scores.
    Typiclust {
        /// Nearest neighbours that typicality looks at.
        neighbours: u32,
    },
    /// Each time the box that adds most to the coverage of all candidates under a Gaussian kernel as wide as the median
    /// distance (Bae et al. 2024); needs features, not scores.
    MaxHerding,
    /// Of each cluster the box that stands best for it and is most alike in itself (Lou et al. 2022); needs features
    /// and those of the quarters, not scores.
    TwoStage {
        /// Clusters of boxes.
        k1: u32,
        /// Clusters of quarters in each.
        k2: u32,
    },
    /// At random, from each class in proportion to its errors on validation (Fuster et al. 2023). The class of a box is
    /// that with the largest predicted area, where that of a foreground class counts `foreground_weight` times; a tie
    /// goes to the higher class.
    ClassError {
        /// Misclassified samples of each true class, background first; where there is none, classes share equally.
        errors: Vec<u64>,
        /// 10 makes a box one of tumour from 1/11 of tumour on, if the rest is background.
        foreground_weight: f64,
    },
}

impl Rule {
    /// True where the rule looks at [`super::Candidate::feature`].
    pub fn needs_features(&self) -> bool {
        matches!(
            self,
            Self::KMeans | Self::FarthestFirst | Self::Typiclust { .. } | Self::MaxHerding | Self::TwoStage { .. }
        )
    }
}
