//! How fast the files of a scan are written: pyramids, outlines, figures and pictures from strips.
//!
//! `cargo run -p consilium-learning --example outputs_speed [DIR]` writes maps of 8192 x 8192 px with two foreground
//! classes, all of it tissue full of nuclei, which is the most there can be to write, and prints megapixels a second for
//! everything together (median of five) and the size of each file. The files stay in DIR if it is given.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use consilium_common::Mpp;
use consilium_common::plan::Task;
use consilium_learning::scan::{Strip, SummaryBuilder, Writers};
use image::{Rgb, RgbImage};

const SIDE: u32 = 8192;
const ROWS: u32 = 256;
/// Distance of nuclei.
const GRID: u32 = 48;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or_else(|| folder.path().to_owned(), PathBuf::from);
    let task =
        Task { classes: ["background", "nucleus", "other"].map(str::to_owned).into(), spacing_um: Mpp::new(0.5)? };
    let mut times = Vec::new();
    for _ in 0..5 {
        let thumbnail = RgbImage::from_pixel(1024, 1024, Rgb([225, 190, 215]));
        let mut writers = Writers::create(&dir, "drawn", &task, (SIDE, SIDE), 2.0, thumbnail)?;
        let mut summary = SummaryBuilder::new(&task, SIDE, SIDE);
        let (mut time, mut figures) = (Duration::ZERO, Duration::ZERO);
        for y in (0..SIDE).step_by(ROWS as usize) {
            let strip = strip(y);
            let clock = Instant::now();
            summary.add(&strip, None);
            figures += clock.elapsed();
            writers.add(&strip)?;
            time += clock.elapsed();
        }
        let clock = Instant::now();
        let files = writers.finish()?;
        let summary = summary.finish();
        time += clock.elapsed();
        println!(
            "{:.2} s, of it figures {:.2} s; {:?}; {:.3} mm2 of nuclei",
            time.as_secs_f64(),
            figures.as_secs_f64(),
            files.outline_counts,
            summary.classes[1].area_mm2
        );
        times.push(time.as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let pixels = f64::from(SIDE) * f64::from(SIDE) / 1e6;
    println!("median {:.2} s: {:.0} MP/s", times[2], pixels / times[2]);
    for entry in std::fs::read_dir(&dir)? {
        let entry = entry?;
        println!("{:>9.2} MB  {}", entry.metadata()?.len() as f64 / 1e6, entry.file_name().display());
    }
    Ok(())
}

fn noise(x: u32, y: u32) -> f32 {
    let mut h = x.wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77).rotate_left(13);
    h = (h ^ (h >> 16)).wrapping_mul(0x7FEB_352D);
    ((h ^ (h >> 15)) >> 8) as f32 / 16_777_216.0
}

/// Rows of round nuclei, two classes, unsure at their edges.
fn strip(y: u32) -> Strip {
    let pixels = (ROWS * SIDE) as usize;
    let mut strip = Strip {
        y,
        rows: ROWS,
        width: SIDE,
        labels: vec![0; pixels],
        tissue: vec![1; pixels],
        colour: vec![0; pixels],
        uncertainty: vec![0.0; pixels],
        entropy: vec![0.0; pixels],
        probabilities: vec![vec![0.0; pixels]; 2],
    };
    for i in 0..pixels as u32 {
        let (x, y) = (i % SIDE, y + i / SIDE);
        let (column, row) = (x / GRID, y / GRID);
        let at = |i: u32, salt: u32| (i % GRID) as f32 - 24.0 + 8.0 * (noise(column, row ^ salt) - 0.5);
        let radius = 10.0 + 8.0 * noise(column ^ 77, row);
        let inside = radius - at(x, 1).hypot(at(y, 9)) + 2.0 * (noise(x / 4, y / 4) - 0.5);
        let p = (1.0 / (1.0 + (-inside).exp())).clamp(0.004, 0.996) * (0.97 + 0.03 * noise(x, y));
        let class = ((column + row) % 2) as usize;
        strip.probabilities[class][i as usize] = p;
        strip.probabilities[1 - class][i as usize] = 0.01 * (1.0 - p);
        strip.labels[i as usize] = if p > 0.5 { 1 + class as u8 } else { 0 };
        strip.entropy[i as usize] = -p * p.ln() - (1.0 - p) * (1.0 - p).max(1e-6).ln();
        strip.uncertainty[i as usize] = 1.2 * strip.entropy[i as usize] + 0.02 * noise(y, x);
    }
    strip
}
