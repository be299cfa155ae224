//! JPEG 2000 tiles: a raw codestream, or the one inside a JP2 file, to interleaved 8-bit samples.
//!
//! The codestream's own multiple component transform is undone, for it is part of the coding; what the samples mean is
//! the container's to say, and colour boxes of a JP2 are ignored. Size, components and the number of code blocks are
//! read from the codestream and checked before the decoder may allocate anything. What decodes only in part is an error.

mod walk;

use std::panic::{AssertUnwindSafe, catch_unwind};

use consilium_common::limits;
use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

const SIZ: u16 = 0xFF51;

/// Decodes a tile of exactly `width` x `height` pixels of `samples` components of 8 bits, subsampled ones repeated.
///
/// # Errors
/// The bytes are no JPEG 2000 of that form, are damaged, or are cut so finely that decoding would need memory out of
/// proportion to the tile.
pub(super) fn samples(stored: &[u8], width: usize, height: usize, samples: usize) -> Result<Vec<u8>, String> {
    let stream = codestream(stored)?;
    let subsampled = check_size(stream, width, height, samples)?;
    let whole = walk::checked(stream, samples, (width * height) as u64)?;
    let stream = whole.as_ref();
    // Lenient decoding makes up what is missing; a tile that is not whole is better a hole.
    let settings = DecodeSettings { resolve_palette_indices: false, strict: true, target_resolution: None };
    // The decoder takes subsampled components for YCbCr and would convert them, unless a JP2 calls them RGB.
    let labelled = if subsampled { &as_rgb_jp2(stream, width, height, samples) } else { stream };
    // A decoder of foreign bytes that panics costs its own tile, not the process.
    let decoded = catch_unwind(AssertUnwindSafe(|| -> Result<Vec<u8>, String> {
        let image = Image::new(labelled, &settings).map_err(|e| e.to_string())?;
        let mut context = DecoderContext::default();
        let decoded = image.decode(&mut context).map_err(|e| e.to_string())?;
        if decoded.components().len() != samples {
            return Err(format!("it has {} colour components, not {samples}", decoded.components().len()));
        }
        Ok(decoded.data_u8())
    }));
    let data = decoded.unwrap_or_else(|_| Err("the JPEG 2000 decoder gave up".to_owned()))?;
    if data.len() != width * height * samples {
        return Err(format!("it is not {width} x {height} pixels"));
    }
    Ok(data)
}

/// The codestream itself, found inside a JP2 file if there is one around it.
pub(super) fn codestream(stored: &[u8]) -> Result<&[u8], String> {
    if stored.starts_with(&[0xFF, 0x4F, 0xFF, 0x51]) {
        return Ok(stored);
    }
    let mut rest = stored;
    while let (Some(short), Some(kind)) = (be32(rest, 0), rest.get(4..8)) {
        let (head, length) = match short {
            0 => (8, rest.len() as u64),
            1 => (16, u64::from(be32(rest, 8).unwrap_or(0)) << 32 | u64::from(be32(rest, 12).unwrap_or(0))),
            _ => (8, u64::from(short)),
        };
        let end = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        let Some(body) = rest.get(head..end) else { break };
        if kind == b"jp2c" {
            return Ok(body);
        }
        rest = &rest[end..];
    }
    Err("it is no JPEG 2000".to_owned())
}

/// Compares size, components and depths with what the container says; whether components are subsampled.
fn check_size(stream: &[u8], width: usize, height: usize, samples: usize) -> Result<bool, String> {
    let short = || "it ends in its header".to_owned();
    if be16(stream, 0) != Some(0xFF4F) || be16(stream, 2) != Some(SIZ) {
        return Err("it is no JPEG 2000".to_owned());
    }
    let field = |number: usize| be32(stream, 8 + number * 4).ok_or_else(short);
    let most = limits::MAX_TIFF_TILE_PX as usize;
    if (field(0)? as usize, field(1)? as usize) != (width, height) || width.max(height) > most {
        return Err(format!("it is {} x {} pixels, not {width} x {height}", field(0)?, field(1)?));
    }
    if [field(2)?, field(3)?, field(6)?, field(7)?] != [0; 4] {
        return Err("it does not start at its own corner".to_owned());
    }
    let tiles = |side: usize, tile: u32| side.div_ceil((tile as usize).max(1));
    // A tile within a tile is at least 64 px wide wherever anyone makes them; each costs headers in memory.
    if tiles(width, field(4)?) * tiles(height, field(5)?) > 64 * 64 {
        return Err(format!("it is cut into tiles of {} x {} pixels", field(4)?, field(5)?));
    }
    let components = usize::from(be16(stream, 40).ok_or_else(short)?);
    if components != samples {
        return Err(format!("it has {components} colour components, not {samples}"));
    }
    let mut subsampled = false;
    for (number, part) in stream.get(42..42 + components * 3).ok_or_else(short)?.chunks_exact(3).enumerate() {
        if part[0] != 7 {
            return Err(format!("its samples have {} bits, not 8", (part[0] & 0x7F) + 1));
        }
        let steps = [1, 2, 4];
        if !steps.contains(&part[1]) || !steps.contains(&part[2]) || (number == 0 && part[1..] != [1, 1]) {
            return Err(format!("component {number} is subsampled {} x {}", part[1], part[2]));
        }
        subsampled |= part[1..] != [1, 1];
    }
    Ok(subsampled)
}

/// The codestream in a JP2 file whose colour box says RGB, which the decoder leaves as it is.
fn as_rgb_jp2(stream: &[u8], width: usize, height: usize, samples: usize) -> Vec<u8> {
    let mut file = Vec::with_capacity(stream.len() + 96);
    file.extend(b"\0\0\0\x0CjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 \0\0\0\x2Djp2h\0\0\0\x16ihdr");
    file.extend((height as u32).to_be_bytes());
    file.extend((width as u32).to_be_bytes());
    file.extend((samples as u16).to_be_bytes());
    file.extend(b"\x07\x07\0\0\0\0\0\x0Fcolr\x01\0\0\0\0\0\x10\0\0\0\0jp2c");
    file.extend(stream);
    file
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests;
