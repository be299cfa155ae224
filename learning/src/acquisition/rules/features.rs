//! Feature vectors as points of one space.

/// Points of the same number of coordinates.
#[derive(Clone, Debug)]
pub(super) struct Points {
    dimensions: usize,
    values: Vec<f64>,
}

impl Points {
    /// `None` where a vector is empty, has another length than the first or holds what is no number.
    pub(super) fn of<'a>(vectors: impl IntoIterator<Item = &'a [f32]>) -> Option<Self> {
        let (mut dimensions, mut values) = (0, Vec::new());
        for vector in vectors {
            if values.is_empty() {
                dimensions = vector.len();
            }
            if vector.is_empty() || vector.len() != dimensions || vector.iter().any(|v| !v.is_finite()) {
                return None;
            }
            values.extend(vector.iter().map(|&v| f64::from(v)));
        }
        (dimensions > 0).then_some(Self { dimensions, values })
    }

    /// No point yet.
    pub(super) fn none(dimensions: usize) -> Self {
        Self { dimensions, values: Vec::new() }
    }

    pub(super) fn push(&mut self, point: &[f64]) {
        self.values.extend_from_slice(point);
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(super) fn len(&self) -> usize {
        self.values.len() / self.dimensions
    }

    pub(super) fn row(&self, point: usize) -> &[f64] {
        &self.values[point * self.dimensions..][..self.dimensions]
    }

    pub(super) fn row_mut(&mut self, point: usize) -> &mut [f64] {
        &mut self.values[point * self.dimensions..][..self.dimensions]
    }

    /// Some of the points.
    pub(super) fn pick(&self, points: &[usize]) -> Self {
        let values = points.iter().flat_map(|&point| self.row(point)).copied().collect();
        Self { dimensions: self.dimensions, values }
    }

    /// The mean of some of the points; the origin for none.
    pub(super) fn mean(&self, points: &[usize]) -> Vec<f64> {
        let mut mean = vec![0.0; self.dimensions];
        for &point in points {
            mean.iter_mut().zip(self.row(point)).for_each(|(sum, v)| *sum += v);
        }
        mean.iter_mut().for_each(|sum| *sum /= points.len().max(1) as f64);
        mean
    }

    /// Every coordinate with mean 0 and population standard deviation 1; one that is the same everywhere becomes 0.
    pub(super) fn standardised(mut self) -> Self {
        let (count, dimensions) = (self.len() as f64, self.dimensions);
        for column in 0..dimensions {
            let values = || self.values.iter().skip(column).step_by(dimensions);
            let mean = values().sum::<f64>() / count;
            let deviation = (values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count).sqrt();
            // Rounding leaves a constant column a little away from its mean.
            let scale = if deviation > 1e-12 * mean.abs() { 1.0 / deviation } else { 0.0 };
            self.values.iter_mut().skip(column).step_by(dimensions).for_each(|v| *v = (*v - mean) * scale);
        }
        self
    }

    /// Every point with length 1; the origin stays.
    pub(super) fn unit_length(mut self) -> Self {
        for point in self.values.chunks_exact_mut(self.dimensions) {
            let length = point.iter().map(|v| v * v).sum::<f64>().sqrt();
            if length > 0.0 {
                point.iter_mut().for_each(|v| *v /= length);
            }
        }
        self
    }
}

/// Squared Euclidean distance, in four sums at a time.
pub(super) fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        for i in 0..4 {
            sums[i] += (a[i] - b[i]) * (a[i] - b[i]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b)).sum();
    sums.iter().sum::<f64>() + rest
}

/// Euclidean distance.
pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
    squared_distance(a, b).sqrt()
}

/// `1 - cos` of the angle between two vectors; `None` where they differ in length or one is 0 or empty.
pub(super) fn cosine_distance(a: &[f32], b: &[f32]) -> Option<f64> {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let lengths = (product(a, a) * product(b, b)).sqrt();
    (a.len() == b.len() && lengths > 0.0).then(|| 1.0 - product(a, b) / lengths)
}
