//! Sums over boxes by prefix sums (Crow 1984), one strip of rows at a time: memory grows with the width only.

/// Sums of a value over any columns of one strip of rows.
pub(super) struct StripSums {
    /// `[x]` = sum over the strip's columns before x.
    before: Vec<f64>,
}

impl StripSums {
    /// Of rows `y .. y + rows` of an image of this width; `value(index)` is that of a pixel.
    pub(super) fn of(width: usize, y: usize, rows: usize, value: impl Fn(usize) -> f64) -> Self {
        let mut before = vec![0.0; width + 1];
        for row in y..y + rows {
            let start = row * width;
            for (x, sum) in before[1..].iter_mut().enumerate() {
                *sum += value(start + x);
            }
        }
        for x in 0..width {
            before[x + 1] += before[x];
        }
        Self { before }
    }

    /// The sum over columns `x .. x + columns`.
    pub(super) fn sum(&self, x: usize, columns: usize) -> f64 {
        self.before[x + columns] - self.before[x]
    }
}
