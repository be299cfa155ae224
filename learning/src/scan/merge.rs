//! The merging side of a scan: adds up the networks' outputs, and keeps the rows that are final.

use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use super::bands::{Bands, Counts};
use super::memory::give_back;
use super::pipeline::all_holes;
use super::reader::Decoded;
use super::slab::SLAB_ROWS;
use super::store::Store;
use super::strip::Strip;
use super::timing::Clocks;
use super::window::{Frame, Window};
use super::{ScanError, ScanJob};
use crate::slides::SlideReader;
use crate::tissue::TissueView;

/// How often the seconds so far are kept, and freed memory given back.
const KEEP_TIMING: Duration = Duration::from_secs(5);

/// Of each member, `[tiles, classes, tile, tile]`.
pub(super) type Outputs = Vec<Vec<f32>>;

/// One batch after the networks.
pub(super) struct Predicted {
    /// What was read.
    pub(super) batch: Decoded,
    /// What the members said of it.
    pub(super) outputs: Outputs,
}

pub(super) struct Merge<'a> {
    slide: &'a dyn SlideReader,
    counts: Counts,
    frame: &'a Frame,
    tissue: &'a TissueView<'a>,
    windows: &'a [Window],
    store: &'a Store,
    clocks: &'a Clocks,
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        job: &ScanJob<'a>,
        frame: &'a Frame,
        tissue: &'a TissueView<'a>,
        windows: &'a [Window],
        store: &'a Store,
        clocks: &'a Clocks,
    ) -> Self {
        let predictor = job.predictor;
        let (members, classes) = (predictor.members(), predictor.classes());
        let counts = Counts { members, classes, averaging: predictor.form().conventions.averaging };
        Self { slide: job.slide, counts, frame, tissue, windows, store, clocks }
    }

    /// Merges all lanes and gives the outputs' memory back. Ends quietly when the networks stop sending: they know why.
    pub(super) fn run(self, predicted: &Receiver<Predicted>, used: &Sender<Outputs>) -> Result<(), ScanError> {
        let (mut kept, clocks, mut holes) = (Instant::now(), self.clocks, 0);
        for window in self.windows {
            let top = window.rows.first().map_or(window.done, |row| row.y);
            let height = self.store.layout.height;
            let mut bands = Bands::new(self.counts, window.lane, (height, top), self.frame, self.tissue);
            let mut lane = Lane::new(window, self.counts.classes);
            for row in &window.rows {
                self.keep(&bands, row.y, &mut lane, &mut holes)?;
                clocks.accumulate.time(|| bands.advance(row.y));
                for columns in &row.batches {
                    let Ok(Predicted { batch, outputs }) = predicted.recv() else { return Ok(()) };
                    clocks.accumulate.time(|| {
                        bands.colour(&batch);
                        bands.add(columns, &outputs)
                    })?;
                    // After the last batch nobody wants it.
                    let _ = used.send(outputs);
                }
                if kept.elapsed() > KEEP_TIMING {
                    kept = Instant::now();
                    self.store.put_timing(&clocks.timing())?;
                    give_back();
                }
            }
            self.keep(&bands, height, &mut lane, &mut holes)?;
        }
        Ok(())
    }

    /// Combines and keeps the rows that are final when no tile starts above `y`.
    fn keep(&self, bands: &Bands<'_>, y: u32, lane: &mut Lane, holes: &mut usize) -> Result<(), ScanError> {
        // Before the rows in which they lie: whoever goes on from these rows must know them.
        let met = self.slide.holes().len();
        if met > *holes {
            *holes = met;
            self.store.put_holes(&all_holes(self.store, self.slide))?;
        }
        for rows in bands.done(y) {
            let strip = self.clocks.accumulate.time(|| bands.combine(rows));
            self.clocks.write.time(|| lane.push(&strip, self.store))?;
        }
        Ok(())
    }
}

/// The rows of a lane on their way into slabs.
struct Lane {
    number: usize,
    /// The slab that is being filled, and how many of its rows are.
    slab: Strip,
    filled: u32,
    classes: usize,
}

impl Lane {
    fn new(window: &Window, classes: usize) -> Self {
        let slab = Strip::background(window.done, 0, window.lane.1 - window.lane.0, classes);
        Self { number: window.number, slab, filled: 0, classes }
    }

    /// Takes rows that follow those before; rows that were finished earlier are passed over.
    fn push(&mut self, strip: &Strip, store: &Store) -> Result<(), ScanError> {
        let mut next = self.slab.y + self.filled;
        let end = strip.y + strip.rows;
        while next < end {
            if self.filled == 0 {
                let rows = SLAB_ROWS.min(store.layout.height - next);
                self.slab = Strip::background(next, rows, self.slab.width, self.classes);
            }
            let rows = (self.slab.rows - self.filled).min(end - next);
            let columns = 0..self.slab.width as usize;
            let (from, to) = ((next - strip.y) as usize, self.filled as usize);
            self.slab.paste(strip, columns, from, rows as usize, 0, to);
            self.filled += rows;
            next += rows;
            if self.filled == self.slab.rows {
                store.put(self.number, &self.slab)?;
                (self.slab.y, self.filled) = (next, 0);
            }
        }
        Ok(())
    }
}
