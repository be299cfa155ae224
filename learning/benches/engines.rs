//! Scanning speed of the engines that this machine has:
//! `cargo bench -p consilium-learning --bench engines [-- --bases 8,16,32 --batches 1,4,16 --members 5 --seconds 1]`.
//!
//! Forward passes of one member over one tile a second (patches/s) and GFLOP/s, by engine, base width and tiles a call.
//! The engines take turns, five rounds, and the median is printed with the ratio to `cpu` of the same rounds, so that
//! what else the machine does falls on all alike. `--once ENGINE` prints one measurement of the first base and batch
//! alone: `tests/peers/torch_engines.py` puts PyTorch between such runs.

use std::error::Error;
use std::time::Instant;

use consilium_common::plan::Architecture;
use consilium_learning::engine::{Device, Engine, TilePredictor, open_members, predict_all, survey};
use consilium_learning::network::{InputScale, MemberWeights};
use image::{Rgb, RgbImage};

/// Side of a tile.
const SIDE: u32 = 256;
/// Encoder stages: down to 16 x 16 pixels.
const STAGES: usize = 5;
/// Classes.
const CLASSES: usize = 3;
/// Rounds of a comparison.
const ROUNDS: usize = 5;

struct Settings {
    bases: Vec<usize>,
    batches: Vec<usize>,
    members: usize,
    seconds: f64,
    once: Option<Device>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = settings()?;
    if let Some(device) = settings.once {
        let engine = opened(device, settings.bases[0], settings.members)?;
        println!("{:.3}", patches_a_second(engine.predictor(), settings.batches[0], settings.seconds)?);
        return Ok(());
    }
    let mut devices = Vec::new();
    for state in survey() {
        println!("{:>7}: {}", state.device, state.about);
        if state.there {
            devices.push(state.device);
        }
    }
    println!("{SIDE} px, {STAGES} stages, {} members, medians of {ROUNDS} rounds", settings.members);
    println!("{:>5} {:>6} {:>8} {:>10} {:>9} {:>8}", "base", "batch", "engine", "patches/s", "GFLOP/s", "x cpu");
    for &base in &settings.bases {
        let engines: Vec<(Device, Engine)> =
            devices.iter().filter_map(|&device| Some((device, opened(device, base, settings.members).ok()?))).collect();
        for &batch in &settings.batches {
            compare(&engines, base, batch, settings.seconds)?;
        }
    }
    Ok(())
}

/// Prints one row an engine.
fn compare(engines: &[(Device, Engine)], base: usize, batch: usize, seconds: f64) -> Result<(), Box<dyn Error>> {
    let mut speeds = vec![Vec::new(); engines.len()];
    for _ in 0..ROUNDS {
        for ((_, engine), speeds) in engines.iter().zip(&mut speeds) {
            speeds.push(patches_a_second(engine.predictor(), batch, seconds)?);
        }
    }
    let work = flops(&Architecture::plain(CLASSES, base, STAGES), SIDE as usize) / 1e9;
    for ((device, _), own) in engines.iter().zip(&speeds) {
        let ratio = median(own.iter().zip(&speeds[0]).map(|(own, cpu)| own / cpu).collect());
        let speed = median(own.clone());
        println!("{base:>5} {batch:>6} {:>8} {speed:>10.2} {:>9.1} {ratio:>8.2}", device.to_string(), speed * work);
    }
    Ok(())
}

fn opened(device: Device, base: usize, members: usize) -> Result<Engine, Box<dyn Error>> {
    let arch = Architecture::plain(CLASSES, base, STAGES);
    let members: Vec<_> = (0..members as u64).map(|seed| MemberWeights::initialise(&arch, seed)).collect();
    Ok(open_members(device, &arch, &members, SIDE)?)
}

/// Tiles times members a second, after a call that warms up.
fn patches_a_second(engine: &dyn TilePredictor, batch: usize, seconds: f64) -> Result<f64, Box<dyn Error>> {
    let colour = |i: u32, x: u32, y: u32| Rgb([x * 7 + i, y * 5, x ^ y].map(|v| (v % 256) as u8));
    let tiles: Vec<RgbImage> =
        (0..batch as u32).map(|i| RgbImage::from_fn(SIDE, SIDE, |x, y| colour(i, x, y))).collect();
    let mut outputs = vec![Vec::new(); engine.members()];
    predict_all(engine, &tiles[..1], &InputScale::RGB_TO_01, &mut outputs)?;
    let (started, mut done) = (Instant::now(), 0);
    while done == 0 || started.elapsed().as_secs_f64() < seconds {
        predict_all(engine, &tiles, &InputScale::RGB_TO_01, &mut outputs)?;
        done += batch * engine.members();
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

/// Multiplications and additions of the convolutions for one tile.
fn flops(arch: &Architecture, side: usize) -> f64 {
    let (mut side, mut inputs, mut sum) = (side, arch.input_channels, 0);
    for (stage, &outputs) in arch.features.iter().enumerate() {
        side /= arch.strides[stage];
        for _ in 0..arch.convs[stage] {
            sum += 9 * inputs * outputs * side * side;
            inputs = outputs;
        }
    }
    for (level, &convs) in arch.decoder_convs.iter().enumerate() {
        let stage = arch.stages() - 2 - level;
        let width = arch.features[stage];
        side *= arch.strides[stage + 1];
        sum += inputs * width * side * side;
        sum += 9 * (2 * width + (convs - 1) * width) * width * side * side;
        inputs = width;
    }
    2.0 * (sum + inputs * arch.classes * side * side) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn settings() -> Result<Settings, Box<dyn Error>> {
    let mut settings =
        Settings { bases: vec![8, 16, 32], batches: vec![1, 4, 16], members: 5, seconds: 1.0, once: None };
    // Cargo says `--bench` to every benchmark.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let value = words.next().ok_or("every option needs a value")?;
        let numbers = || value.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
        match word.as_str() {
            "--bases" => settings.bases = numbers()?,
            "--batches" => settings.batches = numbers()?,
            "--members" => settings.members = value.parse()?,
            "--seconds" => settings.seconds = value.parse()?,
            "--once" => settings.once = Some(value.parse()?),
            _ => return Err(format!("{word}: give --bases, --batches, --members, --seconds or --once").into()),
        }
    }
    Ok(settings)
}
