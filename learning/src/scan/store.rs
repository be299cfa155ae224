//! Where the maps of one scan lie while it runs and until somebody has used them: slabs in memory or in a folder.
//!
//! In a folder a scan survives the process: what was finished is found again, if it is of the same scan. Each slab is
//! written beside its place and moved there, and carries its own digest.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::slab::{self, Piece, SLAB_ROWS, Slab};
use super::strip::{Maps, Strip};
use super::{ScanError, ScanTiming};
use crate::slides::Hole;

/// Raised when the bytes of a slab or the meaning of the layout change.
const VERSION: u32 = 2;
const LAYOUT: &str = "scan.json";
const TIMING: &str = "timing.json";
const HOLES: &str = "holes.json";

/// What a scan's slabs belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    version: u32,
    /// Names slide, ensemble and settings; another key is another scan.
    key: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) classes: usize,
    /// First and behind-the-last column of each lane.
    pub(super) lanes: Vec<(u32, u32)>,
}

impl Layout {
    pub(super) fn new(key: &str, (width, height): (u32, u32), classes: usize, lanes: Vec<(u32, u32)>) -> Self {
        Self { version: VERSION, key: key.to_owned(), width, height, classes, lanes }
    }

    fn slabs(&self) -> u32 {
        self.height.div_ceil(SLAB_ROWS)
    }

    /// Rows of a slab: the last one may have fewer.
    fn rows_of(&self, slab: u32) -> u32 {
        SLAB_ROWS.min(self.height - slab * SLAB_ROWS)
    }
}

#[derive(Debug)]
enum Place {
    Memory(Mutex<BTreeMap<(usize, u32), Vec<u8>>>),
    Folder(PathBuf),
}

/// The slabs of one scan, finished or not.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) layout: Layout,
    place: Place,
}

impl Store {
    /// An empty one in memory: for small slides.
    pub(super) fn memory(layout: Layout) -> Self {
        Self { layout, place: Place::Memory(Mutex::default()) }
    }

    /// The one in a folder: with what was finished of the same scan, in the lanes that it had then, unless these are wider
    /// than the layout's and than `narrow`; else an empty one.
    pub(super) fn folder(dir: &Path, mut layout: Layout, narrow: u32) -> Result<Self, ScanError> {
        let failed = |source: io::Error| ScanError::write(dir, source);
        let found = fs::read(dir.join(LAYOUT)).ok().and_then(|bytes| serde_json::from_slice::<Layout>(&bytes).ok());
        let widest = |layout: &Layout| layout.lanes.iter().map(|lane| lane.1 - lane.0).max().unwrap_or(0);
        let same = |found: &Layout| {
            layout == Layout { lanes: layout.lanes.clone(), ..found.clone() }
                && sound(found)
                && widest(found) <= widest(&layout).max(narrow)
        };
        match found.filter(same) {
            Some(found) => layout = found,
            None => {
                match fs::remove_dir_all(dir) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                    _ => fs::create_dir_all(dir).map_err(failed)?,
                }
                let bytes = serde_json::to_vec_pretty(&layout).map_err(|e| failed(e.into()))?;
                write_whole(&dir.join(LAYOUT), &bytes)?;
            }
        }
        Ok(Self { layout, place: Place::Folder(dir.to_owned()) })
    }

    /// Keeps a slab. `strip` is as wide as the lane and begins at a multiple of [`SLAB_ROWS`].
    pub(super) fn put(&self, lane: usize, strip: &Strip) -> Result<(), ScanError> {
        let (slab, bytes) = (strip.y / SLAB_ROWS, slab::encode(&self.layout.key, strip));
        match &self.place {
            Place::Memory(slabs) => {
                slabs.lock().unwrap_or_else(PoisonError::into_inner).insert((lane, slab), bytes);
                Ok(())
            }
            Place::Folder(dir) => {
                let path = slab_path(dir, lane, slab);
                match write_whole(&path, &bytes) {
                    Err(_) if !path.with_file_name("").exists() => {
                        let lane_dir = path.parent().unwrap_or(dir);
                        fs::create_dir_all(lane_dir).map_err(|e| ScanError::write(lane_dir, e))?;
                        write_whole(&path, &bytes)
                    }
                    done => done,
                }
            }
        }
    }

    /// Rows at the top of a lane that are finished and sound.
    pub(super) fn rows_done(&self, lane: usize) -> u32 {
        let Place::Folder(dir) = &self.place else { return 0 };
        let there = (0..self.layout.slabs()).take_while(|&slab| slab_path(dir, lane, slab).exists()).count() as u32;
        let sound: Vec<bool> = (0..there).into_par_iter().map(|slab| self.slab(lane, slab).is_ok()).collect();
        let slabs = sound.iter().take_while(|&&sound| sound).count() as u32;
        (slabs * SLAB_ROWS).min(self.layout.height)
    }

    fn slab(&self, lane: usize, slab: u32) -> Result<Slab, ScanError> {
        let (start, end) = self.layout.lanes[lane];
        let size = (self.layout.rows_of(slab), end - start);
        let unpack = |bytes: &[u8]| slab::unpack(&self.layout.key, bytes, size, self.layout.classes);
        match &self.place {
            Place::Memory(slabs) => {
                let bytes = slabs.lock().unwrap_or_else(PoisonError::into_inner).get(&(lane, slab)).cloned();
                bytes.and_then(|bytes| unpack(&bytes)).ok_or(ScanError::Unfinished)
            }
            Place::Folder(dir) => {
                let path = slab_path(dir, lane, slab);
                let bytes = fs::read(&path).map_err(|e| ScanError::Maps { path: path.clone(), why: e.to_string() })?;
                unpack(&bytes).ok_or_else(|| ScanError::Maps { path, why: "its content has changed".to_owned() })
            }
        }
    }

    /// Damaged parts of the slide that were met so far, by earlier runs of this scan, too.
    pub(super) fn holes(&self) -> Vec<Hole> {
        match &self.place {
            Place::Memory(_) => Vec::new(),
            Place::Folder(dir) => {
                let bytes = fs::read(dir.join(HOLES)).unwrap_or_default();
                serde_json::from_slice(&bytes).unwrap_or_default()
            }
        }
    }

    /// Keeps damaged parts; those that are kept already stay.
    pub(super) fn put_holes(&self, holes: &[Hole]) -> Result<(), ScanError> {
        let Place::Folder(dir) = &self.place else { return Ok(()) };
        let path = dir.join(HOLES);
        let bytes = serde_json::to_vec(holes).map_err(|e| ScanError::write(&path, e.into()))?;
        write_whole(&path, &bytes)
    }

    /// Seconds that earlier runs of this scan took.
    pub(super) fn timing(&self) -> ScanTiming {
        let Place::Folder(dir) = &self.place else { return ScanTiming::default() };
        let bytes = fs::read(dir.join(TIMING)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Keeps the seconds so far.
    pub(super) fn put_timing(&self, timing: &ScanTiming) -> Result<(), ScanError> {
        let Place::Folder(dir) = &self.place else { return Ok(()) };
        let path = dir.join(TIMING);
        let bytes = serde_json::to_vec(timing).map_err(|e| ScanError::write(&path, e.into()))?;
        write_whole(&path, &bytes)
    }
}

/// Lanes that lie side by side and cover the width: what a file may claim.
fn sound(layout: &Layout) -> bool {
    let starts = layout.lanes.iter().map(|lane| lane.0);
    let ends = layout.lanes.iter().map(|lane| lane.1);
    layout.lanes.iter().all(|(start, end)| start < end) && starts.chain([layout.width]).eq([0].into_iter().chain(ends))
}

fn slab_path(dir: &Path, lane: usize, slab: u32) -> PathBuf {
    dir.join(format!("lane-{lane:03}")).join(format!("{:07}.slab", slab * SLAB_ROWS))
}

/// Writes beside the place and moves there. Not synced: a slab that a power failure cuts short is found by its digest.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ScanError> {
    let part = path.with_extension("part");
    let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, path));
    written.map_err(|source| ScanError::write(path, source))
}

/// The maps of a finished scan.
#[derive(Debug)]
pub struct ScanMaps {
    pub(super) store: Store,
    /// Where the time went.
    pub timing: ScanTiming,
    /// Parts of the slide that could not be decoded, from the top.
    pub holes: Vec<Hole>,
}

impl Maps for ScanMaps {
    fn width(&self) -> u32 {
        self.store.layout.width
    }

    fn height(&self) -> u32 {
        self.store.layout.height
    }

    fn classes(&self) -> usize {
        self.store.layout.classes
    }

    fn read(&self, x: Range<u32>, y: Range<u32>) -> Result<Strip, ScanError> {
        let layout = &self.store.layout;
        let (x, y) = (x.start..x.end.min(layout.width), y.start..y.end.min(layout.height));
        let mut out = Strip::background(y.start, y.len() as u32, x.len() as u32, layout.classes);
        if x.is_empty() || y.is_empty() {
            return Ok(out);
        }
        let lanes = layout.lanes.iter().enumerate().filter(|(_, lane)| lane.0 < x.end && lane.1 > x.start);
        let lanes: Vec<(usize, (u32, u32))> = lanes.map(|(number, lane)| (number, *lane)).collect();
        for slab in y.start / SLAB_ROWS..=(y.end - 1) / SLAB_ROWS {
            let top = slab * SLAB_ROWS;
            let rows = y.start.max(top) - top..y.end.min(top + SLAB_ROWS) - top;
            let piece = |&(number, (start, end)): &(usize, (u32, u32))| -> Result<Piece, ScanError> {
                let columns = x.start.max(start)..x.end.min(end);
                let to = ((columns.start - x.start) as usize, (top + rows.start - y.start) as usize);
                let columns = (columns.start - start) as usize..(columns.end - start) as usize;
                let rows = rows.start as usize..rows.end as usize;
                Ok(Piece { slab: self.store.slab(number, slab)?, columns, rows, to })
            };
            let pieces = lanes.par_iter().map(piece).collect::<Result<Vec<_>, _>>()?;
            slab::fill(&mut out, &pieces);
        }
        Ok(out)
    }
}
