//! Any bytes as the GeoJSON of a tissue mask: parsed and filled on a small slide, or refused.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use consilium_common::Mpp;
use consilium_learning::slides::FlatSlide;
use consilium_learning::tissue::TissueMask;
use image::RgbImage;
use libfuzzer_sys::fuzz_target;

static SLIDE: LazyLock<FlatSlide> =
    LazyLock::new(|| FlatSlide::new(RgbImage::new(3000, 2000), Mpp::new(0.25).expect("a spacing")));

fuzz_target!(|bytes: &[u8]| {
    let _ = TissueMask::from_geojson_bytes(Path::new("outlines"), bytes, &*SLIDE);
});
