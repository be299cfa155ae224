//! The three stages of a scan, each in threads of its own with short queues between them: reading, networks, merging.
//!
//! The networks' stage runs in the caller's thread. An error anywhere closes the queues, which ends the others.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use consilium_common::bundle::Padding;

use super::input::scale_of;
use super::memory::give_back;
use super::merge::{Merge, Outputs, Predicted};
use super::reader::{Decoded, Reading};
use super::store::{ScanMaps, Store};
use super::timing::Clocks;
use super::window::{TileGrid, Window};
use super::{Progress, ScanError, ScanJob};
use crate::engine::predict_all;
use crate::network::InputScale;
use crate::slides::{Hole, SlideReader};

/// Batches that may wait in each queue.
const READ_AHEAD: usize = 2;
/// Predicted batches that exist at once: waiting, being merged, being sent, being computed.
pub(super) const PREDICTED: u64 = READ_AHEAD as u64 + 3;

/// Scans what the store does not hold yet.
pub(super) fn run(
    job: &ScanJob<'_>,
    grid: &TileGrid,
    store: Store,
    progress: Progress<'_>,
) -> Result<ScanMaps, ScanError> {
    let windows = job.windows(grid, &store);
    let conventions = job.predictor.form().conventions;
    let mut input = scale_of(job.slide, job.task.spacing_um, conventions.normalisation)?;
    if conventions.padding == Padding::Zero {
        input.shown = grid.frame().part();
    }
    let tissue = job.tissue.on(store.layout.width, store.layout.height);
    let skipped = grid.places() - grid.tiles_with_tissue(&tissue, job.settings.min_tissue);
    let clocks = Clocks::new(store.timing(), skipped);
    let reading = Reading {
        slide: job.slide,
        spacing: job.task.spacing_um,
        frame: grid.frame(),
        windows: &windows,
        threads: job.resources.readers.max(1),
        clocks: &clocks,
    };
    // Threads of its own: in the common pool it would wait behind the networks' work, and these in turn for it.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(job.resources.readers).build();
    let pool = pool.map_err(|e| ScanError::Threads(e.to_string()))?;
    let merge = Merge::new(job, grid.frame(), &tissue, &windows, &store, &clocks);
    let (inferred, merged) = std::thread::scope(|scope| {
        let (mut batches, mut readers) = (Vec::new(), Vec::new());
        for thread in 0..reading.threads {
            let (sender, receiver) = sync_channel(READ_AHEAD);
            batches.push(receiver);
            let reading = &reading;
            readers.push(scope.spawn(move || reading.run(thread, &sender)));
        }
        let (sender, receiver) = sync_channel(READ_AHEAD);
        let (used, spare) = channel();
        let pool = &pool;
        let merging = scope.spawn(move || pool.install(move || merge.run(&receiver, &used)));
        // The channels' ends move in, so that an error here also ends the readers and the merging.
        let inferred = infer(job, &input, &windows, batches, (sender, spare), &clocks, progress);
        // A reader that panicked has said so; what it did not send is an error of `infer`.
        readers.into_iter().for_each(|reader| drop(reader.join()));
        (inferred, merging.join())
    });
    // A merging side that failed makes the networks stop; its error is the cause.
    match merged {
        Ok(merged) => merged?,
        Err(_) => return Err(ScanError::MergerStopped),
    }
    inferred?;
    give_back();
    let timing = if windows.is_empty() { store.timing() } else { clocks.timing() };
    store.put_timing(&timing)?;
    let holes = all_holes(&store, job.slide);
    store.put_holes(&holes)?;
    Ok(ScanMaps { store, timing, holes })
}

/// The damaged parts that this run and earlier ones have met, each once.
pub(super) fn all_holes(store: &Store, slide: &dyn SlideReader) -> Vec<Hole> {
    let all: BTreeSet<Hole> = store.holes().into_iter().chain(slide.holes()).collect();
    all.into_iter().collect()
}

fn infer(
    job: &ScanJob<'_>,
    input: &InputScale,
    windows: &[Window],
    batches: Vec<Receiver<Result<Decoded, ScanError>>>,
    (merging, spare): (SyncSender<Predicted>, Receiver<Outputs>),
    clocks: &Clocks,
    progress: Progress<'_>,
) -> Result<(), ScanError> {
    let (total, mut done) = (windows.iter().map(|window| window.tiles).sum(), 0);
    if !progress(done, total) {
        return Err(ScanError::Stopped);
    }
    let mut turn = batches.iter().cycle();
    for columns in windows.iter().flat_map(|window| &window.rows).flat_map(|row| &row.batches) {
        let batch = clocks.wait.time(|| turn.next().and_then(|batches| batches.recv().ok()));
        let batch = batch.ok_or(ScanError::ReaderStopped)??;
        // Memory of batches that are merged is used again: fresh pages would cost more than the small networks' own work.
        let mut outputs = spare.try_recv().unwrap_or_else(|_| vec![Vec::new(); job.predictor.members()]);
        clocks.infer.time(|| predict_all(job.predictor, &batch.tiles, input, &mut outputs))?;
        if clocks.stall.time(|| merging.send(Predicted { batch, outputs })).is_err() {
            return Err(ScanError::MergerStopped);
        }
        clocks.tiles.fetch_add(columns.len() as u64, Ordering::Relaxed);
        done += columns.len() as u64;
        if !progress(done, total) {
            return Err(ScanError::Stopped);
        }
    }
    Ok(())
}
