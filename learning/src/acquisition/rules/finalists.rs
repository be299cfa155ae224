//! Which candidates of one slide can be among those that a rule chooses from all slides, so that the others need not be
//! kept until all slides are there.

use super::noise::shuffled;
use super::pool::Pool;
use super::{Candidate, Rule, Turn, chance, clasp, control_seed};

/// Places of the candidates, all of one slide, that [`super::choose_with_control`] could take with so many boxes in all,
/// some of them `control` or none, whatever the candidates of other slides: those of each of the rule's queues, in its
/// order. `blocked` is how many candidates a chosen box can overlap, itself included. None of a rule that weighs all
/// candidates against each other.
///
/// A rule takes from queues, each in the order of a key that hangs on the candidate alone, what neither is taken nor
/// overlaps what is. What is passed over on a slide overlaps one of its chosen boxes, and those are no more than the
/// budget; so nothing is taken beyond the first `budget * blocked` of a queue.
pub(in crate::acquisition) fn finalists(
    rule: &Rule,
    candidates: &[Candidate],
    (total, control): (u32, bool),
    blocked: usize,
    turn: &Turn<'_>,
) -> Option<Vec<Vec<usize>>> {
    let pool = Pool::new(candidates);
    let mut queues = match *rule {
        Rule::Top => Vec::new(),
        Rule::Random => vec![shuffled(&pool, turn.seed)],
        Rule::ForegroundRandom { .. } => chance::areas(&pool, turn.seed).into(),
        Rule::ClaspPe { beta_first, beta_last, .. } => {
            clasp::queues(&pool, clasp::beta(beta_first, beta_last, turn.round, turn.rounds), turn.seed)
        }
        _ => return None,
    };
    queues.push(pool.by_score());
    queues.extend(control.then(|| shuffled(&pool, &control_seed(turn.seed))));
    let depth = (total as usize).saturating_mul(blocked);
    let places = |queue: Vec<usize>| queue.into_iter().take(depth).map(|item| pool.place(item)).collect();
    Some(queues.into_iter().map(places).collect())
}
