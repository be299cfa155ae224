//! Where the tiles of a slide lie and what they weigh, as nnU-Net v1 does it (spec 1.11).

use consilium_common::plan::ScanSettings;
use image::GrayImage;

/// Tiles that are read and predicted together, at most.
const BATCH: usize = 4;

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

/// Tiles of one row: the first columns of each batch. Batches are runs of touching tiles, so that one read serves each.
#[derive(Debug, PartialEq)]
pub(super) struct TileRow {
    pub(super) y: u32,
    pub(super) batches: Vec<Vec<u32>>,
}

/// All tiles of a slide that have tissue, row by row.
#[derive(Debug)]
pub(super) struct Window {
    frame: Frame,
    rows: Vec<TileRow>,
    tiles: u64,
    skipped: u64,
}

impl Window {
    pub(super) fn new(tissue: &GrayImage, settings: &ScanSettings) -> Self {
        let (width, height) = tissue.dimensions();
        let tile = settings.tile_px;
        let columns = tile_starts(width, tile, settings.step);
        let starts = tile_starts(height, tile, settings.step);
        let several = columns.len() * starts.len() > 1;
        let weights = if several { gaussian_weights(tile) } else { vec![1.0; tile as usize * tile as usize] };
        let (shown_x, shown_y) = (tile.min(width), tile.min(height));
        let (pad_x, pad_y) = ((tile - shown_x) / 2, (tile - shown_y) / 2);
        let frame = Frame { tile, pad_x, pad_y, shown_x, shown_y, weights };
        let mut window = Self { frame, rows: Vec::new(), tiles: 0, skipped: 0 };
        for y in starts {
            window.push_row(tissue, y, &columns, settings.min_tissue);
        }
        window
    }

    fn push_row(&mut self, tissue: &GrayImage, y: u32, columns: &[u32], min_tissue: f64) {
        let width = tissue.width() as usize;
        // Tissue pixels of each column within the row, summed along x: the count of any tile is one difference.
        let mut sums = vec![0u64; width + 1];
        for line in tissue.as_raw().chunks_exact(width.max(1)).skip(y as usize).take(self.frame.shown_y as usize) {
            for (sum, &here) in sums[1..].iter_mut().zip(line) {
                *sum += u64::from(here != 0);
            }
        }
        for x in 0..width {
            sums[x + 1] += sums[x];
        }
        let area = f64::from(self.frame.shown_x) * f64::from(self.frame.shown_y);
        let mut batches: Vec<Vec<u32>> = Vec::new();
        for &x in columns {
            let count = sums[(x + self.frame.shown_x) as usize] - sums[x as usize];
            if count == 0 || (count as f64) < min_tissue * area {
                self.skipped += 1;
                continue;
            }
            self.tiles += 1;
            match batches.last_mut() {
                Some(batch) if batch.len() < BATCH && batch.last().is_some_and(|&last| x <= last + self.frame.tile) => {
                    batch.push(x);
                }
                _ => batches.push(vec![x]),
            }
        }
        self.rows.push(TileRow { y, batches });
    }

    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }

    pub(super) fn rows(&self) -> &[TileRow] {
        &self.rows
    }

    pub(super) fn tiles(&self) -> u64 {
        self.tiles
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }
}
