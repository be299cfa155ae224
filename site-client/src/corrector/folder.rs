//! A person behind a shared folder. Each patch is written out as image, prediction, overlay and uncertainty; the person
//! saves `NAME-correction.png` beside them. A file that is still being written is waited for; a wrong one is answered by
//! `NAME-correction.problem.txt` and left alone until it changes.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use consilium_learning::dataset::SlideEntry;

use super::picture::{self, NotLabels};
use super::{Batch, Correction, Corrector, OfferedPatch, Provenance, outcome};
use crate::error::SiteError;
use crate::files::{self, SHARED};

/// A file that cannot be read and changed more recently than this is taken to be still on its way.
const SETTLED: Duration = Duration::from_secs(10);

/// Shares a folder with a person.
#[derive(Debug)]
pub struct FolderCorrector {
    dir: PathBuf,
    person: Option<String>,
    settled: Duration,
}

impl FolderCorrector {
    /// A corrector over this folder.
    pub fn new(dir: &Path, person: Option<String>) -> Self {
        Self { dir: dir.to_owned(), person, settled: SETTLED }
    }

    fn round_dir(&self, batch: &Batch) -> PathBuf {
        self.dir.join(batch.study.as_str()).join(format!("round-{}", batch.round))
    }

    fn take(&self, batch: &Batch, index: usize) -> Result<Option<Correction>, SiteError> {
        let offered = &batch.patches[index];
        let dir = self.round_dir(batch);
        let path = dir.join(format!("{}-correction.png", offered.name));
        let note = dir.join(format!("{}-correction.problem.txt", offered.name));
        let Ok(meta) = fs::metadata(&path) else { return Ok(None) };
        let Ok(bytes) = fs::read(&path) else {
            complain(&note, "it cannot be read; check its permissions")?;
            return Ok(None);
        };
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let fresh = modified.elapsed().is_ok_and(|age| age < self.settled);
        let labels = match picture::labels_from(&bytes, offered.patch.side, batch.task.classes.len()) {
            Ok(labels) => labels,
            Err(NotLabels::Unreadable(_)) if fresh => return Ok(None),
            Err(NotLabels::Unreadable(why) | NotLabels::Wrong(why)) => {
                complain(&note, &why)?;
                return Ok(None);
            }
        };
        files::remove_file(&note)?;
        let when = jiff::Timestamp::try_from(modified).map(|t| t.round(jiff::Unit::Second).unwrap_or(t).to_string());
        let provenance = Provenance {
            who: self.person.clone().unwrap_or_else(|| "a person".to_owned()),
            when: when.unwrap_or_default(),
            generation: batch.generation,
            outcome: outcome(&labels, &picture::read_grey(&offered.prediction)?),
            seconds: None,
        };
        Ok(Some(Correction { patch: index, labels, provenance }))
    }
}

impl Corrector for FolderCorrector {
    fn accepts(&self, _: &SlideEntry) -> Result<(), String> {
        Ok(())
    }

    fn offer(&self, batch: &Batch) -> Result<(), SiteError> {
        let dir = self.round_dir(batch);
        files::create_dir(&dir)?;
        for offered in &batch.patches {
            write_patch(&dir, offered, batch.task.classes.len())?;
        }
        files::write_atomic(&dir.join("README.txt"), readme(batch).as_bytes(), SHARED)
    }

    fn poll(&self, batch: &Batch, missing: &[usize]) -> Result<Vec<Correction>, SiteError> {
        let known = missing.iter().filter(|&&index| index < batch.patches.len());
        known.filter_map(|&index| self.take(batch, index).transpose()).collect()
    }
}

fn complain(note: &Path, why: &str) -> Result<(), SiteError> {
    let text = format!("This correction was not taken: {why}.\n");
    // Writing the same complaint again and again would look like news.
    if fs::read_to_string(note).is_ok_and(|old| old == text) {
        return Ok(());
    }
    files::write_atomic(note, text.as_bytes(), SHARED)
}

fn write_patch(dir: &Path, offered: &OfferedPatch, classes: usize) -> Result<(), SiteError> {
    let file = |kind: &str| dir.join(format!("{}-{kind}.png", offered.name));
    if file("uncertainty").is_file() {
        return Ok(()); // the last to be written
    }
    let image = picture::read_rgb(&offered.image)?;
    let prediction = picture::read_grey(&offered.prediction)?;
    let uncertainty = picture::read_grey(&offered.uncertainty)?;
    files::write_atomic(&file("image"), &picture::png(image.clone())?, SHARED)?;
    files::write_atomic(&file("prediction"), &picture::palette_png(&prediction)?, SHARED)?;
    files::write_atomic(&file("overlay"), &picture::png(picture::overlay(&image, &prediction))?, SHARED)?;
    files::write_atomic(&file("uncertainty"), &picture::png(picture::heat(&uncertainty, classes))?, SHARED)
}

fn readme(batch: &Batch) -> String {
    let mut text = format!(
        "Patches to correct: study {}, round {}\n\n\
         The model was unsure about these {} patches. Please correct what it drew.\n\n\
         For each patch there are four pictures:\n\
         \x20 NAME-image.png        the tissue\n\
         \x20 NAME-prediction.png   what the model drew, one colour a class (see below)\n\
         \x20 NAME-overlay.png      the same, over the tissue\n\
         \x20 NAME-uncertainty.png  where the model was unsure: bright is unsure\n\n\
         What to do, for each patch:\n\
         \x20 1. Open NAME-prediction.png in a paint program and correct it, with NAME-image.png beside it.\n\
         \x20 2. Use exactly the colours below and a hard brush. Do not scale or crop.\n\
         \x20 3. Save it in this folder as NAME-correction.png, when you are done with it: it is taken at once.\n\n\
         If the prediction is right, save it unchanged under that name. What you cannot tell, paint white: white is\n\
         not learned from. A patch that is no use at all may be painted white altogether.\n\
         If a correction cannot be used, NAME-correction.problem.txt says why; save it again and the note goes away.\n\n\
         Colours (a plain grey picture with the numbers as grey values is fine, too):\n",
        batch.study,
        batch.round,
        batch.patches.len()
    );
    // Writing to a String cannot fail.
    for (class, name) in (0u8..).zip(&batch.task.classes) {
        let [r, g, b] = picture::class_colour(class);
        let _ = writeln!(text, "  {class:>3}  #{r:02x}{g:02x}{b:02x}  {name}");
    }
    let _ = writeln!(
        text,
        "  255  #ffffff  not labelled\n\nWhere the patches lie (level-0 pixels of the top-left corner):"
    );
    for offered in &batch.patches {
        let (x, y) = offered.level0;
        let _ = writeln!(text, "  {}  slide {}  x {x}  y {y}", offered.name, offered.slide);
    }
    text
}

#[cfg(test)]
mod tests;
