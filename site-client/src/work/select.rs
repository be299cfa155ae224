//! Step 4: the best boxes of all slides, each written out as image, prediction and uncertainty, and the boxes that are
//! rehearsed, as image and labels. The selection is fixed once it is in the journal.

use std::path::PathBuf;
use std::sync::Arc;

use consilium_common::messages::Stage;
use consilium_common::plan::UNLABELLED;
use consilium_common::{GenerationNumber, Mpp};
use consilium_learning::acquisition::{self, Candidate, PatchBox};
use consilium_learning::dataset::{DataFolder, SlideEntry};
use consilium_learning::slides::{SlideError, open_slide, read_at};
use image::RgbImage;
use tracing::info;

use super::correct::label_digest;
use super::scan::{REHEARSAL, crop_path, crops_dir};
use super::{Job, blocking, patches};
use crate::corrector::picture;
use crate::error::SiteError;
use crate::files;
use crate::records::{Rehearsed, Selected};
use crate::scanner::OfSlide;

/// Selects and writes out the patches of this round, unless that is done.
pub(crate) async fn patches(job: &Job<'_>) -> Result<Vec<Selected>, SiteError> {
    let (work, order) = (job.work, job.order);
    if let Some(patches) = work.journal.selections(&order.study).await?.remove(&order.round.0) {
        return Ok(patches);
    }
    job.reporter(Stage::Select);
    let (mut all, mut rehearsal) = (Vec::new(), Vec::new());
    for scan in work.journal.scans(&order.study, order.round).await?.into_values() {
        all.extend(scan.candidates);
        rehearsal.extend(scan.rehearsal);
    }
    let plan = &job.plan;
    let chosen = acquisition::select(&all, &plan.acquisition, &job.turn(&job.selection_seed()));
    let written = Written {
        folder: job.data().await?,
        cutter: Arc::new(Cutter {
            round: work.layout.round(&order.study, order.round),
            scans: work.layout.scans(&order.study, order.round),
            spacing: plan.task.spacing_um,
            generation: order.generation,
        }),
    };
    let mut selected = Vec::new();
    for (boxes, control) in [(chosen.patches, false), (chosen.control, true)] {
        let first = selected.len() + 1;
        let write = move |cutter: &Cutter, number: usize, candidate: Candidate, slide: &SlideEntry| {
            cutter.patch(format!("patch-{:02}", first + number), candidate, control, slide)
        };
        selected.extend(written.all(job, boxes, write).await?);
    }
    let asked: Vec<(&str, PatchBox)> =
        selected.iter().map(|patch: &Selected| (patch.scored.slide.as_str(), patch.scored.patch)).collect();
    let seed = job.rehearsal_seed();
    let drawn = acquisition::rehearsal_of_site(&rehearsal, &asked, &plan.acquisition, &plan.rehearsal, &seed);
    let write = |cutter: &Cutter, number: usize, candidate: Candidate, slide: &SlideEntry| {
        cutter.rehearsal(format!("rehearsal-{:02}", number + 1), &candidate, slide)
    };
    let rehearsed: Vec<Rehearsed> = written.all(job, drawn, write).await?.into_iter().flatten().collect();
    work.journal.put_selection(order, &selected, &rehearsed).await?;
    patches::report(job).await?;
    files::remove_dir(&written.cutter.scans)?;
    let (patches, rehearsed) = (selected.len(), rehearsed.len());
    info!(study = %order.study, round = order.round.0, patches, rehearsed, "selected");
    Ok(selected)
}

/// Where boxes are written from.
struct Written {
    folder: DataFolder,
    cutter: Arc<Cutter>,
}

impl Written {
    /// Writes boxes one after the other, numbered from 0 as they are finished. A slide that is gone or cannot be read is
    /// noted, and its boxes are left out.
    async fn all<T, F>(&self, job: &Job<'_>, boxes: Vec<Candidate>, write: F) -> Result<Vec<T>, SiteError>
    where
        T: Send + 'static,
        F: Fn(&Cutter, usize, Candidate, &SlideEntry) -> OfSlide<T> + Clone + Send + 'static,
    {
        let mut done = Vec::with_capacity(boxes.len());
        for candidate in boxes {
            let name = candidate.slide.clone();
            let written = match self.folder.slide(&name).cloned() {
                None => Err("was scanned and is gone now; put it back".to_owned()),
                Some(slide) => {
                    let (cutter, number, write) = (Arc::clone(&self.cutter), done.len(), write.clone());
                    blocking("writing a patch", move |_| write(&cutter, number, candidate, &slide)).await?
                }
            };
            match written {
                Ok(one) => done.push(one),
                Err(why) => job.work.journal.put_problem(&name, &why).await?,
            }
        }
        Ok(done)
    }
}

/// Cuts boxes from slides and scans into the round folder.
struct Cutter {
    round: PathBuf,
    scans: PathBuf,
    spacing: Mpp,
    generation: GenerationNumber,
}

impl Cutter {
    fn patch(&self, name: String, candidate: Candidate, control: bool, slide: &SlideEntry) -> OfSlide<Selected> {
        let patch = candidate.patch;
        let (image, mpp) = match self.read(patch, slide) {
            Ok(read) => read,
            Err(why) => return Ok(Err(why.to_string())),
        };
        let scale = self.spacing.um_per_px() / mpp.um_per_px();
        let level0 = |at: u32| (f64::from(at) * scale).round() as i64;
        let (level0_x, level0_y) = (level0(patch.x), level0(patch.y));
        let crops = crops_dir(&self.scans, &candidate.slide);
        let (generation, scored) = (self.generation, candidate.into());
        let selected = Selected { name, generation, level0_x, level0_y, scored, control };
        files::write_atomic(&self.round.join(selected.image()), &picture::png(image)?, files::SHARED)?;
        for (kind, file) in [("prediction", selected.prediction()), ("uncertainty", selected.uncertainty())] {
            let bytes = files::read(&crop_path(&crops, patch, kind))?;
            files::write_atomic(&self.round.join(file), &bytes, files::SHARED)?;
        }
        Ok(Ok(selected))
    }

    /// None of which nothing is labelled.
    fn rehearsal(&self, name: String, candidate: &Candidate, slide: &SlideEntry) -> OfSlide<Option<Rehearsed>> {
        let image = match self.read(candidate.patch, slide) {
            Ok((image, _)) => image,
            Err(why) => return Ok(Err(why.to_string())),
        };
        let crop = crop_path(&crops_dir(&self.scans, &candidate.slide), candidate.patch, REHEARSAL);
        let labels = picture::read_grey(&crop)?;
        if labels.as_raw().iter().all(|&label| label == UNLABELLED) {
            return Ok(Ok(None));
        }
        let rehearsed = Rehearsed { name, slide: candidate.slide.clone(), labels: label_digest(&labels) };
        files::write_atomic(&self.round.join(rehearsed.image()), &picture::png(image)?, files::SHARED)?;
        files::write_atomic(&self.round.join(rehearsed.label_map()), &picture::png(labels)?, files::SHARED)?;
        Ok(Ok(Some(rehearsed)))
    }

    /// The pixels of a box, and the slide's own spacing.
    fn read(&self, patch: PatchBox, slide: &SlideEntry) -> Result<(RgbImage, Mpp), SlideError> {
        let reader = open_slide(&slide.path, slide.mpp)?;
        let (x, y) = (patch.x.into(), patch.y.into());
        Ok((read_at(reader.as_ref(), self.spacing, x, y, patch.side, patch.side)?, reader.mpp()))
    }
}
