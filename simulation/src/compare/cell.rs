//! One cell of a comparison: a seed, a fold, an arm and a budget, from choice to figures. What is kept of it holds no
//! times, so that the same cell gives the same bytes whenever it is computed.

use consilium_common::plan::UNLABELLED;
use consilium_learning::metrics::{SlideEvaluation, aurc, error_auroc};
use consilium_learning::scan::Strip;
use consilium_learning::uncertainty::{UncertaintyMap, uncertainty_map};
use serde::{Deserialize, Serialize};

use crate::fields::Field;
use crate::look::Look;

/// The figures of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cell {
    pub(crate) seed: u64,
    pub(crate) fold: usize,
    pub(crate) arm: String,
    /// Patches that each site but the central one was asked for.
    pub(crate) budget: u32,
    pub(crate) sites: Vec<SiteFigures>,
}

/// A site in a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteFigures {
    pub(crate) site: String,
    pub(crate) central: bool,
    /// The fields that are held out.
    pub(crate) fields: Vec<FieldFigures>,
    /// What was asked for.
    pub(crate) patches: Vec<PatchFigures>,
    /// Fields that were learned from whole instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) whole: Option<WholeFigures>,
}

/// What an arm has of a site's fields that are learned from whole.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WholeFigures {
    pub(crate) pixels: u64,
    /// Mean over the fields of the share of their labelled pixels that is foreground in truth.
    pub(crate) foreground: f64,
}

impl SiteFigures {
    /// Pixels of what was given an arm to learn from, and how many of them are foreground.
    pub(super) fn annotated(&self) -> (f64, f64) {
        let patches = self.patches.iter().map(|patch| (f64::from(patch.side).powi(2), patch.foreground));
        let whole = self.whole.map(|whole| (whole.pixels as f64, whole.foreground));
        patches
            .chain(whole)
            .fold((0.0, 0.0), |(all, foreground), (pixels, share)| (all + pixels, foreground + pixels * share))
    }
}

/// A field that was held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldFigures {
    pub(crate) field: String,
    /// How far the disease is, if slides.csv says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stage: Option<String>,
    /// Mean Dice of the foreground classes over its labelled pixels; none where neither truth nor labels have any.
    pub(crate) dice: Option<f64>,
    /// Share of its labelled pixels that are foreground in truth; not in cells of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) foreground: Option<f64>,
    /// Share of its labelled tissue that is background in truth and called foreground; not in cells of before it was
    /// kept, nor without labelled tissue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) false_positive: Option<f64>,
    /// Expected calibration error over its labelled tissue.
    pub(crate) ece: Option<f64>,
    /// How well each uncertainty ranks errors first; only of the first ensemble.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) maps: Vec<MapFigures>,
    /// Mean uncertainty and Dice of side-by-side boxes; only of the first ensemble.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) boxes: Vec<(f64, f64)>,
    /// Pixels, mean confidence and accuracy by bin of confidence.
    pub(crate) reliability: Vec<(u64, f64, f64)>,
}

impl FieldFigures {
    /// Its Dice; none where the truth has no foreground, which cells of before that was kept do not tell.
    pub(super) fn dice_of_foreground(&self) -> Option<f64> {
        self.dice.filter(|_| self.foreground != Some(0.0))
    }
}

/// An uncertainty against the errors of a field's labelled tissue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MapFigures {
    pub(crate) map: UncertaintyMap,
    pub(crate) error_auroc: Option<f64>,
    pub(crate) aurc: Option<f64>,
}

/// A patch that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchFigures {
    pub(crate) field: String,
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) side: u32,
    /// Share of its pixels that are foreground in truth.
    pub(crate) foreground: f64,
    /// The same of all fields that could be asked about.
    pub(crate) foreground_of_pool: f64,
}

/// The figures of a held-out field. `in_depth` adds what is wanted of the first ensemble only.
pub(super) fn field_figures(field: &Field, look: &Look, side: u32, in_depth: bool) -> FieldFigures {
    let mut evaluation = SlideEvaluation::new(look.classes);
    evaluation.add(&look.strip, field.labels.as_raw());
    let (mut maps, mut boxes) = (Vec::new(), Vec::new());
    if in_depth {
        maps = UncertaintyMap::ALL.iter().map(|&map| map_figures(field, look, map)).collect();
        boxes = box_figures(field, look, side);
    }
    FieldFigures {
        field: field.name.clone(),
        stage: field.stage.clone(),
        dice: evaluation.mean_dice(),
        foreground: Some(foreground(field.labels.as_raw())),
        false_positive: false_positive(&look.strip, field.labels.as_raw()),
        ece: evaluation.ece(),
        maps,
        boxes,
        reliability: evaluation.calibration.diagram(),
    }
}

/// Share of the labelled pixels that are foreground.
pub(super) fn foreground(labels: &[u8]) -> f64 {
    let labelled = labels.iter().filter(|&&label| label != UNLABELLED).count();
    let foreground = labels.iter().filter(|&&label| label != UNLABELLED && label > 0).count();
    foreground as f64 / labelled.max(1) as f64
}

/// Share of the labelled tissue that is background in truth and called foreground.
fn false_positive(strip: &Strip, truth: &[u8]) -> Option<f64> {
    let (mut tissue, mut wrong) = (0u64, 0u64);
    for (i, &truth) in truth.iter().enumerate().filter(|(_, truth)| **truth != UNLABELLED) {
        if strip.tissue[i] != 0 {
            tissue += 1;
            wrong += u64::from(truth == 0 && strip.labels[i] > 0);
        }
    }
    (tissue > 0).then(|| wrong as f64 / tissue as f64)
}

fn map_figures(field: &Field, look: &Look, map: UncertaintyMap) -> MapFigures {
    let values = uncertainty_map(map, &look.probabilities, look.members, look.classes);
    let truth = field.labels.as_raw();
    let counted = (0..values.len()).filter(|&i| look.strip.tissue[i] != 0 && truth[i] != UNLABELLED);
    let mut scored: Vec<(f32, bool)> = counted.map(|i| (values[i], look.strip.labels[i] != truth[i])).collect();
    MapFigures { map, error_auroc: error_auroc(&mut scored), aurc: aurc(&mut scored) }
}

/// UGA's uncertainty over the tissue of side-by-side boxes, and their Dice.
fn box_figures(field: &Field, look: &Look, side: u32) -> Vec<(f64, f64)> {
    let (width, height) = field.image.dimensions();
    let corners = (0..height / side).flat_map(|y| (0..width / side).map(move |x| (x * side, y * side)));
    corners.filter_map(|corner| box_figure(field, look, corner, side)).collect()
}

fn box_figure(field: &Field, look: &Look, (x, y): (u32, u32), side: u32) -> Option<(f64, f64)> {
    let wide = field.image.width() as usize;
    let (mut sum, mut tissue, mut both, mut either) = (0.0, 0u32, 0u32, 0u32);
    for row in y..y + side {
        let start = row as usize * wide + x as usize;
        for i in start..start + side as usize {
            let (said, truth) = (look.strip.labels[i], field.labels.as_raw()[i]);
            if look.strip.tissue[i] == 0 || truth == UNLABELLED {
                continue;
            }
            tissue += 1;
            sum += f64::from(look.strip.uncertainty[i]);
            both += 2 * u32::from(said > 0 && said == truth);
            either += u32::from(said > 0) + u32::from(truth > 0);
        }
    }
    (tissue > 0 && either > 0).then(|| (sum / f64::from(tissue), f64::from(both) / f64::from(either)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tissue_wrongly_called_foreground_is_a_share_of_labelled_tissue() {
        let mut strip = Strip::background(0, 1, 8, 2);
        strip.tissue = vec![1, 1, 1, 1, 1, 1, 0, 0];
        strip.labels = vec![1, 1, 0, 1, 0, 1, 1, 0];
        let truth = [0, 1, 1, 0, 0, UNLABELLED, 0, UNLABELLED];
        // Five labelled pixels of tissue, of which the first and the fourth are called foreground and are not.
        assert_eq!(false_positive(&strip, &truth), Some(0.4));
        assert_eq!(foreground(&truth), 2.0 / 6.0);
        assert_eq!(false_positive(&strip, &[UNLABELLED; 8]), None);
    }

    #[test]
    fn cells_of_before_stages_are_read_and_kept_as_they_are() {
        let before = r#"{"field":"f","dice":0.5,"ece":null,"reliability":[[3,0.9,0.8]]}"#;
        let figures: FieldFigures = serde_json::from_str(before).unwrap();
        assert_eq!((&figures.stage, figures.foreground, figures.false_positive), (&None, None, None));
        assert_eq!(serde_json::to_string(&figures).unwrap(), before);
        let staged = FieldFigures { stage: Some("micro".into()), false_positive: Some(0.25), ..figures };
        assert_eq!(serde_json::from_str::<FieldFigures>(&serde_json::to_string(&staged).unwrap()).unwrap(), staged);
    }
}
