//! Pixels by true and predicted class.

/// Counts of labelled pixels by true and predicted class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `[truth * classes + prediction]`.
    counts: Vec<u64>,
}

impl Confusion {
    /// Of no pixels yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Classes, background included.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Adds pixels. A true value that is not a class, such as 255 for "not labelled", does not count.
    pub fn add(&mut self, prediction: &[u8], truth: &[u8]) {
        for (&p, &t) in prediction.iter().zip(truth) {
            let (p, t) = (usize::from(p), usize::from(t));
            if t < self.classes && p < self.classes {
                self.counts[t * self.classes + p] += 1;
            }
        }
    }

    /// Adds the counts of another comparison of the same classes.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.classes, other.classes);
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
    }

    /// Labelled pixels.
    pub fn pixels(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Pixels of a true class with a predicted class; 0 for a class that is not one.
    pub fn count(&self, truth: usize, prediction: usize) -> u64 {
        if truth < self.classes && prediction < self.classes {
            self.counts[truth * self.classes + prediction]
        } else {
            0
        }
    }

    /// Pixels of the class that were predicted as such.
    pub fn true_positives(&self, class: usize) -> u64 {
        self.count(class, class)
    }

    /// Pixels that were predicted as the class and are of another.
    pub fn false_positives(&self, class: usize) -> u64 {
        (0..self.classes).filter(|&truth| truth != class).map(|truth| self.count(truth, class)).sum()
    }

    /// Pixels of the class that were predicted as another.
    pub fn false_negatives(&self, class: usize) -> u64 {
        (0..self.classes)
            .filter(|&prediction| prediction != class)
            .map(|prediction| self.count(class, prediction))
            .sum()
    }

    /// `2 TP / (2 TP + FP + FN)`; `None` for a class that is in neither prediction nor truth.
    pub fn dice(&self, class: usize) -> Option<f64> {
        let hit = 2 * self.true_positives(class);
        let all = hit + self.false_positives(class) + self.false_negatives(class);
        (all > 0).then(|| hit as f64 / all as f64)
    }

    /// Dice of each foreground class, class 1 first.
    pub fn foreground_dice(&self) -> Vec<Option<f64>> {
        (1..self.classes).map(|class| self.dice(class)).collect()
    }

    /// Mean over the foreground classes that have a Dice; `None` if none has.
    pub fn mean_foreground_dice(&self) -> Option<f64> {
        let present: Vec<f64> = self.foreground_dice().into_iter().flatten().collect();
        (!present.is_empty()).then(|| present.iter().sum::<f64>() / present.len() as f64)
    }
}
