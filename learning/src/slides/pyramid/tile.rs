//! One tile: cut from rows, and in the coding of its kind of picture.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};

use super::{PyramidKind, TILE_PX};

/// Deflate's fastest: labels shrink a hundredfold anyway, and probabilities are noise at any level.
const DEFLATE_LEVEL: u32 = 1;

/// A tile cut from rows.
pub(super) enum Tile {
    /// Every pixel is the same.
    Plain([u8; 3]),
    Mixed(Vec<u8>),
}

/// The tile at column `x` of some rows; beyond their edge the last pixels go on, so that nothing bleeds in.
pub(super) fn cut(rows: &[u8], stride: usize, samples: usize, x: usize) -> Tile {
    let side = TILE_PX as usize;
    let inside = (stride - x * samples).min(side * samples);
    let mut pixels = Vec::with_capacity(side * side * samples);
    for line in rows.chunks_exact(stride) {
        let line = &line[x * samples..][..inside];
        pixels.extend_from_slice(line);
        let last = &line[inside - samples..];
        pixels.extend(last.iter().cycle().take(side * samples - inside));
    }
    let filled = pixels.len().saturating_sub(side * samples);
    while pixels.len() < side * side * samples {
        pixels.extend_from_within(filled..filled + side * samples);
    }
    // Equal to itself one pixel on: the same everywhere.
    if pixels[samples..] == pixels[..pixels.len() - samples] {
        let mut colour = [0; 3];
        colour[..samples].copy_from_slice(&pixels[..samples]);
        return Tile::Plain(colour);
    }
    Tile::Mixed(pixels)
}

/// The pixels of a plain tile.
pub(super) fn plain(colour: [u8; 3], samples: usize) -> Vec<u8> {
    colour[..samples].repeat((TILE_PX * TILE_PX) as usize)
}

/// The stored bytes of a tile.
pub(super) fn encode(pixels: &[u8], kind: &PyramidKind) -> io::Result<Vec<u8>> {
    match kind {
        PyramidKind::Jpeg { quality } => jpeg(pixels, *quality),
        PyramidKind::Labels { .. } | PyramidKind::Grey => {
            let mut encoder = ZlibEncoder::new(Vec::with_capacity(pixels.len() / 4), Compression::new(DEFLATE_LEVEL));
            encoder.write_all(pixels)?;
            encoder.finish()
        }
    }
}

fn jpeg(pixels: &[u8], quality: u8) -> io::Result<Vec<u8>> {
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, quality.clamp(1, 100));
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    // The default takes every second chroma sample, which shifts colours by half a pixel.
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    let side = TILE_PX as u16;
    encoder.encode(pixels, side, side, ColorType::Rgb).map_err(io::Error::other)?;
    Ok(jpeg)
}
