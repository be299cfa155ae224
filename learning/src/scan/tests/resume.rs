//! A scan that was stopped goes on where it was, and gives the same maps.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use image::RgbImage;

use super::super::slab::SLAB_ROWS;
use super::super::{Maps, Resources, ScanError, ScanJob, ScanMaps, Strip};
use super::fakes::{Fake, picture, spacing, task};
use super::{everywhere, settings};
use crate::slides::{FlatSlide, Hole, Level, SlideError, SlideReader};
use crate::tissue::TissueMask;

const SIZE: (u32, u32) = (90, 300);

struct Case {
    slide: FlatSlide,
    tissue: TissueMask,
    fake: Fake,
}

impl Case {
    fn new() -> Self {
        let tissue = TissueMask::from_image(everywhere(SIZE.0, SIZE.1));
        Self { slide: FlatSlide::new(picture(SIZE.0, SIZE.1), spacing()), tissue, fake: Fake::new(2, 2) }
    }

    /// Scans into the folder until `tiles` tiles are done.
    fn scan(&self, dir: &Path, key: &str, memory_bytes: u64, tiles: u64) -> Result<ScanMaps, ScanError> {
        let (task, settings) = (task(2), settings(16));
        let resources = Resources { memory_bytes, readers: 2 };
        let (slide, tissue, predictor) = (&self.slide, &self.tissue, &self.fake);
        let job = ScanJob { slide, tissue, predictor, task: &task, settings: &settings, resources };
        job.in_folder(dir, key, &|done, _| done < tiles)
    }

    fn seen(&self) -> usize {
        self.fake.tiles_seen()
    }
}

fn whole(maps: &ScanMaps) -> Strip {
    maps.read(0..SIZE.0, 0..SIZE.1).unwrap()
}

fn slabs(dir: &Path) -> Vec<PathBuf> {
    let lanes = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir());
    let mut found: Vec<_> = lanes.flat_map(|lane| fs::read_dir(lane).unwrap().map(|e| e.unwrap().path())).collect();
    found.sort();
    found
}

#[test]
fn stopped_again_and_again_it_gives_the_same_maps_with_little_done_twice() {
    let folder = tempfile::tempdir().unwrap();
    let case = Case::new();
    let reference = whole(&case.scan(&folder.path().join("whole"), "k", 1, u64::MAX).unwrap());
    let once = case.seen();
    let (dir, stops) = (folder.path().join("parts"), AtomicU64::new(0));
    let maps = loop {
        match case.scan(&dir, "k", 1, 60) {
            Ok(maps) => break maps,
            Err(ScanError::Stopped) => assert!(stops.fetch_add(1, Ordering::Relaxed) < 50, "no progress"),
            Err(other) => panic!("{other}"),
        }
    };
    assert!(stops.into_inner() >= 3);
    assert_eq!(whole(&maps), reference);
    assert!(case.seen() < 3 * once, "{} tiles, {once} in one go", case.seen() - once);
    let before = case.seen();
    assert_eq!(whole(&case.scan(&dir, "k", 1 << 20, u64::MAX).unwrap()), reference, "lanes stay as they were");
    assert_eq!(case.seen(), before, "a finished scan computes nothing");
}

#[test]
fn a_damaged_slab_is_computed_again_and_another_key_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let case = Case::new();
    let reference = whole(&case.scan(folder.path(), "k", 1, u64::MAX).unwrap());
    let path = slabs(folder.path())[1].clone();
    fs::write(&path, b"cut off").unwrap();
    let before = case.seen();
    assert_eq!(whole(&case.scan(folder.path(), "k", 1, u64::MAX).unwrap()), reference);
    assert!(case.seen() > before);
    let before = case.seen();
    assert_eq!(whole(&case.scan(folder.path(), "another", 1, u64::MAX).unwrap()), reference);
    assert!(case.seen() - before >= before / 3, "nothing of another scan is used");
    fs::remove_file(&path).unwrap();
    let maps = ScanMaps {
        store: super::super::store::Store::folder(folder.path(), case_layout(folder.path()), 0).unwrap(),
        timing: Default::default(),
        holes: vec![],
    };
    let error = maps.read(0..SIZE.0, 0..SIZE.1).unwrap_err().to_string();
    assert!(error.contains(".slab") && error.contains("scan the slide again"), "{error}");
}

fn case_layout(dir: &Path) -> super::super::store::Layout {
    serde_json::from_slice(&fs::read(dir.join("scan.json")).unwrap()).unwrap()
}

#[test]
fn parts_of_the_maps_equal_parts_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let maps = Case::new().scan(folder.path(), "k", 1, u64::MAX).unwrap();
    let whole = whole(&maps);
    for (x, y) in [(0..90, 63..66), (31..33, 0..300), (10..80, 100..200), (89..200, 299..400), (5..5, 3..9)] {
        assert_eq!(maps.read(x.clone(), y.clone()).unwrap(), whole.read(x.clone(), y.clone()).unwrap(), "{x:?} {y:?}");
    }
    let mut rows = 0;
    maps.each_strip(10..290, 37, &mut |strip| {
        assert_eq!(*strip, whole.read(0..90, strip.y..strip.y + strip.rows).unwrap());
        rows += strip.rows;
        Ok(())
    })
    .unwrap();
    assert_eq!(rows, 280);
}

/// A slide with a damaged part, which it knows of once somebody has read there.
struct Holed {
    inside: FlatSlide,
    /// The row below the damage.
    bottom: u32,
    met: AtomicBool,
}

impl Holed {
    fn new(bottom: u32) -> Self {
        Self { inside: FlatSlide::new(picture(SIZE.0, SIZE.1), spacing()), bottom, met: AtomicBool::new(false) }
    }
}

impl SlideReader for Holed {
    fn levels(&self) -> &[Level] {
        self.inside.levels()
    }

    fn mpp(&self) -> consilium_common::Mpp {
        self.inside.mpp()
    }

    fn read_level(&self, level: usize, x: i64, y: i64, w: u32, h: u32) -> Result<RgbImage, SlideError> {
        if x < 13
            && x + i64::from(w) > 5
            && y < i64::from(self.bottom)
            && y + i64::from(h) > i64::from(self.bottom) - 10
        {
            self.met.store(true, Ordering::Relaxed);
        }
        self.inside.read_level(level, x, y, w, h)
    }

    fn holes(&self) -> Vec<Hole> {
        let hole = Hole { x: 5, y: self.bottom - 10, w: 8, h: 10, level: 0, why: "a test".into() };
        if self.met.load(Ordering::Relaxed) { vec![hole] } else { vec![] }
    }
}

#[test]
fn holes_that_an_earlier_run_met_are_known_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (tissue, fake) = (TissueMask::from_image(everywhere(SIZE.0, SIZE.1)), Fake::new(2, 2));
    let (task, settings) = (task(2), settings(16));
    let scan = |dir: &str, (bottom, memory_bytes): (u32, u64), tiles: u64| {
        let slide = Holed::new(bottom);
        let resources = Resources { memory_bytes, readers: 1 };
        let (tissue, predictor) = (&tissue, &fake);
        let job = ScanJob { slide: &slide, tissue, predictor, task: &task, settings: &settings, resources };
        job.in_folder(&folder.path().join(dir), "k", &|done, _| done < tiles)
    };
    // At the top of the only lane; and at the bottom of the first of several lanes, the second of which does not touch it.
    for (name, damage, stop) in [("top", (40, 1 << 20), 200), ("bottom", (SIZE.1, 1), 148 + 100)] {
        let reference = scan(&format!("{name}-whole"), damage, u64::MAX).unwrap();
        assert_eq!(reference.holes.len(), 1);
        let parts = format!("{name}-parts");
        assert!(matches!(scan(&parts, damage, stop), Err(ScanError::Stopped)));
        let first_lane =
            slabs(&folder.path().join(&parts)).iter().filter(|s| s.to_string_lossy().contains("lane-000")).count();
        let needed = damage.0.div_ceil(SLAB_ROWS) as usize;
        assert!(first_lane >= needed, "the rows with the hole are finished: {first_lane} of {needed} slabs");
        let resumed = scan(&parts, damage, u64::MAX).unwrap();
        assert_eq!((&resumed.holes, whole(&resumed)), (&reference.holes, whole(&reference)));
    }
}
