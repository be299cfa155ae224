//! Drawing: procedural H&E-like slides with true tumour masks, the same bytes for the same seed.
//!
//! A slide is laid out as smooth fields (`layout`), painted as amounts of haematoxylin and eosin (`ground`, `bodies` on a
//! `film`) and developed through the stain and scanner of a centre (`centre`, `develop`). `folder` writes whole centres as
//! data folders. The pictures are meant to pose the task, not to deceive a pathologist.

mod bodies;
mod centre;
mod develop;
mod film;
mod folder;
mod ground;
mod layout;
pub(crate) mod noise;

use image::{GrayImage, Luma, RgbImage};

pub use centre::{Centre, centres};
pub use folder::{CentreSlides, DrawError, write_centre};

use film::{Film, Textures};
use layout::Layout;

/// Side of a drawn slide in level-0 pixels.
pub const SIDE_PX: u32 = 4096;
/// Level-0 spacing of a drawn slide, um/px.
pub const SPACING_UM: f64 = 0.5;
/// Level-0 pixels per mask pixel; a mask of 2 um/px is finer than any plan for these slides.
pub const MASK_STEP: u32 = 4;

/// One drawn slide.
pub struct DrawnSlide {
    /// Level 0.
    pub image: RgbImage,
    /// 0 background, 1 tumour; every [`MASK_STEP`]th pixel.
    pub mask: GrayImage,
}

impl DrawnSlide {
    /// Share of the slide's area that is tumour.
    pub fn tumour_share(&self) -> f64 {
        let tumour = self.mask.as_raw().iter().filter(|v| **v == 1).count();
        tumour as f64 / self.mask.as_raw().len() as f64
    }
}

/// Draws one slide of this side (a multiple of 64); `seed` names it, for instance `7/lakeside/slide-02`.
pub fn draw_slide(centre: &Centre, seed: &str, side_px: u32) -> DrawnSlide {
    let size = side_px as usize;
    let layout = Layout::new(seed, size);
    let textures = Textures::new(noise::seed_of(&format!("{seed}/textures")));
    let mut film = Film::new(size);
    ground::paint(&mut film, &layout, &textures, noise::seed_of(&format!("{seed}/ground")));
    bodies::stamp_all(&mut film, &layout, &textures, seed);
    let image = develop::develop(&film, &layout, centre, seed);
    let side = side_px / MASK_STEP;
    let mask = GrayImage::from_fn(side, side, |x, y| {
        let centre_of = |v: u32| (v * MASK_STEP) as f32 + 0.5 * MASK_STEP as f32;
        Luma([u8::from(layout.tumour.at(centre_of(x), centre_of(y)) > 0.0)])
    });
    DrawnSlide { image, mask }
}

#[cfg(test)]
mod tests;
