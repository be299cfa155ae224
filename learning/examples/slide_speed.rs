//! How fast slides are written and read on this machine.
//!
//! `cargo run -p consilium-learning --example slide_speed [SLIDE]` writes a drawn slide of 4096 x 4096 px, or takes the
//! given one, and reads it in regions of 512 px: in order, at twice the spacing, and by several threads.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use consilium_common::Mpp;
use consilium_learning::slides::{SlideReader, open_slide, read_at, size_at, thumbnail, write_pyramid};
use consilium_learning::tissue::TissueMask;
use image::{Rgb, RgbImage};

const REGION_PX: u32 = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => drawn(folder.path().join("slide.tif"))?,
    };
    let native = open_slide(&path, None)?.mpp();
    let double = Mpp::new(native.um_per_px() * 2.0)?;
    for (what, spacing, threads) in [("native", native, 1), ("native", native, 4), ("double", double, 1)] {
        // A fresh reader has no decoded tiles.
        let slide = open_slide(&path, None)?;
        let clock = Instant::now();
        let (regions, pixels) = read_all(slide.as_ref(), spacing, threads)?;
        let seconds = clock.elapsed().as_secs_f64();
        println!(
            "read at {what} spacing, {threads} threads: {regions} regions, {:.0} regions/s, {:.0} MP/s",
            f64::from(regions) / seconds,
            pixels / 1e6 / seconds
        );
    }
    let slide = open_slide(&path, None)?;
    let clock = Instant::now();
    thumbnail(slide.as_ref(), 1024)?;
    println!("thumbnail of 1024 px: {:.3} s", clock.elapsed().as_secs_f64());
    let clock = Instant::now();
    let share = TissueMask::of(slide.as_ref())?.fraction();
    println!("tissue mask: {:.3} s, {:.1} % tissue", clock.elapsed().as_secs_f64(), share * 100.0);
    Ok(())
}

/// Writes a slide of smooth colours with fine noise, as hard to compress as tissue.
fn drawn(path: PathBuf) -> Result<PathBuf, Box<dyn Error>> {
    let image = RgbImage::from_fn(4096, 4096, |x, y| {
        let wave = |a: f64, b: f64| 150.0 + 80.0 * (f64::from(x) * a + f64::from(y) * b).sin();
        let noise = f64::from((x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) >> 27);
        Rgb([wave(0.031, 0.017) + noise, wave(0.011, -0.029) + noise, wave(-0.023, 0.041)].map(|v| v as u8))
    });
    let clock = Instant::now();
    write_pyramid(&path, &image, Mpp::new(0.25)?, 85)?;
    let bytes = std::fs::metadata(&path)?.len();
    println!("write 4096 x 4096: {:.2} s, {:.1} MB", clock.elapsed().as_secs_f64(), bytes as f64 / 1e6);
    Ok(path)
}

/// Reads the whole slide region by region; returns the number of regions and of pixels.
fn read_all(slide: &dyn SlideReader, spacing: Mpp, threads: u32) -> Result<(u32, f64), Box<dyn Error>> {
    let (width, height) = size_at(slide, spacing);
    let columns = width.div_ceil(REGION_PX);
    let count = columns * height.div_ceil(REGION_PX);
    std::thread::scope(|scope| {
        let work = |thread: u32| {
            (thread..count).step_by(threads as usize).try_for_each(|index| {
                let (x, y) = (index % columns * REGION_PX, index / columns * REGION_PX);
                read_at(slide, spacing, x.into(), y.into(), REGION_PX, REGION_PX).map(drop)
            })
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        running.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| "a reading thread panicked")?.map_err(Box::<dyn Error>::from)
        })
    })?;
    Ok((count, f64::from(count) * f64::from(REGION_PX * REGION_PX)))
}
