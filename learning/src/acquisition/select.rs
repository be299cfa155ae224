//! The boxes that a site's pathologist is asked about in a round.

use consilium_common::plan::Acquisition;

use super::candidates::Method;
use super::describe::Candidate;
use super::rules::{Budget, Turn, choose_with_control};

/// What was chosen from all slides of a site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chosen {
    /// To be learned from, in the order of the choice.
    pub patches: Vec<Candidate>,
    /// Drawn at random and kept aside; they count in the budget.
    pub control: Vec<Candidate>,
}

/// At most `settings.budget` boxes from the candidates of all the site's slides, by the plan's rule; none overlaps
/// another. It is the same from [`super::candidates`], those that are sharp if the plan asks for it, and from
/// [`super::shortlist`].
pub fn select(all: &[Candidate], settings: &Acquisition, turn: &Turn<'_>) -> Chosen {
    let budget = Budget::under(settings, settings.budget);
    let rule = Method::of(settings.score).rule;
    let (patches, control) = choose_with_control(&rule, all, &budget, turn, settings.control_share);
    let of = |places: Vec<usize>| places.into_iter().map(|place| all[place].clone()).collect();
    Chosen { patches: of(patches), control: of(control) }
}
