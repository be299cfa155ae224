//! Writes a centre's slides as a data folder: pyramidal TIFFs, masks and `slides.csv`.

use std::path::{Path, PathBuf};

use consilium_common::{Invalid, Mpp};
use consilium_learning::slides::{SlideError, write_pyramid};
use rayon::prelude::*;

use super::{Centre, DrawnSlide, LookAlikes, SIDE_PX, SPACING_UM, Scene, Stage, draw_scene, draw_slide};

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

fn file(path: PathBuf) -> impl FnOnce(std::io::Error) -> DrawError {
    move |source| DrawError::File { path, source }
}

fn make_folders(root: &Path) -> Result<(), DrawError> {
    for folder in ["slides", "masks"] {
        let path = root.join(folder);
        std::fs::create_dir_all(&path).map_err(file(path))?;
    }
    Ok(())
}

fn write_slide(root: &Path, name: &str, slide: &DrawnSlide, spacing_um: f64) -> Result<(), DrawError> {
    write_pyramid(&root.join(format!("slides/{name}.tif")), &slide.image, Mpp::new(spacing_um)?, QUALITY)?;
    let path = root.join(format!("masks/{name}.png"));
    slide.mask.save(&path).map_err(|source| DrawError::Mask { path, source })
}

fn write_table(root: &Path, table: &str) -> Result<(), DrawError> {
    let path = root.join("slides.csv");
    std::fs::write(&path, table).map_err(file(path))
}

/// Draws a centre's slides side by side on the cores and writes them under `root`. Calls `drawn` after each.
///
/// # Errors
/// A file cannot be written.
pub fn write_centre(
    root: &Path,
    centre: &Centre,
    seed: u64,
    slides: CentreSlides,
    drawn: &(dyn Fn() + Sync),
) -> Result<(), DrawError> {
    make_folders(root)?;
    let names: Vec<String> = (1..=slides.learn + slides.test).map(|i| format!("{}-{i:02}", centre.name)).collect();
    names.par_iter().try_for_each(|name| -> Result<(), DrawError> {
        let slide = draw_slide(centre, &format!("{seed}/{name}"), SIDE_PX);
        write_slide(root, name, &slide, SPACING_UM)?;
        drawn();
        Ok(())
    })?;
    let mut table = String::from("slide,mpp,split\n");
    for (index, name) in names.iter().enumerate() {
        let split = if index < slides.learn { slides.split } else { "test" };
        table.push_str(&format!("{name},{SPACING_UM},{split}\n"));
    }
    write_table(root, &table)
}

/// Draws a centre's slides with rare tumour, the stages in turn, and writes them under `root` without a split. Calls `drawn`
/// after each. Gives each slide's stage and the share of its tissue that is tumour.
///
/// # Errors
/// A file cannot be written.
pub fn write_rare_centre(
    root: &Path,
    centre: &Centre,
    look_alikes: LookAlikes,
    seed: u64,
    slides: usize,
    drawn: &(dyn Fn() + Sync),
) -> Result<Vec<(Stage, f64)>, DrawError> {
    make_folders(root)?;
    let stages: Vec<Stage> = Stage::ALL.into_iter().cycle().take(slides).collect();
    let name = |index: usize| format!("{}-{:02}", centre.name, index + 1);
    let shares = stages.par_iter().enumerate().map(|(index, &stage)| {
        let scene = Scene::rare(stage, look_alikes);
        let slide = draw_scene(centre, &format!("{seed}/rare/{}", name(index)), Scene::RARE_SIDE_PX, &scene);
        write_slide(root, &name(index), &slide, scene.spacing_um())?;
        drawn();
        Ok((stage, slide.tumour_of_tissue()))
    });
    let shares = shares.collect::<Result<Vec<_>, DrawError>>()?;
    let mut table = String::from("slide,mpp,split,stage\n");
    for (index, stage) in stages.iter().enumerate() {
        let spacing = Scene::rare(*stage, look_alikes).spacing_um();
        table.push_str(&format!("{},{spacing},,{}\n", name(index), stage.word()));
    }
    write_table(root, &table)?;
    Ok(shares)
}
