//! How 8-bit pixels become network input.

/// What is taken from each channel, and what the rest is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputScale {
    /// Of red, green and blue, 0 to 255.
    pub mean: [f32; 3],
    /// Of red, green and blue, above 0.
    pub deviation: [f32; 3],
}

impl InputScale {
    /// Divides by 255.
    pub const RGB_TO_01: Self = Self { mean: [0.0; 3], deviation: [255.0; 3] };

    /// Input values of the pixel values 0 to 255 of each channel.
    pub fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 - self.mean[c]) / self.deviation[c]))
    }

    /// The pixel whose input is nearest to zero.
    pub fn zero(&self) -> [u8; 3] {
        // Means of pixels lie within 0 to 255.
        self.mean.map(|mean| mean.round() as u8)
    }
}
