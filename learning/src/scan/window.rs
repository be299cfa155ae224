//! Where the tiles of a slide lie and what they weigh, as nnU-Net v1 does it (spec 1.11).

use consilium_common::plan::ScanSettings;

use crate::tissue::TissueView;

/// Tiles that are read and predicted together where the memory allows it.
pub(super) const BATCH: usize = 4;

/// First pixels of the tiles along one axis: `n = ceil((length - tile) / (tile * step)) + 1` of them, evenly spread,
/// rounded half to even as NumPy does. A length within one tile gives one at 0.
pub fn tile_starts(length: u32, tile: u32, step: f64) -> Vec<u32> {
    if length <= tile || tile == 0 {
        return vec![0];
    }
    let room = f64::from(length - tile);
    let intervals = (room / (f64::from(tile) * step)).ceil().max(1.0);
    // Multiplied in nnU-Net's order; the largest product is the room itself, so the casts are exact.
    let actual = room / intervals;
    (0..=intervals as u32).map(|i| (actual * f64::from(i)).round_ties_even() as u32).collect()
}

/// Weights of a tile's pixels, `[size, size]`, 1 at pixel `size / 2`: a Gaussian of sigma `size / 8`, zeros (if any)
/// replaced by the smallest other value.
pub fn gaussian_weights(size: u32) -> Vec<f32> {
    let sigma = f64::from(size) / 8.0;
    let centre = f64::from(size / 2);
    let axis: Vec<f64> = (0..size).map(|i| (-0.5 * ((f64::from(i) - centre) / sigma).powi(2)).exp()).collect();
    let mut weights: Vec<f32> = axis.iter().flat_map(|y| axis.iter().map(move |x| (x * y) as f32)).collect();
    let smallest = weights.iter().copied().filter(|&w| w > 0.0).fold(f32::INFINITY, f32::min);
    for weight in weights.iter_mut().filter(|w| **w == 0.0) {
        *weight = smallest;
    }
    weights
}

/// How a tile lies over an image: the part of it that shows pixels (all, unless the image is smaller than the tile,
/// which is then centred as nnU-Net pads it), and the weights.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) tile: u32,
    pub(super) pad_x: u32,
    pub(super) pad_y: u32,
    pub(super) shown_x: u32,
    pub(super) shown_y: u32,
    pub(super) weights: Vec<f32>,
}

/// The places of all tiles of a slide, with tissue or without.
#[derive(Debug)]
pub(super) struct TileGrid {
    frame: Frame,
    width: u32,
    columns: Vec<u32>,
    rows: Vec<u32>,
    /// Tiles that are read and predicted together, at most.
    batch: usize,
}

/// Tiles of one row: the first columns of each batch. Batches are runs of touching tiles, so that one read serves each.
#[derive(Debug, PartialEq)]
pub(super) struct TileRow {
    pub(super) y: u32,
    pub(super) batches: Vec<Vec<u32>>,
}

/// The tiles of one lane that have tissue, row by row. Lanes are scanned one after the other from top to bottom; a tile
/// that reaches into two of them is computed for each.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) number: usize,
    /// First and behind-the-last column of the lane.
    pub(super) lane: (u32, u32),
    /// Rows at its top that are finished already.
    pub(super) done: u32,
    pub(super) rows: Vec<TileRow>,
    pub(super) tiles: u64,
}

impl TileGrid {
    pub(super) fn new(width: u32, height: u32, settings: &ScanSettings, batch: usize) -> Self {
        let tile = settings.tile_px;
        let (columns, rows) = (tile_starts(width, tile, settings.step), tile_starts(height, tile, settings.step));
        let several = columns.len() * rows.len() > 1;
        let weights = if several { gaussian_weights(tile) } else { vec![1.0; tile as usize * tile as usize] };
        let (shown_x, shown_y) = (tile.min(width), tile.min(height));
        let (pad_x, pad_y) = ((tile - shown_x) / 2, (tile - shown_y) / 2);
        Self { frame: Frame { tile, pad_x, pad_y, shown_x, shown_y, weights }, width, columns, rows, batch }
    }

    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// How many places there are.
    pub(super) fn places(&self) -> u64 {
        self.columns.len() as u64 * self.rows.len() as u64
    }

    /// Cuts the width into lanes of at most about `most` columns, each beginning where a tile begins, so that few tiles
    /// reach across.
    pub(super) fn lanes(&self, most: u32) -> Vec<(u32, u32)> {
        let mut lanes = Vec::new();
        let mut start = 0;
        while self.width - start > most {
            let next = self.columns.iter().rfind(|&&x| x > start && x - start <= most);
            let Some(&next) = next.or_else(|| self.columns.iter().find(|&&x| x > start)) else { break };
            lanes.push((start, next));
            start = next;
        }
        lanes.push((start, self.width));
        lanes
    }

    /// The tiles that a lane needs below its first `done` rows, and have enough tissue.
    pub(super) fn window(
        &self,
        number: usize,
        lane: (u32, u32),
        done: u32,
        tissue: &TissueView<'_>,
        min_tissue: f64,
    ) -> Window {
        let frame = &self.frame;
        let area = f64::from(frame.shown_x) * f64::from(frame.shown_y);
        let columns: Vec<u32> =
            self.columns.iter().copied().filter(|&x| x < lane.1 && x + frame.shown_x > lane.0).collect();
        let wanted = |&(x, y): &(u32, u32)| {
            let count = tissue.count(x..x + frame.shown_x, y..y + frame.shown_y);
            count > 0 && count as f64 >= min_tissue * area
        };
        let mut window = Window { number, lane, done, rows: Vec::new(), tiles: 0 };
        for &y in self.rows.iter().filter(|&&y| y + frame.shown_y > done) {
            let mut batches: Vec<Vec<u32>> = Vec::new();
            for (x, _) in columns.iter().map(|&x| (x, y)).filter(wanted) {
                window.tiles += 1;
                match batches.last_mut() {
                    Some(batch)
                        if batch.len() < self.batch && batch.last().is_some_and(|&last| x <= last + frame.tile) =>
                    {
                        batch.push(x);
                    }
                    _ => batches.push(vec![x]),
                }
            }
            window.rows.push(TileRow { y, batches });
        }
        window
    }

    /// Places with enough tissue, each counted once.
    pub(super) fn tiles_with_tissue(&self, tissue: &TissueView<'_>, min_tissue: f64) -> u64 {
        self.window(0, (0, self.width), 0, tissue, min_tissue).tiles
    }
}
