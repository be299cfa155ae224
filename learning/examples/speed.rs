//! Measures training and prediction on this machine, in patches and tiles a second:
//! `cargo run -p consilium-learning --example speed -- BASE STAGES SIDE BATCH MEMBERS STEPS [DEVICE]`.

use std::error::Error;
use std::time::Instant;

use consilium_common::plan::{Architecture, Training};
use consilium_learning::engine::{Device, open_members};
use consilium_learning::network::{InputScale, MemberWeights};
use consilium_learning::training::{Trainer, TrainingImage, train_members};
use image::{GrayImage, Luma, Rgb, RgbImage};

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let (numbers, device) = given.split_at(given.len().min(6));
    let numbers: Vec<usize> = numbers.iter().map(|a| a.parse()).collect::<Result<_, _>>()?;
    let &[base, stages, side, batch, members, steps] = numbers.as_slice() else {
        return Err("say BASE STAGES SIDE BATCH MEMBERS STEPS [DEVICE], for example 8 4 128 4 2 10 cpu".into());
    };
    let device: Device = device.first().map_or(Ok(Device::Cpu), |word| word.parse())?;
    let (trainer, why) = Trainer::on(device)?;
    println!("{why}");
    let arch = Architecture::plain(2, base, stages);
    let colour = |x: u32, y: u32| Rgb([x * 7, y * 5, x * y].map(|v| (v % 256) as u8));
    let image = RgbImage::from_fn(512, 512, colour);
    let labels = GrayImage::from_fn(512, 512, |x, y| Luma([((x / 64 + y / 64) % 2) as u8]));
    let images = [TrainingImage { image: image.clone(), labels, input: InputScale::RGB_TO_01 }];
    let starts: Vec<_> = (0..members as u64).map(|m| MemberWeights::initialise(&arch, m)).collect();
    for freeze_norm_statistics in [false, true] {
        let settings = Training::new(u32::try_from(steps)?, u32::try_from(batch)?, u32::try_from(side)?, 0.01);
        let settings = Training { freeze_norm_statistics, ..settings };
        let what = if freeze_norm_statistics { "fine-tuning" } else { "training" };
        let trained = measure(what, members * steps * batch, || {
            train_members(trainer, starts.len(), &arch, &starts, &images, &settings, "speed", &|_, _, _| true)
        })?;
        println!("  loss {:?}, {}", trained[0].losses.last(), blake3::hash(&trained[0].weights.to_bytes()?).to_hex());
    }
    let engine = open_members(device, &arch, &starts, 128)?;
    for side in [128, 256] {
        let tile = |i: u32| image::imageops::crop_imm(&image, i * 8, i * 3, side, side).to_image();
        let tiles: Vec<RgbImage> = (0..32).map(tile).collect();
        measure(&format!("prediction of {side} px"), tiles.len(), || {
            engine.predictor().predict(0, &tiles, &InputScale::RGB_TO_01, &mut Vec::new())
        })?;
    }
    Ok(())
}

/// Runs and prints how many things were done a second, by the clock and by the processors' time.
fn measure<R>(what: &str, count: usize, run: impl FnOnce() -> R) -> R {
    let (clock, processor) = (Instant::now(), processor_seconds());
    let result = run();
    let (clock, processor) = (clock.elapsed().as_secs_f64(), processor_seconds() - processor);
    let n = count as f64;
    println!("{what}: {:.1} a second, {:.1} a second of one core", n / clock, n / processor);
    result
}

/// Processor time of this process, from /proc (Linux), in its ticks of a hundredth.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}
