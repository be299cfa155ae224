//! How a Zarr chunk is packed: plain, zlib, gzip, zstd, LZ4 or Blosc. No chunk unpacks to more than it should.

use std::io::Read;

use consilium_common::limits;
use serde_json::Value;

use super::blosc;

/// The coding of the chunks of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Zlib,
    Gzip,
    Zstd,
    Lz4,
    Blosc,
}

impl Codec {
    /// From the `compressor` of an array; otherwise the name of what it is.
    pub(super) fn from_json(compressor: Option<&Value>) -> Result<Self, String> {
        let Some(compressor) = compressor else { return Ok(Self::None) };
        match compressor.get("id").and_then(Value::as_str).unwrap_or_default() {
            "zlib" => Ok(Self::Zlib),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            "lz4" => Ok(Self::Lz4),
            "blosc" => Ok(Self::Blosc),
            other => {
                let name: String = other.chars().filter(char::is_ascii_graphic).take(32).collect();
                Err(format!("the Zarr compressor `{name}`"))
            }
        }
    }

    /// Exactly `expected` bytes from a stored chunk, or why they cannot be had.
    pub(super) fn unpack(self, stored: Vec<u8>, expected: usize) -> Result<Vec<u8>, String> {
        let data = match self {
            Self::None => stored,
            Self::Zlib => zlib(&stored, expected)?,
            Self::Gzip => bounded(flate2::read::MultiGzDecoder::new(&stored[..]), expected)?,
            Self::Zstd => zstd(&stored, expected)?,
            Self::Lz4 => {
                // The length comes first, in four bytes.
                let (length, block) = stored.split_first_chunk().ok_or("it has no length")?;
                if u32::from_le_bytes(*length) as usize != expected {
                    return Err(format!("it does not hold {expected} bytes"));
                }
                lz4(block, expected)?
            }
            Self::Blosc => blosc::unpack(&stored, expected)?,
        };
        if data.len() != expected {
            return Err(format!("it holds {} of {expected} bytes", data.len()));
        }
        Ok(data)
    }
}

pub(super) fn zlib(stored: &[u8], expected: usize) -> Result<Vec<u8>, String> {
    bounded(flate2::read::ZlibDecoder::new(stored), expected)
}

pub(super) fn zstd(stored: &[u8], expected: usize) -> Result<Vec<u8>, String> {
    let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(stored, limits::MAX_CHUNK_BYTES);
    bounded(decoder.map_err(|e| e.to_string())?, expected)
}

pub(super) fn lz4(stored: &[u8], expected: usize) -> Result<Vec<u8>, String> {
    let mut data = vec![0; expected];
    let length = lz4_flex::block::decompress_into(stored, &mut data).map_err(|e| e.to_string())?;
    data.truncate(length);
    Ok(data)
}

/// Up to one byte more than expected, so that more is noticed.
fn bounded(decoder: impl Read, expected: usize) -> Result<Vec<u8>, String> {
    let mut data = Vec::with_capacity(expected);
    decoder.take(expected as u64 + 1).read_to_end(&mut data).map_err(|e| e.to_string())?;
    Ok(data)
}
