//! Writing tiled, pyramidal TIFF that OpenSlide, libvips, QuPath and tifffile open: slides, label maps and grey maps.
//!
//! Rows come from the top; memory is one row of tiles a level, whatever the height. Tiles of 256 px, levels halved until
//! one is below 512 px, resolution tags in px/cm. Tiles of one colour are stored once, so glass costs nothing. The file
//! appears under its name only when it is complete. The same pixels give the same bytes, however they are pushed and on
//! any number of threads.

mod container;
mod reduce;
mod tile;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use consilium_common::{Mpp, limits};
use image::RgbImage;
use rayon::prelude::*;

use super::error::SlideError;
use container::{Container, Entry, Values};
use tile::Tile;

const TILE_PX: u32 = 256;
/// Levels are added while the last one has a side at least this long.
const SMALLEST_LEVEL_PX: u32 = 512;
/// Raw bytes of level 0 from which on the file could outgrow the 4 GiB of classic TIFF.
const BIGTIFF_FROM_BYTES: u64 = 2 << 30;
/// Tiles that wait for their place in the file at once.
const ENCODED_AT_ONCE: usize = 64;
/// Plain colours whose tile is remembered; a slide has a handful.
const PLAIN_TILES: usize = 1024;

/// What a pyramid shows, and so how it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PyramidKind {
    /// RGB as JPEG, YCbCr 4:2:0; quality 1 to 100.
    Jpeg {
        /// JPEG quality.
        quality: u8,
    },
    /// 8-bit class indices, without loss. A reduced pixel is the most frequent of its four.
    Labels {
        /// Colour of each index for viewers (a TIFF palette), the indices beyond them black; none for a grey picture.
        colours: Vec<[u8; 3]>,
    },
    /// 8-bit grey, without loss. A reduced pixel is the mean of its four.
    Grey,
}

impl PyramidKind {
    fn samples(&self) -> usize {
        if matches!(self, Self::Jpeg { .. }) { 3 } else { 1 }
    }
}

/// Rows of one level that wait for their tiles, and where the tiles before them lie.
#[derive(Debug)]
struct Band {
    width: u32,
    height: u32,
    /// At most [`TILE_PX`] rows.
    pixels: Vec<u8>,
    /// Rows that came so far.
    rows: u32,
    tiles: Vec<(u64, u32)>,
}

impl Band {
    /// Whether its rows make a row of tiles.
    fn ready(&self, stride: usize) -> bool {
        self.pixels.len() == stride * TILE_PX as usize || (self.rows == self.height && !self.pixels.is_empty())
    }
}

/// Writes a pyramid from rows that come from top to bottom.
#[derive(Debug)]
pub struct PyramidWriter {
    path: PathBuf,
    file: Container,
    kind: PyramidKind,
    mpp: Mpp,
    levels: Vec<Band>,
    /// Tiles of one colour that are in the file.
    plain: BTreeMap<[u8; 3], (u64, u32)>,
}

impl PyramidWriter {
    /// Starts a pyramid of `width` x `height` pixels of `mpp`.
    ///
    /// # Errors
    /// The size is empty or larger than a slide may be, or the folder cannot be written.
    pub fn create(path: &Path, width: u32, height: u32, mpp: Mpp, kind: PyramidKind) -> Result<Self, SlideError> {
        if width == 0 || height == 0 || width.max(height) > limits::MAX_SLIDE_SIDE_PX {
            return Err(SlideError::Dimensions { path: path.to_owned(), width: width.into(), height: height.into() });
        }
        let raw = u64::from(width) * u64::from(height) * kind.samples() as u64;
        let file = Container::create(path, raw >= BIGTIFF_FROM_BYTES).map_err(|e| SlideError::write(path, e))?;
        let levels = sizes(width, height)
            .map(|(width, height)| Band { width, height, pixels: Vec::new(), rows: 0, tiles: Vec::new() })
            .collect();
        Ok(Self { path: path.to_owned(), file, kind, mpp, levels, plain: BTreeMap::new() })
    }

    /// Adds whole rows, as many as one likes: 3 bytes a pixel for JPEG, else 1.
    ///
    /// # Errors
    /// The bytes are no whole rows or more than the height, or the disk is full.
    pub fn push_rows(&mut self, rows: &[u8]) -> Result<(), SlideError> {
        self.push(rows).map_err(|e| SlideError::write(&self.path, e))
    }

    /// Writes what is left and gives the file its name.
    ///
    /// # Errors
    /// Rows are missing, or the disk is full.
    pub fn finish(self) -> Result<(), SlideError> {
        let (came, height) = (self.levels[0].rows, self.levels[0].height);
        if came != height {
            return Err(SlideError::write(&self.path, bad_input(format!("{came} of {height} rows came"))));
        }
        let images: Vec<Vec<Entry>> = (0..self.levels.len()).map(|level| self.tags(level)).collect();
        self.file.finish(&self.path, &images).map_err(|e| SlideError::write(&self.path, e))
    }

    fn push(&mut self, mut rows: &[u8]) -> io::Result<()> {
        let (stride, band) = (self.stride(0), &self.levels[0]);
        let count = (rows.len() / stride) as u64;
        if !rows.len().is_multiple_of(stride) || count > u64::from(band.height - band.rows) {
            let left = band.height - band.rows;
            return Err(bad_input(format!("{} bytes came for {left} rows of {stride} bytes", rows.len())));
        }
        while !rows.is_empty() {
            let band = &mut self.levels[0];
            let room = stride * TILE_PX as usize - band.pixels.len();
            let (now, later) = rows.split_at(room.min(rows.len()));
            band.pixels.extend_from_slice(now);
            band.rows += (now.len() / stride) as u32;
            rows = later;
            let mut level = 0;
            while level < self.levels.len() && self.levels[level].ready(self.stride(level)) {
                self.write_band(level)?;
                level += 1;
            }
        }
        Ok(())
    }

    fn stride(&self, level: usize) -> usize {
        self.levels[level].width as usize * self.kind.samples()
    }

    /// Writes the waiting rows of a level as tiles and hands them on, halved.
    fn write_band(&mut self, level: usize) -> io::Result<()> {
        let (samples, stride) = (self.kind.samples(), self.stride(level));
        let pixels = std::mem::take(&mut self.levels[level].pixels);
        let columns: Vec<usize> = (0..self.levels[level].width as usize).step_by(TILE_PX as usize).collect();
        for columns in columns.chunks(ENCODED_AT_ONCE) {
            let kind = &self.kind;
            let tiles: Vec<(Option<[u8; 3]>, Vec<u8>)> = columns
                .par_iter()
                .map(|&x| match tile::cut(&pixels, stride, samples, x) {
                    Tile::Plain(colour) => Ok((Some(colour), Vec::new())),
                    Tile::Mixed(pixels) => Ok((None, tile::encode(&pixels, kind)?)),
                })
                .collect::<io::Result<_>>()?;
            for (plain, bytes) in tiles {
                let place = match plain {
                    Some(colour) => self.plain_tile(colour)?,
                    None => self.file.write_tile(&bytes)?,
                };
                self.levels[level].tiles.push(place);
            }
        }
        self.hand_on(level, &pixels, stride);
        // The memory serves the next rows.
        self.levels[level].pixels = pixels;
        self.levels[level].pixels.clear();
        Ok(())
    }

    /// The place of a tile of one colour, which is written when it is first needed.
    fn plain_tile(&mut self, colour: [u8; 3]) -> io::Result<(u64, u32)> {
        if let Some(&place) = self.plain.get(&colour) {
            return Ok(place);
        }
        let place = self.file.write_tile(&tile::encode(&tile::plain(colour, self.kind.samples()), &self.kind)?)?;
        if self.plain.len() < PLAIN_TILES {
            self.plain.insert(colour, place);
        }
        Ok(place)
    }

    /// Adds halved rows to the next level, if there is one.
    fn hand_on(&mut self, level: usize, pixels: &[u8], stride: usize) {
        if level + 1 == self.levels.len() {
            return;
        }
        let half = self.stride(level + 1);
        let (kind, next) = (&self.kind, &mut self.levels[level + 1]);
        let start = next.pixels.len();
        // An odd last row has no partner and is dropped.
        let pairs = pixels.len() / stride / 2;
        next.pixels.resize(start + pairs * half, 0);
        next.rows += pairs as u32;
        let lines = next.pixels[start..].par_chunks_exact_mut(half).zip(pixels.par_chunks_exact(2 * stride));
        lines.for_each(|(out, pair)| reduce::halve(kind, &pair[..stride], &pair[stride..], out));
    }

    /// The tags of a level, in any order.
    fn tags(&self, level: usize) -> Vec<Entry> {
        let (band, samples) = (&self.levels[level], self.kind.samples());
        let (n, d) = pixels_per_cm(self.mpp.um_per_px() * (1u64 << level) as f64);
        let (compression, photometric) = match &self.kind {
            PyramidKind::Jpeg { .. } => (7, 6),
            PyramidKind::Labels { colours } if !colours.is_empty() => (8, 3),
            PyramidKind::Labels { .. } | PyramidKind::Grey => (8, 1),
        };
        let short = |value| Values::Short(vec![value]);
        let mut tags = vec![
            (254, Values::Long(vec![u32::from(level > 0)])),
            (256, Values::Long(vec![band.width])),
            (257, Values::Long(vec![band.height])),
            (258, Values::Short(vec![8; samples])),
            (259, short(compression)),
            (262, short(photometric)),
            (277, short(samples as u16)),
            (282, Values::Rational(n, d)),
            (283, Values::Rational(n, d)),
            (284, short(1)),
            (296, short(3)),
            (322, Values::Long(vec![TILE_PX])),
            (323, Values::Long(vec![TILE_PX])),
            (324, Values::Offsets(band.tiles.iter().map(|tile| tile.0).collect())),
            (325, Values::Long(band.tiles.iter().map(|tile| tile.1).collect())),
        ];
        match &self.kind {
            PyramidKind::Jpeg { .. } => tags.push((530, Values::Short(vec![2, 2]))),
            PyramidKind::Labels { colours } if !colours.is_empty() => tags.push((320, palette(colours))),
            PyramidKind::Labels { .. } | PyramidKind::Grey => {}
        }
        tags
    }
}

/// A TIFF colour table: 256 values of 16 bits for red, then green, then blue.
fn palette(colours: &[[u8; 3]]) -> Values {
    let channel = |c: usize| (0..256).map(move |i| colours.get(i).map_or(0, |colour| u16::from(colour[c]) * 257));
    Values::Short((0..3).flat_map(channel).collect())
}

fn bad_input(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Sizes of the levels, the finest first.
fn sizes(width: u32, height: u32) -> impl Iterator<Item = (u32, u32)> {
    let halved = |&(width, height): &(u32, u32)| {
        let last = width.max(height) < SMALLEST_LEVEL_PX || width.min(height) < 2;
        (!last).then_some((width / 2, height / 2))
    };
    std::iter::successors(Some((width, height)), halved).take(limits::MAX_LEVELS)
}

/// Writes `level0` as a pyramid with the given JPEG quality (1 to 100).
///
/// # Errors
/// The image is empty or larger than a slide may be, or the file cannot be written.
pub fn write_pyramid(path: &Path, level0: &RgbImage, mpp: Mpp, quality: u8) -> Result<(), SlideError> {
    let (width, height) = level0.dimensions();
    let mut writer = PyramidWriter::create(path, width, height, mpp, PyramidKind::Jpeg { quality })?;
    writer.push_rows(level0.as_raw())?;
    writer.finish()
}

/// 10000 / spacing as a fraction that gives the spacing back exactly, for spacings of up to five or six decimals.
fn pixels_per_cm(um_per_px: f64) -> (u32, u32) {
    let fraction = |decimals: u64| {
        let (n, d) = (10_000 * decimals, (um_per_px * decimals as f64).round().max(1.0) as u64);
        let divisor = gcd(n, d);
        Some((u32::try_from(n / divisor).ok()?, u32::try_from(d / divisor).ok()?))
    };
    fraction(1_000_000).or_else(|| fraction(100_000)).unwrap_or((u32::MAX, 1))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
