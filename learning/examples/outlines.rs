//! How fast outlines are drawn: 100,000 objects with holes on a label map of 20,000 x 20,000 px, one thread.
//!
//! `cargo run -p consilium-learning --example outlines [FILE.geojson]` draws the map row by row, follows and writes the
//! outlines five times, and prints the median time (the drawing of the map is timed apart and not in it).

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use consilium_common::Mpp;
use consilium_learning::outline::{OutlineCounts, OutlineSettings, OutlineWriter};

const SIDE: usize = 20_000;
/// A grid of cells, one object in each: 317 x 317 = 100,489.
const CELL: usize = 63;
const PER_SIDE: usize = SIDE / CELL;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or_else(|| folder.path().join("x.geojson"), PathBuf::from);
    let mut times = Vec::new();
    for _ in 0..5 {
        let (time, counts) = once(&path)?;
        times.push(time);
        println!("{:.2} s, {counts:?}", time.as_secs_f64());
    }
    times.sort();
    let bytes = std::fs::metadata(&path)?.len();
    println!("median {:.2} s for {SIDE} x {SIDE} px, {:.1} MB", times[2].as_secs_f64(), bytes as f64 / 1e6);
    Ok(())
}

fn once(path: &Path) -> Result<(Duration, OutlineCounts), Box<dyn Error>> {
    let classes = ["background", "a", "b"].map(|name| (name.to_owned(), [0, 120, 200]));
    let settings = OutlineSettings::new(Mpp::new(0.5)?, 2.0);
    let mut writer = OutlineWriter::create(path, "drawn", SIDE as u32, &classes, settings)?;
    let mut time = Duration::ZERO;
    let mut row = vec![0; SIDE];
    for y in 0..SIDE {
        draw(y, &mut row);
        let clock = Instant::now();
        writer.push_rows(&row)?;
        time += clock.elapsed();
    }
    let clock = Instant::now();
    let counts = writer.finish()?;
    Ok((time + clock.elapsed(), counts))
}

/// A row of blobs with wavy edges, about 40 px across, each with a hole.
fn draw(y: usize, row: &mut [u8]) {
    row.fill(0);
    if y / CELL >= PER_SIDE {
        return;
    }
    for column in 0..PER_SIDE {
        let seed = ((column * 7919 + y / CELL * 104_729) % 1000) as f32;
        let dy = (y % CELL) as f32 - 31.0;
        for x in 0..CELL {
            let dx = x as f32 - 31.0;
            let r = (dx * dx + dy * dy).sqrt();
            if r > 30.0 {
                continue;
            }
            let angle = dy.atan2(dx);
            let wave = (angle * 5.0 + seed).sin() * 3.0 + (angle * 11.0 + seed * 1.7).sin() * 1.5;
            if r < 22.0 + wave && r > 6.0 + wave * 0.5 {
                row[column * CELL + x] = 1 + (column % 2) as u8;
            }
        }
    }
}
