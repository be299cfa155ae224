//! Drawing: procedural H&E-like slides with true tumour masks, the same bytes for the same seed.
//!
//! A slide is laid out as smooth fields (`layout`), painted as amounts of haematoxylin and eosin (`ground`, `bodies` on a
//! `film`) and developed through the stain and scanner of a centre (`centre`, `develop`). `folder` writes whole centres as
//! data folders. A `scene` may ask for metastases of known extent (`deposits`) and for benign areas that resemble tumour
//! (`look_alikes`). The pictures are meant to pose the task, not to deceive a pathologist.

mod areas;
mod bodies;
mod centre;
mod deposits;
mod develop;
mod film;
mod folder;
mod glands;
mod ground;
mod layout;
mod look_alikes;
pub(crate) mod noise;
mod scene;

use image::{GrayImage, Luma, RgbImage};

pub use centre::{Centre, centres};
pub use folder::{CentreSlides, DrawError, write_centre, write_rare_centre};
pub use scene::{LookAlikes, Scene, Stage};

use film::{Film, Textures};
use layout::Layout;

/// Side in level-0 pixels of a slide of the demonstration.
pub const SIDE_PX: u32 = 4096;
/// Spacing at which slides are painted, um/px; level 0 of a scene may be coarser.
pub const SPACING_UM: f64 = 0.5;
/// Painted pixels per mask pixel; a mask of 2 um/px is finer than any plan for these slides.
pub const MASK_STEP: u32 = 4;

/// One drawn slide.
pub struct DrawnSlide {
    /// Level 0.
    pub image: RgbImage,
    /// 0 background, 1 tumour; every [`MASK_STEP`]th painted pixel.
    pub mask: GrayImage,
    /// Share of the slide's area that is tissue.
    pub tissue_share: f64,
}

impl DrawnSlide {
    /// Share of the slide's area that is tumour.
    pub fn tumour_share(&self) -> f64 {
        let tumour = self.mask.as_raw().iter().filter(|v| **v == 1).count();
        tumour as f64 / self.mask.as_raw().len() as f64
    }

    /// Share of the tissue that is tumour.
    pub fn tumour_of_tissue(&self) -> f64 {
        self.tumour_share() / self.tissue_share.max(1e-9)
    }
}

/// Draws one slide of the demonstration's kind and this side (a multiple of 64); `seed` names it, for instance
/// `7/lakeside/slide-02`.
pub fn draw_slide(centre: &Centre, seed: &str, side_px: u32) -> DrawnSlide {
    draw_scene(centre, seed, side_px, &Scene::default())
}

/// Draws one slide of a scene. `side_px` is the side of level 0, a multiple of 64.
pub fn draw_scene(centre: &Centre, seed: &str, side_px: u32, scene: &Scene) -> DrawnSlide {
    let size = (side_px * scene.shrink) as usize;
    let layout = Layout::new(seed, size, scene);
    let textures = Textures::new(noise::seed_of(&format!("{seed}/textures")));
    let mut film = Film::new(size);
    ground::paint(&mut film, &layout, &textures, noise::seed_of(&format!("{seed}/ground")));
    bodies::stamp_all(&mut film, &layout, &textures, seed);
    if scene.shrink == 2 {
        film = film.halved();
    }
    let image = develop::develop(&film, &layout, centre, seed);
    let mask = mask(&layout);
    let tissue = layout.tissue.data.iter().filter(|inside| **inside > 0.0).count();
    DrawnSlide { image, mask, tissue_share: tissue as f64 / layout.tissue.data.len() as f64 }
}

/// Where the layout has tumour.
fn mask(layout: &Layout) -> GrayImage {
    let side = layout.size as u32 / MASK_STEP;
    GrayImage::from_fn(side, side, |x, y| {
        let centre_of = |v: u32| (v * MASK_STEP) as f32 + 0.5 * MASK_STEP as f32;
        Luma([u8::from(layout.tumour.at(centre_of(x), centre_of(y)) > 0.0)])
    })
}

#[cfg(test)]
mod rare_tests;
#[cfg(test)]
mod tests;
