//! Baseline JPEG tiles, to the byte as libjpeg-turbo decodes them, which OpenSlide, QuPath and libtiff use.
//!
//! The standard leaves the inverse transform and the upsampling of colours open, and general decoders differ by one in
//! some samples. Tables that all tiles of a slide share are read once. What is not baseline is left to another decoder.

mod huffman;
mod idct;
mod upsample;

use crate::network::simd::widest;
use huffman::{Bits, Table};
use idct::Steps;
use upsample::Plane;

/// Position in a block, row by row, of the n-th coefficient in the file.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Quantisation and Huffman tables by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    quantisation: [Option<Box<Steps>>; 4],
    dc: [Option<std::sync::Arc<Table>>; 4],
    ac: [Option<std::sync::Arc<Table>>; 4],
    /// Blocks groups between two restart markers; 0 for none.
    restart: usize,
}

/// One colour component as the frame and the scan describe it.
#[derive(Clone, Copy, Debug, Default)]
struct Component {
    id: u8,
    across: usize,
    down: usize,
    quantisation: usize,
    dc: usize,
    ac: usize,
}

/// What follows the tables.
enum Scan {
    /// A sequential scan of all components, whose bits start at this position.
    Baseline(Vec<Component>, usize),
    /// Something else that may be a sound JPEG.
    Other,
}

impl Tables {
    /// The tables that all tiles of an image share, from the TIFF tag; empty ones where the tag is no JPEG.
    pub(super) fn shared(tag: &[u8]) -> Self {
        let mut tables = Self::default();
        // A damaged tag shows in each tile that needs its tables.
        let _ = tables.read(tag, (0, 0));
        tables
    }

    /// Reads segments up to the scan; frames must have the given size.
    fn read(&mut self, data: &[u8], size: (usize, usize)) -> Result<Scan, String> {
        let mut at = 2;
        let mut components = Vec::new();
        let short = || "it ends in its header".to_owned();
        loop {
            let marker = match data.get(at..at + 2).ok_or_else(short)? {
                [0xFF, 0xFF] => {
                    at += 1;
                    continue;
                }
                [0xFF, marker] => *marker,
                _ => return Err(format!("there is no marker at byte {at}")),
            };
            if marker == 0xD9 {
                return Ok(Scan::Other);
            }
            let length = usize::from(be16(data, at + 2).ok_or_else(short)?);
            let body = data.get(at + 4..at + 2 + length.max(2)).ok_or_else(short)?;
            at += 2 + length.max(2);
            match marker {
                0xDB => self.quantisation(body)?,
                0xC4 => self.huffman(body)?,
                0xDD => self.restart = usize::from(be16(body, 0).ok_or_else(short)?),
                0xC0 | 0xC1 => match frame(body, size)? {
                    Some(found) => components = found,
                    None => return Ok(Scan::Other),
                },
                0xC2..=0xCF => return Ok(Scan::Other),
                0xDA if scan(body, &mut components) => return Ok(Scan::Baseline(components, at)),
                0xDA => return Ok(Scan::Other),
                _ => {}
            }
        }
    }

    fn quantisation(&mut self, mut body: &[u8]) -> Result<(), String> {
        while let Some((&head, rest)) = body.split_first() {
            let (wide, number) = (usize::from(head >> 4), usize::from(head & 15));
            let size = 64 * (wide + 1);
            let (true, true, Some(values)) = (wide < 2, number < 4, rest.get(..size)) else {
                return Err("a quantisation table is damaged".to_owned());
            };
            let mut table = Box::new([0; 64]);
            for (value, &place) in values.chunks_exact(wide + 1).zip(&ZIGZAG) {
                table[usize::from(place)] = value.iter().fold(0, |sum, &v| sum << 8 | i32::from(v));
            }
            self.quantisation[number] = Some(table);
            body = &rest[size..];
        }
        Ok(())
    }

    fn huffman(&mut self, mut body: &[u8]) -> Result<(), String> {
        while let Some((&head, rest)) = body.split_first() {
            let (kind, number) = (head >> 4, usize::from(head & 15));
            let count: usize = rest.get(..16).unwrap_or_default().iter().map(|&n| usize::from(n)).sum();
            let (true, true, Some(values)) = (kind < 2, number < 4, rest.get(16..16 + count)) else {
                return Err("a Huffman table is damaged".to_owned());
            };
            let table = Table::new(&rest[..16], values).ok_or("a Huffman table is damaged")?;
            let place = if kind == 0 { &mut self.dc } else { &mut self.ac };
            place[number] = Some(std::sync::Arc::new(table));
            body = &rest[16 + count..];
        }
        Ok(())
    }
}

/// Components of a frame of the given size; `None` for sampling that is not read here.
fn frame(body: &[u8], (width, height): (usize, usize)) -> Result<Option<Vec<Component>>, String> {
    let [depth, h1, h0, w1, w0, count, parts @ ..] = body else { return Err("its frame is damaged".to_owned()) };
    let found = (usize::from(u16::from_be_bytes([*w1, *w0])), usize::from(u16::from_be_bytes([*h1, *h0])));
    if found != (width, height) {
        return Err(format!("it is {} x {} pixels, not {width} x {height}", found.0, found.1));
    }
    if parts.len() != usize::from(*count) * 3 {
        return Err("its frame is damaged".to_owned());
    }
    let components = parts.chunks_exact(3).map(|part| Component {
        id: part[0],
        across: usize::from(part[1] >> 4),
        down: usize::from(part[1] & 15),
        quantisation: usize::from(part[2]),
        ..Component::default()
    });
    let mut components: Vec<Component> = components.collect();
    if let [only] = components.as_mut_slice() {
        // The blocks of a single component follow one another whatever its sampling says.
        (only.across, only.down) = (1, 1);
    }
    let known = |c: &Component| [1, 2].contains(&c.across) && [1, 2].contains(&c.down) && c.quantisation < 4;
    Ok((*depth == 8 && components.iter().all(known)).then_some(components))
}

/// Takes the tables of each component from the head of a scan; whether the scan holds all of them, in order.
fn scan(body: &[u8], components: &mut [Component]) -> bool {
    let Some((&count, rest)) = body.split_first() else { return false };
    if usize::from(count) != components.len() || components.is_empty() || rest.len() != components.len() * 2 + 3 {
        return false;
    }
    components.iter_mut().zip(rest.chunks_exact(2)).all(|(component, part)| {
        (component.dc, component.ac) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        component.id == part[0] && component.dc < 4 && component.ac < 4
    })
}

/// The interleaved samples of a tile, as they are stored or as RGB if they are `ycbcr`; `None` if it is not baseline.
///
/// # Errors
/// The tile is damaged, or of another size or number of components.
pub(super) fn samples(
    shared: Option<&Tables>,
    stored: &[u8],
    (width, height): (usize, usize),
    count: usize,
    ycbcr: bool,
) -> Result<Option<Vec<u8>>, String> {
    if !stored.starts_with(&[0xFF, 0xD8]) {
        return Err("it does not start like a JPEG".to_owned());
    }
    let mut tables = shared.cloned().unwrap_or_default();
    let Scan::Baseline(components, at) = tables.read(stored, (width, height))? else { return Ok(None) };
    if components.len() != count {
        return Err(format!("it has {} colour components, not {count}", components.len()));
    }
    widest(
        #[inline(always)]
        || {
            let planes = planes(&tables, &components, &stored[at..], (width, height))?;
            Ok(Some(upsample::interleave(&planes, width, height, ycbcr)))
        },
    )
}

/// Decodes the bits of a scan into one plane a component, at its own resolution.
#[inline(always)]
fn planes(
    tables: &Tables,
    components: &[Component],
    data: &[u8],
    (width, height): (usize, usize),
) -> Result<Vec<Plane>, String> {
    let missing = || "a table is missing".to_owned();
    let across = components.iter().map(|c| c.across).max().unwrap_or(1);
    let down = components.iter().map(|c| c.down).max().unwrap_or(1);
    let (columns, rows) = (width.div_ceil(8 * across), height.div_ceil(8 * down));
    let mut parts = Vec::with_capacity(components.len());
    for component in components {
        let quantisation = tables.quantisation[component.quantisation].as_deref().ok_or_else(missing)?;
        let dc = tables.dc[component.dc].as_deref().ok_or_else(missing)?;
        let ac = tables.ac[component.ac].as_deref().ok_or_else(missing)?;
        let real = ((width * component.across).div_ceil(across), (height * component.down).div_ceil(down));
        let stride = columns * component.across * 8;
        let steps = (across / component.across, down / component.down);
        let samples = vec![0; stride * rows * component.down * 8];
        parts.push((component, quantisation, dc, ac, 0, Plane { samples, stride, real, steps }));
    }
    let mut bits = Bits::new(data);
    let mut block = [0; 64];
    for group in 0..columns * rows {
        if tables.restart > 0 && group > 0 && group % tables.restart == 0 {
            bits.restart()?;
            parts.iter_mut().for_each(|part| part.4 = 0);
        }
        let (x, y) = (group % columns, group / columns);
        for (component, quantisation, dc, ac, before, plane) in &mut parts {
            for number in 0..component.across * component.down {
                let (i, j) = (number % component.across, number / component.across);
                let flat = bits.block(dc, ac, before, &mut block)?;
                let corner = (y * component.down + j) * 8 * plane.stride + (x * component.across + i) * 8;
                idct::store(&mut block, quantisation, flat, &mut plane.samples[corner..], plane.stride);
            }
        }
        if x + 1 == columns && bits.beyond_the_end() {
            return Err(format!("it ends in line {} of {rows}", y + 1));
        }
    }
    Ok(parts.into_iter().map(|part| part.5).collect())
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
