//! Step 3: the ensemble over every pool slide. Of a finished slide only the best boxes are kept, each with its
//! prediction and uncertainty as small PNG files; a slide that cannot be scanned is noted and the others go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use consilium_common::Digest;
use consilium_common::messages::Stage;
use consilium_common::plan::{Plan, ScanSettings, Task};
use consilium_learning::acquisition::{self, PatchBox, ScoredPatch};
use consilium_learning::dataset::{SlideEntry, Split};
use consilium_learning::network::Predictor;
use consilium_learning::scan::{ScanResult, scan_slide};
use consilium_learning::slides::open_slide;
use consilium_learning::tissue::TissueMask;
use consilium_learning::uncertainty::Map;
use image::GrayImage;
use tracing::{info, warn};

use super::{Job, Loaded, Reporter, computing};
use crate::corrector::picture;
use crate::error::SiteError;
use crate::files;
use crate::journal::ScanRow;

/// Units of progress a slide: scans report in tiles, slides differ in tiles.
const UNITS: u64 = 1000;

/// Scans the pool slides that this round has not scanned yet.
pub(crate) async fn pool(job: &Job<'_>, ensemble: &Loaded) -> Result<(), SiteError> {
    let (work, order) = (job.work, job.order);
    if work.journal.selections(&order.study).await?.contains_key(&order.round.0) {
        return Ok(());
    }
    let folder = job.data().await?;
    let slides: Vec<SlideEntry> = folder.of(Split::Pool).cloned().collect();
    let done = work.journal.scans(&order.study, order.round).await?;
    let taken = boxes_taken(job).await?;
    let reporter = job.reporter(Stage::Scan);
    let total = slides.len() as u64 * UNITS;
    let mut predictor = None;
    for (index, slide) in slides.iter().enumerate() {
        if done.contains_key(&slide.name) {
            continue;
        }
        if let Err(why) = work.corrector.accepts(slide) {
            skip(job, index, slide, why).await?;
            continue;
        }
        let predictor = predictor.get_or_insert_with(|| Arc::new(Predictor::new(ensemble)));
        let exclude = taken.iter().filter(|(name, _)| *name == slide.name).map(|(_, b)| *b).collect();
        let scan = OneScan {
            slide: slide.clone(),
            plan: job.plan.clone(),
            exclude,
            seed: job.selection_seed(),
            dir: crops_dir(&work.layout.scans(&order.study, order.round), &slide.name),
            predictor: Arc::clone(predictor),
            reporter: reporter.clone(),
            offset: index as u64 * UNITS,
            total,
        };
        match of_slide(computing(&work.compute, "scanning a slide", move |_| scan.run()).await)? {
            Ok(candidates) => {
                work.journal.put_scan(order, &slide.name, &ScanRow { candidates, problem: None }).await?;
                work.journal.clear_problem(&slide.name).await?;
                info!(slide = index, slides = slides.len(), "scanned");
            }
            Err(why) => skip(job, index, slide, why).await?,
        }
        reporter.say((index as u64 + 1) * UNITS, total);
    }
    Ok(())
}

/// A crash in a slide's decoder or scan is the slide's fault: it is left out, and the round goes on with the others.
pub(super) fn of_slide<T>(done: Result<Result<T, String>, SiteError>) -> Result<Result<T, String>, SiteError> {
    match done {
        Err(crash @ SiteError::Crashed(_)) => Ok(Err(crash.to_string())),
        done => done,
    }
}

async fn skip(job: &Job<'_>, index: usize, slide: &SlideEntry, why: String) -> Result<(), SiteError> {
    warn!(slide = index, "a slide cannot be used and is left out; `consilium-site status` says why");
    job.work.journal.put_problem(&slide.name, &why).await?;
    job.work.journal.put_scan(job.order, &slide.name, &ScanRow { candidates: vec![], problem: Some(why) }).await
}

/// Boxes that earlier rounds of this study asked for; they are not asked for again.
async fn boxes_taken(job: &Job<'_>) -> Result<Vec<(String, PatchBox)>, SiteError> {
    let selections = job.work.journal.selections(&job.order.study).await?;
    let earlier = selections.into_iter().filter(|(round, _)| *round != job.order.round.0);
    Ok(earlier.flat_map(|(_, patches)| patches).map(|p| (p.scored.slide, p.scored.patch)).collect())
}

struct OneScan {
    slide: SlideEntry,
    plan: Plan,
    exclude: Vec<PatchBox>,
    seed: String,
    dir: PathBuf,
    predictor: Arc<Predictor>,
    reporter: Reporter,
    offset: u64,
    total: u64,
}

impl OneScan {
    /// The outer error is this site's (a full disk), the inner one the slide's.
    fn run(self) -> Result<Result<Vec<ScoredPatch>, String>, SiteError> {
        let seen = |done: u64, all: u64| {
            self.reporter.say(self.offset + (done * UNITS).checked_div(all).unwrap_or(UNITS), self.total);
        };
        let result = match scan_entry(&self.slide, &self.plan.task, &self.plan.scan, &self.predictor, &seen) {
            Ok(result) => result,
            Err(why) => return Ok(Err(why)),
        };
        let settings = &self.plan.acquisition;
        let all = acquisition::candidates(&result, &self.slide.name, settings, &self.exclude);
        // What will be selected over all slides is, of each slide, a prefix of this.
        let kept = acquisition::select(all, settings, &self.seed);
        files::create_dir(&self.dir)?;
        for patch in &kept {
            write_crops(&self.dir, &result, patch.patch)?;
        }
        Ok(Ok(kept))
    }
}

/// Opens and scans a slide; what is wrong is one sentence.
pub(crate) fn scan_entry(
    slide: &SlideEntry,
    task: &Task,
    settings: &ScanSettings,
    predictor: &Predictor,
    seen: &(dyn Fn(u64, u64) + Sync),
) -> Result<ScanResult, String> {
    let reader = open_slide(&slide.path, slide.mpp).map_err(|e| e.to_string())?;
    let tissue = TissueMask::of(reader.as_ref()).map_err(|e| e.to_string())?;
    scan_slide(reader.as_ref(), &tissue, predictor, task, settings, seen).map_err(|e| e.to_string())
}

/// Where the crops of a slide lie. A digest stands for the name, which may hold anything.
pub(crate) fn crops_dir(scans: &Path, slide: &str) -> PathBuf {
    scans.join(Digest::of(slide.as_bytes()).short())
}

pub(crate) fn crop_path(dir: &Path, patch: PatchBox, kind: &str) -> PathBuf {
    dir.join(format!("{}-{}-{kind}.png", patch.x, patch.y))
}

fn write_crops(dir: &Path, result: &ScanResult, patch: PatchBox) -> Result<(), SiteError> {
    let labels = picture::crop_labels(&result.labels, patch);
    let uncertainty = quantised(&result.uncertainty, patch);
    files::write_atomic(&crop_path(dir, patch, "prediction"), &picture::png(labels)?, files::SHARED)?;
    files::write_atomic(&crop_path(dir, patch, "uncertainty"), &picture::png(uncertainty)?, files::SHARED)
}

fn quantised(map: &Map, patch: PatchBox) -> GrayImage {
    map.crop(patch.x, patch.y, patch.side, patch.side).to_gray8()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn a_decoder_that_crashes_costs_its_slide_and_no_more() {
        let compute = Arc::new(Semaphore::new(1));
        let crash = computing(&compute, "scanning a slide", |_| -> Result<Result<(), String>, _> {
            panic!("a decoder of a broken slide")
        });
        let why = of_slide(crash.await).unwrap().unwrap_err();
        assert!(why.contains("scanning a slide stopped unexpectedly"), "{why}");
        assert_eq!(compute.available_permits(), 1, "the next slide can be computed");
        assert!(matches!(of_slide::<()>(Err(SiteError::Stopped)), Err(SiteError::Stopped)));
    }
}
