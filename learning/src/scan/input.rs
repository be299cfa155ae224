//! The normalisation of a slide: nothing to measure where pixels are divided by 255, else the mean and the standard
//! deviation of each channel over the whole slide, as nnU-Net takes them of the whole image.

use consilium_common::Mpp;
use consilium_common::bundle::Normalisation;

use super::ScanError;
use crate::network::InputScale;
use crate::slides::{SlideReader, read_at, size_at};

/// Pixels that are measured at most; a larger slide is read at a coarser spacing, whose mean is the same and whose
/// deviation is a little lower.
const MOST_PX: u64 = 1 << 26;
/// Rows that are read at once.
const ROWS: u32 = 256;
/// nnU-Net's floor of a standard deviation.
const LEAST_DEVIATION: f64 = 1e-8;

/// The normalisation of a slide at a spacing.
///
/// # Errors
/// The slide cannot be read.
pub fn scale_of(slide: &dyn SlideReader, spacing: Mpp, how: Normalisation) -> Result<InputScale, ScanError> {
    match how {
        Normalisation::RgbTo01 => Ok(InputScale::RGB_TO_01),
        Normalisation::ZScore => z_score(slide, spacing),
    }
}

fn z_score(slide: &dyn SlideReader, spacing: Mpp) -> Result<InputScale, ScanError> {
    let pixels = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
    let mut coarser = spacing;
    while pixels(size_at(slide, coarser)) > MOST_PX {
        let Ok(next) = Mpp::new(coarser.um_per_px() * 2.0) else { break };
        coarser = next;
    }
    let (width, height) = size_at(slide, coarser);
    // Counts of the values of each channel: exact, whatever the size.
    let mut counts = [[0u64; 256]; 3];
    for y in (0..height).step_by(ROWS as usize) {
        let strip = read_at(slide, coarser, 0, i64::from(y), width, ROWS.min(height - y))?;
        for pixel in strip.pixels() {
            for (counts, &value) in counts.iter_mut().zip(&pixel.0) {
                counts[usize::from(value)] += 1;
            }
        }
    }
    let (mut mean, mut deviation) = ([0.0; 3], [1.0; 3]);
    for (c, counts) in counts.iter().enumerate() {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let expect = |f: &dyn Fn(f64) -> f64| {
            counts.iter().enumerate().map(|(value, &count)| f(value as f64) * count as f64).sum::<f64>() / total
        };
        let centre = expect(&|value| value);
        let variance = expect(&|value| (value - centre) * (value - centre));
        (mean[c], deviation[c]) = (centre as f32, variance.sqrt().max(LEAST_DEVIATION) as f32);
    }
    Ok(InputScale { mean, deviation, shown: None })
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::slides::FlatSlide;

    #[test]
    fn mean_and_deviation_of_every_channel() {
        let spacing = Mpp::new(0.5).unwrap();
        // Red 0 and 200 by columns, green constant, blue 10, 20, 30 by rows.
        let picture = RgbImage::from_fn(4, 600, |x, y| Rgb([(x % 2 * 200) as u8, 77, (10 + y % 3 * 10) as u8]));
        let slide = FlatSlide::new(picture, spacing);
        let scale = scale_of(&slide, spacing, Normalisation::ZScore).unwrap();
        assert_eq!(scale.mean, [100.0, 77.0, 20.0]);
        assert_eq!(scale.deviation[0], 100.0);
        assert!((f64::from(scale.deviation[2]) - (200.0f64 / 3.0).sqrt()).abs() < 1e-6);
        let tables = scale.tables();
        assert_eq!((tables[0][200], tables[1][77], tables[2][20]), (1.0, 0.0, 0.0), "a constant channel is zero");
        assert_eq!(scale_of(&slide, spacing, Normalisation::RgbTo01).unwrap().tables()[0][51], 0.2);
    }
}
