//! Reads a list of regions of a slide, for comparison with other readers.
//!
//! `cargo run -p consilium-learning --example slide_read SLIDE REGIONS.json [THREADS [digests]]` reads the regions
//! `[[level, x, y, w, h], ...]` (pixels of the level) with a fresh reader and prints one JSON object: seconds from opening
//! to the last pixel, and with `digests` the BLAKE3 digest and the mean colour of each region.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use consilium_learning::slides::{SlideError, SlideReader, open_slide};
use image::RgbImage;

/// Level, left, top, width, height.
type Region = (usize, i64, i64, u32, u32);
/// Number of a region, its digest, and its mean colour.
type Seen = (usize, String, [f64; 3]);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [slide, list, options @ ..] = arguments.as_slice() else {
        return Err("usage: slide_read SLIDE REGIONS.json [THREADS [digests]]".into());
    };
    let regions: Vec<Region> = serde_json::from_slice(&std::fs::read(list)?)?;
    let threads = options.first().map_or(Ok(1), |text| text.parse::<usize>())?;
    let digests = options.get(1).is_some_and(|text| text == "digests");
    let clock = Instant::now();
    let slide = open_slide(Path::new(slide), None)?;
    let results = read_all(slide.as_ref(), &regions, threads, digests)?;
    let seconds = clock.elapsed().as_secs_f64();
    let holes = slide.holes().len();
    println!("{}", serde_json::json!({ "seconds": seconds, "holes": holes, "regions": results }));
    Ok(())
}

/// Each thread takes the next region of the list; returns digest and means of each region where they are asked for.
fn read_all(
    slide: &dyn SlideReader,
    regions: &[Region],
    threads: usize,
    digests: bool,
) -> Result<Vec<Seen>, Box<dyn Error>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Seen>, SlideError> {
        let mut found = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(level, x, y, w, h)) = regions.get(number) else { return Ok(found) };
            let pixels = slide.read_level(level, x, y, w, h)?;
            if digests {
                found.push((number, blake3::hash(pixels.as_raw()).to_hex().to_string(), means(&pixels)));
            }
        }
    };
    let mut all = Vec::new();
    std::thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        for thread in running {
            all.extend(thread.join().map_err(|_| "a reading thread panicked")??);
        }
        Ok(())
    })?;
    all.sort_by_key(|result| result.0);
    Ok(all)
}

fn means(image: &RgbImage) -> [f64; 3] {
    let mut sums = [0u64; 3];
    image.pixels().for_each(|pixel| sums.iter_mut().zip(pixel.0).for_each(|(sum, v)| *sum += u64::from(v)));
    sums.map(|sum| sum as f64 / f64::from(image.width()) / f64::from(image.height()))
}
