//! Scanning a slide: every member of the ensemble over a sliding window at the plan's spacing, in bounded memory.
//!
//! The slide is cut into lanes, each as wide as the memory allows, and each lane is scanned from top to bottom: threads
//! decode the next tiles ([`reader`]), all members see each decoded batch, and a third stage ([`merge`]) adds the tile
//! probabilities with Gaussian weights in a band of one tile's height (nnU-Net v1, softmax first), combines the rows that
//! no later tile touches into labels and maps, and keeps these as slabs in a folder. So memory grows neither with the
//! height nor with the width of a slide, a scan that was stopped goes on at its last slab, and the maps are the same,
//! bit by bit, whatever the memory, the number of threads, or the stops on the way.

mod bands;
mod colour;
mod error;
mod font;
mod input;
mod memory;
mod merge;
mod output;
mod overlay;
mod palette;
mod pipeline;
mod reader;
mod reduced;
mod slab;
mod store;
mod strip;
mod summary;
mod timing;
mod window;

use std::path::Path;

use consilium_common::limits;
use consilium_common::plan::{ScanSettings, Task};

pub use colour::{BLACK, HOLE, ORDINARY, WHITE, colour_class};
pub use error::ScanError;
pub use input::scale_of;
pub use output::{OVERLAY_SIDE, ScanFiles, Writers, check_name};
pub use palette::class_colour;
pub use store::ScanMaps;
pub use strip::{Maps, Strip};
pub use summary::{
    ClassArea, ClassDice, HISTOGRAM_BINS, HISTOGRAM_NATS, ReferenceSummary, ReliabilityBin, SUMMARY_SCHEMA,
    SlideSummary, SummaryBuilder, UncertaintySummary,
};
pub use timing::{ScanTiming, seconds_per_tile};
pub use window::{gaussian_weights, tile_starts};

use crate::engine::TilePredictor;
use crate::slides::{SlideReader, size_at};
use crate::tissue::TissueMask;
use bands::Bands;
use pipeline::PREDICTED;
use store::{Layout, Store};
use window::{BATCH, TileGrid, Window};

/// Most pixels of a slide at the plan's spacing, 262,144 x 262,144: the largest glass slide at 0.25 um/px has half of it.
/// What a scan needs on disk grows with it, up to eight bytes a pixel of tissue.
pub const MAX_SCAN_PX: u64 = 1 << 36;

/// A lane is not made wider than this, however much memory there is: wider ones save little.
const WIDEST_LANE: u32 = 8192;
/// A lane has at least so many tiles' width, however little memory there is.
const NARROWEST_LANE: u32 = 2;

/// How a scan uses the machine. None of it changes the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Bytes for sums, queues and caches, beyond the weights and what the networks need for themselves.
    pub memory_bytes: u64,
    /// Threads that read and decode; as many others merge.
    pub readers: usize,
}

impl Resources {
    /// So many bytes, and a reader for every four cores.
    pub fn within(memory_bytes: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { memory_bytes, readers: cores.div_ceil(4) }
    }
}

impl Default for Resources {
    /// What fits into 1 GiB.
    fn default() -> Self {
        Self::within(1 << 30)
    }
}

/// One slide to be scanned.
pub struct ScanJob<'a> {
    /// The slide.
    pub slide: &'a dyn SlideReader,
    /// Its tissue.
    pub tissue: &'a TissueMask,
    /// The ensemble.
    pub predictor: &'a dyn TilePredictor,
    /// Classes and spacing.
    pub task: &'a Task,
    /// Tiles and step.
    pub settings: &'a ScanSettings,
    /// Memory and threads.
    pub resources: Resources,
}

impl ScanJob<'_> {
    /// Scans the slide with its maps in memory: for small slides. `progress` hears the tiles done and the tiles in all,
    /// and stops the scan by answering false.
    ///
    /// # Errors
    /// A slide that cannot be read or is too large, an ensemble of another number of classes than the task, a network
    /// whose output is not a probability, or a stop.
    pub fn in_memory(&self, progress: Progress<'_>) -> Result<ScanMaps, ScanError> {
        let (grid, layout) = self.lay_out("")?;
        pipeline::run(self, &grid, Store::memory(layout), progress)
    }

    /// Scans the slide with its maps in `folder`, which holds nothing else. `key` names slide, ensemble and settings: what
    /// an earlier scan of the same key has finished there is kept, anything else is thrown away.
    ///
    /// # Errors
    /// As [`Self::in_memory`], and a folder that cannot be written.
    pub fn in_folder(&self, folder: &Path, key: &str, progress: Progress<'_>) -> Result<ScanMaps, ScanError> {
        let (grid, layout) = self.lay_out(key)?;
        pipeline::run(self, &grid, Store::folder(folder, layout, NARROWEST_LANE * self.settings.tile_px)?, progress)
    }

    /// The tiles that a scan will take.
    ///
    /// # Errors
    /// As [`Self::in_memory`], but nothing is read.
    pub fn tiles(&self) -> Result<u64, ScanError> {
        let (grid, layout) = self.lay_out("")?;
        let windows = self.windows(&grid, &Store::memory(layout));
        Ok(windows.iter().map(|window| window.tiles).sum())
    }

    fn lay_out(&self, key: &str) -> Result<(TileGrid, Layout), ScanError> {
        let (members, classes) = (self.predictor.members(), self.predictor.classes());
        if members == 0 {
            return Err(ScanError::NoMembers);
        }
        if classes != self.task.classes.len() || classes == 0 {
            return Err(ScanError::Classes { ensemble: classes, task: self.task.classes.len() });
        }
        let (tile, stride) = (self.settings.tile_px, self.predictor.form().total_stride);
        if tile == 0 || stride == 0 || !tile.is_multiple_of(stride) {
            return Err(ScanError::Tile { tile, stride });
        }
        let spacing = self.task.spacing_um;
        let (width, height) = size_at(self.slide, spacing);
        let side = width.max(height);
        if u64::from(width) * u64::from(height) > MAX_SCAN_PX || side > limits::MAX_SLIDE_SIDE_PX {
            return Err(ScanError::TooLarge { width, height, spacing });
        }
        // Half of the memory for sums, a quarter for predicted batches; caches of tiles and queues of pixels need the rest.
        let memory = self.resources.memory_bytes;
        let predicted = u64::from(tile).pow(2) * (members * classes * 4) as u64 * PREDICTED;
        let batch = (memory / 4 / predicted).clamp(1, BATCH as u64);
        let grid = TileGrid::new(width, height, self.settings, batch as usize);
        let columns = memory / 2 / Bands::bytes_per_column(members, classes, tile);
        let widest = (columns.min(u64::from(WIDEST_LANE)) as u32).max(NARROWEST_LANE * tile);
        let lanes = grid.lanes(widest);
        Ok((grid, Layout::new(key, (width, height), classes, lanes)))
    }

    fn windows(&self, grid: &TileGrid, store: &Store) -> Vec<Window> {
        let layout = &store.layout;
        let tissue = self.tissue.on(layout.width, layout.height);
        let windows = layout.lanes.iter().enumerate().map(|(number, &lane)| {
            grid.window(number, lane, store.rows_done(number), &tissue, self.settings.min_tissue)
        });
        windows.filter(|window| window.done < layout.height).collect()
    }
}

/// Hears how far a scan is; false stops it.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) -> bool + Sync);

#[cfg(test)]
mod tests;
