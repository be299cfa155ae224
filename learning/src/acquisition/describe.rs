//! From the maps of one slide to candidates: boxes with a score and what the rules of [`super::rules`] look at.
//!
//! The scored box is the annotated box. Pixels that count are tissue that is not excluded and whose map is a number;
//! only [`Aggregation::Whole`] also looks beside the tissue. Nothing here chooses.

use consilium_common::plan::Acquisition;
use serde::{Deserialize, Serialize};

use super::PatchBox;
use super::grid::starts;
use super::integral::Integral;
use crate::scan::Strip;

/// Radius of the band around predicted boundaries, in pixels, where the aggregation does not give one.
pub(super) const BORDER_RADIUS: u32 = 8;

/// The maps of one slide at the plan's spacing, row by row; every slice has `width * height` values a plane.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The slide's name.
    pub slide: &'a str,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Classes, background included.
    pub classes: usize,
    /// 1 where there is tissue, else 0.
    pub tissue: &'a [u8],
    /// 1 where nothing is to be asked about though there is tissue, else 0. Pen, glass and what cannot be decoded are no tissue
    /// to begin with.
    pub excluded: &'a [u8],
    /// The predicted class.
    pub labels: &'a [u8],
    /// The ensemble's probabilities, `[classes, pixels]`.
    pub mean: &'a [f32],
    /// The chosen map of uncertainty.
    pub map: &'a [f32],
    /// UGA's uncertainty, nats; the same where that is chosen.
    pub uncertainty: &'a [f32],
}

/// Over which pixels of a box its score is the mean of the map; 0 where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Aggregation {
    /// Tissue.
    #[default]
    Tissue,
    /// Tissue that is predicted to be foreground: what the other aggregations say of a box with a little tumour in it is
    /// mostly about what surrounds it.
    Foreground,
    /// Tissue near predicted boundaries (selective uncertainty, arXiv 2401.16298). On the boundary is a pixel that has
    /// another class than one of its four neighbours; near it, one at most `radius` rows and columns away.
    Border {
        /// Pixels.
        radius: u32,
    },
    /// The most uncertain of the box's tissue: `ceil(share * tissue pixels)` of them; between the mean and the maximum.
    TopShare {
        /// Above 0, at most 1.
        share: f64,
    },
    /// All pixels of the box, as nnActive and MONAI have it: also glass, and also what is excluded.
    Whole,
}

/// How boxes are laid and scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    /// Width and height of a box in pixels.
    pub side: u32,
    /// Step of the grid in pixels; 0 counts as 1. A last row and column of boxes end at the far edges.
    pub stride: u32,
    /// Boxes with a smaller share of tissue are left out, and those with none.
    pub min_tissue: f64,
    /// Which pixels make the score.
    pub aggregation: Aggregation,
}

/// A box that may be asked for. Shares and means are over all the box's pixels, those that do not count adding nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The slide's name.
    pub slide: String,
    /// The box.
    pub patch: PatchBox,
    /// Share that is tissue and not excluded.
    pub tissue: f64,
    /// The map's mean over the aggregation's pixels, or UGA's key; higher is asked for first.
    pub score: f64,
    /// Mean of UGA's uncertainty over the box's tissue, nats, whatever the score.
    #[serde(default)]
    pub mean_uncertainty: f64,
    /// Share that is predicted to be foreground.
    #[serde(default)]
    pub foreground: f64,
    /// Share that is near predicted boundaries, within the aggregation's radius or [`BORDER_RADIUS`].
    #[serde(default)]
    pub border: f64,
    /// Share that is predicted to be each class; they add up to `tissue`.
    #[serde(default)]
    pub shares: Vec<f64>,
    /// Mean of `pbar_c * H(pbar)` for each class c, nats (ClaSP PE, arXiv 2601.13677). They add up to the mean entropy.
    #[serde(default)]
    pub class_scores: Vec<f64>,
    /// What a network makes of the box; empty until the caller fills it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feature: Vec<f32>,
    /// The same of its four quarters; empty until the caller fills it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Vec<f32>>,
}

impl Candidate {
    /// A box of which nothing is known yet.
    pub fn at(slide: &str, patch: PatchBox) -> Self {
        Self {
            slide: slide.to_owned(),
            patch,
            tissue: 0.0,
            score: 0.0,
            mean_uncertainty: 0.0,
            foreground: 0.0,
            border: 0.0,
            shares: Vec::new(),
            class_scores: Vec::new(),
            feature: Vec::new(),
            parts: Vec::new(),
        }
    }
}

/// Every box of the slide's grid with enough tissue, from top to bottom and left to right. None where the slide is
/// smaller than a box.
///
/// # Panics
/// Where a slice of the field has not the length that its width, height and classes call for.
pub fn describe(field: &Field<'_>, layout: &Layout) -> Vec<Candidate> {
    let columns = layout.starts(field.width);
    let row = |y: u32| columns.iter().map(move |&x| PatchBox { x, y, side: layout.side });
    describe_boxes(field, layout, layout.starts(field.height).into_iter().flat_map(row).collect())
}

/// The same of some boxes, which lie inside the field.
pub(super) fn describe_boxes(field: &Field<'_>, layout: &Layout, boxes: Vec<PatchBox>) -> Vec<Candidate> {
    field.check();
    let counts: Vec<bool> = (0..field.pixels()).map(|i| field.counts(i)).collect();
    let grid = Grid::new(field, boxes, layout.min_tissue, &counts);
    let near = near_boundaries(field, layout.radius());
    let entropy = entropy(field);
    let share = |class: usize| grid.share(|i| counts[i] && usize::from(field.labels[i]) == class);
    let class_score = |class: usize| {
        let p = &field.mean[class * field.pixels()..][..field.pixels()];
        grid.mean(|i| if counts[i] { f64::from(p[i]) * entropy[i] } else { 0.0 })
    };
    let shares: Vec<Vec<f64>> = (0..field.classes).map(share).collect();
    let class_scores: Vec<Vec<f64>> = (0..field.classes).map(class_score).collect();
    let border = grid.share(|i| counts[i] && near[i]);
    let uncertainty = grid.mean_over(field.uncertainty, |i| counts[i]);
    let scores = match layout.aggregation {
        Aggregation::Tissue => grid.mean_over(field.map, |i| counts[i]),
        Aggregation::Foreground => grid.mean_over(field.map, |i| counts[i] && field.labels[i] > 0),
        Aggregation::Border { .. } => grid.mean_over(field.map, |i| counts[i] && near[i]),
        Aggregation::Whole => grid.mean_over(field.map, |i| field.map[i].is_finite()),
        Aggregation::TopShare { share } => grid.boxes.iter().map(|b| top_mean(field, b, &counts, share)).collect(),
    };
    let candidate = |i: usize| Candidate {
        tissue: grid.tissue[i],
        score: scores[i],
        mean_uncertainty: uncertainty[i],
        foreground: shares.iter().skip(1).map(|share| share[i]).sum(),
        border: border[i],
        shares: shares.iter().map(|share| share[i]).collect(),
        class_scores: class_scores.iter().map(|score| score[i]).collect(),
        ..Candidate::at(field.slide, grid.boxes[i])
    };
    (0..grid.boxes.len()).map(candidate).collect()
}

impl Layout {
    /// The grid of a plan's patches, which steps by half a patch.
    pub fn of(settings: &Acquisition, aggregation: Aggregation) -> Self {
        let Acquisition { patch_px: side, min_tissue, .. } = *settings;
        Self { side, stride: side / 2, min_tissue, aggregation }
    }

    /// First pixels of the boxes along one axis.
    pub(super) fn starts(&self, length: u32) -> Vec<u32> {
        starts(length, self.side, self.stride, true)
    }

    /// Radius of the band around predicted boundaries, in pixels.
    pub(super) fn radius(&self) -> u32 {
        if let Aggregation::Border { radius } = self.aggregation { radius } else { BORDER_RADIUS }
    }
}

impl<'a> Field<'a> {
    /// The maps of a scan taken for a slide: `map` is the chosen map, `mean` that of [`Strip::mean`], `excluded` 1 on pixels
    /// that cannot be asked about.
    pub fn of_strip(strip: &'a Strip, slide: &'a str, map: &'a [f32], mean: &'a [f32], excluded: &'a [u8]) -> Self {
        Self {
            slide,
            width: strip.width,
            height: strip.rows,
            classes: strip.probabilities.len() + 1,
            tissue: &strip.tissue,
            excluded,
            labels: &strip.labels,
            mean,
            map,
            uncertainty: &strip.uncertainty,
        }
    }
}

impl Field<'_> {
    fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }

    fn counts(&self, i: usize) -> bool {
        self.tissue[i] != 0 && self.excluded[i] == 0 && self.map[i].is_finite()
    }

    fn check(&self) {
        let pixels = self.pixels();
        for length in
            [self.tissue.len(), self.excluded.len(), self.labels.len(), self.map.len(), self.uncertainty.len()]
        {
            assert_eq!(length, pixels, "a map of another size than {} x {}", self.width, self.height);
        }
        assert_eq!(self.mean.len(), pixels * self.classes, "probabilities of another number of classes or pixels");
    }
}

/// The boxes with enough tissue, and their share of it.
struct Grid<'a> {
    field: &'a Field<'a>,
    boxes: Vec<PatchBox>,
    tissue: Vec<f64>,
}

impl<'a> Grid<'a> {
    fn new(field: &'a Field<'a>, boxes: Vec<PatchBox>, min_tissue: f64, counts: &[bool]) -> Self {
        let all = Self { field, boxes, tissue: Vec::new() };
        let tissue = all.share(|i| counts[i]);
        let enough = |&(_, share): &(PatchBox, f64)| share > 0.0 && share >= min_tissue;
        let (boxes, tissue) = all.boxes.into_iter().zip(tissue).filter(enough).unzip();
        Self { field, boxes, tissue }
    }

    /// Mean of a value over all pixels of each box.
    fn mean(&self, value: impl Fn(usize) -> f64) -> Vec<f64> {
        let sums = Integral::new(self.field.width, self.field.height, value);
        self.boxes.iter().map(|patch| sums.sum(patch) / f64::from(patch.side).powi(2)).collect()
    }

    /// Share of such pixels in each box.
    fn share(&self, inside: impl Fn(usize) -> bool) -> Vec<f64> {
        self.mean(|i| f64::from(u8::from(inside(i))))
    }

    /// Mean of a map over such pixels of each box, 0 where there are none.
    fn mean_over(&self, map: &[f32], inside: impl Fn(usize) -> bool) -> Vec<f64> {
        let sums = self.mean(|i| if inside(i) { f64::from(map[i]) } else { 0.0 });
        let pixels = self.share(inside);
        sums.iter().zip(pixels).map(|(sum, pixels)| if pixels > 0.0 { sum / pixels } else { 0.0 }).collect()
    }
}

/// Mean of the largest `ceil(share * n)` of the box's n pixels that count, at least one.
fn top_mean(field: &Field<'_>, patch: &PatchBox, counts: &[bool], share: f64) -> f64 {
    let mut values = Vec::new();
    for y in patch.y..patch.y + patch.side {
        let start = y as usize * field.width as usize + patch.x as usize;
        values.extend((start..start + patch.side as usize).filter(|&i| counts[i]).map(|i| field.map[i]));
    }
    if values.is_empty() {
        return 0.0;
    }
    let wanted = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
    values.select_nth_unstable_by(wanted - 1, |a, b| b.total_cmp(a));
    // Sorted, so that the sum does not hang on how the selection left them.
    values.truncate(wanted);
    values.sort_unstable_by(f32::total_cmp);
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / wanted as f64
}

/// `H(pbar)` of every pixel, nats.
fn entropy(field: &Field<'_>) -> Vec<f64> {
    let mut entropy = vec![0.0; field.pixels()];
    for plane in field.mean.chunks_exact(field.pixels().max(1)) {
        for (sum, &p) in entropy.iter_mut().zip(plane) {
            let p = f64::from(p);
            *sum -= if p > 0.0 { p * p.ln() } else { 0.0 };
        }
    }
    entropy
}

/// True for pixels at most `radius` rows and columns from one that has another class than one of its four neighbours.
fn near_boundaries(field: &Field<'_>, radius: u32) -> Vec<bool> {
    let (width, height) = (field.width as usize, field.height as usize);
    let differs = |x: usize, y: usize| {
        let label = |x: usize, y: usize| field.labels[y * width + x];
        let own = label(x, y);
        (x > 0 && label(x - 1, y) != own)
            || (y > 0 && label(x, y - 1) != own)
            || (x + 1 < width && label(x + 1, y) != own)
            || (y + 1 < height && label(x, y + 1) != own)
    };
    let sums = Integral::new(field.width, field.height, |i| f64::from(u8::from(differs(i % width, i / width))));
    let radius = radius as usize;
    let around = |at: usize, length: usize| at.saturating_sub(radius)..(at + radius + 1).min(length);
    let near = |i: usize| sums.sum_of(around(i % width, width), around(i / width, height)) > 0.0;
    (0..field.pixels()).map(near).collect()
}

#[cfg(test)]
mod tests;
