//! Writes a centre's slides as a data folder: pyramidal TIFFs, masks and `slides.csv`.

use std::path::{Path, PathBuf};

use consilium_common::{Invalid, Mpp};
use consilium_learning::slides::{SlideError, write_pyramid};
use rayon::prelude::*;

use super::{Centre, SIDE_PX, SPACING_UM, draw_slide};

/// JPEG quality of the tiles, as scanners use.
const QUALITY: u8 = 86;

/// How many slides a centre gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CentreSlides {
    /// Slides that are learned from: `train` at the central centre, `pool` elsewhere.
    pub learn: usize,
    /// Held-out slides.
    pub test: usize,
    /// The split of the first kind.
    pub split: &'static str,
}

/// A slide or folder that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// A pyramid could not be written.
    #[error(transparent)]
    Slide(#[from] SlideError),
    /// The spacing is not one; a bug.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A mask could not be written.
    #[error("{path} cannot be written; is the disk full, or the folder not yours?")]
    Mask {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: image::ImageError,
    },
    /// A folder or table could not be written.
    #[error("{path} cannot be written; is the disk full, or the folder not yours?")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Draws a centre's slides side by side on the cores and writes them under `root`. Calls `drawn` after each.
pub fn write_centre(
    root: &Path,
    centre: &Centre,
    seed: u64,
    slides: CentreSlides,
    drawn: &(dyn Fn() + Sync),
) -> Result<(), DrawError> {
    let file = |path: PathBuf| move |source| DrawError::File { path, source };
    for folder in ["slides", "masks"] {
        let path = root.join(folder);
        std::fs::create_dir_all(&path).map_err(file(path))?;
    }
    let names: Vec<String> = (1..=slides.learn + slides.test).map(|i| format!("{}-{i:02}", centre.name)).collect();
    names.par_iter().try_for_each(|name| -> Result<(), DrawError> {
        let slide = draw_slide(centre, &format!("{seed}/{name}"), SIDE_PX);
        write_pyramid(&root.join(format!("slides/{name}.tif")), &slide.image, Mpp::new(SPACING_UM)?, QUALITY)?;
        let path = root.join(format!("masks/{name}.png"));
        slide.mask.save(&path).map_err(|source| DrawError::Mask { path, source })?;
        drawn();
        Ok(())
    })?;
    let mut table = String::from("slide,mpp,split\n");
    for (index, name) in names.iter().enumerate() {
        let split = if index < slides.learn { slides.split } else { "test" };
        table.push_str(&format!("{name},{SPACING_UM},{split}\n"));
    }
    let path = root.join("slides.csv");
    std::fs::write(&path, table).map_err(file(path))
}
