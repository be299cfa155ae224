//! From the stored bytes of one TIFF tile to its pixels.
//!
//! The container's PhotometricInterpretation decides about colour, never the JPEG inside it: Aperio stores RGB under
//! component ids that make JPEG decoders guess YCbCr. No decoder may produce more than the tile's own size.

use std::io::Read;

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::pages::Page;
use super::{jpeg, jpeg2000};

/// How the bytes of a tile are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Lzw,
    Jpeg,
    Deflate,
    /// Aperio's 33003: YCbCr whatever the container says.
    Jpeg2000YCbCr,
    /// Aperio's 33005: RGB whatever the container says.
    Jpeg2000Rgb,
    /// 34712: the container decides.
    Jpeg2000,
}

impl Compression {
    /// From the TIFF tag; otherwise the name of what it is.
    pub(super) fn from_tag(tag: u64) -> Result<Self, String> {
        match tag {
            1 => Ok(Self::None),
            5 => Ok(Self::Lzw),
            7 => Ok(Self::Jpeg),
            8 | 32946 => Ok(Self::Deflate),
            33003 => Ok(Self::Jpeg2000YCbCr),
            33005 => Ok(Self::Jpeg2000Rgb),
            34712 => Ok(Self::Jpeg2000),
            other => Err(other.to_string()),
        }
    }

    /// Whether decoded samples may differ from those that were stored.
    pub(super) fn is_lossy(self) -> bool {
        !matches!(self, Self::None | Self::Lzw | Self::Deflate)
    }
}

/// What the samples of a pixel mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Photometric {
    Grey,
    Rgb,
    YCbCr,
    /// Indices into a colour table: fine in a label map, not in a slide.
    Palette,
}

impl Photometric {
    /// Whether pixels of both come out as the same kind of colour: RGB and YCbCr do.
    pub(super) fn is_like(self, other: Self) -> bool {
        let colour = |kind| matches!(kind, Self::Rgb | Self::YCbCr);
        self == other || (colour(self) && colour(other))
    }

    /// From the TIFF tag, if it fits the number of samples; otherwise its name.
    pub(super) fn from_tag(tag: u64, samples: usize, compression: Compression) -> Result<Self, &'static str> {
        match (tag, samples) {
            (_, 3) if compression == Compression::Jpeg2000YCbCr => Ok(Self::YCbCr),
            (_, 3) if compression == Compression::Jpeg2000Rgb => Ok(Self::Rgb),
            (1, 1 | 2) => Ok(Self::Grey),
            (2, 3 | 4) => Ok(Self::Rgb),
            (3, 1) => Ok(Self::Palette),
            // Outside these, subsampled YCbCr is packed in its own way that nobody uses for slides.
            (6, 3) if matches!(compression, Compression::Jpeg | Compression::Jpeg2000) => Ok(Self::YCbCr),
            (0, _) => Err("white-is-zero"),
            (1, _) => Err("grey"),
            (2, _) => Err("RGB"),
            (3, _) => Err("palette"),
            (5, _) => Err("CMYK"),
            (6, _) => Err("YCbCr"),
            _ => Err("unknown colour"),
        }
    }
}

/// The interleaved samples of one whole tile (padding included), or why they cannot be had.
pub(super) fn samples(page: &Page, stored: Vec<u8>) -> Result<Vec<u8>, String> {
    let expected = page.tile_bytes();
    let mut data = match page.compression {
        Compression::None => stored,
        Compression::Lzw => lzw(&stored, expected)?,
        Compression::Deflate => deflate(&stored, expected)?,
        Compression::Jpeg => jpeg(page.shared_tables(), &stored, page.tile_size(), page.samples, false)?,
        Compression::Jpeg2000YCbCr | Compression::Jpeg2000Rgb | Compression::Jpeg2000 => {
            jpeg2000::samples(&stored, page.tile_width as usize, page.tile_height as usize, page.samples)?
        }
    };
    if data.len() < expected {
        return Err(format!("it holds {} of {expected} bytes", data.len()));
    }
    data.truncate(expected);
    if page.predictor {
        undo_differencing(&mut data, page.tile_width as usize * page.samples, page.samples);
    }
    Ok(data)
}

/// The RGB pixels of one whole tile (padding included), or why they cannot be had.
pub(super) fn rgb(page: &Page, stored: Vec<u8>) -> Result<Vec<u8>, String> {
    if page.compression == Compression::Jpeg && page.photometric == Photometric::YCbCr {
        // Converted while its rows are at hand.
        return jpeg(page.shared_tables(), &stored, page.tile_size(), page.samples, true);
    }
    Ok(to_rgb(page, samples(page, stored)?))
}

/// RGB from the samples of a page.
fn to_rgb(page: &Page, mut data: Vec<u8>) -> Vec<u8> {
    match page.photometric {
        Photometric::Rgb if page.samples == 3 => data,
        Photometric::Rgb => data.chunks_exact(page.samples).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        Photometric::Grey | Photometric::Palette => data.chunks_exact(page.samples).flat_map(|p| [p[0]; 3]).collect(),
        Photometric::YCbCr => {
            data.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = ycbcr_to_rgb(*pixel));
            data
        }
    }
}

/// JFIF's full-range conversion in 16-bit fixed point, as libjpeg does it.
#[inline(always)]
pub(super) fn ycbcr_to_rgb(pixel: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(pixel[0]), i32::from(pixel[1]) - 128, i32::from(pixel[2]) - 128);
    let half = 1 << 15;
    let clamp = |value: i32| value.clamp(0, 255) as u8;
    [
        clamp(y + ((91_881 * cr + half) >> 16)),
        clamp(y + ((-22_554 * cb - 46_802 * cr + half) >> 16)),
        clamp(y + ((116_130 * cb + half) >> 16)),
    ]
}

/// Tables that the tiles of an image share: as they were read, and their bytes.
pub(super) type SharedTables<'t> = Option<(&'t jpeg::Tables, &'t [u8])>;

/// The interleaved samples of a JPEG of this size and so many components; from YCbCr to RGB if asked for.
pub(super) fn jpeg(
    shared: SharedTables<'_>,
    stored: &[u8],
    size: (usize, usize),
    samples: usize,
    ycbcr: bool,
) -> Result<Vec<u8>, String> {
    match jpeg::samples(shared.map(|(tables, _)| tables), stored, size, samples, ycbcr)? {
        Some(data) => Ok(data),
        None => {
            let mut data = other_jpeg(shared.map(|(_, bytes)| bytes), stored, size, samples)?;
            if ycbcr {
                data.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = ycbcr_to_rgb(*pixel));
            }
            Ok(data)
        }
    }
}

/// A JPEG that is not baseline, such as a progressive one.
fn other_jpeg(
    tables: Option<&[u8]>,
    stored: &[u8],
    (width, height): (usize, usize),
    samples: usize,
) -> Result<Vec<u8>, String> {
    let whole = match tables {
        // The shared tables are a JPEG without an image: theirs without the end marker, then ours without the start.
        Some(tables) if stored.len() > 2 => [&tables[..tables.len() - 2], &stored[2..]].concat(),
        _ => stored.to_vec(),
    };
    let limits = DecoderOptions::default().set_max_width(width).set_max_height(height);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(whole), limits);
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let stored_as = decoder.input_colorspace().ok_or("it has no colour space")?;
    if stored_as.num_components() != samples {
        return Err(format!("it has {} colour components, not {samples}", stored_as.num_components()));
    }
    let found = decoder.info().map(|info| (usize::from(info.width), usize::from(info.height)));
    if found != Some((width, height)) {
        return Err(format!("it is not {width} x {height} pixels"));
    }
    // The same colour space out as in: the decoder upsamples, and leaves the colours to the container.
    decoder.set_options(limits.jpeg_set_out_colorspace(stored_as));
    decoder.decode().map_err(|e| e.to_string())
}

fn deflate(stored: &[u8], expected: usize) -> Result<Vec<u8>, String> {
    let mut data = Vec::with_capacity(expected);
    let read = flate2::read::ZlibDecoder::new(stored).take(expected as u64).read_to_end(&mut data);
    read.map_err(|e| e.to_string())?;
    Ok(data)
}

fn lzw(stored: &[u8], expected: usize) -> Result<Vec<u8>, String> {
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let mut data = vec![0; expected];
    let (mut read, mut written) = (0, 0);
    while written < expected {
        let step = decoder.decode_bytes(&stored[read..], &mut data[written..]);
        read += step.consumed_in;
        written += step.consumed_out;
        match step.status.map_err(|e| e.to_string())? {
            weezl::LzwStatus::Ok if step.consumed_in + step.consumed_out > 0 => {}
            _ => break,
        }
    }
    data.truncate(written);
    Ok(data)
}

/// Undoes TIFF predictor 2: each sample is stored as the difference to the one before it in its row.
fn undo_differencing(data: &mut [u8], row_bytes: usize, samples: usize) {
    for row in data.chunks_exact_mut(row_bytes) {
        for i in samples..row.len() {
            row[i] = row[i].wrapping_add(row[i - samples]);
        }
    }
}
