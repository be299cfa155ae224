//! Blosc 1 buffers, as c-blosc writes them: blocks of BloscLZ, LZ4, zlib or zstd, with bytes or bits shuffled.
//!
//! A buffer is a head of 16 bytes, the offset of each block, and the blocks; a block is one stream, or one for each byte
//! of an element. See c-blosc's README_CHUNK_FORMAT. Every offset and length is checked before it is used.

use super::codec;

const HEAD_BYTES: usize = 16;
const BYTE_SHUFFLE: u8 = 0x01;
const STORED: u8 = 0x02;
const BIT_SHUFFLE: u8 = 0x04;
const NOT_SPLIT: u8 = 0x10;
/// Blocks of fewer elements, and elements of more bytes, are not split into streams.
const MIN_SPLIT_ELEMENTS: usize = 128;
const MAX_SPLITS: usize = 16;

/// The head of a buffer.
struct Head {
    flags: u8,
    /// Bytes of an element.
    element: usize,
    /// Bytes of an unpacked block.
    block: usize,
}

/// Exactly `expected` bytes from a buffer, or why they cannot be had.
pub(super) fn unpack(stored: &[u8], expected: usize) -> Result<Vec<u8>, String> {
    let word = |at: usize| number(stored, at).ok_or("its Blosc head is cut off");
    let (bytes, block) = (word(4)?, word(8)?);
    word(12)?;
    let head = Head { flags: stored[2], element: usize::from(stored[3]).max(1), block };
    if bytes != expected {
        return Err(format!("its Blosc buffer holds {bytes} of {expected} bytes"));
    }
    if head.flags & STORED != 0 {
        return stored
            .get(HEAD_BYTES..HEAD_BYTES + bytes)
            .map(<[u8]>::to_vec)
            .ok_or("its Blosc buffer ends early".into());
    }
    if block == 0 || block > bytes {
        return Err("its Blosc blocks have no possible size".to_owned());
    }
    let mut data = Vec::with_capacity(bytes);
    for index in 0..bytes.div_ceil(block) {
        let start = number(stored, HEAD_BYTES + index * 4).ok_or("its Blosc buffer ends early")?;
        let length = block.min(bytes - data.len());
        let packed = stored.get(start..).ok_or("a Blosc block lies outside its buffer")?;
        data.extend(unshuffled(&head, unpack_block(&head, packed, length)?));
    }
    Ok(data)
}

fn number(stored: &[u8], at: usize) -> Option<usize> {
    stored.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize)
}

/// One block of `length` bytes, still shuffled.
fn unpack_block(head: &Head, mut packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let split = head.flags & NOT_SPLIT == 0
        && head.element <= MAX_SPLITS
        && head.block / head.element >= MIN_SPLIT_ELEMENTS
        && length == head.block;
    let streams = if split { head.element } else { 1 };
    let each = length / streams;
    let mut block = Vec::with_capacity(length);
    for _ in 0..streams {
        let bytes = number(packed, 0).ok_or("a Blosc block ends early")?;
        let stream = packed.get(4..).and_then(|rest| rest.get(..bytes)).ok_or("a Blosc block ends early")?;
        packed = &packed[4 + bytes..];
        let plain = if bytes == each { stream.to_vec() } else { unpack_stream(head.flags >> 5, stream, each)? };
        if plain.len() != each {
            return Err(format!("a Blosc block holds {} of {each} bytes", plain.len()));
        }
        block.extend(plain);
    }
    if block.len() != length {
        return Err("a Blosc block is not of whole elements".to_owned());
    }
    Ok(block)
}

fn unpack_stream(coding: u8, stream: &[u8], length: usize) -> Result<Vec<u8>, String> {
    match coding {
        0 => blosclz(stream, length).ok_or_else(|| "its BloscLZ stream is damaged".to_owned()),
        1 => codec::lz4(stream, length),
        3 => codec::zlib(stream, length),
        4 => codec::zstd(stream, length),
        2 => Err("Blosc with Snappy is not read".to_owned()),
        other => Err(format!("Blosc coding {other} is not known")),
    }
}

fn unshuffled(head: &Head, block: Vec<u8>) -> Vec<u8> {
    let elements = block.len() / head.element;
    let whole = elements * head.element;
    let mut plain = block.clone();
    if head.flags & BYTE_SHUFFLE != 0 && head.element > 1 {
        for (at, byte) in plain[..whole].iter_mut().enumerate() {
            *byte = block[at % head.element * elements + at / head.element];
        }
    } else if head.flags & BIT_SHUFFLE != 0 && elements.is_multiple_of(8) {
        // Plane `bit` of byte `b` of all elements is a run of one bit an element, the first in the lowest place.
        for (at, byte) in plain[..whole].iter_mut().enumerate() {
            let (element, within) = (at / head.element, at % head.element);
            *byte = (0..8).fold(0, |value, bit| {
                let plane = (within * 8 + bit) * (elements / 8);
                value | (block[plane + element / 8] >> (element % 8) & 1) << bit
            });
        }
    }
    plain
}

/// BloscLZ: runs of literals, and copies of what came before; `None` if it is damaged.
fn blosclz(stream: &[u8], length: usize) -> Option<Vec<u8>> {
    const FAR: usize = 8191;
    let mut plain: Vec<u8> = Vec::with_capacity(length);
    let mut next = stream.iter().copied();
    let mut control = usize::from(next.next()? & 31);
    loop {
        if control >= 32 {
            let mut copied = (control >> 5) - 1;
            let high = (control & 31) << 8;
            if copied == 6 {
                loop {
                    let more = usize::from(next.next()?);
                    copied += more;
                    if more != 255 || copied > length {
                        break;
                    }
                }
            }
            let low = usize::from(next.next()?);
            let mut back = high + low;
            if low == 255 && high == 31 << 8 {
                back = FAR + (usize::from(next.next()?) << 8) + usize::from(next.next()?);
            }
            let from = plain.len().checked_sub(back + 1)?;
            if copied + 3 > length - plain.len() {
                return None;
            }
            // One by one: a copy may run into what it has just written.
            for at in from..from + copied + 3 {
                plain.push(plain[at]);
            }
        } else {
            if control + 1 > length - plain.len() {
                return None;
            }
            for _ in 0..=control {
                plain.push(next.next()?);
            }
        }
        match next.next() {
            Some(byte) => control = usize::from(byte),
            None => return (plain.len() == length).then_some(plain),
        }
    }
}
