//! A scanned slide in figures: areas, uncertainty, and agreement with a reference where there is one.
//!
//! Counts are integers and sums run in the order of the rows, so the same scan gives the same figures. Quantiles come
//! from counts of a thousandth of a nat. The background counts only where there is tissue.

use consilium_common::plan::Task;
use serde::{Deserialize, Serialize};

use super::Strip;
use crate::metrics::SlideEvaluation;

/// Version of [`SlideSummary`]'s form.
pub const SUMMARY_SCHEMA: u32 = 1;
/// Bins of the histogram that is given out, equally wide, from 0 to [`HISTOGRAM_NATS`].
pub const HISTOGRAM_BINS: usize = 64;
/// End of the last bin.
pub const HISTOGRAM_NATS: f64 = 4.0;

/// Fine bins a nat; a multiple of the bins that are given out.
const FINE: usize = 1024;
/// Nats that fine bins cover: uncertainty is at most `-ln 1e-8`, 18.4.
const FINE_NATS: usize = 20;

/// A scanned slide in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlideSummary {
    /// [`SUMMARY_SCHEMA`].
    pub schema: u32,
    /// Pixels in a row of the maps.
    pub width_px: u32,
    /// Rows of the maps.
    pub height_px: u32,
    /// Spacing of the maps.
    pub spacing_um_per_px: f64,
    /// Area of the whole slide.
    pub slide_mm2: f64,
    /// Area of the tissue that was scanned.
    pub tissue_mm2: f64,
    /// Area of each class within the tissue, the background first.
    pub classes: Vec<ClassArea>,
    /// UGA's uncertainty over the tissue.
    pub uncertainty: UncertaintySummary,
    /// Mean entropy of the mean prediction over the tissue; none without tissue.
    pub entropy_mean_nats: Option<f64>,
    /// Agreement with the reference mask, where there is one.
    pub reference: Option<ReferenceSummary>,
}

/// How much of the tissue a class takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassArea {
    /// The class.
    pub name: String,
    /// Its area within the tissue.
    pub area_mm2: f64,
    /// Its share of the tissue, 0 to 1; none without tissue.
    pub share_of_tissue: Option<f64>,
}

/// UGA's uncertainty over the tissue of a slide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UncertaintySummary {
    /// Mean; none without tissue, as are the others.
    pub mean_nats: Option<f64>,
    /// Half of the tissue is below it.
    pub median_nats: Option<f64>,
    /// 95 % of the tissue is below it.
    pub p95_nats: Option<f64>,
    /// Width of a bin of the histogram.
    pub bin_width_nats: f64,
    /// Pixels in each bin, from 0 nats; a value on an edge belongs to the bin above.
    pub histogram_px: Vec<u64>,
    /// Pixels beyond the last bin.
    pub above_px: u64,
}

/// Agreement of a scan with the reference mask of its slide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceSummary {
    /// Labelled pixels.
    pub labelled_px: u64,
    /// Dice of each foreground class over the labelled pixels.
    pub dice: Vec<ClassDice>,
    /// Mean over the classes that have a Dice.
    pub mean_dice: Option<f64>,
    /// Expected calibration error over labelled tissue; none without any.
    pub ece: Option<f64>,
    /// Bins of confidence that have pixels, the lowest first.
    pub reliability: Vec<ReliabilityBin>,
}

/// Dice of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassDice {
    /// The class.
    pub name: String,
    /// None where the class is in neither prediction nor reference.
    pub dice: Option<f64>,
}

/// One bar of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Labelled tissue pixels in the bin.
    pub pixels: u64,
    /// Their mean confidence.
    pub mean_confidence: f64,
    /// The share of them that is right.
    pub accuracy: f64,
}

/// Adds up strips of a scan.
#[derive(Clone, Debug)]
pub struct SummaryBuilder {
    task: Task,
    size: (u32, u32),
    /// Tissue pixels by class.
    pixels: Vec<u64>,
    fine: Vec<u64>,
    uncertainty: f64,
    entropy: f64,
    evaluation: SlideEvaluation,
    compared: bool,
}

impl SummaryBuilder {
    /// For a scan of the task with maps of `width` x `height` pixels.
    pub fn new(task: &Task, width: u32, height: u32) -> Self {
        Self {
            task: task.clone(),
            size: (width, height),
            pixels: vec![0; task.classes.len()],
            fine: vec![0; FINE * FINE_NATS],
            uncertainty: 0.0,
            entropy: 0.0,
            evaluation: SlideEvaluation::new(task.classes.len()),
            compared: false,
        }
    }

    /// Adds the next rows. `truth` has the strip's pixels: class indices, or 255 for "not labelled"; what is missing at
    /// its end is not labelled.
    pub fn add(&mut self, strip: &Strip, truth: Option<&[u8]>) {
        let width = strip.width.max(1) as usize;
        for row in 0..strip.rows as usize {
            let range = row * width..(row + 1) * width;
            let (mut uncertainty, mut entropy) = (0.0, 0.0);
            for i in range.filter(|&i| strip.tissue[i] != 0) {
                if let Some(count) = self.pixels.get_mut(usize::from(strip.labels[i])) {
                    *count += 1;
                }
                let nats = f64::from(strip.uncertainty[i]);
                // A negative number or a NaN becomes 0.
                let bin = ((nats * FINE as f64) as usize).min(FINE * FINE_NATS - 1);
                self.fine[bin] += 1;
                uncertainty += nats;
                entropy += f64::from(strip.entropy[i]);
            }
            self.uncertainty += uncertainty;
            self.entropy += entropy;
        }
        if let Some(truth) = truth {
            self.compared = true;
            self.evaluation.add(strip, truth);
        }
    }

    /// The figures of all strips.
    pub fn finish(&self) -> SlideSummary {
        let px_mm2 = self.task.spacing_um.um_per_px().powi(2) / 1e6;
        let tissue: u64 = self.fine.iter().sum();
        let of_tissue = |sum: f64| (tissue > 0).then(|| sum / tissue as f64);
        let area = |(name, &pixels): (&String, &u64)| ClassArea {
            name: name.clone(),
            area_mm2: pixels as f64 * px_mm2,
            share_of_tissue: of_tissue(pixels as f64),
        };
        SlideSummary {
            schema: SUMMARY_SCHEMA,
            width_px: self.size.0,
            height_px: self.size.1,
            spacing_um_per_px: self.task.spacing_um.um_per_px(),
            slide_mm2: f64::from(self.size.0) * f64::from(self.size.1) * px_mm2,
            tissue_mm2: tissue as f64 * px_mm2,
            classes: self.task.classes.iter().zip(&self.pixels).map(area).collect(),
            uncertainty: self.uncertainties(tissue),
            entropy_mean_nats: of_tissue(self.entropy),
            reference: self.compared.then(|| self.reference()),
        }
    }

    fn uncertainties(&self, tissue: u64) -> UncertaintySummary {
        let per_bin = (HISTOGRAM_NATS as usize) * FINE / HISTOGRAM_BINS;
        let shown = self.fine.chunks(per_bin).take(HISTOGRAM_BINS);
        UncertaintySummary {
            mean_nats: (tissue > 0).then(|| self.uncertainty / tissue as f64),
            median_nats: self.quantile(tissue, 0.5),
            p95_nats: self.quantile(tissue, 0.95),
            bin_width_nats: HISTOGRAM_NATS / HISTOGRAM_BINS as f64,
            histogram_px: shown.map(|bins| bins.iter().sum()).collect(),
            above_px: self.fine[per_bin * HISTOGRAM_BINS..].iter().sum(),
        }
    }

    /// Middle of the fine bin in which the share of all tissue pixels is reached.
    fn quantile(&self, tissue: u64, share: f64) -> Option<f64> {
        let wanted = (tissue as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0;
        let bin = self.fine.iter().position(|&count| {
            below += count;
            below >= wanted
        })?;
        Some((bin as f64 + 0.5) / FINE as f64)
    }

    fn reference(&self) -> ReferenceSummary {
        let dice = self.task.classes.iter().skip(1).zip(self.evaluation.confusion.foreground_dice());
        let bar = |(pixels, mean_confidence, accuracy)| ReliabilityBin { pixels, mean_confidence, accuracy };
        ReferenceSummary {
            labelled_px: self.evaluation.confusion.pixels(),
            dice: dice.map(|(name, dice)| ClassDice { name: name.clone(), dice }).collect(),
            mean_dice: self.evaluation.confusion.mean_foreground_dice(),
            ece: self.evaluation.calibration.ece(),
            reliability: self.evaluation.calibration.diagram().into_iter().map(bar).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use consilium_common::Mpp;

    use super::*;

    fn task() -> Task {
        Task { classes: ["bg", "a", "b"].map(str::to_owned).into(), spacing_um: Mpp::new(2.0).unwrap() }
    }

    /// Four rows of five pixels: tissue in the first three columns, with known values.
    fn strip(y: u32, rows: u32) -> Strip {
        let at = |i: u32| (i % 5, y + i / 5);
        let pixels = || 0..rows * 5;
        let tissue: Vec<u8> = pixels().map(|i| u8::from(at(i).0 < 3)).collect();
        let labels: Vec<u8> = pixels().map(|i| if at(i).0 < 3 { (at(i).0 % 3) as u8 } else { 0 }).collect();
        let values = |f: &dyn Fn(u32, u32) -> f32| {
            pixels().map(|i| if at(i).0 < 3 { f(at(i).0, at(i).1) } else { 0.0 }).collect()
        };
        Strip {
            y,
            rows,
            width: 5,
            colour: vec![0; labels.len()],
            uncertainty: values(&|x, y| 0.01 + 0.5 * x as f32 + if y == 3 { 5.0 } else { 0.0 }),
            entropy: values(&|_, y| y as f32 * 0.1),
            probabilities: vec![
                values(&|x, _| [0.2, 0.7, 0.1][x as usize]),
                values(&|x, _| [0.0, 0.1, 0.9][x as usize]),
            ],
            labels,
            tissue,
        }
    }

    #[test]
    fn figures_are_those_of_the_pixels() {
        let mut builder = SummaryBuilder::new(&task(), 5, 4);
        builder.add(&strip(0, 4), None);
        let summary = builder.finish();
        assert_eq!((summary.slide_mm2, summary.tissue_mm2), (20.0 * 4e-6, 12.0 * 4e-6));
        for class in &summary.classes {
            assert_eq!((class.area_mm2, class.share_of_tissue), (4.0 * 4e-6, Some(1.0 / 3.0)), "{class:?}");
        }
        let u = &summary.uncertainty;
        assert!((u.mean_nats.unwrap() - (0.51 + 5.0 / 4.0)).abs() < 1e-6, "{u:?}");
        assert!((u.median_nats.unwrap() - 0.51).abs() < 1e-3 && (u.p95_nats.unwrap() - 6.01).abs() < 1e-3, "{u:?}");
        assert_eq!((u.histogram_px[0], u.histogram_px[8], u.histogram_px[16], u.above_px), (3, 3, 3, 3));
        assert_eq!(u.histogram_px.iter().sum::<u64>() + u.above_px, 12);
        assert!((summary.entropy_mean_nats.unwrap() - 0.15).abs() < 1e-6);
        assert!(summary.reference.is_none());
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<SlideSummary>(&json).unwrap(), summary);
    }

    #[test]
    fn rows_may_come_in_any_portions_and_a_mask_is_compared() {
        // The truth is right in the first two columns, says a in the third, and is silent about the glass.
        let truth = |rows: usize| [0u8, 1, 1, 255, 255].repeat(rows);
        let mut whole = SummaryBuilder::new(&task(), 5, 4);
        whole.add(&strip(0, 4), Some(&truth(4)));
        let mut parts = SummaryBuilder::new(&task(), 5, 4);
        for (y, rows) in [(0, 1), (1, 2), (3, 1)] {
            parts.add(&strip(y, rows), Some(&truth(rows as usize)));
        }
        assert_eq!(whole.finish(), parts.finish());
        let reference = whole.finish().reference.unwrap();
        assert_eq!(reference.labelled_px, 12);
        assert_eq!(reference.dice[0].dice, Some(2.0 * 4.0 / (2.0 * 4.0 + 4.0)));
        assert_eq!((reference.dice[1].name.as_str(), reference.dice[1].dice), ("b", Some(0.0)));
        // Confidences 0.8 and 0.7, both right, and 0.9, wrong.
        let ece = (0.2 + 0.3 + 0.9) / 3.0;
        assert!((reference.ece.unwrap() - ece).abs() < 1e-6, "{reference:?}");
        assert_eq!(reference.reliability.iter().map(|bin| bin.pixels).collect::<Vec<_>>(), [4, 4, 4]);
    }

    #[test]
    fn a_slide_without_tissue_has_no_means() {
        let mut builder = SummaryBuilder::new(&task(), 5, 4);
        let mut glass = strip(0, 4);
        glass.tissue.fill(0);
        builder.add(&glass, None);
        let summary = builder.finish();
        assert_eq!((summary.tissue_mm2, summary.entropy_mean_nats, summary.uncertainty.median_nats), (0.0, None, None));
        assert!(summary.classes.iter().all(|class| class.share_of_tissue.is_none()));
    }
}
