//! What engines this machine has, and how fast they are: for people who ask.

use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};

use super::onnx::{has_cuda, onnx_library};
use super::{Device, EngineError, Precision, TilePredictor, libtorch, predict_all};
use crate::network::InputScale;

/// Tiles in one call of the speed test.
const TILES: usize = 4;

/// One engine on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineState {
    /// The word by which it is asked for; a card by its first.
    pub device: Device,
    /// Whether it can be opened, as far as that shows without doing it.
    pub there: bool,
    /// What it is with its file and version, or what was looked for where and how to get it: one sentence.
    pub about: String,
}

/// Looks for every engine that this program knows, the plainest first.
pub fn survey() -> Vec<EngineState> {
    let cpu = EngineState { device: Device::Cpu, there: true, about: "our own kernels, always there".into() };
    let state = |device, there, about| EngineState { device, there, about };
    let card = Device::Cuda(0, Precision::Fp32);
    let (onnx, mut cuda) = match onnx_library() {
        Err(why) => {
            let why = why.to_string();
            (state(Device::Onnx, false, why.clone()), state(card, false, why))
        }
        Ok(info) => {
            let library = format!("ONNX Runtime {} ({})", info.version, info.path.display());
            let cuda = if has_cuda() {
                state(card, true, format!("{library}, built with CUDA; opening it shows whether a card is there"))
            } else {
                let how = "built without CUDA; run deploy/onnxruntime.sh --cuda for one with it";
                state(card, false, format!("{library}, {how}"))
            };
            (state(Device::Onnx, true, library), cuda)
        }
    };
    let torch = match libtorch::about() {
        Ok(about) => state(Device::Libtorch(Precision::Fp32), true, about),
        Err(why) => state(Device::Libtorch(Precision::Fp32), false, why.to_string()),
    };
    match libtorch::cuda_cards() {
        0 => {}
        cards => cuda = state(card, true, format!("{}, sees {cards} CUDA cards", torch.about)),
    }
    vec![cpu, onnx, torch, cuda]
}

/// Tiles a second through all members, measured for `seconds` (at least one call) after a call that warms up.
///
/// # Errors
/// As [`TilePredictor::predict`].
pub fn speed(predictor: &dyn TilePredictor, tile_px: u32, seconds: f64) -> Result<f64, EngineError> {
    let colour = |x: u32, y: u32| Rgb([x.wrapping_mul(7), y.wrapping_mul(5), x ^ y].map(|v| (v % 256) as u8));
    let tiles = vec![RgbImage::from_fn(tile_px, tile_px, colour); TILES];
    let mut outputs = vec![Vec::new(); predictor.members()];
    predict_all(predictor, &tiles, &InputScale::RGB_TO_01, &mut outputs)?;
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let (started, mut done) = (Instant::now(), 0);
    while done == 0 || started.elapsed() < time {
        predict_all(predictor, &tiles, &InputScale::RGB_TO_01, &mut outputs)?;
        done += TILES;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}
