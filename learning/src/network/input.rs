//! How 8-bit pixels become network input.

use consilium_common::bundle::Padding;
use image::RgbImage;

/// A part of a tile, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// What is taken from each channel, and what the rest is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputScale {
    /// Of red, green and blue, 0 to 255.
    pub mean: [f32; 3],
    /// Of red, green and blue, above 0.
    pub deviation: [f32; 3],
    /// The part of every tile that shows the slide, where what lies around it is zero; none where all counts as it is.
    pub shown: Option<Shown>,
}

impl InputScale {
    /// Divides by 255.
    pub const RGB_TO_01: Self = Self { mean: [0.0; 3], deviation: [255.0; 3], shown: None };

    /// Input values of the pixel values 0 to 255 of each channel.
    pub fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 - self.mean[c]) / self.deviation[c]))
    }

    /// The input of what lies beyond a tile's own edges.
    pub(crate) fn beyond(&self, padding: Padding) -> [f32; 3] {
        match padding {
            Padding::White => self.tables().map(|table| table[255]),
            Padding::Zero => [0.0; 3],
        }
    }

    /// Writes a tile as planes `[3, height, width]` of a size that is at least its own; what the size has more, at the right
    /// and at the bottom, is `beyond`.
    pub(crate) fn fill(&self, tile: &RgbImage, (width, height): (usize, usize), beyond: [f32; 3], planes: &mut [f32]) {
        let (tables, (columns, rows)) = (self.tables(), tile.dimensions());
        let all = Shown { x: 0, y: 0, width: columns, height: rows };
        let shown = self.shown.unwrap_or(all);
        for (c, plane) in planes.chunks_exact_mut(width * height).take(3).enumerate() {
            for (y, line) in (0u32..).zip(plane.chunks_exact_mut(width)) {
                let inside = shown.y <= y && y < (shown.y + shown.height).min(rows);
                line.fill(if self.shown.is_some() { 0.0 } else { beyond[c] });
                if inside {
                    let row = &tile.as_raw()[3 * (y * columns) as usize..][..3 * columns as usize];
                    let (first, last) = (shown.x.min(columns) as usize, (shown.x + shown.width).min(columns) as usize);
                    for (to, rgb) in line[first..last].iter_mut().zip(row.chunks_exact(3).skip(first)) {
                        *to = tables[c][usize::from(rgb[c])];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn what_lies_around_the_slide_is_zero_or_what_it_is() {
        let tile = RgbImage::from_fn(4, 3, |x, y| Rgb([(10 * x + y) as u8, 0, 255]));
        let mut planes = vec![9.0; 3 * 5 * 4];
        let scale = InputScale { mean: [1.0, 1.0, 1.0], deviation: [2.0, 1.0, 127.0], shown: None };
        scale.fill(&tile, (5, 4), [7.0, 8.0, 6.0], &mut planes);
        assert_eq!(planes[..5], [-0.5, 4.5, 9.5, 14.5, 7.0]);
        assert_eq!((planes[15..20].to_vec(), planes[20], planes[40]), (vec![7.0; 5], -1.0, 2.0));
        let shown = Some(Shown { x: 1, y: 1, width: 2, height: 9 });
        InputScale { shown, ..scale }.fill(&tile, (5, 4), [7.0, 8.0, 6.0], &mut planes);
        assert_eq!(planes[..15], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 10.0, 0.0, 0.0, 0.0, 5.5, 10.5, 0.0, 0.0]);
    }
}
