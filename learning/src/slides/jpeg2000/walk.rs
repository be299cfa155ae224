//! A walk over the headers of a codestream, which refuses one that is cut so finely that its bookkeeping outgrows the
//! image.
//!
//! The decoder reads some segments by what they hold and not by the length that they state. Only those pass here of
//! which both say the same, so that nothing is read by the decoder that the walk has not seen. What is unknown or does
//! not fit is refused.

use std::borrow::Cow;

use super::{be16, be32};

const SIZ: u16 = 0xFF51;
const COD: u16 = 0xFF52;
const COC: u16 = 0xFF53;
const TLM: u16 = 0xFF55;
const PLT: u16 = 0xFF58;
const QCD: u16 = 0xFF5C;
const QCC: u16 = 0xFF5D;
const RGN: u16 = 0xFF5E;
const POC: u16 = 0xFF5F;
const PPM: u16 = 0xFF60;
const PPT: u16 = 0xFF61;
const CRG: u16 = 0xFF63;
const COM: u16 = 0xFF64;
const SOT: u16 = 0xFF90;
const SOD: u16 = 0xFF93;
const EOC: u16 = 0xFFD9;

/// Bytes that the decoder keeps for one code block with its precinct and tag trees, and for one layer of it.
const BLOCK_BYTES: u64 = 200;
const LAYER_BYTES: u64 = 24;
/// The same for all blocks of a tile, at most, as a multiple of its samples: 64 px blocks need a tenth of a byte.
const BLOCK_BYTES_PER_SAMPLE: u64 = 16;

/// The stream with the length of its last part and its end marker, where it left these out as it may.
///
/// # Errors
/// It is cut into too many blocks, or its headers are not as the standard has them.
pub(super) fn checked(stream: &[u8], components: usize, pixels: u64) -> Result<Cow<'_, [u8]>, String> {
    let mut blocks = Blocks { pixels, most: 0, layers: 1 };
    let (mut at, mut begun) = (2, false);
    // Position of the tile-part whose header is being read, and its length.
    let mut part: Option<(usize, usize)> = None;
    loop {
        let between = begun && part.is_none();
        if between && at == stream.len() {
            return Ok(Cow::Owned([stream, &EOC.to_be_bytes()].concat()));
        }
        let marker = be16(stream, at).ok_or("it ends in its headers")?;
        match (marker, part) {
            (EOC, None) if begun => return Ok(Cow::Borrowed(stream)),
            (SOD, Some((start, 0))) => return Ok(Cow::Owned(closed(stream, start, at + 2))),
            (SOD, Some((start, length))) => {
                let next = start.checked_add(length).filter(|next| *next >= at + 2);
                at = next.ok_or_else(|| format!("its part at byte {start} ends before it begins"))?;
                part = None;
                continue;
            }
            // These have neither length nor body.
            (0xFF30..=0xFF3F, _) if !between => {
                at += 2;
                continue;
            }
            (SOT, None) => begun = true,
            (SOT, Some(_)) => return Err(format!("the header of its part at byte {at} is inside another's")),
            _ if between => return Err(format!("there is no part of it at byte {at}")),
            _ => {}
        }
        let length = usize::from(be16(stream, at + 2).unwrap_or(0));
        let body = stream.get(at + 4..at + 2 + length);
        let body = body.ok_or_else(|| format!("segment {marker:04X} at byte {at} is longer than the stream"))?;
        if !fits(marker, body, components) || (marker == SIZ) != (at == 2) {
            return Err(format!("segment {marker:04X} at byte {at} cannot be {length} bytes long"));
        }
        match marker {
            SOT => part = Some((at, be32(body, 2).unwrap_or(0) as usize)),
            COD => {
                blocks.layers = blocks.layers.max(u64::from(be16(body, 2).unwrap_or(1)));
                blocks.add(body[0], &body[5..])?;
            }
            COC => blocks.add(body[1], &body[2..])?,
            _ => {}
        }
        at += 2 + length;
    }
}

/// The stream up to its end marker, with the length of its last part filled in, whose data start at `data`.
fn closed(stream: &[u8], start: usize, data: usize) -> Vec<u8> {
    let marker = stream[data..].windows(2).rposition(|pair| pair == EOC.to_be_bytes());
    let end = marker.map_or(stream.len(), |at| data + at);
    let mut whole = [&stream[..end], &EOC.to_be_bytes()].concat();
    // A tile beyond 4 GiB is no tile, and what does not fit is left open, which the decoder refuses.
    whole[start + 6..start + 10].copy_from_slice(&u32::try_from(end - start).unwrap_or(0).to_be_bytes());
    whole
}

/// Whether the decoder reads just this much of a segment. Component numbers have one byte, for there are few.
fn fits(marker: u16, body: &[u8], components: usize) -> bool {
    let byte = |at: usize| body.get(at).copied().unwrap_or(0);
    let coding = |style: u8, levels: u8| if style & 1 == 0 { 5 } else { 6 + usize::from(levels) };
    // Steps of quantization: none, one derived from another, one for each band in two bytes.
    let steps = |style: u8, bytes: Option<usize>| match (style & 0x1F, bytes) {
        (_, None) => false,
        (1, Some(bytes)) => bytes == 2,
        (2, Some(bytes)) => bytes % 2 == 0,
        _ => true,
    };
    match marker {
        SIZ => body.len() == 36 + 3 * components,
        COD => body.len() == 5 + coding(byte(0), byte(5)),
        COC => body.len() == 2 + coding(byte(1), byte(2)),
        RGN => body.len() == 3,
        SOT => body.len() == 8,
        QCD => steps(byte(0), body.len().checked_sub(1)),
        QCC => steps(byte(1), body.len().checked_sub(2)),
        TLM | PLT | POC | PPM | PPT | CRG | COM => true,
        _ => false,
    }
}

/// The finest cut that was seen, for the most layers that were seen.
struct Blocks {
    pixels: u64,
    most: u64,
    layers: u64,
}

impl Blocks {
    /// `style` is the Scod or Scoc byte, `body` starts with the number of decompositions.
    fn add(&mut self, style: u8, body: &[u8]) -> Result<(), String> {
        let exponent = |code: u8| u32::from(code.min(60));
        let levels = u32::from(body[0]);
        let block = exponent(body[1]) + exponent(body[2]) + 4;
        let mut blocks = 0;
        for resolution in 0..=levels.min(32) {
            let precinct = match body.get(5 + resolution as usize) {
                Some(code) if style & 1 != 0 => u32::from(code & 15) + u32::from(code >> 4),
                _ => 30,
            };
            let area = block.min(if resolution > 0 { precinct.saturating_sub(2) } else { precinct });
            let here = self.pixels.checked_shr(2 * (levels - resolution)).unwrap_or(0);
            blocks += (here >> area) + 1;
        }
        self.most = self.most.max(blocks);
        let bytes = self.most * (BLOCK_BYTES + LAYER_BYTES * self.layers);
        if bytes > BLOCK_BYTES_PER_SAMPLE * self.pixels + (1 << 20) {
            return Err(format!("it is cut into {} blocks", self.most));
        }
        Ok(())
    }
}
