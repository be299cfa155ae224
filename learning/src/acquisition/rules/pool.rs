//! What every rule shares: candidates in one order, and what may still be chosen.

use std::cmp::Ordering;
use std::ops::Range;

use super::near::is_near;
use super::{Budget, Candidate};

/// How many times the budget the rules look at that take a budget's worth from the best.
const OVERSAMPLED: usize = 2;

/// The candidates by slide, row and column, whatever the order they came in. Rules number them in this order.
pub(super) struct Pool<'a> {
    pub(super) items: Vec<&'a Candidate>,
    /// Where each came.
    index: Vec<usize>,
    /// The run of each slide, and the slide of each item.
    slides: Vec<Range<usize>>,
    slide_of: Vec<usize>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(candidates: &'a [Candidate]) -> Self {
        let mut index: Vec<usize> = (0..candidates.len()).filter(|&i| candidates[i].score.is_finite()).collect();
        index.sort_by(|&a, &b| by_place(&candidates[a], &candidates[b]));
        let items: Vec<&Candidate> = index.iter().map(|&i| &candidates[i]).collect();
        let (mut slides, mut slide_of) = (Vec::<Range<usize>>::new(), Vec::new());
        for i in 0..items.len() {
            match slides.last_mut() {
                Some(run) if items[i].slide == items[run.start].slide => run.end = i + 1,
                _ => slides.push(i..i + 1),
            }
            slide_of.push(slides.len() - 1);
        }
        Self { items, index, slides, slide_of }
    }

    /// Where an item came among the candidates.
    pub(super) fn place(&self, item: usize) -> usize {
        self.index[item]
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Numbers of the items, the highest score first.
    pub(super) fn by_score(&self) -> Vec<usize> {
        descending(&self.items.iter().map(|c| c.score).collect::<Vec<_>>())
    }
}

fn by_place(a: &Candidate, b: &Candidate) -> Ordering {
    let place = |c: &Candidate| (c.patch.y, c.patch.x, c.patch.side);
    a.slide.cmp(&b.slide).then_with(|| place(a).cmp(&place(b))).then_with(|| b.score.total_cmp(&a.score))
}

/// Positions of the keys, the largest first, equal ones as they come; what is no number is last.
pub(super) fn descending(keys: &[f64]) -> Vec<usize> {
    // Adding 0 turns -0 into 0.
    let key = |i: usize| if keys[i].is_nan() { f64::NEG_INFINITY } else { keys[i] + 0.0 };
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
    order
}

/// What is chosen so far, and what may still be.
#[derive(Clone)]
pub(super) struct Selection<'a> {
    pub(super) pool: &'a Pool<'a>,
    limit: usize,
    min_distance: Option<f64>,
    free: Vec<bool>,
    /// How many each slide may still give.
    left: Vec<usize>,
    taken: Vec<usize>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(pool: &'a Pool<'a>, budget: &Budget) -> Self {
        let per_slide = budget.per_slide.map_or(usize::MAX, |most| most as usize);
        Self {
            pool,
            limit: budget.total as usize,
            min_distance: budget.min_feature_distance,
            free: vec![per_slide > 0; pool.len()],
            left: vec![per_slide; pool.slides.len()],
            taken: Vec::new(),
        }
    }

    /// Bounds the number of all that are chosen, earlier ones included.
    pub(super) fn limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many are still to be chosen.
    pub(super) fn wanted(&self) -> usize {
        self.limit.saturating_sub(self.taken.len())
    }

    /// False for what was chosen, or overlaps it, or whose slide has given all it may. What is true may still prove a
    /// near-duplicate when it is taken.
    pub(super) fn is_free(&self, item: usize) -> bool {
        self.free[item]
    }

    /// The free ones of some items.
    pub(super) fn free_of(&self, items: &[usize]) -> Vec<usize> {
        items.iter().copied().filter(|&item| self.free[item]).collect()
    }

    /// The items chosen, in order.
    pub(super) fn taken(&self) -> &[usize] {
        &self.taken
    }

    /// The same as places among the candidates as they came.
    pub(super) fn indices(&self) -> Vec<usize> {
        self.taken.iter().map(|&item| self.pool.place(item)).collect()
    }

    /// Chooses an item, if it may be chosen; after a refusal it is not free.
    pub(super) fn take(&mut self, item: usize) -> bool {
        if self.wanted() == 0 || !self.free[item] {
            return false;
        }
        self.free[item] = false;
        let (chosen, slide) = (self.pool.items[item], self.pool.slide_of[item]);
        let duplicate = |least: f64| {
            self.taken.iter().any(|&other| is_near(&self.pool.items[other].feature, &chosen.feature, least))
        };
        if self.min_distance.is_some_and(duplicate) {
            return false;
        }
        self.taken.push(item);
        self.left[slide] -= 1;
        for other in self.pool.slides[slide].clone() {
            if self.left[slide] == 0 || self.pool.items[other].patch.overlaps(&chosen.patch) {
                self.free[other] = false;
            }
        }
        true
    }

    /// Chooses what may be chosen of some items, in their order.
    pub(super) fn take_all(&mut self, items: impl IntoIterator<Item = usize>) {
        for item in items {
            if self.wanted() == 0 {
                return;
            }
            self.take(item);
        }
    }

    /// Chooses the first that may be chosen of each queue in turn, then the next of each, and so on.
    pub(super) fn take_in_turn(&mut self, queues: &[Vec<usize>]) {
        let mut queues: Vec<_> = queues.iter().map(|queue| queue.iter()).collect();
        while self.wanted() > 0 && !queues.is_empty() {
            queues.retain_mut(|queue| queue.any(|&item| self.take(item)));
        }
    }

    /// The best that could be chosen if twice as many were wanted, of all and of each slide, the best first;
    /// near-duplicates are left for the rule.
    pub(super) fn oversampled(&self) -> Vec<usize> {
        let mut more = self.clone();
        more.limit = self.taken.len() + OVERSAMPLED * self.wanted();
        more.left.iter_mut().for_each(|left| *left = left.saturating_mul(OVERSAMPLED));
        more.min_distance = None;
        more.take_all(self.pool.by_score());
        more.taken.split_off(self.taken.len())
    }
}
