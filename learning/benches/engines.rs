//! Speed of the engines that this machine has, at scanning and at training:
//! `cargo bench -p consilium-learning --bench engines [-- --work scan,train --devices cpu,onnx --bases 8,16,32
//! --batches 1,4 --members 5 --seconds 2 --rounds 5]`; with `--features libtorch` that engine too (docs/engines.md).
//!
//! A scan counts forward passes of one member over one tile a second (patches/s), a training patches a second through
//! steps of fine-tuning one member; GFLOP/s are those of the convolutions, three times as many for a step. The engines
//! take turns, each measurement in a process of its own, and medians are printed with the ratio to the first engine of
//! the same round, so that what else the machine does falls on all alike; MB is the largest resident memory.
//! `--once ENGINE` is such a process: `tests/peers/torch_engines.py` puts PyTorch between them.

use std::error::Error;
use std::process::Command;
use std::str::FromStr;
use std::time::Instant;

use consilium_common::plan::{Architecture, Training};
use consilium_learning::engine::{Device, TilePredictor, open_members, predict_all, survey};
use consilium_learning::network::{InputScale, MemberWeights};
use consilium_learning::training::{Trainer, training_speed};
use image::{Rgb, RgbImage};

/// Side of a tile and of a training patch.
const SIDE: u32 = 256;
/// Encoder stages: down to 16 x 16 pixels.
const STAGES: usize = 5;
/// Classes.
const CLASSES: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Scan,
    Train,
}

impl FromStr for Work {
    type Err = Box<dyn Error>;

    fn from_str(word: &str) -> Result<Self, Box<dyn Error>> {
        match word {
            "scan" => Ok(Self::Scan),
            "train" => Ok(Self::Train),
            _ => Err(format!("{word}: give scan or train").into()),
        }
    }
}

impl Work {
    fn word(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Train => "train",
        }
    }
}

struct Settings {
    work: Vec<Work>,
    devices: Vec<Device>,
    bases: Vec<usize>,
    batches: Vec<usize>,
    members: usize,
    seconds: f64,
    rounds: usize,
    once: Option<Device>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut settings = settings()?;
    if let Some(device) = settings.once {
        let (base, batch) = (settings.bases[0], settings.batches[0]);
        let speed = match settings.work[0] {
            Work::Scan => scan(device, base, batch, &settings)?,
            Work::Train => train(device, base, batch, &settings)?,
        };
        println!("{speed:.3} {}", peak_mb());
        return Ok(());
    }
    let asked = settings.devices.len();
    for state in survey() {
        println!("{:>9}: {}", state.device.to_string(), state.about);
        if asked == 0 && state.there {
            settings.devices.push(state.device);
        }
    }
    let Settings { members, rounds, .. } = settings;
    println!("{SIDE} px, {STAGES} stages, {members} members scan and one trains, medians of {rounds} rounds");
    println!(
        "{:>5} {:>5} {:>6} {:>13} {:>10} {:>9} {:>6} {:>7}",
        "work", "base", "batch", "engine", "patches/s", "GFLOP/s", "MB", "ratio"
    );
    for &work in &settings.work {
        for &base in &settings.bases {
            for &batch in &settings.batches {
                compare(work, base, batch, &settings)?;
            }
        }
    }
    Ok(())
}

/// Prints one row an engine.
fn compare(work: Work, base: usize, batch: usize, settings: &Settings) -> Result<(), Box<dyn Error>> {
    let trains = |device: &&Device| work == Work::Scan || **device != Device::Onnx;
    let devices: Vec<Device> = settings.devices.iter().filter(trains).copied().collect();
    let (mut speeds, mut peaks) = (vec![Vec::new(); devices.len()], vec![0.0f64; devices.len()]);
    for _ in 0..settings.rounds {
        for (index, device) in devices.iter().enumerate() {
            let (speed, peak) = in_a_process(work, *device, base, batch, settings)?;
            speeds[index].push(speed);
            peaks[index] = peaks[index].max(peak);
        }
    }
    let passes = if work == Work::Scan { 1.0 } else { 3.0 };
    let flops = passes * flops(&Architecture::plain(CLASSES, base, STAGES), SIDE as usize) / 1e9;
    for (index, device) in devices.iter().enumerate() {
        let ratio = median(speeds[index].iter().zip(&speeds[0]).map(|(own, first)| own / first).collect());
        let (speed, peak) = (median(speeds[index].clone()), peaks[index]);
        let (work, device) = (work.word(), device.to_string());
        let gflops = speed * flops;
        println!("{work:>5} {base:>5} {batch:>6} {device:>13} {speed:>10.2} {gflops:>9.1} {peak:>6.0} {ratio:>7.2}");
    }
    Ok(())
}

/// Patches a second and the peak of the memory, MB.
fn in_a_process(
    work: Work,
    device: Device,
    base: usize,
    batch: usize,
    settings: &Settings,
) -> Result<(f64, f64), Box<dyn Error>> {
    let words = [
        ("--once", device.to_string()),
        ("--work", work.word().to_owned()),
        ("--bases", base.to_string()),
        ("--batches", batch.to_string()),
        ("--members", settings.members.to_string()),
        ("--seconds", settings.seconds.to_string()),
    ];
    let mut command = Command::new(std::env::current_exe()?);
    words.iter().for_each(|(key, value)| {
        command.args([key, value.as_str()]);
    });
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{device}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let said = String::from_utf8(output.stdout)?;
    let (speed, peak) = said.trim().split_once(' ').ok_or("a measurement said nothing")?;
    Ok((speed.parse()?, peak.parse()?))
}

fn scan(device: Device, base: usize, batch: usize, settings: &Settings) -> Result<f64, Box<dyn Error>> {
    let arch = Architecture::plain(CLASSES, base, STAGES);
    let members: Vec<_> = (0..settings.members as u64).map(|seed| MemberWeights::initialise(&arch, seed)).collect();
    let engine = open_members(device, &arch, &members, SIDE)?;
    let engine: &dyn TilePredictor = engine.predictor();
    let colour = |i: u32, x: u32, y: u32| Rgb([x * 7 + i, y * 5, x ^ y].map(|v| (v % 256) as u8));
    let tiles: Vec<RgbImage> =
        (0..batch as u32).map(|i| RgbImage::from_fn(SIDE, SIDE, |x, y| colour(i, x, y))).collect();
    let mut outputs = vec![Vec::new(); engine.members()];
    predict_all(engine, &tiles[..1], &InputScale::RGB_TO_01, &mut outputs)?;
    let (started, mut done) = (Instant::now(), 0);
    while done == 0 || started.elapsed().as_secs_f64() < settings.seconds {
        predict_all(engine, &tiles, &InputScale::RGB_TO_01, &mut outputs)?;
        done += batch * engine.members();
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

fn train(device: Device, base: usize, batch: usize, settings: &Settings) -> Result<f64, Box<dyn Error>> {
    let arch = Architecture::plain(CLASSES, base, STAGES);
    let training = Training { freeze_norm_statistics: true, ..Training::new(1, u32::try_from(batch)?, SIDE, 0.01) };
    let (trainer, _) = Trainer::on(device)?;
    Ok(training_speed(trainer, &arch, &MemberWeights::initialise(&arch, 0), &training, settings.seconds)?)
}

/// Largest resident memory of this process so far, MB, from /proc (Linux).
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|kb| kb.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) / 1024
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
    let mut settings = Settings {
        work: vec![Work::Scan, Work::Train],
        devices: Vec::new(),
        bases: vec![8, 16, 32],
        batches: vec![1, 4],
        members: 5,
        seconds: 2.0,
        rounds: 5,
        once: None,
    };
    // Cargo says `--bench` to every benchmark.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let value = words.next().ok_or("every option needs a value")?;
        match word.as_str() {
            "--work" => settings.work = list(&value)?,
            "--devices" => settings.devices = list(&value)?,
            "--bases" => settings.bases = list(&value)?,
            "--batches" => settings.batches = list(&value)?,
            "--members" => settings.members = value.parse()?,
            "--seconds" => settings.seconds = value.parse()?,
            "--rounds" => settings.rounds = value.parse()?,
            "--once" => settings.once = Some(value.parse()?),
            _ => {
                let known = "--work, --devices, --bases, --batches, --members, --seconds, --rounds or --once";
                return Err(format!("{word}: give {known}").into());
            }
        }
    }
    Ok(settings)
}

fn list<T: FromStr<Err: Into<Box<dyn Error>>>>(value: &str) -> Result<Vec<T>, Box<dyn Error>> {
    value.split(',').map(|word| word.parse().map_err(Into::into)).collect()
}
