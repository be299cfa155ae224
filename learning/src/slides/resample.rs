//! Resampling by area: an output pixel is the mean of the source area that it covers (bilinear when enlarging).
//!
//! Weights depend only on the absolute position of a pixel, and sums run in a fixed order, so any region has the same
//! bytes as the same part of a larger one, on every machine.

use std::ops::Range;

use image::RgbImage;

/// The source pixels that make one output pixel: consecutive, with weights that sum to 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taps {
    pub(super) first: u32,
    pub(super) weights: Vec<f32>,
}

/// Weights of the output positions `out`, each `ratio` source pixels wide, over a source of `side` pixels.
pub(super) fn taps(out: Range<u32>, ratio: f64, side: u32) -> Vec<Taps> {
    out.map(|index| if ratio >= 1.0 { area(index, ratio, side) } else { linear(index, ratio, side) }).collect()
}

fn area(index: u32, ratio: f64, side: u32) -> Taps {
    let start = (f64::from(index) * ratio).min(f64::from(side) - 1.0);
    let end = (f64::from(index + 1) * ratio).min(f64::from(side));
    let first = start.floor() as u32;
    let last = (end.ceil() as u32).clamp(first + 1, side);
    let overlap = |at: u32| f64::from(at + 1).min(end) - f64::from(at).max(start);
    let total = end - start;
    let weights = (first..last).map(|at| (overlap(at).max(0.0) / total) as f32).collect();
    Taps { first, weights }
}

fn linear(index: u32, ratio: f64, side: u32) -> Taps {
    // Pixel centres lie at one half, in the source as in the output.
    let centre = ((f64::from(index) + 0.5) * ratio - 0.5).clamp(0.0, f64::from(side) - 1.0);
    let first = (centre.floor() as u32).min(side.saturating_sub(2));
    let second = centre - f64::from(first);
    let weights = if side == 1 { vec![1.0] } else { vec![(1.0 - second) as f32, second as f32] };
    Taps { first, weights }
}

/// The source range that some consecutive taps need.
pub(super) fn span(taps: &[Taps]) -> Range<u32> {
    let first = taps.iter().map(|t| t.first).min().unwrap_or(0);
    let last = taps.iter().map(|t| t.first + t.weights.len() as u32).max().unwrap_or(0);
    first..last
}

/// Applies the taps to a source image whose top-left pixel is at `origin` in the taps' coordinates.
pub(super) fn resample(source: &RgbImage, origin: (u32, u32), columns: &[Taps], rows: &[Taps]) -> RgbImage {
    let stride = source.width() as usize * 3;
    let bytes = source.as_raw();
    let mut line = vec![0f32; stride];
    let mut out = Vec::with_capacity(columns.len() * rows.len() * 3);
    for row in rows {
        line.fill(0.0);
        for (k, &weight) in row.weights.iter().enumerate() {
            let start = ((row.first - origin.1) as usize + k) * stride;
            for (sum, &value) in line.iter_mut().zip(&bytes[start..start + stride]) {
                *sum += weight * f32::from(value);
            }
        }
        for column in columns {
            let start = (column.first - origin.0) as usize * 3;
            let mut rgb = [0f32; 3];
            for (&weight, pixel) in column.weights.iter().zip(line[start..].chunks_exact(3)) {
                for (sum, &value) in rgb.iter_mut().zip(pixel) {
                    *sum += weight * value;
                }
            }
            out.extend(rgb.map(|value| (value + 0.5) as u8));
        }
    }
    let (width, height) = (columns.len() as u32, rows.len() as u32);
    RgbImage::from_raw(width, height, out).unwrap_or_else(|| RgbImage::new(width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_cover_the_area_exactly() {
        assert_eq!(taps(3..4, 2.0, 100), [Taps { first: 6, weights: vec![0.5, 0.5] }]);
        assert_eq!(taps(1..2, 1.5, 100), [Taps { first: 1, weights: vec![1.0 / 3.0, 2.0 / 3.0] }]);
        assert_eq!(taps(0..1, 1.0, 1), [Taps { first: 0, weights: vec![1.0] }]);
        for ratio in [0.3, 0.99, 1.0, 1.01, 2.0, 2.34, 7.7] {
            let count = (100.0 / ratio) as u32;
            for tap in taps(0..count, ratio, 100) {
                let sum: f32 = tap.weights.iter().sum();
                assert!((sum - 1.0).abs() < 1e-5 && tap.first + tap.weights.len() as u32 <= 100, "{ratio}: {tap:?}");
            }
        }
    }

    #[test]
    fn a_ramp_keeps_its_position() {
        let ramp = RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x * 4) as u8, (y * 4) as u8, 128]));
        let weights = taps(0..32, 2.0, 64);
        let half = resample(&ramp, (0, 0), &weights, &weights);
        // The mean of columns 2i and 2i+1 lies at 2i + 0.5: no shift.
        assert!(half.enumerate_pixels().all(|(x, y, p)| p.0 == [(x * 8 + 2) as u8, (y * 8 + 2) as u8, 128]));
        let weights = taps(0..128, 0.5, 64);
        let double = resample(&ramp, (0, 0), &weights, &weights);
        for x in 1..127u32 {
            let centre = (f64::from(x) + 0.5) / 2.0 - 0.5;
            assert!((f64::from(double.get_pixel(x, 9).0[0]) - centre * 4.0).abs() <= 0.5, "column {x}");
        }
    }
}
