//! Some rows of a finished scan, over the whole width: what scores, figures, outlines and pictures are made from, from the
//! top of a slide to its bottom, so that none of them needs the slide in memory.

/// Consecutive rows of all maps of a scan. Every plane has `rows * width` values, row by row. Outside the tissue that was
/// scanned the label, the uncertainties and the foreground probabilities are 0: background by rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strip {
    /// First row, in pixels at the plan's spacing.
    pub y: u32,
    /// How many rows.
    pub rows: u32,
    /// Pixels in a row.
    pub width: u32,
    /// Most probable class.
    pub labels: Vec<u8>,
    /// 1 where there is tissue and a tile covered it, else 0.
    pub tissue: Vec<u8>,
    /// Colour class of each pixel, see [`super::colour_class`]; white where nothing was read.
    pub colour: Vec<u8>,
    /// UGA's uncertainty, nats.
    pub uncertainty: Vec<f32>,
    /// Entropy of the mean prediction, nats.
    pub entropy: Vec<f32>,
    /// Mean probability of each foreground class, class 1 first.
    pub probabilities: Vec<Vec<f32>>,
}

impl Strip {
    /// Probability of the predicted class of pixel `i`.
    pub fn confidence(&self, i: usize) -> f32 {
        match usize::from(self.labels[i]) {
            0 => 1.0 - self.probabilities.iter().map(|plane| plane[i]).sum::<f32>(),
            class => self.probabilities.get(class - 1).map_or(0.0, |plane| plane[i]),
        }
    }
}
