//! How sharp the tissue is: blocks of tissue, compared with the sharpest of the same slide.
//!
//! A block's sharpness is the variance of the Laplacian of its luminance over the variance of the luminance itself, at a
//! fixed spacing and over tissue only: without the division pale stroma would count as blurred, and without the mask
//! glass would. Only the comparison inside a slide means something; a slide that is blurred all over has a low median
//! and no blurred share.

use consilium_common::Mpp;
use image::RgbImage;
use rayon::prelude::*;
use serde::Serialize;

use super::TissueMask;
use crate::slides::{SlideError, SlideReader, read_at, size_at};

/// Spacing at which sharpness is measured: chromatin and membranes are one or two pixels wide.
pub(crate) const SPACING_UM: f64 = 1.0;
/// A slide that is coarser than this shows nothing that could be blurred.
pub(crate) const COARSEST_UM: f64 = 2.0;
/// Side of a block in um.
const BLOCK_UM: f64 = 128.0;
/// Most blocks that are read: 2 million pixels, a second of decoding where a slide has no pyramid.
const MOST_BLOCKS: usize = 400;
/// Least share of tissue of a block.
const LEAST_TISSUE: f64 = 0.75;
/// Least variance of luminance, in squared grey levels: a flat block is neither sharp nor blurred.
const LEAST_VARIANCE: f64 = 9.0;
/// The sharpness that others are compared with is exceeded by this share of them. The median would not do: it is itself
/// blurred where half of the slide is.
const SHARPEST: f64 = 0.2;
/// A block with less than this share of that sharpness is blurred. A Gaussian of 1.5 um leaves about a tenth, and dense
/// nuclei are about twice as sharp as stroma.
const BLURRED_BELOW: f64 = 0.25;

/// The sharpness of a slide's tissue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Blur {
    /// Spacing at which it was measured, um/px.
    pub spacing_um: f64,
    /// Blocks that were measured, spread evenly over the tissue.
    pub sampled_blocks: usize,
    /// Median over the blocks of the variance of the Laplacian over the variance of luminance; higher is sharper.
    pub median_sharpness: f64,
    /// Share of the blocks that are blurred, compared with the sharpest fifth of the slide, 0 to 1.
    pub blurred_share: f64,
}

/// Measures the sharpness of the tissue; `None` where no block of 128 um is tissue or the slide is coarser than 2 um/px.
pub(super) fn measure(slide: &dyn SlideReader, mask: &TissueMask) -> Result<Option<Blur>, SlideError> {
    let spacing_um = slide.mpp().um_per_px().max(SPACING_UM);
    let Ok(spacing) = Mpp::new(spacing_um) else { return Ok(None) };
    if spacing_um > COARSEST_UM {
        return Ok(None);
    }
    let (width, height) = size_at(slide, spacing);
    let view = mask.on(width, height);
    let side = (BLOCK_UM / spacing_um).round() as u32;
    let least = (f64::from(side) * f64::from(side) * LEAST_TISSUE) as u64;
    let rows = (0..height / side).map(|row| row * side);
    let all = rows.flat_map(|y| (0..width / side).map(move |column| (column * side, y)));
    let blocks: Vec<(u32, u32)> = all.filter(|&(x, y)| view.count(x..x + side, y..y + side) >= least).collect();
    let count = blocks.len().min(MOST_BLOCKS);
    let measured: Vec<Option<f64>> = (0..count)
        .into_par_iter()
        .map(|number| {
            let (x, y) = blocks[number * blocks.len() / count];
            let image = read_at(slide, spacing, x.into(), y.into(), side, side)?;
            let mut tissue = vec![0; (side * side) as usize];
            for (line, row) in (y..).zip(tissue.chunks_exact_mut(side as usize)) {
                view.fill(line, x..x + side, row);
            }
            Ok(sharpness(&luminance(&image), image.width() as usize, &tissue))
        })
        .collect::<Result<_, SlideError>>()?;
    let mut values: Vec<f64> = measured.into_iter().flatten().collect();
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return Ok(None);
    }
    let blurred = values.partition_point(|&value| value < BLURRED_BELOW * at(&values, 1.0 - SHARPEST));
    Ok(Some(Blur {
        spacing_um,
        sampled_blocks: values.len(),
        median_sharpness: at(&values, 0.5),
        blurred_share: blurred as f64 / values.len() as f64,
    }))
}

/// The value below which a share of them lies, of values in rising order of which there is at least one.
fn at(values: &[f64], share: f64) -> f64 {
    values[((values.len() as f64 * share) as usize).min(values.len() - 1)]
}

/// The sharpness that the others of a slide are compared with; `None` without any.
pub(crate) fn sharp_of(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| at(&values, 1.0 - SHARPEST))
}

/// The luminance of every pixel, 0 to 255.
pub(crate) fn luminance(image: &RgbImage) -> Vec<f64> {
    image.pixels().map(|p| 0.299 * f64::from(p.0[0]) + 0.587 * f64::from(p.0[1]) + 0.114 * f64::from(p.0[2])).collect()
}

/// Variance of the Laplacian over variance of luminance, over the tissue of a block; `None` for a flat block.
pub(crate) fn sharpness(luminance: &[f64], width: usize, tissue: &[u8]) -> Option<f64> {
    let (mut light, mut laplacian) = (Moments::default(), Moments::default());
    for y in 1..(luminance.len() / width.max(1)).saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let at = y * width + x;
            if tissue[at] != 0 {
                let around = luminance[at - 1] + luminance[at + 1] + luminance[at - width] + luminance[at + width];
                light.add(luminance[at]);
                laplacian.add(around - 4.0 * luminance[at]);
            }
        }
    }
    let variance = light.variance();
    (variance >= LEAST_VARIANCE).then(|| laplacian.variance() / variance)
}

#[derive(Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn variance(&self) -> f64 {
        if self.count < 2.0 {
            return 0.0;
        }
        let mean = self.sum / self.count;
        (self.squares / self.count - mean * mean).max(0.0)
    }
}
