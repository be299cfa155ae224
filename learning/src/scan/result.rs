//! What a scan gives.

use image::GrayImage;
use serde::{Deserialize, Serialize};

use super::Map;
use super::colour::WHITE;
use super::reader::Decoded;

/// Labels and maps of a slide, all of the same size at the plan's spacing. Outside the tissue that was scanned, the label
/// and the maps are 0 and the confidence is 1: background by rule.
#[derive(Clone, Debug)]
pub struct ScanResult {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Classes of the task, background included.
    pub classes: usize,
    /// Most probable class.
    pub labels: GrayImage,
    /// 1 where there is tissue and a tile covered it, else 0.
    pub tissue: GrayImage,
    /// Colour class of each pixel, see [`super::colour_class`]; white where nothing was read.
    pub colour: GrayImage,
    /// UGA's uncertainty, nats.
    pub uncertainty: Map,
    /// Entropy of the mean prediction, nats.
    pub entropy: Map,
    /// Probability of not being background.
    pub foreground: Map,
    /// Probability of the predicted class.
    pub confidence: Map,
    /// Where the time went.
    pub timing: ScanTiming,
}

/// Seconds and tiles of a scan. Reading runs beside the rest; the others add up to nearly the total.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScanTiming {
    /// Reading and decoding, in its own thread.
    pub read_s: f64,
    /// Waiting for the reader.
    pub wait_s: f64,
    /// The networks.
    pub infer_s: f64,
    /// Adding up weighted probabilities.
    pub accumulate_s: f64,
    /// Labels and maps from the sums.
    pub combine_s: f64,
    /// From start to end.
    pub total_s: f64,
    /// Tiles that went through every network.
    pub tiles: u64,
    /// Tiles that were skipped for want of tissue.
    pub skipped: u64,
}

impl ScanResult {
    pub(super) fn background(tissue: GrayImage, classes: usize) -> Self {
        let (width, height) = tissue.dimensions();
        let zero = Map::filled(width, height, 0.0);
        Self {
            width,
            height,
            classes,
            labels: GrayImage::new(width, height),
            tissue,
            colour: GrayImage::from_pixel(width, height, image::Luma([WHITE])),
            uncertainty: zero.clone(),
            entropy: zero.clone(),
            foreground: zero,
            confidence: Map::filled(width, height, 1.0),
            timing: ScanTiming::default(),
        }
    }

    pub(super) fn set_colour(&mut self, batch: &Decoded) {
        let (width, box_width) = (self.width as usize, batch.width as usize);
        let start = batch.y as usize * width + batch.x as usize;
        for (row, line) in batch.colour.chunks_exact(box_width.max(1)).enumerate() {
            self.colour.as_mut()[start + row * width..][..box_width].copy_from_slice(line);
        }
    }
}
