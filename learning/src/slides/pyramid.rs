//! Writing a slide as a tiled, pyramidal TIFF that OpenSlide, libvips, QuPath and tifffile open.
//!
//! JPEG tiles of 256 px (YCbCr 4:2:0), levels halved by area until one is below 512 px, resolution tags in px/cm. The
//! file appears under its name only when it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use consilium_common::{Mpp, limits};
use image::RgbImage;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};
use rayon::prelude::*;
use tiff::TiffError;
use tiff::encoder::{DirectoryEncoder, Rational, TiffEncoder, TiffKind};
use tiff::tags::Tag;

use super::error::SlideError;
use super::resample::{resample, taps};

const TILE_PX: u32 = 256;
/// Levels are added while the last one has a side at least this long.
const SMALLEST_LEVEL_PX: u32 = 512;
/// Raw bytes of level 0 from which on the file could outgrow the 4 GiB of classic TIFF.
const BIGTIFF_FROM_BYTES: u64 = 2 << 30;

/// Writes `level0` as a pyramid with the given JPEG quality (1 to 100).
///
/// The same pixels give the same bytes. Tiles are encoded on all cores.
///
/// # Errors
/// The image is empty or larger than a slide may be, or the file cannot be written.
pub fn write_pyramid(path: &Path, level0: &RgbImage, mpp: Mpp, quality: u8) -> Result<(), SlideError> {
    let (width, height) = level0.dimensions();
    if width == 0 || height == 0 || width.max(height) > limits::MAX_SLIDE_SIDE_PX {
        return Err(SlideError::Dimensions { path: path.to_owned(), width: width.into(), height: height.into() });
    }
    let part = part_name(path);
    let written = File::create(&part).map_err(TiffError::IoError).and_then(|file| {
        let out = BufWriter::new(file);
        if u64::from(width) * u64::from(height) * 3 >= BIGTIFF_FROM_BYTES {
            write_levels(TiffEncoder::new_big(out)?, level0, mpp, quality)
        } else {
            write_levels(TiffEncoder::new(out)?, level0, mpp, quality)
        }
    });
    let renamed = written.map_err(io_error).and_then(|()| fs::rename(&part, path));
    renamed.map_err(|source| {
        // What is left of a failed write is of no use; if it cannot be removed either, the first error says enough.
        let _ = fs::remove_file(&part);
        SlideError::write(path, source)
    })
}

fn part_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

fn io_error(error: TiffError) -> io::Error {
    match error {
        TiffError::IoError(source) => source,
        other => io::Error::other(other),
    }
}

fn write_levels<W: Write + Seek, K: TiffKind>(
    mut encoder: TiffEncoder<W, K>,
    level0: &RgbImage,
    mpp: Mpp,
    quality: u8,
) -> Result<(), TiffError> {
    let mut reduced: Option<RgbImage> = None;
    for number in 0..limits::MAX_LEVELS as i32 {
        let level = reduced.as_ref().unwrap_or(level0);
        let um_per_px = mpp.um_per_px() * 2f64.powi(number);
        write_level(encoder.image_directory()?, level, um_per_px, number > 0, quality)?;
        if level.width().max(level.height()) < SMALLEST_LEVEL_PX || level.width().min(level.height()) < 2 {
            break;
        }
        reduced = Some(halved(level));
    }
    Ok(())
}

fn write_level<W: Write + Seek, K: TiffKind>(
    mut directory: DirectoryEncoder<'_, W, K>,
    level: &RgbImage,
    um_per_px: f64,
    reduced: bool,
    quality: u8,
) -> Result<(), TiffError> {
    let (columns, rows) = (level.width().div_ceil(TILE_PX), level.height().div_ceil(TILE_PX));
    let corners: Vec<(u32, u32)> =
        (0..rows).flat_map(|row| (0..columns).map(move |column| (column * TILE_PX, row * TILE_PX))).collect();
    let tiles: Vec<Vec<u8>> =
        corners.par_iter().map(|&(x, y)| encode_tile(level, x, y, quality)).collect::<Result<_, _>>()?;
    let counts: Vec<u32> = tiles.iter().map(|tile| tile.len() as u32).collect();
    let offsets: Vec<u64> = tiles.iter().map(|tile| directory.write_data(tile.as_slice())).collect::<Result<_, _>>()?;

    directory.write_tag(Tag::NewSubfileType, u32::from(reduced))?;
    directory.write_tag(Tag::ImageWidth, level.width())?;
    directory.write_tag(Tag::ImageLength, level.height())?;
    directory.write_tag(Tag::BitsPerSample, [8u16; 3].as_slice())?;
    directory.write_tag(Tag::Compression, 7u16)?;
    directory.write_tag(Tag::PhotometricInterpretation, 6u16)?;
    directory.write_tag(Tag::SamplesPerPixel, 3u16)?;
    directory.write_tag(Tag::PlanarConfiguration, 1u16)?;
    directory.write_tag(Tag::TileWidth, TILE_PX)?;
    directory.write_tag(Tag::TileLength, TILE_PX)?;
    directory.write_tag(Tag::TileByteCounts, counts.as_slice())?;
    directory.write_tag(Tag::ChromaSubsampling, [2u16; 2].as_slice())?;
    let resolution = pixels_per_cm(um_per_px);
    directory.write_tag(Tag::XResolution, resolution.clone())?;
    directory.write_tag(Tag::YResolution, resolution)?;
    directory.write_tag(Tag::ResolutionUnit, 3u16)?;
    match offsets.iter().map(|&at| u32::try_from(at)).collect::<Result<Vec<u32>, _>>() {
        Ok(short) => directory.write_tag(Tag::TileOffsets, short.as_slice())?,
        Err(_) => directory.write_tag(Tag::TileOffsets, offsets.as_slice())?,
    }
    directory.finish()
}

/// 10000 / spacing as a fraction that gives the spacing back exactly, for spacings of up to five or six decimals.
fn pixels_per_cm(um_per_px: f64) -> Rational {
    let fraction = |decimals: u64| {
        let (n, d) = (10_000 * decimals, (um_per_px * decimals as f64).round().max(1.0) as u64);
        let divisor = gcd(n, d);
        Some((u32::try_from(n / divisor).ok()?, u32::try_from(d / divisor).ok()?))
    };
    let (n, d) = fraction(1_000_000).or_else(|| fraction(100_000)).unwrap_or((u32::MAX, 1));
    Rational { n, d }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One tile as a complete JPEG; beyond the image's edge its last pixels go on, so that nothing bleeds in.
fn encode_tile(level: &RgbImage, x: u32, y: u32, quality: u8) -> Result<Vec<u8>, TiffError> {
    let stride = level.width() as usize * 3;
    let inside = (level.width() - x).min(TILE_PX) as usize * 3;
    let mut pixels = Vec::with_capacity((TILE_PX * TILE_PX * 3) as usize);
    for row in y..y + TILE_PX {
        let start = row.min(level.height() - 1) as usize * stride + x as usize * 3;
        let line = &level.as_raw()[start..start + inside];
        pixels.extend_from_slice(line);
        let last = [line[inside - 3], line[inside - 2], line[inside - 1]];
        pixels.extend(last.iter().cycle().take((TILE_PX as usize * 3) - inside));
    }
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, quality.clamp(1, 100));
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    // The default takes every second chroma sample, which shifts colours by half a pixel.
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    let side = TILE_PX as u16;
    let encoded = encoder.encode(&pixels, side, side, ColorType::Rgb);
    encoded.map_err(|e| TiffError::IoError(io::Error::other(e)))?;
    Ok(jpeg)
}

/// Half the size, each pixel the mean of four; an odd last row or column is dropped.
fn halved(level: &RgbImage) -> RgbImage {
    let (width, height) = level.dimensions();
    let (columns, rows) = (taps(0..width / 2, 2.0, width), taps(0..height / 2, 2.0, height));
    // By rows of the result, in parallel; each row depends on its own two source rows only.
    let lines: Vec<Vec<u8>> =
        rows.par_chunks(64).map(|rows| resample(level, (0, 0), &columns, rows).into_raw()).collect();
    RgbImage::from_raw(width / 2, height / 2, lines.concat()).unwrap_or_else(|| RgbImage::new(width / 2, height / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolution_gives_the_spacing_back() {
        for um in [0.25, 0.499, 0.2527, 0.5, 1.0, 2.0, 0.31415, 7.77, 0.11] {
            let Rational { n, d } = pixels_per_cm(um);
            let back = 10_000.0 / (f64::from(n) / f64::from(d));
            assert!((back - um).abs() < 1e-9, "{um}: {n}/{d} = {back}");
        }
    }
}
