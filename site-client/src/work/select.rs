//! Step 4: the best boxes of all slides, each written out as image, prediction and uncertainty. The selection is fixed
//! once it is in the journal.

use std::path::Path;

use consilium_common::messages::Stage;
use consilium_common::{GenerationNumber, Mpp};
use consilium_learning::acquisition::{self, ScoredPatch};
use consilium_learning::dataset::SlideEntry;
use consilium_learning::slides::{open_slide, read_at};
use tracing::info;

use super::scan::{crop_path, crops_dir};
use super::{Job, blocking, patches};
use crate::corrector::picture;
use crate::error::SiteError;
use crate::files;
use crate::records::Selected;

/// Selects and writes out the patches of this round, unless that is done.
pub(crate) async fn patches(job: &Job<'_>) -> Result<Vec<Selected>, SiteError> {
    let (work, order) = (job.work, job.order);
    if let Some(patches) = work.journal.selections(&order.study).await?.remove(&order.round.0) {
        return Ok(patches);
    }
    job.reporter(Stage::Select);
    let scans = work.journal.scans(&order.study, order.round).await?;
    let all: Vec<ScoredPatch> = scans.into_values().flat_map(|scan| scan.candidates).collect();
    let chosen = acquisition::select(all, &job.plan.acquisition, &job.selection_seed());
    let folder = job.data().await?;
    let dir = work.layout.round(&order.study, order.round);
    let scans_dir = work.layout.scans(&order.study, order.round);
    let mut selected = Vec::with_capacity(chosen.len());
    for scored in chosen {
        let Some(slide) = folder.slide(&scored.slide).cloned() else {
            let why = "was scanned and is gone now; put it back".to_owned();
            work.journal.put_problem(&scored.slide, &why).await?;
            continue;
        };
        let name = format!("patch-{:02}", selected.len() + 1);
        let (slide_name, generation) = (scored.slide.clone(), order.generation);
        let (dir, crops, spacing) = (dir.clone(), crops_dir(&scans_dir, &scored.slide), job.plan.task.spacing_um);
        let write = move |_: &_| write(&dir, &crops, name, scored, &slide, spacing, generation);
        match blocking("writing a patch", write).await? {
            Ok(patch) => selected.push(patch),
            Err(why) => work.journal.put_problem(&slide_name, &why).await?,
        }
    }
    work.journal.put_selection(order, &selected).await?;
    patches::report(job).await?;
    files::remove_dir(&scans_dir)?;
    info!(study = %order.study, round = order.round.0, patches = selected.len(), "selected");
    Ok(selected)
}

/// The outer error is this site's, the inner one the slide's.
fn write(
    dir: &Path,
    crops: &Path,
    name: String,
    scored: ScoredPatch,
    slide: &SlideEntry,
    spacing: Mpp,
    generation: GenerationNumber,
) -> Result<Result<Selected, String>, SiteError> {
    let patch = scored.patch;
    let read = || {
        let reader = open_slide(&slide.path, slide.mpp)?;
        let image = read_at(reader.as_ref(), spacing, patch.x.into(), patch.y.into(), patch.side, patch.side)?;
        Ok::<_, consilium_learning::slides::SlideError>((image, reader.mpp()))
    };
    let (image, mpp) = match read() {
        Ok(read) => read,
        Err(e) => return Ok(Err(e.to_string())),
    };
    let scale = spacing.um_per_px() / mpp.um_per_px();
    let level0 = |at: u32| (f64::from(at) * scale).round() as i64;
    let selected = Selected { name, generation, level0_x: level0(patch.x), level0_y: level0(patch.y), scored };
    files::write_atomic(&dir.join(selected.image()), &picture::png(image)?, files::SHARED)?;
    for (kind, file) in [("prediction", selected.prediction()), ("uncertainty", selected.uncertainty())] {
        let bytes = files::read(&crop_path(crops, patch, kind))?;
        files::write_atomic(&dir.join(file), &bytes, files::SHARED)?;
    }
    Ok(Ok(selected))
}
