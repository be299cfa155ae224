//! Where each site's fields lie in colour: what staining and scanner made of the tissue, before any network sees it. Kept
//! in the comparison's folder, so that its report can be drawn again without slides.
//!
//! Optical density is -log10(value / 255) by channel, of values of at least 1 (Beer and Lambert).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::imageops::{self, FilterType};
use serde::{Deserialize, Serialize};

use crate::experiment::ExperimentError;
use crate::fields::{Field, Site};
use crate::report::jpeg;

/// Small pictures that are kept of a site.
const THUMBNAILS: usize = 6;
/// Their side, pixels.
const SIDE: u32 = 72;

/// A site's fields in colour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteColours {
    pub(crate) site: String,
    pub(crate) central: bool,
    /// The fields with tissue, by name.
    pub(crate) fields: Vec<FieldColour>,
    /// The middle squares of the first fields as JPEG in base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) thumbnails: Vec<String>,
}

/// The colour of a field's tissue, to four decimals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldColour {
    pub(crate) field: String,
    /// Mean optical density of red, green and blue over its tissue.
    pub(crate) density: [f64; 3],
    /// Standard deviation over its tissue of the pixels' mean density of the three channels.
    pub(crate) spread: f64,
}

impl SiteColours {
    /// Of a site's fields.
    pub(super) fn of(site: &Site) -> Result<Self, ExperimentError> {
        let thumbnails = site.fields.iter().take(THUMBNAILS).map(thumbnail).collect::<Result<_, _>>()?;
        let fields = site.fields.iter().filter_map(FieldColour::of).collect();
        Ok(Self { site: site.id.to_string(), central: site.central, fields, thumbnails })
    }

    /// The same without pictures.
    pub(super) fn plain(&self) -> Self {
        Self { thumbnails: Vec::new(), ..self.clone() }
    }

    /// The small pictures as JPEG files; what is none is left out.
    pub(crate) fn pictures(&self) -> impl Iterator<Item = Vec<u8>> {
        self.thumbnails
            .iter()
            .filter_map(|text| STANDARD.decode(text).ok())
            .filter(|bytes| bytes.starts_with(&[0xff, 0xd8]))
    }
}

impl FieldColour {
    /// Of a field; none without tissue.
    fn of(field: &Field) -> Option<Self> {
        let densities: Vec<f64> = (0..=u8::MAX).map(|value| -(f64::from(value.max(1)) / 255.0).log10()).collect();
        let (mut pixels, mut sums, mut sum, mut squares) = (0.0, [0.0; 3], 0.0, 0.0);
        for (pixel, _) in field.image.pixels().zip(&field.tissue).filter(|(_, tissue)| **tissue != 0) {
            let density = pixel.0.map(|value| densities[usize::from(value)]);
            let mean = density.iter().sum::<f64>() / 3.0;
            sums.iter_mut().zip(density).for_each(|(sum, density)| *sum += density);
            (pixels, sum, squares) = (pixels + 1.0, sum + mean, squares + mean * mean);
        }
        if pixels == 0.0 {
            return None;
        }
        let variance = (squares / pixels - (sum / pixels) * (sum / pixels)).max(0.0);
        let short = |value: f64| (value * 1e4).round() / 1e4;
        let density = sums.map(|sum| short(sum / pixels));
        Some(Self { field: field.name.clone(), density, spread: short(variance.sqrt()) })
    }

    /// Mean optical density of the three channels: how dark.
    pub(crate) fn darkness(&self) -> f64 {
        self.density.iter().sum::<f64>() / 3.0
    }

    /// Which colour, however dark: the chromaticities of the hue-saturation-density model,
    /// `(red / D - 1, (green - blue) / (sqrt(3) D))` with `D` the mean density (van der Laak et al. 2000). Grey is
    /// at (0, 0).
    pub(crate) fn chromaticity(&self) -> (f64, f64) {
        let (whole, [red, green, blue]) = (self.darkness().max(1e-6), self.density);
        (red / whole - 1.0, (green - blue) / (3f64.sqrt() * whole))
    }
}

fn thumbnail(field: &Field) -> Result<String, ExperimentError> {
    let (width, height) = field.image.dimensions();
    let side = width.min(height);
    let square = imageops::crop_imm(&field.image, (width - side) / 2, (height - side) / 2, side, side).to_image();
    Ok(STANDARD.encode(jpeg(&imageops::resize(&square, SIDE, SIDE, FilterType::Triangle))?))
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Rgb, RgbImage};

    use super::*;

    /// Pixels side by side; those that are none of tissue are 0.
    fn field(pixels: &[([u8; 3], u8)]) -> Field {
        let mut image = RgbImage::new(pixels.len() as u32, 1);
        image.pixels_mut().zip(pixels).for_each(|(to, (from, _))| *to = Rgb(*from));
        Field {
            name: "f".into(),
            stage: None,
            labels: GrayImage::new(pixels.len() as u32, 1),
            image,
            tissue: pixels.iter().map(|(_, tissue)| *tissue).collect(),
            colour: vec![0; pixels.len()],
        }
    }

    #[test]
    fn densities_are_those_of_tissue_by_hand() {
        // -log10(26 / 255) = 0.99157, -log10(51 / 255) = 0.69897, -log10(1 / 255) = 2.40654; white is glass and left out.
        let of = field(&[([26, 51, 255], 1), ([255, 255, 255], 0), ([26, 51, 0], 1)]);
        let colour = FieldColour::of(&of).unwrap();
        assert_eq!(colour.density, [0.9916, 0.699, 1.2033]);
        // The two pixels' means are 0.56351 and 1.36569; half their difference is 0.40109.
        assert_eq!(colour.spread, 0.4011);
        assert!((colour.darkness() - 0.9646).abs() < 1e-4);
        let (x, y) = colour.chromaticity();
        assert!(
            (x - (0.9916 / 0.96463 - 1.0)).abs() < 1e-4 && (y - (0.699 - 1.2033) / (1.73205 * 0.96463)).abs() < 1e-4
        );
        assert_eq!(FieldColour::of(&field(&[([9, 9, 9], 0)])), None);
    }

    #[test]
    fn grey_has_no_colour_however_dark() {
        for value in [20, 90, 200] {
            let colour = FieldColour::of(&field(&[([value; 3], 1)])).unwrap();
            let (x, y) = colour.chromaticity();
            assert!(x.abs() < 1e-12 && y == 0.0 && colour.spread == 0.0, "{colour:?}");
        }
    }

    #[test]
    fn thumbnails_are_small_squares_and_anything_else_is_left_out() {
        let site = Site { id: "s".parse().unwrap(), central: true, fields: vec![field(&[([9, 9, 9], 1); 5])] };
        let mut colours = SiteColours::of(&site).unwrap();
        colours.thumbnails.push("bm8gcGljdHVyZQ==".into());
        let pictures: Vec<Vec<u8>> = colours.pictures().collect();
        assert_eq!(pictures.len(), 1);
        let picture = image::load_from_memory(&pictures[0]).unwrap();
        assert_eq!((picture.width(), picture.height()), (SIDE, SIDE));
    }
}
