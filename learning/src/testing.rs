//! What several tests need.

use std::io::Write;
use std::path::PathBuf;

use image::RgbImage;

use crate::engine::{TilePredictor, onnx_library};
use crate::network::InputScale;

/// A file or folder of the real data: in `$CONSILIUM_DATA`, else in `shared/data` beside the checkout. Where it is not
/// there, says so past the test harness, which hides what passing tests print.
pub(crate) fn real_data(relative: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let root = std::env::var_os("CONSILIUM_DATA").map_or_else(|| beside.into(), PathBuf::from);
    let path = root.join(relative);
    if path.exists() {
        return Some(path);
    }
    let _ = writeln!(std::io::stderr(), "SKIPPED: {relative} is not in {}; set CONSILIUM_DATA", root.display());
    None
}

/// Whether ONNX Runtime is there; says so where it is not, as [`real_data`] does.
pub(crate) fn onnx_is_there() -> bool {
    let Err(why) = onnx_library() else { return true };
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
    false
}

/// What one member says of tiles, `[tiles, classes, height, width]`.
pub(crate) fn predicted(predictor: &dyn TilePredictor, member: usize, tiles: &[RgbImage]) -> Vec<f32> {
    let mut out = Vec::new();
    predictor.predict(member, tiles, &InputScale::RGB_TO_01, &mut out).unwrap();
    out
}
