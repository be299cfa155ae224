//! A slide and an ensemble whose answers depend on the pixel, the member and the place in the tile.

use std::path::PathBuf;
use std::sync::Mutex;

use consilium_common::Mpp;
use consilium_common::bundle::Conventions;
use consilium_common::plan::Task;
use image::{Rgb, RgbImage};

use crate::engine::{EngineError, TilePredictor};
use crate::network::{EnsembleForm, InputScale};
use crate::slides::{FlatSlide, Level, SlideError, SlideReader};

pub(super) const SPACING: f64 = 0.5;

pub(super) fn spacing() -> Mpp {
    Mpp::new(SPACING).unwrap()
}

pub(super) fn task(classes: usize) -> Task {
    let names = (0..classes).map(|c| format!("class {c}")).collect();
    Task { classes: names, spacing_um: spacing() }
}

/// Varied colours without a period that a tile could share.
pub(super) fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = |a: f32, b: f32| (128.0 + 120.0 * (a * x as f32 + b * y as f32).sin()) as u8;
        Rgb([wave(0.31, 0.07), wave(0.05, 0.43), wave(0.17, 0.19)])
    })
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fault {
    None,
    NotANumber,
    WrongSize,
    Engine,
}

pub(super) struct Fake {
    pub(super) members: usize,
    pub(super) classes: usize,
    fault: Fault,
    seen: Mutex<Vec<RgbImage>>,
}

impl Fake {
    pub(super) fn new(members: usize, classes: usize) -> Self {
        Self { members, classes, fault: Fault::None, seen: Mutex::new(Vec::new()) }
    }

    pub(super) fn with(self, fault: Fault) -> Self {
        Self { fault, ..self }
    }

    pub(super) fn tiles(&self) -> Vec<RgbImage> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn tiles_seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl TilePredictor for Fake {
    fn form(&self) -> EnsembleForm {
        let Self { members, classes, .. } = *self;
        EnsembleForm { members, classes, total_stride: 1, conventions: Conventions::default() }
    }

    fn predict(
        &self,
        member: usize,
        tiles: &[RgbImage],
        _: &InputScale,
        out: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        self.seen.lock().unwrap().extend_from_slice(tiles);
        out.clear();
        for tile in tiles {
            let (width, height) = tile.dimensions();
            let start = out.len();
            let area = (width * height) as usize;
            out.resize(start + self.classes * area, 0.0);
            for (x, y, pixel) in tile.enumerate_pixels() {
                let place = x as f32 / width as f32 - 0.7 * y as f32 / height as f32;
                let logit = |c: usize| {
                    let tone = f32::from(pixel.0[(c + member) % 3]) / 64.0;
                    tone * (1.0 + 0.2 * member as f32) + place * (c as f32 - 0.5 * member as f32)
                };
                let sum: f32 = (0..self.classes).map(|c| logit(c).exp()).sum();
                for c in 0..self.classes {
                    out[start + c * area + (y * width + x) as usize] = logit(c).exp() / sum;
                }
            }
        }
        match self.fault {
            Fault::NotANumber if member + 1 == self.members => out[3] = f32::NAN,
            Fault::WrongSize if member + 1 == self.members => out.truncate(7),
            Fault::Engine if member + 1 == self.members => {
                return Err(EngineError::Run { engine: "fake".into(), member, why: "a test".into() });
            }
            _ => {}
        }
        Ok(())
    }
}

/// A slide that cannot be read from some row on.
pub(super) struct Broken {
    pub(super) inside: FlatSlide,
    pub(super) from_row: i64,
}

impl SlideReader for Broken {
    fn levels(&self) -> &[Level] {
        self.inside.levels()
    }

    fn mpp(&self) -> Mpp {
        self.inside.mpp()
    }

    fn read_level(&self, level: usize, x: i64, y: i64, w: u32, h: u32) -> Result<RgbImage, SlideError> {
        if y + i64::from(h) > self.from_row {
            return Err(SlideError::Damaged { path: PathBuf::from("broken"), why: "a test".into() });
        }
        self.inside.read_level(level, x, y, w, h)
    }
}
