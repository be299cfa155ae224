//! Which pictures are learned from, may be asked for, choose the best network, and are tested on, by name: the same lists
//! that MONAI's tutorial keeps.

use serde::{Deserialize, Serialize};

use crate::fields::Field;
use consilium_learning::network::random;

/// Shares of all pictures that are kept for validation and for the test, at least one each.
const VALIDATION: f64 = 0.2;
const TEST: f64 = 0.2;

/// The lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub(super) training: Vec<String>,
    pub(super) unlabeled: Vec<String>,
    pub(super) validation: Vec<String>,
    pub(super) test: Vec<String>,
}

/// Pictures for validation, and for the test, of so many.
fn kept_aside(pictures: usize) -> (usize, usize) {
    let share = |share: f64| ((pictures as f64 * share).round() as usize).max(1);
    (share(VALIDATION), share(TEST))
}

/// The fewest pictures that make an initial pool possible, if there are so many.
pub(super) fn least(pictures: usize, initial: usize) -> usize {
    let (validation, test) = kept_aside(pictures);
    initial.saturating_add(validation + test)
}

impl Pool {
    /// Divides pictures by the seed; so many of those that are neither for validation nor for the test are labelled, or all.
    pub(super) fn divide(fields: &[Field], seed: u64, initial: Option<usize>) -> Self {
        let mut names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
        names.sort_by_cached_key(|name| random::seed(&format!("{seed}/division/{name}")));
        let (validation, test) = kept_aside(names.len());
        let mut rest = names.split_off(test.min(names.len()));
        let test = names;
        let mut training = rest.split_off(validation.min(rest.len()));
        let unlabeled = training.split_off(initial.unwrap_or(usize::MAX).min(training.len()));
        Self { training, unlabeled, validation: rest, test }
    }

    /// Moves what was asked for to what is learned from.
    pub(super) fn take<'a>(&mut self, asked: impl Iterator<Item = &'a str>) {
        for name in asked {
            if let Some(place) = self.unlabeled.iter().position(|other| other == name) {
                self.training.push(self.unlabeled.remove(place));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, RgbImage};

    use super::*;

    #[test]
    fn every_picture_is_in_one_list() {
        let field = |number: usize| Field {
            name: format!("p{number}"),
            stage: None,
            image: RgbImage::new(1, 1),
            labels: GrayImage::new(1, 1),
            tissue: vec![1],
            colour: vec![0],
        };
        let fields: Vec<Field> = (0..10).map(field).collect();
        let mut pool = Pool::divide(&fields, 3, Some(2));
        let counts = |pool: &Pool| [&pool.training, &pool.unlabeled, &pool.validation, &pool.test].map(Vec::len);
        assert_eq!(counts(&pool), [2, 4, 2, 2]);
        let mut all: Vec<&String> =
            [&pool.training, &pool.unlabeled, &pool.validation, &pool.test].into_iter().flatten().collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 10);
        assert_eq!(counts(&Pool::divide(&fields, 3, None)), [6, 0, 2, 2]);
        assert_ne!(Pool::divide(&fields, 4, Some(2)), pool, "another seed divides otherwise");
        let asked = pool.unlabeled[1].clone();
        pool.take([asked.as_str(), "nobody"].into_iter());
        assert_eq!((pool.training[2].as_str(), pool.unlabeled.len()), (asked.as_str(), 3));
    }
}
