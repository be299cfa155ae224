//! One cell of a comparison: a seed, a fold, an arm and a budget, from choice to figures. What is kept of it holds no
//! times, so that the same cell gives the same bytes whenever it is computed.

use consilium_common::plan::UNLABELLED;
use consilium_learning::metrics::{SlideEvaluation, aurc, error_auroc};
use consilium_learning::uncertainty::{UncertaintyMap, uncertainty_map};
use serde::{Deserialize, Serialize};

use super::fields::Field;
use super::look::Look;

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
}

/// A field that was held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldFigures {
    pub(crate) field: String,
    /// Mean Dice of the foreground classes over its labelled pixels; none where neither truth nor labels have any.
    pub(crate) dice: Option<f64>,
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
        dice: evaluation.mean_dice(),
        ece: evaluation.ece(),
        maps,
        boxes,
        reliability: evaluation.calibration.diagram(),
    }
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
