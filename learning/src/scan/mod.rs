//! Scanning a slide: every member of the ensemble over a sliding window at the plan's spacing.
//!
//! Tiles without tissue are skipped, the next ones are read while the network works, and all members see each decoded
//! batch. Tile probabilities are merged with Gaussian weights in a band of one tile's height (nnU-Net v1, softmax first);
//! rows that no later tile touches are combined into labels and maps at once. So beside the result itself, memory does
//! not grow with the height of the slide.

mod bands;
mod colour;
mod error;
mod font;
mod output;
mod overlay;
mod palette;
mod reader;
mod reduced;
mod result;
mod strip;
mod summary;
mod whole;
mod window;

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use consilium_common::plan::{ScanSettings, Task};
use image::GrayImage;
use rayon::prelude::*;

pub use crate::uncertainty::Map;
pub use colour::{BLACK, ORDINARY, WHITE, colour_class};
pub use error::ScanError;
pub use output::{OVERLAY_SIDE, ScanFiles, Writers};
pub use overlay::{labels_overlay_image, overlay_image};
pub use palette::class_colour;
pub use reduced::Reduced;
pub use result::{ScanResult, ScanTiming};
pub use strip::Strip;
pub use summary::{
    ClassArea, ClassDice, HISTOGRAM_BINS, HISTOGRAM_NATS, ReferenceSummary, ReliabilityBin, SUMMARY_SCHEMA,
    SlideSummary, SummaryBuilder, UncertaintySummary,
};
pub use whole::{WholeFiles, write_outputs};
pub use window::{gaussian_weights, tile_starts};

use crate::network::Predictor;
use crate::slides::{SlideReader, size_at};
use crate::tissue::TissueMask;
use bands::Bands;
use reader::{Decoded, read_batches};
use window::Window;

/// Most pixels of a slide at the plan's spacing, 46,000 x 46,000: the maps of a result take 19 bytes a pixel.
pub const MAX_SCAN_PX: u64 = 1 << 31;

/// Batches that may wait, decoded, for the network.
const READ_AHEAD: usize = 2;

/// Whatever turns tiles into probabilities, member by member.
pub trait TilePredictor: Sync {
    /// Networks in the ensemble.
    fn members(&self) -> usize;
    /// Classes, background included.
    fn classes(&self) -> usize;
    /// What a tile's side must be a multiple of.
    fn total_stride(&self) -> u32 {
        1
    }
    /// Softmax probabilities of one member, `[tiles, classes, height, width]`.
    fn probabilities(&self, member: usize, tiles: &[image::RgbImage]) -> Vec<f32>;
}

/// Scans a slide. `progress` hears the tiles done and the tiles in all.
///
/// # Errors
/// A slide that cannot be read or is too large, an ensemble of another number of classes than the task, or a network
/// whose output is not a probability.
pub fn scan_slide(
    slide: &dyn SlideReader,
    tissue: &TissueMask,
    predictor: &dyn TilePredictor,
    task: &Task,
    settings: &ScanSettings,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<ScanResult, ScanError> {
    let (width, height) = checked_size(slide, task)?;
    let tissue = tissue.at(width, height);
    scan_within(slide, tissue, predictor, task, settings, progress)
}

fn checked_size(slide: &dyn SlideReader, task: &Task) -> Result<(u32, u32), ScanError> {
    let (width, height) = size_at(slide, task.spacing_um);
    if u64::from(width) * u64::from(height) > MAX_SCAN_PX {
        return Err(ScanError::TooLarge { width, height, spacing: task.spacing_um });
    }
    Ok((width, height))
}

/// The same with the tissue given as a map of the whole slide at the plan's spacing, 0 or 1.
fn scan_within(
    slide: &dyn SlideReader,
    tissue: GrayImage,
    predictor: &dyn TilePredictor,
    task: &Task,
    settings: &ScanSettings,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<ScanResult, ScanError> {
    let started = Instant::now();
    let (members, classes) = (predictor.members(), predictor.classes());
    if members == 0 {
        return Err(ScanError::NoMembers);
    }
    if classes != task.classes.len() {
        return Err(ScanError::Classes { ensemble: classes, task: task.classes.len() });
    }
    let stride = predictor.total_stride();
    if settings.tile_px == 0 || stride == 0 || !settings.tile_px.is_multiple_of(stride) {
        return Err(ScanError::Tile { tile: settings.tile_px, stride });
    }
    let (width, height) = tissue.dimensions();
    let window = Window::new(&tissue, settings);
    let mut result = ScanResult::background(tissue, classes);
    result.timing.tiles = window.tiles();
    result.timing.skipped = window.skipped();
    let mut bands = Bands::new(members, classes, width, height, window.frame());

    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(READ_AHEAD);
        let read = scope.spawn(|| read_batches(slide, task.spacing_um, &window, sender));
        // The receiver moves in, so that an error here also ends the reader.
        let outcome = consume(receiver, &window, predictor, &mut bands, &mut result, progress);
        // A reader that panicked has already printed why; what it did not send is an error of `consume`.
        result.timing.read_s = read.join().unwrap_or_default();
        outcome
    })?;
    result.timing.total_s = started.elapsed().as_secs_f64();
    Ok(result)
}

fn consume(
    batches: Receiver<Result<Decoded, ScanError>>,
    window: &Window,
    predictor: &dyn TilePredictor,
    bands: &mut Bands,
    result: &mut ScanResult,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), ScanError> {
    let (total, mut done) = (window.tiles(), 0);
    progress(done, total);
    for row in window.rows() {
        let clock = Instant::now();
        bands.advance(row.y, result);
        result.timing.combine_s += clock.elapsed().as_secs_f64();
        for columns in &row.batches {
            let clock = Instant::now();
            let batch = batches.recv().map_err(|_| ScanError::ReaderStopped)??;
            result.timing.wait_s += clock.elapsed().as_secs_f64();

            let clock = Instant::now();
            // Members side by side: each is a chain of small operations that does not fill many cores by itself.
            let predict = |member| predictor.probabilities(member, &batch.tiles);
            let outputs: Vec<Vec<f32>> = (0..predictor.members()).into_par_iter().map(predict).collect();
            result.timing.infer_s += clock.elapsed().as_secs_f64();

            let clock = Instant::now();
            bands.add(columns, &outputs)?;
            result.set_colour(&batch);
            result.timing.accumulate_s += clock.elapsed().as_secs_f64();
            done += columns.len() as u64;
            progress(done, total);
        }
    }
    let clock = Instant::now();
    bands.finish(result);
    result.timing.combine_s += clock.elapsed().as_secs_f64();
    Ok(())
}

impl TilePredictor for Predictor {
    fn members(&self) -> usize {
        Predictor::members(self)
    }
    fn classes(&self) -> usize {
        Predictor::classes(self)
    }
    fn total_stride(&self) -> u32 {
        Predictor::total_stride(self)
    }
    fn probabilities(&self, member: usize, tiles: &[image::RgbImage]) -> Vec<f32> {
        Predictor::probabilities(self, member, tiles)
    }
}

#[cfg(test)]
mod tests;
