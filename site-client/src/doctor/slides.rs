//! The checks of the data folder: the splits, and slide by slide spacing, mask and tissue.

use consilium_learning::dataset::{DataFolder, SlideEntry, Split};
use consilium_learning::slides::{open_slide, openslide_library};
use consilium_learning::tissue::TissueMask;

use super::Check;
use crate::config::{CorrectorConfig, SiteConfig};

/// A slide with less tissue than this is probably not what it should be.
const HARDLY_ANY: f64 = 0.005;

pub(super) fn data(config: &SiteConfig, seen: &(dyn Fn(u64, u64) + Sync)) -> Vec<Check> {
    let folder = match DataFolder::open(&config.data_dir) {
        Ok(folder) => folder,
        Err(e) => return vec![Check::fail("data", e.to_string(), "correct data_dir or the folder")],
    };
    let mut checks = vec![splits(&folder)];
    for problem in &folder.problems {
        checks.push(Check::fail(format!("slide {}", problem.slide), problem.why.clone(), "see left; others go on"));
    }
    let total = folder.slides.len() as u64;
    for (done, slide) in (0u64..).zip(&folder.slides) {
        seen(done, total);
        checks.push(one(slide, &config.corrector));
    }
    seen(total, total);
    checks
}

/// The library for vendor formats, which most sites do not need.
pub(super) fn openslide() -> Check {
    match openslide_library() {
        Ok(library) => Check::ok("openslide", format!("{} at {}", library.version, library.path.display())),
        Err(_) => Check::ok("openslide", "not there; only NDPI, MRXS, SCN, BIF and CZI slides would need it"),
    }
}

fn splits(folder: &DataFolder) -> Check {
    let count = |split| folder.of(split).count();
    let (train, pool, test) = (count(Split::Train), count(Split::Pool), count(Split::Test));
    let held_out = folder.of(Split::Test).filter(|slide| slide.mask.is_some()).count();
    let found = format!("{train} train, {pool} pool, {test} test slides ({held_out} of these with mask)");
    if train + pool == 0 {
        return Check::warn("data", found, "nothing to learn from: mark slides as pool or train in slides.csv");
    }
    if held_out == 0 {
        return Check::warn("data", found, "nothing to evaluate on: mark slides with masks as test in slides.csv");
    }
    Check::ok("data", found)
}

fn one(slide: &SlideEntry, corrector: &CorrectorConfig) -> Check {
    let what = format!("slide {}", slide.name);
    let looked = || {
        let reader = open_slide(&slide.path, slide.mpp)?;
        let tissue = TissueMask::of(reader.as_ref())?.fraction();
        Ok::<_, consilium_learning::slides::SlideError>((reader, tissue))
    };
    let (reader, tissue) = match looked() {
        Ok(found) => found,
        Err(e) => return Check::fail(what, e.to_string(), "see left; others go on"),
    };
    let (mpp, level, about) = (reader.mpp(), reader.levels()[0], reader.about());
    let split = match slide.split {
        Split::Train => "train",
        Split::Pool => "pool",
        Split::Test => "test",
    };
    let mask = if slide.mask.is_some() { "mask" } else { "no mask" };
    let found = format!(
        "{split}, {}, {} x {} px, {mpp}, {:.0} % tissue, {mask}",
        about.format,
        level.width,
        level.height,
        tissue * 100.0
    );
    if tissue < HARDLY_ANY {
        return Check::warn(what, found, "hardly any tissue was found: is it the right slide?");
    }
    let holes = reader.holes().len();
    if holes > 0 {
        return Check::warn(
            what,
            format!("{found}, {holes} damaged tiles"),
            "copy it again; damaged parts count as glass",
        );
    }
    if let Some(warning) = about.warnings.first() {
        return Check::warn(what, found, warning.clone());
    }
    let needs_mask = slide.split != Split::Pool || *corrector == CorrectorConfig::Masks;
    if needs_mask && slide.mask.is_none() {
        return Check::warn(what, found, "is not used without masks/NAME.png");
    }
    Check::ok(what, found)
}
