//! The contact sheet: patches that were asked for, as image | prediction | uncertainty | correction side by side. For each
//! site the most uncertain patch of its first and of its last round.

use consilium_common::SiteId;
use consilium_common::plan::UNLABELLED;
use consilium_learning::scan::class_colour;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::{GrayImage, Rgb, RgbImage};

use super::ReportError;
use super::svg::{Anchor, Ink, Svg};

const WIDTH: f64 = 760.0;
const GAP: f64 = 3.0;
const BLOCK_GAP: f64 = 22.0;
/// Device pixels of a small picture.
const PIXELS: u32 = 240;
/// Nats that the brightest colour of an uncertainty map stands for.
const FULL_NATS: f64 = 1.0;

/// A patch with its pictures.
#[derive(Clone)]
pub struct PatchPicture {
    /// The site that was asked.
    pub site: SiteId,
    /// In which round.
    pub round: u32,
    /// Its mean uncertainty in nats.
    pub mean_uncertainty: f64,
    /// Dice of the prediction against the correction; absent where both are empty.
    pub dice_before: Option<f64>,
    /// The tissue.
    pub image: RgbImage,
    /// What the ensemble drew, class by pixel.
    pub prediction: GrayImage,
    /// Uncertainty, 0 to 4 nats in 8 bits.
    pub uncertainty: GrayImage,
    /// The correction, class by pixel; absent where none came.
    pub correction: Option<GrayImage>,
}

/// The patches to show: two a site, in the order of the sites.
fn chosen<'a>(patches: &'a [PatchPicture], sites: &[SiteId]) -> Vec<&'a PatchPicture> {
    let mut out = Vec::new();
    for site in sites {
        let of_site: Vec<&PatchPicture> = patches.iter().filter(|p| p.site == *site).collect();
        let (first, last) = (of_site.iter().map(|p| p.round).min(), of_site.iter().map(|p| p.round).max());
        let best = |round: Option<u32>, skip: usize| {
            let mut rows: Vec<&PatchPicture> = of_site.iter().copied().filter(|p| Some(p.round) == round).collect();
            rows.sort_by(|a, b| b.mean_uncertainty.total_cmp(&a.mean_uncertainty));
            rows.get(skip).copied()
        };
        out.extend(best(first, 0));
        out.extend(best(last, usize::from(first == last)));
    }
    out
}

/// Draws the sheet; `None` without patches.
pub(crate) fn draw(patches: &[PatchPicture], sites: &[SiteId]) -> Result<Option<String>, ReportError> {
    let chosen = chosen(patches, sites);
    if chosen.is_empty() {
        return Ok(None);
    }
    let side = ((WIDTH - BLOCK_GAP) / 2.0 - 3.0 * GAP) / 4.0;
    let row_height = side + 34.0;
    let rows = chosen.len().div_ceil(2);
    let height = 22.0 + rows as f64 * row_height + 30.0;
    let mut svg = Svg::new(WIDTH, height, "Patches that were asked for");
    for block in 0..2.min(chosen.len()) {
        let left = block as f64 * (WIDTH + BLOCK_GAP) / 2.0;
        for (column, name) in ["image", "prediction", "uncertainty", "correction"].iter().enumerate() {
            let x = left + column as f64 * (side + GAP) + side / 2.0;
            svg.text((x, 13.0), 12.5, Anchor::Middle, Ink::Text, name);
        }
    }
    for (index, patch) in chosen.iter().enumerate() {
        let left = (index % 2) as f64 * (WIDTH + BLOCK_GAP) / 2.0;
        let top = 22.0 + (index / 2) as f64 * row_height;
        for (column, picture) in pictures(patch)?.iter().enumerate() {
            let corner = (left + column as f64 * (side + GAP), top);
            match picture {
                Some(bytes) => svg.image(corner, (side, side), bytes),
                None => {
                    svg.text((corner.0 + side / 2.0, top + side / 2.0), 12.0, Anchor::Middle, Ink::Soft, "none yet")
                }
            }
        }
        let dice = patch.dice_before.map_or("no foreground".to_owned(), |d| format!("Dice {d:.2}"));
        let caption = format!("{}, round {} · {:.2} nats · {dice}", patch.site, patch.round, patch.mean_uncertainty);
        svg.text((left, top + side + 15.0), 12.0, Anchor::Start, Ink::Soft, &caption);
    }
    key(&mut svg, height - 22.0)?;
    Ok(Some(svg.finish()))
}

/// The colour bar of uncertainty and the tint of the first class.
fn key(svg: &mut Svg, y: f64) -> Result<(), ReportError> {
    let bar = RgbImage::from_fn(128, 4, |x, _| Rgb(heat(f64::from(x) / 127.0)));
    svg.text((0.0, y + 11.0), 12.0, Anchor::Start, Ink::Text, "uncertainty 0");
    svg.image((84.0, y + 2.0), (110.0, 11.0), &super::raster::encode(&bar)?);
    svg.text((200.0, y + 11.0), 12.0, Anchor::Start, Ink::Text, &format!("{FULL_NATS:.0} nat or more"));
    let tint = RgbImage::from_pixel(4, 4, Rgb(class_colour(1)));
    svg.image((340.0, y + 1.0), (12.0, 12.0), &super::raster::encode(&tint)?);
    svg.text(
        (358.0, y + 11.0),
        12.0,
        Anchor::Start,
        Ink::Text,
        "drawn as foreground, by the ensemble or by the corrector",
    );
    Ok(())
}

fn pictures(patch: &PatchPicture) -> Result<[Option<Vec<u8>>; 4], ReportError> {
    let image = resize(&patch.image, PIXELS, PIXELS, FilterType::CatmullRom);
    let uncertainty = resize(&patch.uncertainty, PIXELS, PIXELS, FilterType::Triangle);
    let heated = RgbImage::from_fn(PIXELS, PIXELS, |x, y| {
        let nats = f64::from(uncertainty.get_pixel(x, y)[0]) / 255.0 * 4.0;
        Rgb(heat(nats / FULL_NATS))
    });
    let correction = patch.correction.as_ref().map(|labels| jpeg(&overlay(&image, labels))).transpose()?;
    Ok([Some(jpeg(&image)?), Some(jpeg(&overlay(&image, &patch.prediction))?), Some(jpeg(&heated)?), correction])
}

/// The image with classes tinted and outlined; unlabelled pixels are greyed.
fn overlay(image: &RgbImage, labels: &GrayImage) -> RgbImage {
    let (w, h) = image.dimensions();
    let label = |x: u32, y: u32| labels.get_pixel(x * labels.width() / w, y * labels.height() / h)[0];
    RgbImage::from_fn(w, h, |x, y| {
        let pixel = *image.get_pixel(x, y);
        let class = label(x, y);
        let border = [(x + 2, y), (x.wrapping_sub(2), y), (x, y + 2), (x, y.wrapping_sub(2))]
            .iter()
            .any(|(i, j)| *i < w && *j < h && label(*i, *j) != class);
        match class {
            0 => pixel,
            UNLABELLED => mix(pixel, [128, 128, 128], 0.5),
            class => {
                let colour = class_colour(usize::from(class));
                if border { mix(pixel, colour.map(|v| v / 2), 0.95) } else { mix(pixel, colour, 0.34) }
            }
        }
    })
}

fn mix(pixel: Rgb<u8>, colour: [u8; 3], share: f32) -> Rgb<u8> {
    Rgb(std::array::from_fn(|c| (f32::from(pixel[c]) * (1.0 - share) + f32::from(colour[c]) * share) as u8))
}

/// The magma colour map (van der Walt and Smith 2015) at 0..1, from nine of its colours.
fn heat(value: f64) -> [u8; 3] {
    const STOPS: [[u8; 3]; 9] = [
        [0, 0, 4],
        [28, 16, 68],
        [79, 18, 123],
        [129, 37, 129],
        [181, 54, 122],
        [229, 80, 100],
        [251, 135, 97],
        [254, 194, 135],
        [252, 253, 191],
    ];
    let at = value.clamp(0.0, 1.0) * 8.0;
    let i = (at as usize).min(7);
    let t = at - i as f64;
    std::array::from_fn(|c| (f64::from(STOPS[i][c]) * (1.0 - t) + f64::from(STOPS[i + 1][c]) * t) as u8)
}

/// A picture as JPEG bytes.
pub(crate) fn jpeg(picture: &RgbImage) -> Result<Vec<u8>, ReportError> {
    let mut bytes = Vec::new();
    let written = JpegEncoder::new_with_quality(&mut bytes, 88).encode_image(picture);
    written.map_err(|e| ReportError::Figure { why: e.to_string() })?;
    Ok(bytes)
}
