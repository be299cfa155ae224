//! From the stored bytes of one DICOM frame to RGB.
//!
//! The instance's PhotometricInterpretation decides about colour, never a guess of the JPEG decoder. JPEG 2000 may undo
//! its own colour transform; a frame that says YBR and has none inside is converted here.

use super::facts::Syntax;
use crate::slides::decode::{self, ycbcr_to_rgb};
use crate::slides::jpeg2000;

/// What the samples of a frame mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Photometric {
    Grey,
    Rgb,
    /// Luma and chroma, full range; how far chroma is subsampled is the codec's matter.
    YbrFull,
    /// The transforms inside JPEG 2000.
    YbrInside,
}

/// How the frames of one instance are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coding {
    pub(super) syntax: Syntax,
    pub(super) photometric: Photometric,
    pub(super) samples: usize,
    /// Native samples by colour plane instead of by pixel.
    pub(super) planar: bool,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Photometric {
    /// From the DICOM keyword, if it fits the coding; otherwise nothing.
    pub(super) fn from_keyword(word: &str, samples: u64, syntax: Syntax) -> Option<Self> {
        match (word, samples, syntax) {
            ("MONOCHROME2", 1, _) => Some(Self::Grey),
            ("RGB", 3, _) => Some(Self::Rgb),
            ("YBR_FULL", 3, _) | ("YBR_FULL_422", 3, Syntax::Jpeg | Syntax::Jpeg2000) => Some(Self::YbrFull),
            ("YBR_ICT" | "YBR_RCT", 3, Syntax::Jpeg2000) => Some(Self::YbrInside),
            _ => None,
        }
    }
}

impl Coding {
    /// Bytes of a decoded frame.
    pub(super) fn bytes(&self) -> usize {
        self.width * self.height * self.samples
    }

    /// RGB bytes of a stored frame, or why it cannot be decoded.
    pub(super) fn rgb(&self, stored: Vec<u8>) -> Result<Vec<u8>, String> {
        let bytes = self.bytes();
        let mut ybr = self.photometric == Photometric::YbrFull;
        let mut data = match self.syntax {
            Syntax::ImplicitNative | Syntax::ExplicitNative if self.planar => interleaved(&stored, self.samples),
            Syntax::ImplicitNative | Syntax::ExplicitNative => stored,
            Syntax::Rle => interleaved(&rle(&stored, self.samples, self.width * self.height)?, self.samples),
            Syntax::Jpeg => {
                // Converted while its rows are at hand.
                let convert = std::mem::take(&mut ybr);
                decode::jpeg(None, &stored, (self.width, self.height), self.samples, convert)?
            }
            Syntax::Jpeg2000 => {
                let transformed = transforms_inside(&stored);
                ybr = !transformed && matches!(self.photometric, Photometric::YbrFull | Photometric::YbrInside);
                self.jpeg2000(&stored)?
            }
        };
        if data.len() < bytes {
            return Err(format!("it holds {} of {bytes} bytes", data.len()));
        }
        data.truncate(bytes);
        if self.samples == 1 {
            return Ok(data.into_iter().flat_map(|grey| [grey; 3]).collect());
        }
        if ybr {
            data.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = ycbcr_to_rgb(*pixel));
        }
        Ok(data)
    }

    fn jpeg2000(&self, stored: &[u8]) -> Result<Vec<u8>, String> {
        jpeg2000::samples(stored, self.width, self.height, self.samples)
    }
}

/// Whether a JPEG 2000 codestream, or the one inside a JP2 file, says that it holds transformed colours, which its decoder undoes.
///
/// The mark is the fifth byte of segment COD in the main header, which ends at the first tile (SOT).
fn transforms_inside(stored: &[u8]) -> bool {
    let Ok(codestream) = jpeg2000::codestream(stored) else { return false };
    let mut at = 2;
    while let Some(&[0xFF, marker, high, low]) = codestream.get(at..at + 4).and_then(<[u8]>::first_chunk) {
        match marker {
            0x52 => return codestream.get(at + 8) == Some(&1),
            0x90 => return false,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2),
        }
    }
    false
}

/// Planes one after the other to pixels one after the other.
fn interleaved(planes: &[u8], samples: usize) -> Vec<u8> {
    let pixels = planes.len() / samples;
    let mut data = vec![0; pixels * samples];
    for (sample, plane) in planes.chunks_exact(pixels.max(1)).take(samples).enumerate() {
        data.iter_mut().skip(sample).step_by(samples).zip(plane).for_each(|(to, from)| *to = *from);
    }
    data
}

/// DICOM's run-length coding (PS3.5 annex G): a head of 16 numbers, then one segment of packed bytes for each sample.
fn rle(stored: &[u8], samples: usize, pixels: usize) -> Result<Vec<u8>, String> {
    let head: Vec<usize> =
        stored.as_chunks::<4>().0.iter().take(16).map(|word| u32::from_le_bytes(*word) as usize).collect();
    if head.len() < 16 || head[0] != samples {
        return Err("its run-length head does not fit its samples".to_owned());
    }
    let mut planes = Vec::with_capacity(pixels * samples);
    for sample in 0..samples {
        let from = head[sample + 1];
        let to = if sample + 1 < samples { head[sample + 2] } else { stored.len() };
        let segment = stored.get(from..to).ok_or("a run-length segment lies outside its frame")?;
        let wanted = pixels * (sample + 1);
        unpack(segment, &mut planes, wanted);
        if planes.len() < wanted {
            return Err("a run-length segment ends early".to_owned());
        }
    }
    Ok(planes)
}

/// Appends the bytes that a packed segment stands for, up to a length.
fn unpack(mut segment: &[u8], to: &mut Vec<u8>, length: usize) {
    while let (Some((&count, rest)), true) = (segment.split_first(), to.len() < length) {
        let room = length - to.len();
        segment = rest;
        match count {
            0..=127 => {
                let literal = &rest[..rest.len().min(usize::from(count) + 1)];
                to.extend_from_slice(&literal[..literal.len().min(room)]);
                segment = &rest[literal.len()..];
            }
            128 => {}
            _ => {
                let Some((&byte, rest)) = rest.split_first() else { return };
                to.resize(to.len() + room.min(257 - usize::from(count)), byte);
                segment = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colour_transform_is_seen_inside_a_jp2_too() {
        let siz = [&[0xFF, 0x4F, 0xFF, 0x51, 0, 5][..], &[0; 3]].concat();
        for transform in [0, 1] {
            let stream = [&siz[..], &[0xFF, 0x52, 0, 12, 0, 0, 0, 1, transform, 5, 4, 4, 0, 1, 0xFF, 0x90]].concat();
            let head = [&[0, 0, 0, 12][..], b"jP  \r\n\x87\n", &[0, 0, 0, 0], b"jp2c"].concat();
            for stored in [stream.clone(), [head, stream].concat()] {
                assert_eq!(transforms_inside(&stored), transform == 1, "{stored:?}");
            }
        }
        assert!(!transforms_inside(&[]) && !transforms_inside(&[0xFF, 0x4F, 0xFF, 0x51]));
    }
}
