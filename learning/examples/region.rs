//! Pixels of a slide for other programs, and what its file says about itself.
//!
//! `region SLIDE [--mpp M]` prints levels, spacing and properties as JSON; `region SLIDE [--mpp M] LEVEL X Y W H` writes
//! the region's RGB bytes to standard output. With a folder of several slides, `region FOLDER --list` prints their names.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use consilium_common::Mpp;
use consilium_learning::dataset::slides_in;
use consilium_learning::slides::{SlideReader, open_slide};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() {
        return Err("which slide? region SLIDE [--mpp M] [LEVEL X Y W H]".into());
    }
    let path = words.remove(0);
    let mut mpp = None;
    if words.first().is_some_and(|word| word == "--mpp") {
        let um = words.get(1).ok_or("--mpp needs a number")?.parse()?;
        mpp = Some(Mpp::new(um)?);
        words.drain(..2);
    }
    if words.first().is_some_and(|word| word == "--list") {
        let found = slides_in(Path::new(&path))?;
        let slides: Vec<_> = found.slides.iter().map(|(name, path)| json!([name, path])).collect();
        let problems: Vec<_> = found.problems.iter().map(|problem| json!([problem.slide, problem.why])).collect();
        println!("{}", json!({ "slides": slides, "problems": problems }));
        return Ok(());
    }
    let slide = open_slide(Path::new(&path), mpp)?;
    match words.as_slice() {
        [] => println!("{}", description(slide.as_ref())),
        [level, x, y, w, h] => {
            let (x, y, w, h) = (x.parse()?, y.parse()?, w.parse()?, h.parse()?);
            let region = slide.read_level(level.parse()?, x, y, w, h)?;
            std::io::stdout().write_all(region.as_raw())?;
            for hole in slide.holes() {
                eprintln!("hole at {}, {}: {}", hole.x, hole.y, hole.why);
            }
        }
        _ => return Err("a region is LEVEL X Y W H".into()),
    }
    Ok(())
}

fn description(slide: &dyn SlideReader) -> serde_json::Value {
    let levels: Vec<_> =
        slide.levels().iter().map(|level| json!([level.width, level.height, level.downsample])).collect();
    let about = slide.about();
    json!({
        "levels": levels,
        "mpp": slide.mpp().um_per_px(),
        "format": about.format,
        "file_mpp": about.file_mpp.map(Mpp::um_per_px),
        "objective": about.objective,
        "warnings": about.warnings,
    })
}
