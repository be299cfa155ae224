//! The same work without a coordinator: scan slides with a bundle, train a first ensemble, evaluate one. Nothing here
//! opens a connection. Broken slides are left out and named; the others go on.

mod exchange;
mod scan;
mod train;

use std::path::Path;
use std::sync::Arc;

use consilium_common::plan::ScanSettings;
use consilium_learning::dataset::{DataFolder, SlideEntry, Split};
use consilium_learning::engine::Device;
use consilium_learning::metrics::Pooled;
use consilium_learning::network::Ensemble;

pub use crate::slide_record::SlideLine;
pub use exchange::{ImportReport, ImportRequest, Source, export, import};
pub use scan::{DryRun, Phase, Prospect, ScanReport, ScanRequest, Seen, dry_run, scan};
pub use train::{TrainReport, train};

use crate::config::SCAN_MEMORY_MB;
use crate::error::SiteError;
use crate::files;
use crate::records::{EvaluationReport, SlideReport};
use crate::scanner::Scanner;
use crate::work::evaluate::slide_report;

/// How far an offline command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Which slide or member, from 0.
    pub item: usize,
    /// How many there are.
    pub items: usize,
    /// Tiles or steps of it that are done.
    pub done: u64,
    /// Tiles or steps of it in all.
    pub total: u64,
}

/// Hears how far an offline command is, and stops it by answering false.
pub type Progress<'a> = &'a (dyn Fn(Tick) -> bool + Sync);

/// A slide that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub slide: String,
    /// Cause and next step.
    pub why: String,
}

/// What an evaluation found.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// The figures.
    pub report: EvaluationReport,
    /// Slides that could not be used.
    pub left_out: Vec<LeftOut>,
    /// Whether the slides are marked `test`; others may have been trained on.
    pub held_out: bool,
}

/// Evaluates a bundle on the test slides that have masks; where none is marked `test`, on all that have masks and are not
/// marked `train`.
pub fn evaluate(
    bundle: &Path,
    settings: &ScanSettings,
    data: &Path,
    device: Device,
    seen: Progress<'_>,
) -> Result<Evaluated, SiteError> {
    let (ensemble, folder) = (load(bundle, settings)?, open(data)?);
    let slides = with_masks(&folder, Split::Test, Split::Train)?;
    let held_out = slides.iter().all(|slide| slide.split == Split::Test);
    let scanner = Scanner::new(&ensemble, settings.clone(), SCAN_MEMORY_MB << 20, device)?;
    // Maps may take gigabytes, more than a temporary folder in memory holds.
    let here = Path::new(".");
    let scratch = tempfile::tempdir_in(here).map_err(SiteError::io("make a folder in", here))?;
    let mut pooled = Pooled::new(scanner.task.classes.len());
    let mut left_out = left_out(&folder);
    let mut reports: Vec<SlideReport> = Vec::new();
    let items = slides.len();
    for (item, slide) in slides.iter().enumerate() {
        let ticks = |done, total| seen(Tick { item, items, done, total });
        let maps = scratch.path().join("maps");
        let evaluated = scanner.evaluate(slide, &maps, &ticks)?;
        files::remove_dir(&maps)?;
        match evaluated {
            Ok(result) => {
                pooled.add(&result);
                reports.push(slide_report(&slide.name, &result));
            }
            Err(why) => left_out.push(LeftOut { slide: slide.name.clone(), why }),
        }
    }
    let report = EvaluationReport {
        generation: ensemble.manifest.generation,
        manifest: consilium_common::Digest::of(&ensemble.manifest.to_bytes()?),
        slides: reports,
        mean_dice: pooled.mean_dice(),
        pooled_dice: pooled.pooled_dice(),
        ece: pooled.ece(),
    };
    Ok(Evaluated { report, left_out, held_out })
}

fn load(bundle: &Path, settings: &ScanSettings) -> Result<Arc<Ensemble>, SiteError> {
    let ensemble = Ensemble::load(bundle).map_err(SiteError::learning("loading the bundle"))?;
    let stride = ensemble.manifest.architecture.total_stride();
    if settings.tile_px == 0 || !settings.tile_px.is_multiple_of(stride) {
        let why =
            format!("tiles of {} px do not fit: use a multiple of {stride}, the network's stride", settings.tile_px);
        return Err(SiteError::Usage(why));
    }
    Ok(Arc::new(ensemble))
}

fn open(data: &Path) -> Result<DataFolder, SiteError> {
    DataFolder::open(data).map_err(SiteError::learning("reading the data folder"))
}

fn left_out(folder: &DataFolder) -> Vec<LeftOut> {
    folder.problems.iter().map(|p| LeftOut { slide: p.slide.clone(), why: p.why.clone() }).collect()
}

/// The slides of a split that have masks; where the split is empty, all that have masks but those of `never`.
/// With at least one slide marked `test`, what is evaluated on is not trained on.
fn with_masks(folder: &DataFolder, split: Split, never: Split) -> Result<Vec<SlideEntry>, SiteError> {
    let masked = |slide: &&SlideEntry| slide.mask.is_some();
    let mut slides: Vec<SlideEntry> = folder.of(split).filter(masked).cloned().collect();
    if slides.is_empty() {
        slides = folder.slides.iter().filter(masked).filter(|slide| slide.split != never).cloned().collect();
    }
    if slides.is_empty() {
        let why = format!(
            "{} has no usable slide with a reference mask for this; add masks/NAME.png or change the splits in slides.csv",
            folder.root.display()
        );
        return Err(SiteError::Usage(why));
    }
    Ok(slides)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, split: Split) -> SlideEntry {
        let (mask, path) = (Some("m".into()), name.into());
        SlideEntry { name: name.into(), path, mask, split, mpp: None, tissue: None, stage: None }
    }

    #[test]
    fn what_is_held_out_is_never_trained_on() {
        let slides = vec![entry("a", Split::Pool), entry("b", Split::Test)];
        let folder = DataFolder { root: "data".into(), slides, problems: vec![] };
        let names =
            |split, never| with_masks(&folder, split, never).map(|s| s.into_iter().map(|s| s.name).collect::<Vec<_>>());
        assert_eq!(names(Split::Train, Split::Test).unwrap(), ["a"]);
        assert_eq!(names(Split::Test, Split::Train).unwrap(), ["b"]);
        let only = DataFolder { slides: vec![entry("b", Split::Test)], ..folder.clone() };
        assert!(with_masks(&only, Split::Train, Split::Test).unwrap_err().to_string().contains("change the splits"));
    }
}
