//! Step 3: the ensemble over every pool slide. Of a finished slide only the boxes are kept that could be selected or
//! rehearsed once all slides are known, as small PNG files; a slide that cannot be scanned is noted and the others go on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use consilium_common::messages::Stage;
use consilium_common::plan::Rehearsal;
use consilium_common::{Digest, Plan};
use consilium_learning::acquisition::{self, PatchBox, Sight, Turn, rehearsal_labels};
use consilium_learning::dataset::{SlideEntry, Split};
use consilium_learning::scan::{Maps, ScanError};
use consilium_learning::slides::{open_slide, read_at};
use consilium_learning::uncertainty::quantise;
use image::GrayImage;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Job, Loaded, Reporter, computing};
use crate::corrector::picture;
use crate::error::SiteError;
use crate::files;
use crate::journal::ScanRow;
use crate::scanner::{OfSlide, Scanner, of_slide};

/// Units of progress a slide: scans report in tiles, slides differ in tiles.
const UNITS: u64 = 1000;

/// Scans the pool slides that this round has not scanned yet.
pub(crate) async fn pool(job: &Job<'_>, ensemble: &Loaded) -> Result<(), SiteError> {
    let (work, order) = (job.work, job.order);
    if work.journal.selections(&order.study).await?.contains_key(&order.round.0) {
        return Ok(());
    }
    job.clear_other_rounds()?;
    let folder = job.data().await?;
    let slides: Vec<SlideEntry> = folder.of(Split::Pool).cloned().collect();
    let done = work.journal.scans(&order.study, order.round).await?;
    let taken = boxes_taken(job).await?;
    let reporter = job.reporter(Stage::Scan);
    let total = slides.len() as u64 * UNITS;
    let mut scanner = None;
    for (index, slide) in slides.iter().enumerate() {
        if done.contains_key(&slide.name) {
            continue;
        }
        if let Err(why) = work.corrector.accepts(slide) {
            skip(job, index, slide, why).await?;
            continue;
        }
        let scanner = match &scanner {
            Some(scanner) => Arc::clone(scanner),
            None => Arc::clone(scanner.insert(Arc::new(job.scanner(ensemble)?))),
        };
        let exclude = taken.iter().filter(|(name, _)| *name == slide.name).map(|(_, b)| *b).collect();
        let dir = crops_dir(&work.layout.scans(&order.study, order.round), &slide.name);
        let maps_dir = dir.with_extension("maps");
        let scan = OneScan {
            slide: slide.clone(),
            plan: job.plan.clone(),
            exclude,
            round: job.turn("").round,
            select_seed: job.selection_seed(),
            rehearsal_seed: job.rehearsal_seed(),
            maps: maps_dir.clone(),
            dir,
            scanner,
            reporter: reporter.clone(),
            offset: index as u64 * UNITS,
            total,
        };
        match survived(computing(&work.compute, "scanning a slide", move |stop| scan.run(stop)).await)? {
            Ok(row) => {
                work.journal.put_scan(order, &slide.name, &row).await?;
                work.journal.clear_problem(&slide.name).await?;
                info!(slide = index, slides = slides.len(), "scanned");
            }
            Err(why) => {
                // A share that is away is no fault of its slides: the work is tried again until it is back.
                fs::metadata(&slide.path).map_err(SiteError::io("read", &slide.path))?;
                skip(job, index, slide, why).await?;
            }
        }
        files::remove_dir(&maps_dir)?;
        reporter.say((index as u64 + 1) * UNITS, total);
    }
    Ok(())
}

/// A crash in a slide's decoder or scan is the slide's fault: it is left out, and the round goes on with the others.
pub(super) fn survived<T>(done: OfSlide<T>) -> OfSlide<T> {
    match done {
        Err(crash @ SiteError::Crashed(_)) => Ok(Err(crash.to_string())),
        done => done,
    }
}

async fn skip(job: &Job<'_>, index: usize, slide: &SlideEntry, why: String) -> Result<(), SiteError> {
    warn!(slide = index, "a slide cannot be used and is left out; `consilium-site status` says why");
    job.work.journal.put_problem(&slide.name, &why).await?;
    job.work.journal.put_scan(job.order, &slide.name, &ScanRow { problem: Some(why), ..ScanRow::default() }).await
}

/// Boxes that earlier rounds of this study asked for; they are neither asked for again nor rehearsed.
async fn boxes_taken(job: &Job<'_>) -> Result<Vec<(String, PatchBox)>, SiteError> {
    let selections = job.work.journal.selections(&job.order.study).await?;
    let earlier = selections.into_iter().filter(|(round, _)| *round != job.order.round.0);
    Ok(earlier.flat_map(|(_, patches)| patches).map(|p| (p.scored.slide, p.scored.patch)).collect())
}

struct OneScan {
    slide: SlideEntry,
    plan: Plan,
    exclude: Vec<PatchBox>,
    round: u32,
    select_seed: String,
    rehearsal_seed: String,
    /// The slide's maps, while it is scanned.
    maps: PathBuf,
    /// What is kept of them.
    dir: PathBuf,
    scanner: Arc<Scanner>,
    reporter: Reporter,
    offset: u64,
    total: u64,
}

impl OneScan {
    fn run(self, stop: &CancellationToken) -> OfSlide<ScanRow> {
        let seen = |done: u64, all: u64| {
            self.reporter.say(self.offset + (done * UNITS).checked_div(all).unwrap_or(UNITS), self.total);
            !stop.is_cancelled()
        };
        let maps = match self.scanner.scan(&self.slide, &self.maps, &seen)? {
            Ok(maps) => maps,
            Err(why) => return Ok(Err(why)),
        };
        match of_slide(self.choose(&maps, stop))? {
            Ok(row) => self.keep(&maps, row),
            Err(why) => Ok(Err(why)),
        }
    }

    /// The boxes that may be asked about or rehearsed, when all slides are known.
    fn choose(&self, maps: &dyn Maps, stop: &CancellationToken) -> Result<ScanRow, ScanError> {
        let (slide, exclude) = (&self.slide.name, &self.exclude);
        let Plan { acquisition: settings, rehearsal, .. } = &self.plan;
        let turn = Turn { round: self.round, rounds: self.plan.rounds, seed: &self.select_seed };
        let spacing = self.plan.task.spacing_um;
        let reader = match settings.min_sharpness > 0.0 {
            true => Some(open_slide(&self.slide.path, self.slide.mpp)?),
            false => None,
        };
        let pixels = |PatchBox { x, y, side }| match &reader {
            Some(reader) if !stop.is_cancelled() => {
                Ok(read_at(reader.as_ref(), spacing, x.into(), y.into(), side, side)?)
            }
            _ => Err(ScanError::Stopped),
        };
        let sight = Sight { spacing, pixels: &pixels };
        let candidates = acquisition::shortlist(maps, slide, settings, exclude, &turn, &sight)?;
        let seed = &self.rehearsal_seed;
        let rehearsal = acquisition::rehearsal_of_slide(maps, slide, settings, rehearsal, exclude, seed)?;
        Ok(ScanRow { candidates, rehearsal, problem: None })
    }

    /// Writes what is needed of the maps, which then go.
    fn keep(&self, maps: &dyn Maps, row: ScanRow) -> OfSlide<ScanRow> {
        files::create_dir(&self.dir)?;
        for (boxes, rehearsal) in [(&row.candidates, None), (&row.rehearsal, Some(&self.plan.rehearsal))] {
            for patch in boxes {
                if let Err(why) = write_crops(&self.dir, maps, patch.patch, rehearsal)? {
                    return Ok(Err(why));
                }
            }
        }
        files::sync_all_in(&self.dir)?;
        Ok(Ok(row))
    }
}

/// The crop of a box that is rehearsed.
pub(crate) const REHEARSAL: &str = "rehearsal";

/// Where the crops of a slide lie. A digest stands for the name, which may hold anything.
pub(crate) fn crops_dir(scans: &Path, slide: &str) -> PathBuf {
    scans.join(Digest::of(slide.as_bytes()).short())
}

pub(crate) fn crop_path(dir: &Path, patch: PatchBox, kind: &str) -> PathBuf {
    dir.join(format!("{}-{}-{kind}.png", patch.x, patch.y))
}

/// Of a box that may be asked about, what the generation says and how unsure it is; of one that is rehearsed, the labels.
fn write_crops(dir: &Path, maps: &dyn Maps, patch: PatchBox, rehearsal: Option<&Rehearsal>) -> OfSlide<()> {
    let crop = match of_slide(maps.read(patch.x..patch.x + patch.side, patch.y..patch.y + patch.side))? {
        Ok(crop) => crop,
        Err(why) => return Ok(Err(why)),
    };
    let crops = match rehearsal {
        None => {
            let eight_bit = crop.uncertainty.iter().map(|&nats| quantise(nats)).collect();
            vec![("prediction", crop.labels), ("uncertainty", eight_bit)]
        }
        Some(settings) => vec![(REHEARSAL, rehearsal_labels(&crop.labels, &crop.entropy, maps.classes(), settings))],
    };
    for (kind, values) in crops {
        // One value a pixel: candidates lie inside the slide.
        let image = GrayImage::from_raw(crop.width, crop.rows, values).unwrap_or_default();
        files::write_unsynced(&crop_path(dir, patch, kind), &picture::png(image)?)?;
    }
    Ok(Ok(()))
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
        let why = survived(crash.await).unwrap().unwrap_err();
        assert!(why.contains("scanning a slide stopped unexpectedly"), "{why}");
        assert_eq!(compute.available_permits(), 1, "the next slide can be computed");
        assert!(matches!(survived::<()>(Err(SiteError::Stopped)), Err(SiteError::Stopped)));
    }
}
