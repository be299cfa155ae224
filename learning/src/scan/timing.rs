//! Where the time of a scan goes: clocks that all its threads share while it runs, and their figures.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use super::window::BATCH;
use crate::engine::{TilePredictor, predict_all};
use crate::network::InputScale;

/// Seconds and tiles of a scan. Reading and merging run beside the networks, so the parts add up to more than the total.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScanTiming {
    /// Reading and decoding, all threads added up.
    pub read_s: f64,
    /// The networks waiting for the readers.
    pub wait_s: f64,
    /// The networks at work.
    pub infer_s: f64,
    /// The networks waiting for the merging side.
    pub stall_s: f64,
    /// Adding up weighted probabilities; labels and maps from the sums.
    pub accumulate_s: f64,
    /// Compressing maps and keeping them.
    pub write_s: f64,
    /// From start to end.
    pub total_s: f64,
    /// Tiles that went through every network.
    pub tiles: u64,
    /// Places without enough tissue.
    pub skipped: u64,
}

impl ScanTiming {
    /// Share of the time in which the networks did nothing, 0 to 1.
    pub fn idle_share(&self) -> f64 {
        if self.total_s > 0.0 { (1.0 - self.infer_s / self.total_s).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// This one and a later part of the same scan.
    #[must_use]
    fn plus(&self, later: &Self) -> Self {
        Self {
            read_s: self.read_s + later.read_s,
            wait_s: self.wait_s + later.wait_s,
            infer_s: self.infer_s + later.infer_s,
            stall_s: self.stall_s + later.stall_s,
            accumulate_s: self.accumulate_s + later.accumulate_s,
            write_s: self.write_s + later.write_s,
            total_s: self.total_s + later.total_s,
            tiles: self.tiles + later.tiles,
            skipped: later.skipped,
        }
    }
}

/// Seconds that a tile takes on this machine, all members together: for saying beforehand how long a scan will take. Not
/// a number where the engine fails; the scan then says why.
pub fn seconds_per_tile(predictor: &dyn TilePredictor, tile_px: u32) -> f64 {
    let tiles = vec![RgbImage::from_pixel(tile_px, tile_px, Rgb([200, 150, 190])); BATCH];
    let mut outputs = vec![Vec::new(); predictor.members()];
    let mut all = || predict_all(predictor, &tiles, &InputScale::RGB_TO_01, &mut outputs);
    // The first one also wakes the threads up.
    let warmed = all();
    let started = Instant::now();
    if warmed.and_then(|()| all()).is_err() {
        return f64::NAN;
    }
    started.elapsed().as_secs_f64() / BATCH as f64
}

/// One stage's clock.
#[derive(Debug, Default)]
pub(super) struct Clock(AtomicU64);

impl Clock {
    /// Does the work and counts its time.
    pub(super) fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        self.0.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        done
    }

    fn seconds(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e9
    }
}

/// The clocks of a scan that runs.
#[derive(Debug)]
pub(super) struct Clocks {
    earlier: ScanTiming,
    started: Instant,
    skipped: u64,
    pub(super) read: Clock,
    pub(super) wait: Clock,
    pub(super) infer: Clock,
    pub(super) stall: Clock,
    pub(super) accumulate: Clock,
    pub(super) write: Clock,
    pub(super) tiles: AtomicU64,
}

impl Clocks {
    /// `earlier` is what earlier runs of the same scan took.
    pub(super) fn new(earlier: ScanTiming, skipped: u64) -> Self {
        Self {
            earlier,
            started: Instant::now(),
            skipped,
            read: Clock::default(),
            wait: Clock::default(),
            infer: Clock::default(),
            stall: Clock::default(),
            accumulate: Clock::default(),
            write: Clock::default(),
            tiles: AtomicU64::new(0),
        }
    }

    /// What it took so far, earlier runs included.
    pub(super) fn timing(&self) -> ScanTiming {
        self.earlier.plus(&ScanTiming {
            read_s: self.read.seconds(),
            wait_s: self.wait.seconds(),
            infer_s: self.infer.seconds(),
            stall_s: self.stall.seconds(),
            accumulate_s: self.accumulate.seconds(),
            write_s: self.write.seconds(),
            total_s: self.started.elapsed().as_secs_f64(),
            tiles: self.tiles.load(Ordering::Relaxed),
            skipped: self.skipped,
        })
    }
}
