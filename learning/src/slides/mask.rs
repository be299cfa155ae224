//! Reference masks: label maps of a whole slide, read at the plan's spacing by nearest neighbour.
//!
//! A mask has the slide's level-0 size, or the same shape at another size. Every pixel of the file is checked, also
//! those that the spacing skips: a value that is no class means a wrong export. Tiled masks are read one row of tiles at a
//! time, in memory that does not grow with their height; others are decoded whole.

use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use consilium_common::plan::UNLABELLED;
use consilium_common::{Mpp, limits};
use image::{ExtendedColorType, GrayImage};
use tiff::decoder::{Decoder, DecodingResult};

use super::error::SlideError;
use super::file::{self, Kind, SharedFile};
use super::pages::{self, Page};
use super::{SlideReader, decode, flat, scale, size_at, tiled};

/// Width and height.
type Size = (u32, u32);

/// An opened mask: whole in memory, or tiles in a file.
#[derive(Debug)]
enum Source {
    Whole(GrayImage),
    Tiles(SharedFile, Box<Page>),
}

/// Bytes of sampled rows that are kept of a row of tiles: 128 MiB are 512 rows of a mask 262,144 px wide.
const STRIP_BYTES: u64 = 128 << 20;

/// The mask of a slide at a spacing, read in bands of rows from top to bottom or in any other order.
#[derive(Debug)]
pub struct MaskReader {
    path: PathBuf,
    source: Source,
    /// Size of the mask in the file.
    stored: Size,
    classes: usize,
    /// For each column and row at the spacing its place in the file.
    columns: Vec<u32>,
    rows: Vec<u32>,
    strip: Mutex<Option<Arc<Strip>>>,
}

/// The rows at the spacing that lie in one row of tiles.
#[derive(Debug)]
struct Strip {
    tile_row: u32,
    /// The first of them.
    top: usize,
    labels: Vec<u8>,
}

impl MaskReader {
    /// Opens the mask of `slide`, whose values must be below `classes` or [`UNLABELLED`]. A tiled mask is not decoded yet.
    ///
    /// # Errors
    /// The mask is missing or damaged, no 8-bit label map, of another shape than the slide, or absurdly large at the
    /// spacing; values that are no class are found when they are read, or here if the mask is decoded whole.
    pub fn open(path: &Path, slide: &dyn SlideReader, spacing: Mpp, classes: usize) -> Result<Self, SlideError> {
        let base = slide.levels()[0];
        let source = open(path)?;
        let stored = match &source {
            Source::Whole(image) => image.dimensions(),
            Source::Tiles(_, page) => (page.width, page.height),
        };
        check_shape(path, stored, (base.width, base.height))?;
        let (w, h) = size_at(slide, spacing);
        if w.max(h) > limits::MAX_SLIDE_SIDE_PX {
            let pixels = u64::from(w) * u64::from(h);
            return Err(SlideError::RegionTooLarge { path: path.to_owned(), pixels });
        }
        if let Source::Whole(image) = &source {
            check_values(path, classes, image.as_raw(), stored.0 as usize, stored, (0, 0))?;
        }
        let ratio = scale::ratio(slide, spacing);
        let columns = nearest(w, ratio * f64::from(stored.0) / f64::from(base.width), stored.0);
        let rows = nearest(h, ratio * f64::from(stored.1) / f64::from(base.height), stored.1);
        Ok(Self { path: path.to_owned(), source, stored, classes, columns, rows, strip: Mutex::default() })
    }

    /// Width and height at the spacing, as [`size_at`] gives them for the slide.
    pub fn size(&self) -> (u32, u32) {
        (self.columns.len() as u32, self.rows.len() as u32)
    }

    /// `rows` rows from `y` on, each as wide as [`Self::size`]; rows below the mask are [`UNLABELLED`].
    ///
    /// Bands that follow one another from the top to the bottom have every pixel of the file checked, also between rows.
    ///
    /// # Errors
    /// More than [`limits::MAX_FLAT_IMAGE_PX`] values are asked for, a tile is damaged, or a value is no class.
    pub fn rows(&self, y: u32, rows: u32) -> Result<Vec<u8>, SlideError> {
        let (w, h) = (self.columns.len(), self.rows.len());
        let pixels = w as u64 * u64::from(rows);
        if pixels > limits::MAX_FLAT_IMAGE_PX {
            return Err(SlideError::RegionTooLarge { path: self.path.clone(), pixels });
        }
        let mut out = vec![UNLABELLED; pixels as usize];
        let wanted = (y as usize).min(h)..(y as usize + rows as usize).min(h);
        if wanted.is_empty() {
            return Ok(out);
        }
        match &self.source {
            Source::Whole(image) => {
                let stride = self.stored.0 as usize;
                self.fill(&mut out, &wanted, (0, 0), self.stored, image.as_raw(), stride);
            }
            Source::Tiles(file, page) => {
                let tile_row = |row: usize| self.rows[row] / page.tile_height;
                // Rows of tiles between this band and the one above it are checked with this one.
                let above = wanted.start.checked_sub(1).map_or(0, |row| tile_row(row) + 1);
                let last =
                    if wanted.end == h { (self.stored.1 - 1) / page.tile_height } else { tile_row(wanted.end - 1) };
                for number in above.min(tile_row(wanted.start))..=last {
                    self.band(file, page, number, &wanted, &mut out)?;
                }
            }
        }
        Ok(out)
    }

    /// Fills in what one row of tiles holds of the wanted rows.
    fn band(
        &self,
        file: &SharedFile,
        page: &Page,
        tile_row: u32,
        wanted: &Range<usize>,
        out: &mut [u8],
    ) -> Result<(), SlideError> {
        let top = tile_row * page.tile_height;
        let inside = part(&self.rows, top, page.tile_height.min(self.stored.1 - top));
        let width = self.columns.len();
        if (inside.len() * width) as u64 > STRIP_BYTES {
            return self.decode(file, page, tile_row, wanted, out);
        }
        let kept = self.strip.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let strip = match kept.filter(|strip| strip.tile_row == tile_row) {
            Some(strip) => strip,
            None => {
                let mut labels = vec![0; inside.len() * width];
                self.decode(file, page, tile_row, &inside, &mut labels)?;
                let strip = Arc::new(Strip { tile_row, top: inside.start, labels });
                *self.strip.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&strip));
                strip
            }
        };
        let common = wanted.start.max(inside.start)..wanted.end.min(inside.end);
        if !common.is_empty() {
            let from = &strip.labels[(common.start - strip.top) * width..(common.end - strip.top) * width];
            out[(common.start - wanted.start) * width..][..from.len()].copy_from_slice(from);
        }
        Ok(())
    }

    /// Decodes and checks one row of tiles, tile by tile, into the wanted rows.
    fn decode(
        &self,
        file: &SharedFile,
        page: &Page,
        tile_row: u32,
        wanted: &Range<usize>,
        out: &mut [u8],
    ) -> Result<(), SlideError> {
        let (stride, y0) = (page.tile_width as usize, tile_row * page.tile_height);
        for column in 0..page.columns() {
            let index = u64::from(tile_row) * u64::from(page.columns()) + u64::from(column);
            let x0 = column * page.tile_width;
            let data = tiled::decoded(&self.path, file, page, index, decode::samples)?;
            let data = data.unwrap_or_else(|| vec![0; page.tile_bytes()]);
            let size = (page.tile_width.min(self.stored.0 - x0), page.tile_height.min(self.stored.1 - y0));
            check_values(&self.path, self.classes, &data, stride, size, (x0, y0))?;
            self.fill(out, wanted, (x0, y0), size, &data, stride);
        }
        Ok(())
    }

    /// Copies into the wanted rows what lies in the part of the mask at `at` with `size`.
    fn fill(&self, out: &mut [u8], wanted: &Range<usize>, at: Size, size: Size, data: &[u8], stride: usize) {
        let across = part(&self.columns, at.0, size.0);
        let down = part(&self.rows, at.1, size.1);
        for y in down.start.max(wanted.start)..down.end.min(wanted.end) {
            let line = &data[(self.rows[y] - at.1) as usize * stride..];
            let to = &mut out[(y - wanted.start) * self.columns.len()..][across.clone()];
            for (to, column) in to.iter_mut().zip(&self.columns[across.clone()]) {
                *to = line[(column - at.0) as usize];
            }
        }
    }
}

/// The mask of a slide at a spacing, of the size that [`size_at`] gives; values are class indices or [`UNLABELLED`].
///
/// # Errors
/// The mask is missing or damaged, no 8-bit label map, of another shape than the slide, or holds a value that is
/// neither below `classes` nor [`UNLABELLED`].
pub fn read_mask_at(
    path: &Path,
    slide: &dyn SlideReader,
    spacing: Mpp,
    classes: usize,
) -> Result<GrayImage, SlideError> {
    let mask = MaskReader::open(path, slide, spacing, classes)?;
    let (w, h) = mask.size();
    GrayImage::from_raw(w, h, mask.rows(0, h)?).ok_or_else(|| SlideError::damaged(path, "its rows are too short"))
}

/// Checks the form and shape of a mask against its slide's level-0 size, without reading its pixels.
///
/// # Errors
/// As [`read_mask_at`], except for wrong values.
pub fn check_mask(path: &Path, slide_size: Size) -> Result<(), SlideError> {
    let size = match file::kind(path)? {
        Kind::Tiff => tiff_header(path)?.0,
        Kind::Png => png_header(path)?,
        Kind::Jpeg => return Err(lossy(path)),
        Kind::Dicom | Kind::Zarr => return Err(not_a_mask(path, "it is a DICOM or Zarr slide".to_owned())),
    };
    check_shape(path, size, slide_size)
}

fn open(path: &Path) -> Result<Source, SlideError> {
    match file::kind(path)? {
        Kind::Png => {
            png_header(path)?;
            Ok(Source::Whole(flat::decode(path)?.into_luma8()))
        }
        Kind::Jpeg => Err(lossy(path)),
        Kind::Dicom | Kind::Zarr => Err(not_a_mask(path, "it is a DICOM or Zarr slide".to_owned())),
        Kind::Tiff => match tiff_header(path)? {
            (_, Some(page)) => {
                let file = File::open(path).map_err(|e| SlideError::read(path, "header", e))?;
                Ok(Source::Tiles(SharedFile::new(file), page))
            }
            (size, None) => Ok(Source::Whole(striped(path, size)?)),
        },
    }
}

fn png_header(path: &Path) -> Result<Size, SlideError> {
    let (width, height, color) = flat::header(path)?;
    flat::check_size(path, width, height)?;
    // Anything else (palette, 1 bit, colour) would change its values on the way to 8-bit grey.
    if color != ExtendedColorType::L8 {
        return Err(not_a_mask(path, stored_as(color)));
    }
    Ok((width, height))
}

/// Size of a TIFF mask, and its page if it is tiled.
fn tiff_header(path: &Path) -> Result<(Size, Option<Box<Page>>), SlideError> {
    match pages::read(path) {
        Ok(mut found) => {
            let page = Box::new(found.pages.swap_remove(0));
            if page.samples != 1 {
                return Err(not_a_mask(path, format!("it has {} samples per pixel", page.samples)));
            }
            if page.compression.is_lossy() {
                return Err(lossy(path));
            }
            Ok(((page.width, page.height), Some(page)))
        }
        Err(SlideError::Striped { .. }) => {
            let mut decoder = striped_decoder(path)?;
            let (width, height) = decoder.dimensions().map_err(|e| SlideError::tiff(path, "size", e))?;
            flat::check_size(path, width, height)?;
            Ok(((width, height), None))
        }
        Err(other) => Err(other),
    }
}

/// Decodes a TIFF mask in strips whole.
fn striped(path: &Path, (width, height): Size) -> Result<GrayImage, SlideError> {
    let mut decoder = striped_decoder(path)?;
    let mut bounds = tiff::decoder::Limits::default();
    bounds.decoding_buffer_size = limits::MAX_FLAT_IMAGE_PX as usize;
    let color = decoder.colortype().map_err(|e| SlideError::tiff(path, "colour", e))?;
    if color != tiff::ColorType::Gray(8) {
        return Err(not_a_mask(path, samples_of(color.num_samples(), color.bit_depth().into())));
    }
    let image = decoder.with_limits(bounds).read_image().map_err(|e| SlideError::tiff(path, "last strip", e))?;
    let DecodingResult::U8(data) = image else { return Err(not_a_mask(path, "its pixels are signed")) };
    GrayImage::from_raw(width, height, data).ok_or_else(|| SlideError::damaged(path, "its strips are too short"))
}

fn striped_decoder(path: &Path) -> Result<Decoder<BufReader<File>>, SlideError> {
    let file = File::open(path).map_err(|e| SlideError::read(path, "header", e))?;
    Decoder::new(BufReader::new(file)).map_err(|e| SlideError::tiff(path, "first image", e))
}

/// The pixels of a PNG in words.
fn stored_as(color: ExtendedColorType) -> String {
    let samples = color.channel_count();
    match color {
        ExtendedColorType::Unknown(bits) => format!("its pixels are {bits} bits of a colour table or the like"),
        _ => samples_of(samples.into(), color.bits_per_pixel() / u16::from(samples.max(1))),
    }
}

fn samples_of(samples: u16, bits: u16) -> String {
    let plural = if samples == 1 { "" } else { "s" };
    format!("its pixels have {samples} sample{plural} of {bits} bits")
}

fn not_a_mask(path: &Path, why: impl Into<String>) -> SlideError {
    SlideError::NotAMask { path: path.to_owned(), why: why.into() }
}

fn lossy(path: &Path) -> SlideError {
    not_a_mask(path, "JPEG changes pixel values")
}

/// The same shape: the other side, scaled, is right to within one pixel's rounding.
fn check_shape(path: &Path, mask: Size, slide: Size) -> Result<(), SlideError> {
    let scaled = |side: u32, other: u32, of: u32| f64::from(side) * f64::from(other) / f64::from(of);
    let height_off = (scaled(slide.1, mask.0, slide.0) - f64::from(mask.1)).abs();
    let width_off = (scaled(slide.0, mask.1, slide.1) - f64::from(mask.0)).abs();
    if height_off.min(width_off) < 1.0 {
        return Ok(());
    }
    let ((width, height), (slide_width, slide_height)) = (mask, slide);
    Err(SlideError::MaskSize { path: path.to_owned(), width, height, slide_width, slide_height })
}

/// For each of `count` output positions the mask position under its centre.
fn nearest(count: u32, ratio: f64, side: u32) -> Vec<u32> {
    (0..count).map(|i| (((f64::from(i) + 0.5) * ratio).floor() as u32).min(side - 1)).collect()
}

/// The positions that lie in `start .. start + length`, which are in ascending order.
fn part(positions: &[u32], start: u32, length: u32) -> Range<usize> {
    positions.partition_point(|&p| p < start)
        ..positions.partition_point(|&p| u64::from(p) < u64::from(start) + u64::from(length))
}

/// Refuses a value that is no class, in a part of the mask whose corner is `at`.
fn check_values(
    path: &Path,
    classes: usize,
    data: &[u8],
    stride: usize,
    (width, height): Size,
    at: Size,
) -> Result<(), SlideError> {
    for (y, row) in data.chunks(stride).take(height as usize).enumerate() {
        let row = &row[..width as usize];
        if let Some(x) = row.iter().position(|&v| usize::from(v) >= classes && v != UNLABELLED) {
            let (px, py) = (at.0 + x as u32, at.1 + y as u32);
            return Err(SlideError::MaskValue { path: path.to_owned(), value: row[x], x: px, y: py, classes });
        }
    }
    Ok(())
}
