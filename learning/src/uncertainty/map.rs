//! A float value a pixel, and UGA's 8-bit form of it.

use image::GrayImage;

/// UGA stores uncertainty in 8 bits; this many nats are white. Entropy alone reaches `ln classes`, so most of the range
/// is for disagreement between members.
pub const QUANTISATION_NATS: f32 = 4.0;

/// UGA's 8-bit value: `int(clip(u, 0, 4) / 4 * 255)`, truncated as there.
pub fn quantise(nats: f32) -> u8 {
    // The range is exactly 0 to 255, so the cast only truncates; NaN becomes 0.
    (nats.clamp(0.0, QUANTISATION_NATS) / QUANTISATION_NATS * 255.0) as u8
}

/// A float value a pixel, rows from the top, at the plan's spacing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width * height` values, row by row.
    pub data: Vec<f32>,
}

impl Map {
    /// A map of one value everywhere.
    pub fn filled(width: u32, height: u32, value: f32) -> Self {
        Self { width, height, data: vec![value; width as usize * height as usize] }
    }

    /// One row.
    ///
    /// # Panics
    /// If the row is not in the map.
    pub fn row(&self, y: u32) -> &[f32] {
        let width = self.width as usize;
        &self.data[y as usize * width..][..width]
    }

    /// The part inside a box; what lies outside the map is left out.
    #[must_use]
    pub fn crop(&self, x: u32, y: u32, width: u32, height: u32) -> Self {
        let (x, y) = (x.min(self.width), y.min(self.height));
        let (width, height) = (width.min(self.width - x), height.min(self.height - y));
        let mut data = Vec::with_capacity(width as usize * height as usize);
        for row in y..y + height {
            data.extend_from_slice(&self.row(row)[x as usize..][..width as usize]);
        }
        Self { width, height, data }
    }

    /// UGA's 8-bit map.
    pub fn to_gray8(&self) -> GrayImage {
        let mut image = GrayImage::new(self.width, self.height);
        for (pixel, &nats) in image.iter_mut().zip(&self.data) {
            *pixel = quantise(nats);
        }
        image
    }
}
