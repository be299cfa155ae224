//! Tests of the slide readers and writers on files made here, and on real ones where they are present.

mod bad;
mod formats;
mod masks;
mod ome;
mod real;
mod regions;
mod written;

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use consilium_common::Mpp;
use image::{Rgb, RgbImage};
use tiff::encoder::{Rational, TiffEncoder, TiffKind};
use tiff::tags::Tag;

pub(super) fn mpp(um: f64) -> Mpp {
    Mpp::new(um).unwrap()
}

/// An image without any repetition, smooth enough for JPEG.
pub(super) fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = |a: f64, b: f64| (127.0 + 120.0 * (f64::from(x) * a + f64::from(y) * b).sin()) as u8;
        Rgb([wave(0.031, 0.017), wave(0.011, -0.029), wave(-0.023, 0.041)])
    })
}

/// Like [`picture`], with noise in every pixel.
pub(super) fn noise(width: u32, height: u32) -> RgbImage {
    let mut state = 12345u32;
    RgbImage::from_fn(width, height, |_, _| {
        Rgb([0; 3].map(|_: u8| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }))
    })
}

/// How a test TIFF is stored.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) big: bool,
    pub(super) compression: u16,
    pub(super) predictor: u16,
    pub(super) photometric: u16,
    pub(super) samples: usize,
    pub(super) tile: u32,
    /// NewSubfileType of each image; images beyond its end are 1 (reduced).
    pub(super) subfile: Vec<u32>,
    pub(super) description: Vec<&'static str>,
    /// Pixels per centimetre, 0 for no tags.
    pub(super) resolution: u32,
    /// Replaces the true width in the tags.
    pub(super) claimed_width: Option<u32>,
    /// Leaves this tile of the first image unwritten.
    pub(super) sparse: Option<usize>,
}

impl Default for Stored {
    fn default() -> Self {
        Self {
            big: false,
            compression: 1,
            predictor: 1,
            photometric: 2,
            samples: 3,
            tile: 64,
            subfile: vec![0],
            description: Vec::new(),
            resolution: 40_000,
            claimed_width: None,
            sparse: None,
        }
    }
}

impl Stored {
    /// Writes the images as one tiled TIFF.
    pub(super) fn write(&self, path: &Path, images: &[RgbImage]) {
        let out = BufWriter::new(File::create(path).unwrap());
        if self.big {
            self.pages(TiffEncoder::new_big(out).unwrap(), images);
        } else {
            self.pages(TiffEncoder::new(out).unwrap(), images);
        }
    }

    fn pages<W: Write + Seek, K: TiffKind>(&self, mut encoder: TiffEncoder<W, K>, images: &[RgbImage]) {
        for (number, image) in images.iter().enumerate() {
            let mut page = encoder.image_directory().unwrap();
            let (mut offsets, mut counts) = (Vec::new(), Vec::new());
            for (index, tile) in self.tiles(image).into_iter().enumerate() {
                let skip = number == 0 && self.sparse == Some(index);
                let offset = if skip { 0 } else { page.write_data(tile.as_slice()).unwrap() };
                offsets.push(u32::try_from(offset).unwrap());
                counts.push(if skip { 0 } else { tile.len() as u32 });
            }
            let subfile = self.subfile.get(number).copied().unwrap_or(1);
            page.write_tag(Tag::NewSubfileType, subfile).unwrap();
            page.write_tag(Tag::ImageWidth, self.claimed_width.unwrap_or(image.width())).unwrap();
            page.write_tag(Tag::ImageLength, image.height()).unwrap();
            page.write_tag(Tag::BitsPerSample, vec![8u16; self.samples].as_slice()).unwrap();
            page.write_tag(Tag::Compression, self.compression).unwrap();
            page.write_tag(Tag::PhotometricInterpretation, self.photometric).unwrap();
            page.write_tag(Tag::SamplesPerPixel, self.samples as u16).unwrap();
            page.write_tag(Tag::Predictor, self.predictor).unwrap();
            page.write_tag(Tag::TileWidth, self.tile).unwrap();
            page.write_tag(Tag::TileLength, self.tile).unwrap();
            page.write_tag(Tag::TileOffsets, offsets.as_slice()).unwrap();
            page.write_tag(Tag::TileByteCounts, counts.as_slice()).unwrap();
            if let Some(text) = self.description.get(number) {
                page.write_tag(Tag::ImageDescription, *text).unwrap();
            }
            if self.resolution > 0 {
                page.write_tag(Tag::XResolution, Rational { n: self.resolution, d: 1 }).unwrap();
                page.write_tag(Tag::YResolution, Rational { n: self.resolution, d: 1 }).unwrap();
                page.write_tag(Tag::ResolutionUnit, 3u16).unwrap();
            }
            page.finish().unwrap();
        }
    }

    fn tiles(&self, image: &RgbImage) -> Vec<Vec<u8>> {
        let (columns, rows) = (image.width().div_ceil(self.tile), image.height().div_ceil(self.tile));
        let corners = (0..rows).flat_map(|row| (0..columns).map(move |column| (column, row)));
        corners.map(|(column, row)| self.encode(image, column * self.tile, row * self.tile)).collect()
    }

    /// One tile, zero beyond the edge; grey images take the red channel, a fourth sample is 77.
    fn encode(&self, image: &RgbImage, x0: u32, y0: u32) -> Vec<u8> {
        let mut raw = Vec::new();
        for y in y0..y0 + self.tile {
            for x in x0..x0 + self.tile {
                let Rgb([r, g, b]) = image.get_pixel_checked(x, y).copied().unwrap_or(Rgb([0; 3]));
                raw.extend_from_slice(&[r, g, b, 77][..self.samples]);
            }
        }
        if self.compression == 7 {
            return self.jpeg(&raw);
        }
        if self.predictor == 2 {
            for row in raw.chunks_exact_mut(self.tile as usize * self.samples) {
                for i in (self.samples..row.len()).rev() {
                    row[i] = row[i].wrapping_sub(row[i - self.samples]);
                }
            }
        }
        match self.compression {
            5 => weezl::encode::Encoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8).encode(&raw).unwrap(),
            8 => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&raw).unwrap();
                encoder.finish().unwrap()
            }
            _ => raw,
        }
    }

    /// A JPEG whose components are the samples as they are, without any colour conversion.
    fn jpeg(&self, raw: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 98);
        encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_1_1);
        let color = if self.samples == 1 { jpeg_encoder::ColorType::Luma } else { jpeg_encoder::ColorType::Ycbcr };
        encoder.encode(raw, self.tile as u16, self.tile as u16, color).unwrap();
        bytes
    }
}

/// Largest difference of any sample.
pub(super) fn difference(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}
