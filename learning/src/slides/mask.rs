//! Reference masks: label maps of a whole slide, read at the plan's spacing by nearest neighbour.
//!
//! A mask has the slide's level-0 size, or the same shape at another size. Every pixel of the file is checked, also
//! those that the spacing skips: a value that is no class means a wrong export.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use consilium_common::plan::UNLABELLED;
use consilium_common::{Mpp, limits};
use image::{ExtendedColorType, GrayImage, Luma};
use tiff::decoder::{Decoder, DecodingResult};

use super::decode::Compression;
use super::error::SlideError;
use super::file::{self, Kind, SharedFile};
use super::pages::{self, Page};
use super::{SlideReader, flat, scale, size_at, tiled};

/// Width and height.
type Size = (u32, u32);

/// An opened mask: whole in memory, or tiles in a file.
enum Source {
    Whole(GrayImage),
    Tiles(SharedFile, Box<Page>),
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
    let base = slide.levels()[0];
    let source = open(path)?;
    let size = match &source {
        Source::Whole(image) => image.dimensions(),
        Source::Tiles(_, page) => (page.width, page.height),
    };
    check_shape(path, size, (base.width, base.height))?;
    let (w, h) = size_at(slide, spacing);
    let pixels = u64::from(w) * u64::from(h);
    if pixels > limits::MAX_FLAT_IMAGE_PX {
        return Err(SlideError::RegionTooLarge { path: path.to_owned(), pixels });
    }
    let ratio = scale::ratio(slide, spacing);
    let columns = nearest(w, ratio * f64::from(size.0) / f64::from(base.width), size.0);
    let rows = nearest(h, ratio * f64::from(size.1) / f64::from(base.height), size.1);
    let mut out = GrayImage::new(w, h);
    match &source {
        Source::Whole(image) => {
            check_values(path, classes, image.as_raw(), size.0 as usize, size, (0, 0))?;
            fill(&mut out, &columns, &rows, (0, 0), size, image.as_raw(), size.0 as usize);
        }
        Source::Tiles(file, page) => {
            for (index, x0, y0) in tiles(page) {
                let data = tiled::stored_samples(path, file, page, index)?;
                let data = data.unwrap_or_else(|| vec![0; page.tile_bytes()]);
                let stride = page.tile_width as usize;
                let size = (page.tile_width.min(size.0 - x0), page.tile_height.min(size.1 - y0));
                check_values(path, classes, &data, stride, size, (x0, y0))?;
                fill(&mut out, &columns, &rows, (x0, y0), size, &data, stride);
            }
        }
    }
    Ok(out)
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
        return Err(not_a_mask(path, format!("its pixels are stored as {color:?}")));
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
            if page.compression == Compression::Jpeg {
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
        return Err(not_a_mask(path, format!("its pixels are {color:?}")));
    }
    let image = decoder.with_limits(bounds).read_image().map_err(|e| SlideError::tiff(path, "last strip", e))?;
    let DecodingResult::U8(data) = image else { return Err(not_a_mask(path, "its pixels are signed")) };
    GrayImage::from_raw(width, height, data).ok_or_else(|| SlideError::damaged(path, "its strips are too short"))
}

fn striped_decoder(path: &Path) -> Result<Decoder<BufReader<File>>, SlideError> {
    let file = File::open(path).map_err(|e| SlideError::read(path, "header", e))?;
    Decoder::new(BufReader::new(file)).map_err(|e| SlideError::tiff(path, "first image", e))
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

/// Number and top-left corner of each tile.
fn tiles(page: &Page) -> impl Iterator<Item = (u64, u32, u32)> {
    let (columns, tile_width, tile_height) = (page.columns(), page.tile_width, page.tile_height);
    let rows = page.height.div_ceil(tile_height);
    (0..rows).flat_map(move |row| {
        (0..columns).map(move |column| {
            (u64::from(row) * u64::from(columns) + u64::from(column), column * tile_width, row * tile_height)
        })
    })
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

/// Copies the output pixels whose source lies in the part of the mask at `at` with `size`.
fn fill(out: &mut GrayImage, columns: &[u32], rows: &[u32], at: Size, size: Size, data: &[u8], stride: usize) {
    let part = |positions: &[u32], start: u32, length: u32| {
        positions.partition_point(|&p| p < start)..positions.partition_point(|&p| p < start + length)
    };
    let across = part(columns, at.0, size.0);
    for y in part(rows, at.1, size.1) {
        let line = (rows[y] - at.1) as usize * stride;
        for x in across.clone() {
            out.put_pixel(x as u32, y as u32, Luma([data[line + (columns[x] - at.0) as usize]]));
        }
    }
}
