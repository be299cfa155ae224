//! What is kept of the header of a DICOM instance: its place in the slide, and how its frames are stored.
//!
//! The elements are listed here once. Text is kept only where it is an identifier or a keyword of the standard.

use std::path::Path;

use consilium_common::limits;
use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};

use super::header::Value;
use crate::slides::error::SlideError;

/// How the frames of an instance are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    ImplicitNative,
    ExplicitNative,
    Jpeg,
    Jpeg2000,
    Rle,
}

/// The header of an instance, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) series: String,
    pub(super) image_type: String,
    pub(super) organisation: String,
    pub(super) concatenation: Option<String>,
    /// InConcatenationTotalNumber; 0 if not said.
    pub(super) parts: u64,
    /// Frames of the concatenation before this instance.
    pub(super) first_frame: u64,
    pub(super) frames: u64,
    /// Size of the level.
    pub(super) width: u64,
    pub(super) height: u64,
    /// Size of a frame.
    pub(super) columns: u64,
    pub(super) rows: u64,
    pub(super) samples: u64,
    pub(super) bits: u64,
    pub(super) planar: bool,
    pub(super) photometric: String,
    pub(super) focal_planes: u64,
    pub(super) optical_paths: u64,
    /// Distance of rows and of columns in millimetres.
    pub(super) spacing_mm: Option<(f64, f64)>,
    pub(super) imaged_width_mm: Option<f64>,
    pub(super) objective: Option<f64>,
    /// Column and row of each frame's first pixel, counted from 1, where frames say so.
    pub(super) positions: Vec<(Option<i32>, Option<i32>)>,
    pub(super) offsets: Option<Value>,
    pub(super) lengths: Option<Value>,
    pub(super) pixels: Option<Value>,
    /// Whether people may be named in its pixels: burned in, or on the slide's label.
    pub(super) names_inside: bool,
    meta_class: String,
    class: String,
    syntax: String,
}

/// A retired transfer syntax.
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
const SHARED: Tag = tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE;
const FRAMES: Tag = tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE;
const MEASURES: Tag = tags::PIXEL_MEASURES_SEQUENCE;
const PLACE: Tag = tags::PLANE_POSITION_SLIDE_SEQUENCE;
const PATHS: Tag = tags::OPTICAL_PATH_SEQUENCE;

impl Facts {
    /// Whether a sequence holds something that is wanted.
    pub(super) fn enters(within: &[Tag], tag: Tag) -> bool {
        match within {
            [] => tag == SHARED || tag == FRAMES || tag == PATHS,
            [SHARED] => tag == MEASURES,
            [FRAMES] => tag == MEASURES || tag == PLACE,
            _ => false,
        }
    }

    /// Whether the value of an element is wanted.
    pub(super) fn wants(&self, within: &[Tag], tag: Tag) -> bool {
        const TOP: [Tag; 24] = [
            tags::MEDIA_STORAGE_SOP_CLASS_UID,
            tags::TRANSFER_SYNTAX_UID,
            tags::SOP_CLASS_UID,
            tags::SERIES_INSTANCE_UID,
            tags::IMAGE_TYPE,
            tags::DIMENSION_ORGANIZATION_TYPE,
            tags::CONCATENATION_UID,
            tags::IN_CONCATENATION_TOTAL_NUMBER,
            tags::CONCATENATION_FRAME_OFFSET_NUMBER,
            tags::NUMBER_OF_FRAMES,
            tags::TOTAL_PIXEL_MATRIX_COLUMNS,
            tags::TOTAL_PIXEL_MATRIX_ROWS,
            tags::COLUMNS,
            tags::ROWS,
            tags::SAMPLES_PER_PIXEL,
            tags::BITS_ALLOCATED,
            tags::BITS_STORED,
            tags::PLANAR_CONFIGURATION,
            tags::PHOTOMETRIC_INTERPRETATION,
            tags::TOTAL_PIXEL_MATRIX_FOCAL_PLANES,
            tags::NUMBER_OF_OPTICAL_PATHS,
            tags::IMAGED_VOLUME_WIDTH,
            tags::BURNED_IN_ANNOTATION,
            tags::SPECIMEN_LABEL_IN_IMAGE,
        ];
        match within {
            [] => TOP.contains(&tag),
            [PATHS] => tag == tags::OBJECTIVE_LENS_POWER,
            [SHARED | FRAMES, MEASURES] => tag == tags::PIXEL_SPACING && self.spacing_mm.is_none(),
            [FRAMES, PLACE] => {
                tag == tags::COLUMN_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX
                    || tag == tags::ROW_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX
            }
            _ => false,
        }
    }

    /// A new item of a sequence begins.
    pub(super) fn begin_item(&mut self, path: &Path, within: &[Tag]) -> Result<(), SlideError> {
        if within == [FRAMES] {
            if self.positions.len() as u64 >= limits::MAX_DICOM_FRAMES {
                return Err(SlideError::damaged(path, "it describes more frames than a slide can have"));
            }
            self.positions.push((None, None));
        }
        Ok(())
    }

    /// Takes a wanted value.
    pub(super) fn set(&mut self, within: &[Tag], tag: Tag, value: &[u8]) {
        match (within, tag) {
            (_, tags::MEDIA_STORAGE_SOP_CLASS_UID) => self.meta_class = text(value),
            (_, tags::TRANSFER_SYNTAX_UID) => self.syntax = text(value),
            (_, tags::SOP_CLASS_UID) => self.class = text(value),
            (_, tags::SERIES_INSTANCE_UID) => self.series = text(value),
            (_, tags::IMAGE_TYPE) => self.image_type = text(value),
            (_, tags::DIMENSION_ORGANIZATION_TYPE) => self.organisation = text(value),
            (_, tags::CONCATENATION_UID) => self.concatenation = Some(text(value)),
            (_, tags::IN_CONCATENATION_TOTAL_NUMBER) => self.parts = number(value),
            (_, tags::CONCATENATION_FRAME_OFFSET_NUMBER) => self.first_frame = number(value),
            (_, tags::NUMBER_OF_FRAMES) => self.frames = text(value).parse().unwrap_or(0),
            (_, tags::TOTAL_PIXEL_MATRIX_COLUMNS) => self.width = number(value),
            (_, tags::TOTAL_PIXEL_MATRIX_ROWS) => self.height = number(value),
            (_, tags::COLUMNS) => self.columns = number(value),
            (_, tags::ROWS) => self.rows = number(value),
            (_, tags::SAMPLES_PER_PIXEL) => self.samples = number(value),
            (_, tags::BITS_ALLOCATED | tags::BITS_STORED) => self.bits = self.bits.max(number(value)),
            (_, tags::PLANAR_CONFIGURATION) => self.planar = number(value) == 1,
            (_, tags::PHOTOMETRIC_INTERPRETATION) => self.photometric = text(value),
            (_, tags::TOTAL_PIXEL_MATRIX_FOCAL_PLANES) => self.focal_planes = number(value),
            (_, tags::NUMBER_OF_OPTICAL_PATHS) => self.optical_paths = number(value),
            (_, tags::BURNED_IN_ANNOTATION | tags::SPECIMEN_LABEL_IN_IMAGE) => {
                self.names_inside |= text(value).eq_ignore_ascii_case("YES");
            }
            (_, tags::IMAGED_VOLUME_WIDTH) => self.imaged_width_mm = real(value),
            (_, tags::OBJECTIVE_LENS_POWER) => self.objective = self.objective.or(decimals(value).first().copied()),
            (_, tags::PIXEL_SPACING) => {
                self.spacing_mm = match decimals(value).as_slice() {
                    &[rows, columns] => Some((rows, columns)),
                    _ => None,
                }
            }
            (_, tags::COLUMN_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX) => {
                self.positions.last_mut().into_iter().for_each(|last| last.0 = signed(value));
            }
            (_, tags::ROW_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX) => {
                self.positions.last_mut().into_iter().for_each(|last| last.1 = signed(value));
            }
            _ => {}
        }
    }

    /// Whether the file's first words call it a slide image; `None` if they do not say.
    pub(super) fn is_slide_by_meta(&self) -> Option<bool> {
        (!self.meta_class.is_empty()).then(|| self.meta_class == uids::VL_WHOLE_SLIDE_MICROSCOPY_IMAGE_STORAGE)
    }

    /// Whether it is a slide image.
    pub(super) fn is_slide(&self) -> bool {
        self.class == uids::VL_WHOLE_SLIDE_MICROSCOPY_IMAGE_STORAGE
    }

    /// Whether it is tissue. Labels, overviews and thumbnails are never read: labels carry names.
    pub(super) fn is_volume(&self) -> bool {
        self.image_type.split('\\').nth(2).is_some_and(|flavour| flavour.trim() == "VOLUME")
    }

    /// Whether elements name their value representation.
    ///
    /// # Errors
    /// The elements cannot be walked at all.
    pub(super) fn is_explicit(&self, path: &Path) -> Result<bool, SlideError> {
        match self.syntax.as_str() {
            uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN | BIG_ENDIAN | "" => self.syntax(path).map(|_| true),
            syntax => Ok(syntax != uids::IMPLICIT_VR_LITTLE_ENDIAN),
        }
    }

    /// How the frames are coded.
    ///
    /// # Errors
    /// In a way that is not read here; its name.
    pub(super) fn syntax(&self, path: &Path) -> Result<Syntax, SlideError> {
        let name = match self.syntax.as_str() {
            uids::IMPLICIT_VR_LITTLE_ENDIAN => return Ok(Syntax::ImplicitNative),
            uids::EXPLICIT_VR_LITTLE_ENDIAN => return Ok(Syntax::ExplicitNative),
            uids::JPEG_BASELINE8_BIT => return Ok(Syntax::Jpeg),
            uids::JPEG2000_LOSSLESS | uids::JPEG2000 => return Ok(Syntax::Jpeg2000),
            uids::RLE_LOSSLESS => return Ok(Syntax::Rle),
            uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => "deflated".to_owned(),
            BIG_ENDIAN => "big endian".to_owned(),
            uids::JPEG_EXTENDED12_BIT => "JPEG of 12 bits".to_owned(),
            uids::JPEG_LOSSLESS | uids::JPEG_LOSSLESS_SV1 => "lossless JPEG".to_owned(),
            uids::JPEGLS_LOSSLESS | uids::JPEGLS_NEAR_LOSSLESS => "JPEG-LS".to_owned(),
            uids::HTJ2K_LOSSLESS | uids::HTJ2K_LOSSLESS_RPCL | uids::HTJ2K => "high-throughput JPEG 2000".to_owned(),
            uids::JPEGXL_LOSSLESS | uids::JPEGXLJPEG_RECOMPRESSION | uids::JPEGXL => "JPEG XL".to_owned(),
            "" => return Err(SlideError::damaged(path, "it does not say how its pixels are coded")),
            other => other.chars().filter(|c| c.is_ascii_digit() || *c == '.').take(64).collect(),
        };
        Err(SlideError::unsupported(path, format!("DICOM transfer syntax {name}")))
    }
}

/// Identifiers and keywords are padded with spaces or zeros.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_matches([' ', '\0']).to_owned()
}

fn number(value: &[u8]) -> u64 {
    match *value {
        [a, b, ..] if value.len() < 4 => u16::from_le_bytes([a, b]).into(),
        [a, b, c, d, ..] => u32::from_le_bytes([a, b, c, d]).into(),
        _ => 0,
    }
}

fn signed(value: &[u8]) -> Option<i32> {
    value.first_chunk().map(|bytes| i32::from_le_bytes(*bytes))
}

fn real(value: &[u8]) -> Option<f64> {
    value.first_chunk().map(|bytes| f32::from_le_bytes(*bytes).into())
}

fn decimals(value: &[u8]) -> Vec<f64> {
    text(value).split('\\').map_while(|part| part.trim().parse().ok()).collect()
}
