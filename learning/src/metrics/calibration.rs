//! Expected calibration error (Guo et al. 2017, eq. 3) over 15 equal bins of confidence.
//!
//! Confidences are summed as integers of 2^-24, finer than float32 resolves above 0.5, so that the sum is the same in
//! any order. 2^40 pixels fit.

/// Bins of confidence, each open at its lower end and closed at its upper end.
pub const BINS: usize = 15;

const UNIT: f64 = (1u64 << 24) as f64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bin {
    pixels: u64,
    correct: u64,
    /// Sum of confidences in units of 2^-24.
    confidence: u64,
}

/// Confidence against accuracy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    bins: [Bin; BINS],
}

impl Calibration {
    /// Adds one pixel: the probability of the predicted class, and whether it is the true one.
    pub fn add(&mut self, confidence: f32, correct: bool) {
        let confidence = f64::from(confidence).clamp(0.0, 1.0);
        // Between -1 and 14; the cast of a negative number gives 0.
        let index = ((confidence * BINS as f64).ceil() - 1.0) as usize;
        let bin = &mut self.bins[index.min(BINS - 1)];
        bin.pixels += 1;
        bin.correct += u64::from(correct);
        bin.confidence += (confidence * UNIT).round() as u64;
    }

    /// Adds the pixels of another.
    pub fn merge(&mut self, other: &Self) {
        for (bin, more) in self.bins.iter_mut().zip(&other.bins) {
            bin.pixels += more.pixels;
            bin.correct += more.correct;
            bin.confidence += more.confidence;
        }
    }

    /// Pixels in all bins.
    pub fn pixels(&self) -> u64 {
        self.bins.iter().map(|bin| bin.pixels).sum()
    }

    /// Pixels, mean confidence and accuracy of each bin that has pixels, lowest confidence first: a reliability diagram.
    pub fn diagram(&self) -> Vec<(u64, f64, f64)> {
        let filled = self.bins.iter().filter(|bin| bin.pixels > 0);
        filled
            .map(|bin| {
                let pixels = bin.pixels as f64;
                (bin.pixels, bin.confidence as f64 / UNIT / pixels, bin.correct as f64 / pixels)
            })
            .collect()
    }

    /// Mean over pixels of the gap between accuracy and mean confidence of their bin; `None` without pixels.
    pub fn ece(&self) -> Option<f64> {
        let all = self.pixels();
        let gap = |&(pixels, confidence, accuracy): &(u64, f64, f64)| pixels as f64 * (accuracy - confidence).abs();
        (all > 0).then(|| self.diagram().iter().map(gap).sum::<f64>() / all as f64)
    }
}
