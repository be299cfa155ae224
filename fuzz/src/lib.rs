//! What the targets share: a folder in memory, and all that a hostile slide goes through when it is opened and read.

use std::path::{Path, PathBuf};

use consilium_common::Mpp;
use consilium_learning::slides::open_slide;

/// A folder of this process's own, in memory where the system has such a place.
pub fn folder() -> PathBuf {
    let root = Path::new("/dev/shm");
    let root = if root.is_dir() { root.to_owned() } else { std::env::temp_dir() };
    let folder = root.join(format!("consilium-fuzz-{}", std::process::id()));
    let _ = std::fs::create_dir_all(&folder);
    folder
}

/// Opens a slide and reads corners of every level, as a scan would. Errors are what is hoped for.
pub fn read(path: &Path) {
    let Ok(slide) = open_slide(path, Mpp::new(0.5).ok()) else { return };
    for (number, level) in slide.levels().iter().enumerate() {
        let far = |side: u32| i64::from(side.saturating_sub(40));
        for (x, y) in [(-3, -5), (far(level.width), far(level.height)), (i64::from(level.width / 2), 0)] {
            let _ = slide.read_level(number, x, y, 64, 48);
        }
    }
    let _ = (slide.about(), slide.holes());
}
