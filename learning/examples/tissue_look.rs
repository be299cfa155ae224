//! What the tissue mask of a slide looks like.
//!
//! `cargo run -p consilium-learning --example tissue_look -- SLIDE OUT.png [low|normal|high] [EDITED.geojson]` prints the
//! statistics, draws the slide with glass darkened and the mask's border in green, and writes the outlines beside the
//! picture, for QuPath. The slide must know its spacing; a PNG or JPEG is taken to have 1 um/px.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use consilium_common::Mpp;
use consilium_learning::slides::{FlatSlide, SlideReader, open_slide, thumbnail};
use consilium_learning::tissue::{Found, Sensitivity, TissueMask, TissueSettings};
use image::Rgb;

/// Longest side of the picture.
const SIDE_PX: u32 = 1400;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (path, out) = arguments.next().zip(arguments.next()).ok_or("give a slide and the picture to write")?;
    let sensitivity = match arguments.next().as_deref().and_then(Path::to_str) {
        Some("low") => Sensitivity::Low,
        Some("high") => Sensitivity::High,
        _ => Sensitivity::Normal,
    };
    let flat = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png") || e.eq_ignore_ascii_case("jpg"));
    let slide: Box<dyn SlideReader> =
        if flat { Box::new(FlatSlide::open(&path, Some(Mpp::new(1.0)?))?) } else { open_slide(&path, None)? };
    let settings = TissueSettings { sensitivity, ..TissueSettings::default() };
    let clock = Instant::now();
    let found = match arguments.next() {
        Some(edited) => Found::from_geojson(&edited, slide.as_ref(), &settings)?,
        None => TissueMask::find(slide.as_ref(), &settings)?,
    };
    println!("{:.3} s: {}", clock.elapsed().as_secs_f64(), serde_json::to_string_pretty(&found.stats)?);
    draw(slide.as_ref(), &found.mask, &out)?;
    std::fs::write(out.with_extension("geojson"), found.mask.to_geojson(slide.as_ref()))?;
    Ok(())
}

/// The slide with its glass darkened and the border of the tissue in green.
fn draw(slide: &dyn SlideReader, mask: &TissueMask, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut picture = thumbnail(slide, SIDE_PX)?;
    let (width, height) = picture.dimensions();
    let view = mask.on(width, height);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let (left, top) = (x.saturating_sub(1), y.saturating_sub(1));
        let around = view.count(left..x + 2, top..y + 2);
        let all = u64::from((x + 2).min(width) - left) * u64::from((y + 2).min(height) - top);
        if around != 0 && around != all {
            *pixel = Rgb([0, 200, 60]);
        } else if around == 0 {
            pixel.0 = pixel.0.map(|v| v / 2);
        }
    }
    Ok(picture.save(out)?)
}
