//! The rules that choose boxes from candidates, behind one seam: [`choose`].
//!
//! Whatever the rule: boxes of one slide never overlap, no budget is exceeded, and there are as many as fit (nothing
//! that is left out could be added). What a rule leaves open is filled by score. Ties go to the first slide name, then
//! the topmost, then the leftmost; the order in which candidates come never matters, and chance comes from the seed
//! alone. Candidates whose score is no number are left out; the others are different boxes.

mod chance;
mod clasp;
mod class_error;
mod diverse;
mod features;
mod finalists;
mod herding;
mod kmeans;
mod near;
mod noise;
mod pool;
mod power;
mod rule;
mod two_stage;
mod typiclust;

pub(super) use finalists::finalists;
pub use near::leave_out_near;
pub use rule::Rule;

use consilium_common::plan::Acquisition;

use super::describe::Candidate;
use pool::{Pool, Selection};

/// How many boxes may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Of all slides.
    pub total: u32,
    /// Of each slide; no bound without it.
    pub per_slide: Option<u32>,
    /// Boxes of any slide whose features have a smaller cosine distance, `1 - cos`, 0 to 2, are near-duplicates, of
    /// which one is chosen. Boxes without features are never near-duplicates.
    pub min_feature_distance: Option<f64>,
}

impl Budget {
    /// So many boxes, from any slide.
    pub fn of(total: u32) -> Self {
        Self { total, per_slide: None, min_feature_distance: None }
    }

    /// So many boxes, from the slides and as far apart as a plan says.
    pub fn under(settings: &Acquisition, total: u32) -> Self {
        let least = settings.min_feature_distance;
        Self { total, per_slide: settings.per_slide, min_feature_distance: (least > 0.0).then_some(least) }
    }
}

/// When a choice is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn<'a> {
    /// 0 at the first choice of a study and `rounds - 1` at the last; only [`Rule::ClaspPe`] looks at it.
    pub round: u32,
    /// Choices of the study.
    pub rounds: u32,
    /// All chance derives from it; it should name study, site and round.
    pub seed: &'a str,
}

/// Indices of the chosen candidates, in order of choice.
pub fn choose(rule: &Rule, candidates: &[Candidate], budget: &Budget, turn: &Turn<'_>) -> Vec<usize> {
    choose_with_control(rule, candidates, budget, turn, 0.0).0
}

/// The same with control boxes: what the rule chose, and apart from it `round(control_share * budget)` boxes of the
/// budget that were drawn at random from all candidates, before the rule chose, so that they stand for the whole pool.
pub fn choose_with_control(
    rule: &Rule,
    candidates: &[Candidate],
    budget: &Budget,
    turn: &Turn<'_>,
    control_share: f64,
) -> (Vec<usize>, Vec<usize>) {
    let pool = Pool::new(candidates);
    let mut selection = Selection::new(&pool, budget);
    // A share that is no number is 0.
    let control = (control_share.clamp(0.0, 1.0) * f64::from(budget.total)).round() as usize;
    selection.limit(control);
    chance::random(&mut selection, &control_seed(turn.seed));
    let control = selection.taken().len();
    selection.limit(budget.total as usize);
    if selection.wanted() > 0 {
        run(rule, &mut selection, turn);
    }
    selection.take_all(pool.by_score());
    let mut chosen = selection.indices();
    let rest = chosen.split_off(control);
    (rest, chosen)
}

/// From what the control boxes are drawn.
fn control_seed(seed: &str) -> String {
    format!("{seed}/control")
}

fn run(rule: &Rule, selection: &mut Selection<'_>, &Turn { round, rounds, seed }: &Turn<'_>) {
    match *rule {
        Rule::Top => {}
        Rule::Random => chance::random(selection, seed),
        Rule::ForegroundRandom { foreground } => chance::foreground_random(selection, foreground, seed),
        Rule::StochasticBatches { batches } => chance::stochastic_batches(selection, batches, seed),
        Rule::ClaspPe { class_share, beta_first, beta_last } => {
            clasp::clasp_pe(selection, class_share, clasp::beta(beta_first, beta_last, round, rounds), seed);
        }
        Rule::PowerBald { beta } => power::power(selection, beta, seed),
        Rule::SoftRank { beta } => power::soft_rank(selection, beta, seed),
        Rule::KMeans => diverse::k_means_rule(selection, seed),
        Rule::FarthestFirst => diverse::farthest_first(selection),
        Rule::Typiclust { neighbours } => typiclust::typiclust(selection, neighbours as usize, seed),
        Rule::MaxHerding => herding::max_herding(selection, seed),
        Rule::TwoStage { k1, k2 } => two_stage::two_stage(selection, (k1 as usize, k2 as usize), seed),
        Rule::ClassError { ref errors, foreground_weight } => {
            class_error::class_error(selection, errors, foreground_weight, seed);
        }
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;
