//! Sums over boxes by prefix sums (Crow 1984), one strip of rows at a time: memory grows with the width only.

/// Sums of a value over any columns of one strip of rows.
#[derive(Clone, Debug)]
pub(super) struct StripSums {
    /// `[x]` = sum over the strip's columns before x, once it is closed; before that, `[x + 1]` = sum of column x.
    before: Vec<f64>,
}

impl StripSums {
    /// Of no rows yet.
    pub(super) fn new(width: usize) -> Self {
        Self { before: vec![0.0; width + 1] }
    }

    /// Adds rows; `value(index)` is that of a pixel.
    pub(super) fn add(&mut self, rows: usize, value: impl Fn(usize) -> f64) {
        let width = self.before.len() - 1;
        for row in 0..rows {
            for (x, sum) in self.before[1..].iter_mut().enumerate() {
                *sum += value(row * width + x);
            }
        }
    }

    /// All rows are there: sums can be asked for.
    pub(super) fn closed(mut self) -> Self {
        for x in 1..self.before.len() {
            self.before[x] += self.before[x - 1];
        }
        self
    }

    /// The sum over columns `x .. x + columns`.
    pub(super) fn sum(&self, x: usize, columns: usize) -> f64 {
        self.before[x + columns] - self.before[x]
    }
}
