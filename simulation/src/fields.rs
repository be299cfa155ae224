//! The fields of all sites in memory, and which of them are held out in which fold.

use std::path::Path;

use consilium_common::{Digest, Plan, SiteId};
use consilium_learning::dataset::{DataFolder, SlideEntry};
use consilium_learning::network::{InputScale, random};
use consilium_learning::scan::colour_class;
use consilium_learning::slides::{open_slide, read_at, read_mask_at, size_at};
use consilium_learning::tissue::TissueMask;
use consilium_learning::training::TrainingImage;
use image::{GrayImage, RgbImage};

use crate::experiment::ExperimentError;

/// Most pixels of a field: a square of 5 mm at 0.5 um/px.
const MAX_PIXELS: u64 = 100_000_000;

/// A field with its truth, at the plan's spacing.
pub(crate) struct Field {
    pub(crate) name: String,
    /// How far the disease is, if slides.csv says.
    pub(crate) stage: Option<String>,
    pub(crate) image: RgbImage,
    /// The class of every pixel; 255 is not labelled.
    pub(crate) labels: GrayImage,
    /// 1 on tissue, else 0.
    pub(crate) tissue: Vec<u8>,
    /// Black, white, or ordinary, as UGA's filters want it.
    pub(crate) colour: Vec<u8>,
}

impl Field {
    /// To learn from whole.
    pub(crate) fn whole(&self) -> TrainingImage {
        TrainingImage { image: self.image.clone(), labels: self.labels.clone(), input: InputScale::RGB_TO_01 }
    }

    /// Names everything that the field holds.
    pub(crate) fn digest(&self) -> String {
        let mut bytes = self.image.as_raw().clone();
        bytes.extend_from_slice(self.labels.as_raw());
        bytes.extend_from_slice(&self.tissue);
        bytes.extend_from_slice(self.stage.as_deref().unwrap_or_default().as_bytes());
        Digest::of(&bytes).to_string()
    }
}

/// A site and its fields, by name.
pub(crate) struct Site {
    pub(crate) id: SiteId,
    pub(crate) central: bool,
    pub(crate) fields: Vec<Field>,
}

impl Site {
    /// Reads all slides of a data folder that have masks.
    pub(crate) fn load(id: SiteId, central: bool, folder: &Path, plan: &Plan) -> Result<Self, ExperimentError> {
        let fields = fields_of(folder, plan)?;
        if fields.len() < 2 {
            return Err(unusable(
                folder,
                "has fewer than two slides with masks; some are learned from, others held out",
            ));
        }
        Ok(Self { id, central, fields })
    }

    /// Indices of the fields that are held out in a fold, and of the others. Every field is held out in one fold, and
    /// each stage is divided evenly among the folds.
    pub(crate) fn split(&self, seed: u64, fold: usize, folds: usize) -> (Vec<usize>, Vec<usize>) {
        let mut order: Vec<usize> = (0..self.fields.len()).collect();
        // Each field's place in the order is a draw of its own, whatever fields there are beside it.
        let draw = |field: &Field| random::seed(&format!("{seed}/{}/{}", self.id, field.name));
        // By stage, where stages are known, so that each fold has as many of each.
        order.sort_by_key(|&index| (self.fields[index].stage.as_deref(), draw(&self.fields[index]), index));
        let (mut held_out, mut others) = (Vec::new(), Vec::new());
        for (place, index) in order.into_iter().enumerate() {
            if place % folds == fold { held_out.push(index) } else { others.push(index) }
        }
        held_out.sort_unstable();
        others.sort_unstable();
        (held_out, others)
    }
}

/// All slides of a data folder that have masks.
pub(crate) fn fields_of(folder: &Path, plan: &Plan) -> Result<Vec<Field>, ExperimentError> {
    let data = DataFolder::open(folder)?;
    let masked = data.slides.iter().filter(|slide| slide.mask.is_some());
    masked.map(|slide| field(slide, plan).map_err(|why| unusable(&slide.path, &why))).collect()
}

fn unusable(path: &Path, why: &str) -> ExperimentError {
    ExperimentError::Usage(format!("{}: {why}", path.display()))
}

fn field(slide: &SlideEntry, plan: &Plan) -> Result<Field, String> {
    let (task, least) = (&plan.task, plan.scan.tile_px.max(plan.acquisition.patch_px));
    let mask = slide.mask.as_ref().ok_or("has no reference mask")?;
    let reader = open_slide(&slide.path, slide.mpp).map_err(|e| e.to_string())?;
    let (width, height) = size_at(reader.as_ref(), task.spacing_um);
    if width.min(height) < least {
        return Err(format!(
            "has {width} x {height} pixels at the plan's spacing, less than a tile or patch of {least}"
        ));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!(
            "has {width} x {height} pixels at the plan's spacing; fields are held whole in memory, up to {} million \
             pixels: cut fields out of it, or use a coarser spacing_um",
            MAX_PIXELS / 1_000_000
        ));
    }
    let image = read_at(reader.as_ref(), task.spacing_um, 0, 0, width, height).map_err(|e| e.to_string())?;
    let labels = read_mask_at(mask, reader.as_ref(), task.spacing_um, task.classes.len()).map_err(|e| e.to_string())?;
    let tissue = match &slide.tissue {
        Some(outlines) => TissueMask::from_geojson(outlines, reader.as_ref()).map_err(|e| e.to_string())?,
        None => TissueMask::of(reader.as_ref()).map_err(|e| e.to_string())?,
    };
    let tissue = tissue.at(width, height);
    let tissue = tissue.as_raw().iter().map(|&value| u8::from(value != 0)).collect();
    let colour = image.pixels().map(|pixel| colour_class(pixel.0)).collect();
    Ok(Field { name: slide.name.clone(), stage: slide.stage.clone(), image, labels, tissue, colour })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_held_out_once() {
        let field = |name: &str| Field {
            name: name.into(),
            stage: None,
            image: RgbImage::new(1, 1),
            labels: GrayImage::new(1, 1),
            tissue: vec![1],
            colour: vec![0],
        };
        let fields = ["a", "b", "c", "d", "e"].map(field).into();
        let site = Site { id: "s".parse().unwrap(), central: false, fields };
        for seed in 0..5 {
            let mut all: Vec<usize> = (0..2).flat_map(|fold| site.split(seed, fold, 2).0).collect();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4]);
            let (held_out, others) = site.split(seed, 0, 2);
            assert!(held_out.len() == 3 && others.len() == 2 && held_out.iter().all(|i| !others.contains(i)));
        }
        let stages = ["micro", "negative", "micro", "negative"];
        let staged = stages.map(|stage| Field { stage: Some(stage.into()), ..field(stage) }).into();
        let staged = Site { id: "s".parse().unwrap(), central: false, fields: staged };
        for fold in 0..2 {
            let (held_out, _) = staged.split(1, fold, 2);
            assert_ne!(stages[held_out[0]], stages[held_out[1]], "each fold has both");
        }
        let splits: std::collections::BTreeSet<_> = (0..20).map(|seed| site.split(seed, 0, 2)).collect();
        assert!(splits.len() > 5, "another seed splits otherwise");
    }
}
