//! The threshold between glass and tissue, and the shape of what lies above it.
//!
//! Decided for the slide, never inside a tile: Otsu alone would cut a field that is all tissue into nuclei and rest.
//! So Otsu's threshold counts only between two absolute ones, which the sensitivity moves.

use std::ops::RangeInclusive;

use image::GrayImage;

use super::Sensitivity;
use super::components::{fill_holes, remove_specks};
use super::morphology::closed;
use super::pen;
use super::read::{Grid, Planes};

/// Glass is never taken to be darker than this, or a slide without glass would lose its palest tissue.
const DARKEST_GLASS: u8 = 225;
/// Share of pixels brighter than the glass: dust that shines.
const BRIGHTER_THAN_GLASS: f64 = 0.005;
/// Glass that is this bright cannot be told from white that stands for what was never scanned.
const BRIGHTEST_GLASS: u8 = 250;
/// Grey levels of the glass of one slide: noise, compression and shading.
const SPREAD_OF_GLASS: u8 = 8;
/// Gaps up to twice this wide are closed: fat vacuoles and tears inside tissue.
const CLOSING_UM: f64 = 12.0;
/// Smaller specks are dust.
const SPECK_UM2: f64 = 2_500.0;
/// Smaller holes belong to the tissue.
const HOLE_UM2: f64 = 10_000.0;

/// What was found on a slide.
pub(super) struct Outcome {
    pub(super) grid: Grid,
    pub(super) mask: GrayImage,
    /// The darkest channel of glass.
    pub(super) glass: u8,
    /// How much darker than glass tissue is at least.
    pub(super) threshold: u8,
    /// Pixels that are pen.
    pub(super) pen_pixels: u64,
}

/// The tissue: pen out, threshold, specks out, closing, holes in, pen out again.
pub(super) fn find(planes: Planes, sensitivity: Sensitivity, exclude_pen: bool) -> Outcome {
    let grid = planes.grid;
    let glass = brightness_of_glass(&histogram(planes.darkest.iter().copied()));
    let pen = if exclude_pen { pen::find(&planes, glass) } else { None };
    let is_pen = |index: usize| pen.as_ref().is_some_and(|pen| pen.as_raw()[index] != 0);
    let free = |(index, &value): (usize, &u8)| (!is_pen(index)).then_some(glass.saturating_sub(value));
    let (surely_glass, surely_tissue) = bounds(sensitivity);
    let otsu = otsu(&histogram(planes.darkest.iter().enumerate().filter_map(free)));
    let threshold = otsu.clamp(surely_glass, surely_tissue);
    let above = planes.darkest.iter().enumerate().map(|at| u8::from(free(at).is_some_and(|v| v > threshold))).collect();
    drop(planes);
    let mut mask = image_of(grid, above);
    remove_specks(&mut mask, grid.pixels(SPECK_UM2));
    mask = closed(&mask, grid.length(CLOSING_UM));
    fill_holes(&mut mask, grid.pixels(HOLE_UM2));
    let mut pen_pixels = 0;
    for (tissue, pen) in mask.as_mut().iter_mut().zip(pen.iter().flat_map(|pen| pen.as_raw())) {
        pen_pixels += u64::from(*pen);
        *tissue &= 1 - pen;
    }
    Outcome { grid, mask, glass, threshold, pen_pixels }
}

/// Whatever is less darker than glass than the first is glass (noise and compression), whatever is more darker than the
/// second is tissue, whatever Otsu says between them.
fn bounds(sensitivity: Sensitivity) -> (u8, u8) {
    match sensitivity {
        Sensitivity::Low => (20, 45),
        Sensitivity::Normal => (10, 25),
        Sensitivity::High => (4, 6),
    }
}

/// A mask of the grid's size.
pub(super) fn image_of(grid: Grid, values: Vec<u8>) -> GrayImage {
    GrayImage::from_raw(grid.width, grid.height, values).unwrap_or_else(|| GrayImage::new(grid.width, grid.height))
}

fn histogram(values: impl Iterator<Item = u8>) -> [u64; 256] {
    let mut counts = [0u64; 256];
    values.for_each(|value| counts[usize::from(value)] += 1);
    counts
}

/// The darkest channel of glass: the brightest there is, but for a few shining pixels and for white that was never
/// scanned.
fn brightness_of_glass(histogram: &[u64; 256]) -> u8 {
    let total: u64 = histogram.iter().sum();
    let shining = (total as f64 * BRIGHTER_THAN_GLASS) as u64;
    match brightest(histogram, DARKEST_GLASS..=255, shining) {
        Some(255) => scanned_glass(histogram).unwrap_or(255),
        found => found.unwrap_or(DARKEST_GLASS),
    }
}

/// The brightest value of a range, but for so many pixels.
fn brightest(histogram: &[u64; 256], values: RangeInclusive<u8>, mut brighter: u64) -> Option<u8> {
    for value in values.rev() {
        let count = histogram[usize::from(value)];
        if count > brighter {
            return Some(value);
        }
        brighter -= count;
    }
    None
}

/// Glass beside exact white, where the histogram has two peaks with a valley between them. Around saturated glass there is
/// no valley: the edges of tissue and fat fill it.
fn scanned_glass(histogram: &[u64; 256]) -> Option<u8> {
    let sum = |from: u8, to: u8| histogram[usize::from(from)..=usize::from(to)].iter().sum::<u64>();
    let window = |top: u8| sum(top - SPREAD_OF_GLASS, top);
    // The lowest of equal ones, less a twentieth: what is brighter is the rim where both colours mix.
    let top = (DARKEST_GLASS..=BRIGHTEST_GLASS).rev().max_by_key(|&top| window(top))?;
    let valley = sum(BRIGHTEST_GLASS + 1, 254);
    let is_peak = window(top) * 5 >= sum(0, BRIGHTEST_GLASS) && valley * 4 <= window(top);
    brightest(histogram, top - SPREAD_OF_GLASS..=top, window(top) / 20).filter(|_| is_peak)
}

/// Otsu 1979: the threshold that maximises the variance between the two classes; values above it are the upper class.
fn otsu(histogram: &[u64; 256]) -> u8 {
    let total: f64 = histogram.iter().map(|&n| n as f64).sum();
    let sum: f64 = histogram.iter().enumerate().map(|(v, &n)| v as f64 * n as f64).sum();
    let (mut below, mut sum_below, mut best, mut threshold) = (0.0, 0.0, 0.0, 0u8);
    for (value, &count) in (0u8..=255).zip(histogram) {
        below += count as f64;
        sum_below += f64::from(value) * count as f64;
        let above = total - below;
        if below == 0.0 || above == 0.0 {
            continue;
        }
        let difference = sum_below / below - (sum - sum_below) / above;
        let variance = below * above * difference * difference;
        if variance > best {
            (best, threshold) = (variance, value);
        }
    }
    threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn otsu_separates_two_groups() {
        let mut histogram = [0u64; 256];
        (40..60).for_each(|v| histogram[v] = 100);
        (180..220).for_each(|v| histogram[v] = 30);
        assert!((59..180).contains(&otsu(&histogram)));
    }

    #[test]
    fn a_few_shining_pixels_are_not_the_glass() {
        let mut histogram = [0u64; 256];
        (histogram[255], histogram[240], histogram[120]) = (4, 400, 596);
        assert_eq!(brightness_of_glass(&histogram), 240);
        histogram[255] = 40;
        assert_eq!(brightness_of_glass(&histogram), 240, "white that was never scanned");
        histogram[252] = 150;
        assert_eq!(brightness_of_glass(&histogram), 255, "no valley: saturated glass");
        assert_eq!(brightness_of_glass(&[0; 256]), DARKEST_GLASS);
    }
}
