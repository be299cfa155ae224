//! The oracle: a correction is the reference mask at the same box. For simulation and trials.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use consilium_learning::dataset::{DataFolder, SlideEntry};
use consilium_learning::slides::{open_slide, read_mask_at};
use image::GrayImage;

use super::{Batch, Correction, Corrector, Provenance, outcome, picture};
use crate::clock;
use crate::error::SiteError;

/// Reads the masks of the data folder.
#[derive(Debug)]
pub struct MasksCorrector {
    data_dir: PathBuf,
}

impl MasksCorrector {
    /// An oracle over this data folder.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }
}

impl Corrector for MasksCorrector {
    fn accepts(&self, slide: &SlideEntry) -> Result<(), String> {
        match slide.mask {
            Some(_) => Ok(()),
            None => Err("has no reference mask, which the corrector `masks` needs; add masks/NAME.png or use the \
                         corrector `folder`"
                .to_owned()),
        }
    }

    fn offer(&self, _: &Batch) -> Result<(), SiteError> {
        Ok(())
    }

    fn poll(&self, batch: &Batch, missing: &[usize]) -> Result<Vec<Correction>, SiteError> {
        let mut by_slide: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for &index in missing {
            if let Some(patch) = batch.patches.get(index) {
                by_slide.entry(&patch.slide).or_default().push(index);
            }
        }
        if by_slide.is_empty() {
            return Ok(Vec::new());
        }
        let folder = DataFolder::open(&self.data_dir).map_err(SiteError::learning("reading the data folder"))?;
        let mut corrections = Vec::new();
        for (name, indices) in by_slide {
            let entry = folder.slides.iter().find(|entry| entry.name == name);
            let Some((entry, mask)) = entry.and_then(|entry| Some((entry, entry.mask.as_ref()?))) else {
                let why = format!("no longer has the reference mask of {name}, which was selected from; put it back");
                return Err(SiteError::Damaged { path: self.data_dir.clone(), why });
            };
            let slide = open_slide(&entry.path, entry.mpp).map_err(SiteError::learning("opening a slide"))?;
            let labels = read_mask_at(mask, slide.as_ref(), batch.task.spacing_um, batch.task.classes.len())
                .map_err(SiteError::learning("reading a reference mask"))?;
            for index in indices {
                corrections.push(cut(batch, index, &labels)?);
            }
        }
        corrections.sort_by_key(|correction| correction.patch);
        Ok(corrections)
    }
}

fn cut(batch: &Batch, index: usize, mask: &GrayImage) -> Result<Correction, SiteError> {
    let offered = &batch.patches[index];
    let labels = picture::crop_labels(mask, offered.patch);
    let prediction = picture::read_grey(&offered.prediction)?;
    let provenance = Provenance {
        who: "reference mask".to_owned(),
        when: clock::text(clock::now()),
        generation: batch.generation,
        outcome: outcome(&labels, &prediction),
        seconds: None,
    };
    Ok(Correction { patch: index, labels, provenance })
}
