//! Where the tissue is: one mask for the whole slide, computed on a thumbnail and asked at any spacing.
//!
//! Decided for the slide, never inside a tile: Otsu alone would cut a field that is all tissue into nuclei and rest.
//! So Otsu's threshold counts only below an absolute one. Glass is near-white and unsaturated, which is to say that
//! the darkest of a pixel's three channels is still bright. Deterministic; knows nothing of pen marks or blur.

mod components;

use image::{GrayImage, Luma, RgbImage};

use crate::slides::{SlideError, SlideReader, thumbnail};
use components::{fill_holes, remove_specks};

/// Spacing of the thumbnail: tissue is an affair of cells, not of pixels.
const THUMBNAIL_UM: f64 = 4.0;
/// Longest side of the thumbnail; slides beyond 8 mm get a coarser one.
const THUMBNAIL_MAX_PX: u32 = 2048;
/// Glass is never taken to be darker than this, or a slide without glass would lose its palest tissue.
const DARKEST_GLASS: u8 = 225;
/// Share of pixels brighter than the glass: dust that shines.
const BRIGHTER_THAN_GLASS: f64 = 0.005;
/// Whatever is this much darker than glass is tissue, whatever Otsu says.
const SURELY_TISSUE: u8 = 25;
/// Whatever is less darker than glass than this is glass: noise and compression.
const SURELY_GLASS: u8 = 10;
/// Gaps up to twice this wide are closed: fat vacuoles and tears inside tissue.
const CLOSING_UM: f64 = 12.0;
/// Smaller specks are dust.
const SPECK_UM2: f64 = 2_500.0;
/// Smaller holes belong to the tissue.
const HOLE_UM2: f64 = 10_000.0;

/// The tissue of one slide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TissueMask {
    /// 0 glass, 1 tissue.
    mask: GrayImage,
}

impl TissueMask {
    /// Finds the tissue of a slide.
    ///
    /// # Errors
    /// The slide cannot be read.
    pub fn of(slide: &dyn SlideReader) -> Result<Self, SlideError> {
        let base = slide.levels()[0];
        let longest = base.width.max(base.height);
        let wanted = f64::from(longest) * slide.mpp().um_per_px() / THUMBNAIL_UM;
        let side = (wanted.ceil() as u32).clamp(1, THUMBNAIL_MAX_PX);
        let image = thumbnail(slide, side)?;
        let um_per_px = f64::from(longest) * slide.mpp().um_per_px() / f64::from(image.width().max(image.height()));
        Ok(Self { mask: find(&image, um_per_px) })
    }

    /// A mask that is given instead of found: pixels other than 0 are tissue; it spans the whole slide.
    pub fn from_image(mut mask: GrayImage) -> Self {
        mask.pixels_mut().for_each(|p| p.0[0] = u8::from(p.0[0] != 0));
        Self { mask }
    }

    /// The whole slide as 0 (glass) and 1 (tissue) at the size `w` x `h` that it has at a spacing
    /// ([`crate::slides::size_at`]).
    pub fn at(&self, w: u32, h: u32) -> GrayImage {
        let columns = nearest(w, self.mask.width());
        let rows = nearest(h, self.mask.height());
        GrayImage::from_fn(w, h, |x, y| *self.mask.get_pixel(columns[x as usize], rows[y as usize]))
    }

    /// Share of tissue in the whole slide, 0 to 1.
    pub fn fraction(&self) -> f64 {
        let tissue: u64 = self.mask.pixels().map(|p| u64::from(p.0[0])).sum();
        tissue as f64 / (f64::from(self.mask.width()) * f64::from(self.mask.height()))
    }

    /// Share of tissue in a box, 0 to 1, by area. `whole` is the slide's size and `x, y, w, h` the box, all in pixels
    /// of the same spacing; what lies outside the slide is glass.
    pub fn share(&self, whole: (u32, u32), x: i64, y: i64, w: u32, h: u32) -> f64 {
        let columns = overlaps(x, w, whole.0, self.mask.width());
        let rows = overlaps(y, h, whole.1, self.mask.height());
        let mut tissue = 0.0;
        for &(row, height) in &rows {
            for &(column, width) in &columns {
                tissue += f64::from(self.mask.get_pixel(column, row).0[0]) * width * height;
            }
        }
        let area = f64::from(w.max(1)) * f64::from(h.max(1));
        (tissue / area).min(1.0)
    }
}

/// For each of `count` positions the one of `side` under its centre.
fn nearest(count: u32, side: u32) -> Vec<u32> {
    let ratio = f64::from(side) / f64::from(count.max(1));
    (0..count).map(|i| (((f64::from(i) + 0.5) * ratio).floor() as u32).min(side - 1)).collect()
}

/// The mask positions that `start .. start + length` overlaps, each with how much of the range it covers.
fn overlaps(start: i64, length: u32, whole: u32, side: u32) -> Vec<(u32, f64)> {
    let pixel = f64::from(whole) / f64::from(side);
    let from = (start as f64).max(0.0);
    let to = (start as f64 + f64::from(length)).min(f64::from(whole));
    if from >= to {
        return Vec::new();
    }
    let last = ((to / pixel).ceil() as u32).min(side);
    ((from / pixel).floor() as u32..last)
        .map(|at| (at, (f64::from(at + 1) * pixel).min(to) - (f64::from(at) * pixel).max(from)))
        .filter(|(_, covered)| *covered > 0.0)
        .collect()
}

/// The tissue of a thumbnail: threshold, closing, specks out, holes in.
fn find(image: &RgbImage, um_per_px: f64) -> GrayImage {
    let darkest: Vec<u8> = image.pixels().map(|p| p.0[0].min(p.0[1]).min(p.0[2])).collect();
    let mut histogram = [0u64; 256];
    darkest.iter().for_each(|&v| histogram[usize::from(v)] += 1);
    let glass = brightness_of_glass(&histogram);
    let distance: Vec<u8> = darkest.iter().map(|&v| glass.saturating_sub(v)).collect();
    let mut histogram = [0u64; 256];
    distance.iter().for_each(|&v| histogram[usize::from(v)] += 1);
    let threshold = otsu(&histogram).clamp(SURELY_GLASS, SURELY_TISSUE);
    let (width, height) = image.dimensions();
    let above = distance.iter().map(|&v| u8::from(v > threshold)).collect();
    let mut mask = GrayImage::from_raw(width, height, above).unwrap_or_else(|| GrayImage::new(width, height));
    let pixels = |um2: f64| (um2 / (um_per_px * um_per_px)).round() as usize;
    remove_specks(&mut mask, pixels(SPECK_UM2));
    mask = closed(&mask, (CLOSING_UM / um_per_px).round() as u32);
    fill_holes(&mut mask, pixels(HOLE_UM2));
    mask
}

/// The darkest channel of glass: the brightest there is, but for a few shining pixels.
fn brightness_of_glass(histogram: &[u64; 256]) -> u8 {
    let total: u64 = histogram.iter().sum();
    let mut brighter = (total as f64 * BRIGHTER_THAN_GLASS) as u64;
    for value in (DARKEST_GLASS..=255).rev() {
        let count = histogram[usize::from(value)];
        if count > brighter {
            return value;
        }
        brighter -= count;
    }
    DARKEST_GLASS
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

/// Morphological closing with a square of the given radius; beyond the edge nothing is added and nothing eaten away.
fn closed(mask: &GrayImage, radius: u32) -> GrayImage {
    let grown = spread(mask, radius, 1);
    spread(&grown, radius, 0)
}

/// Gives every pixel `value` that has one of that value within `radius` in x and y.
fn spread(mask: &GrayImage, radius: u32, value: u8) -> GrayImage {
    let pass = |source: &GrayImage, along_x: bool| {
        let (width, height) = source.dimensions();
        let (length, lines) = if along_x { (width, height) } else { (height, width) };
        let mut out = source.clone();
        for line in 0..lines {
            let at = |i: u32| if along_x { (i, line) } else { (line, i) };
            // Sweep in both directions, remembering how far back the value was last seen.
            for backwards in [false, true] {
                let mut since = u32::MAX;
                for step in 0..length {
                    let (x, y) = at(if backwards { length - 1 - step } else { step });
                    since = if source.get_pixel(x, y).0[0] == value { 0 } else { since.saturating_add(1) };
                    if since <= radius {
                        out.put_pixel(x, y, Luma([value]));
                    }
                }
            }
        }
        out
    };
    pass(&pass(mask, true), false)
}

#[cfg(test)]
mod tests;
