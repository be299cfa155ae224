//! What a slide's file says about itself, and which parts of it cannot be decoded.
//!
//! A damaged tile costs its own area, not the slide: it is white in every read and remembered as a [`Hole`]. A slide with
//! too many of them is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use consilium_common::{Mpp, limits};

use serde::{Deserialize, Serialize};

use super::Level;
use super::error::SlideError;

/// A level other than the finest tells of a bad copy by its holes if it has so many tiles: a quarter of them are four.
const TELLING_TILES: u64 = 16;

/// What the file says about itself. Never a patient's name, a label or a macro image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// The format in words, such as `Aperio SVS` or `DICOM`.
    pub format: String,
    /// Spacing of level 0 as the file gives it; `None` where it gives none, or an impossible one.
    pub file_mpp: Option<Mpp>,
    /// Magnification of the objective, such as 40.
    pub objective: Option<f64>,
    /// What a person should look at, one sentence each.
    pub warnings: Vec<String>,
}

impl About {
    /// Of a format, with the spacing that its file gives. `given` is the spacing that overrides it: a difference of more
    /// than 1 % becomes a warning.
    pub(super) fn new(format: impl Into<String>, file_mpp: Option<Mpp>, given: Option<Mpp>) -> Self {
        let mut about = Self { format: format.into(), file_mpp, ..Self::default() };
        if let (Some(file), Some(given)) = (file_mpp, given)
            && (file.um_per_px() - given.um_per_px()).abs() > 0.01 * file.um_per_px()
        {
            let (file, given) = (file.um_per_px(), given.um_per_px());
            about.warnings.push(format!(
                "its file says {file} um/px and {given} was given instead; {given} is used, correct slides.csv or --mpp if \
                 that is wrong"
            ));
        }
        about
    }
}

/// Whether a name is that of a label, macro or overview image: one of these is a word of it.
pub(super) fn is_not_tissue(name: &str) -> bool {
    let name = name.to_lowercase();
    name.split(|c: char| !c.is_alphabetic()).any(|word| ["label", "macro", "overview"].contains(&word))
}

/// A part of a slide that cannot be decoded, as a box in level-0 pixels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hole {
    /// Upper edge.
    pub y: u32,
    /// Left edge.
    pub x: u32,
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
    /// The level whose tile is damaged.
    pub level: usize,
    /// What the decoder said.
    pub why: String,
}

impl Hole {
    /// The part of it that lies on a slide with this level 0; rounding of downsamples may take it beyond.
    pub(super) fn within(mut self, base: Level) -> Self {
        self.w = self.w.min(base.width.saturating_sub(self.x));
        self.h = self.h.min(base.height.saturating_sub(self.y));
        self
    }
}

/// The holes that reads have met so far.
#[derive(Debug, Default)]
pub(super) struct Holes(Mutex<BTreeMap<(usize, u64), Hole>>);

impl Holes {
    /// Remembers tile `index` of `hole.level`, which has `tiles` tiles.
    ///
    /// # Errors
    /// More than a quarter of the tiles of level 0, or of a coarser level of some size, or more than
    /// [`limits::MAX_SLIDE_HOLES`], cannot be decoded.
    pub(super) fn add(&self, path: &Path, index: u64, hole: Hole, tiles: u64) -> Result<(), SlideError> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (level, why) = (hole.level, hole.why.clone());
        found.insert((level, index), hole);
        let here = found.range((level, 0)..=(level, u64::MAX)).count() as u64;
        // A coarse level of a few tiles says nothing about the copy, and the slide is whole without it.
        let telling = level == 0 || tiles >= TELLING_TILES;
        if (telling && here * 4 > tiles) || found.len() > limits::MAX_SLIDE_HOLES {
            return Err(SlideError::damaged(path, format!("{here} of {tiles} tiles cannot be decoded: {why}")));
        }
        Ok(())
    }

    /// All of them, by level and tile.
    pub(super) fn all(&self) -> Vec<Hole> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_may_be_missing_and_no_more() {
        let (holes, path) = (Holes::default(), Path::new("s.tif"));
        let hole = |x: u32| Hole { x, y: 0, w: 1, h: 1, level: 0, why: "bad marker".into() };
        holes.add(path, 1, hole(1), 8).unwrap();
        holes.add(path, 1, hole(1), 8).unwrap();
        holes.add(path, 2, hole(2), 8).unwrap();
        let error = holes.add(path, 3, hole(3), 8).unwrap_err().to_string();
        assert!(error.contains("3 of 8 tiles") && error.contains("bad marker"), "{error}");
        assert_eq!(holes.all().len(), 3);
        let whole = Holes::default().add(path, 0, hole(0), 1);
        assert!(whole.is_err(), "a slide of one tile that cannot be decoded is no slide");
    }

    #[test]
    fn a_coarse_level_of_few_tiles_does_not_end_the_slide() {
        let add = |level, tiles, index| {
            let hole = Hole { x: 0, y: 0, w: 1, h: 1, level, why: "bad marker".into() };
            Holes::default().add(Path::new("s.tif"), index, hole, tiles)
        };
        assert!(add(3, 1, 0).is_ok() && add(2, 3, 2).is_ok());
        let (holes, path) = (Holes::default(), Path::new("s.tif"));
        let hole = |level| Hole { x: 0, y: 0, w: 1, h: 1, level, why: "bad marker".into() };
        (0..15).for_each(|index| holes.add(path, index, hole(2), 15).unwrap());
        (0..4).for_each(|index| holes.add(path, index, hole(1), 16).unwrap());
        assert!(holes.add(path, 4, hole(1), 16).is_err(), "five of sixteen tell of a bad copy");
        let all = (limits::MAX_SLIDE_HOLES - holes.all().len()) as u64;
        (0..all).for_each(|index| holes.add(path, index, hole(0), 1 << 20).unwrap());
        assert!(holes.add(path, 0, hole(3), 1).is_err(), "too many in all");
    }

    #[test]
    fn labels_are_known_by_a_word_of_their_names() {
        for name in ["Label Image", "x (MACRO)", "slide_overview", "label", "a.svs - LABEL image"] {
            assert!(is_not_tissue(name), "{name}");
        }
        for name in ["CMU-1.svs", "macrophages", "unlabelled", ""] {
            assert!(!is_not_tissue(name), "{name}");
        }
    }

    #[test]
    fn another_spacing_than_the_files_is_a_warning() {
        let mpp = |um| Some(Mpp::new(um).unwrap());
        assert!(About::new("x", mpp(0.25), mpp(0.2501)).warnings.is_empty());
        assert!(About::new("x", None, mpp(0.5)).warnings.is_empty());
        assert!(About::new("x", mpp(0.25), mpp(0.5)).warnings[0].contains("0.25 um/px and 0.5 was given"));
    }
}
