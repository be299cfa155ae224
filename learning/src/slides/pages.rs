//! The images inside a TIFF file: which there are, how each is stored, and which of them are levels of the slide.
//!
//! Tags are read with the `tiff` crate and checked here against the file's length and the limits, before any of them
//! is used. The chain of images is walked with its own guard against cycles and endless chains.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use consilium_common::limits;
use tiff::Directory;
use tiff::decoder::ifd::Value;
use tiff::decoder::{Decoder, IfdDecoder};
use tiff::tags::{IfdPointer, Tag, Type, ValueBuffer};

use super::decode::{Compression, Photometric, SharedTables};
use super::error::SlideError;
use super::grid::{self, Grid};
use super::ome::{self, Ome};
use super::spacing::SpacingTags;
use super::{Level, file, jpeg};

/// Characters of a description that are kept: spacing and objective are in the first thousand.
const KEPT_CHARS: usize = 1 << 16;

/// One tiled image of the file, checked.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) tile_width: u32,
    pub(super) tile_height: u32,
    /// Interleaved 8-bit samples per pixel.
    pub(super) samples: usize,
    /// Horizontal differencing (TIFF predictor 2).
    pub(super) predictor: bool,
    pub(super) compression: Compression,
    pub(super) photometric: Photometric,
    pub(super) jpeg_tables: Option<Vec<u8>>,
    /// The same, read.
    pub(super) tables: Option<Arc<jpeg::Tables>>,
    /// Position and length of each tile, row by row; length 0 means an empty tile.
    pub(super) chunks: Vec<(u64, u64)>,
}

impl Page {
    pub(super) fn columns(&self) -> u32 {
        self.width.div_ceil(self.tile_width)
    }

    /// The tables that its tiles share.
    pub(super) fn shared_tables(&self) -> SharedTables<'_> {
        Some((self.tables.as_deref()?, self.jpeg_tables.as_deref()?))
    }

    /// Width and height of a tile.
    pub(super) fn tile_size(&self) -> (usize, usize) {
        (self.tile_width as usize, self.tile_height as usize)
    }

    /// Its tiles.
    pub(super) fn grid(&self) -> Grid {
        let Self { width, height, tile_width, tile_height, .. } = *self;
        Grid { width, height, tile_width, tile_height }
    }

    /// Bytes of one decoded tile.
    pub(super) fn tile_bytes(&self) -> usize {
        self.tile_width as usize * self.tile_height as usize * self.samples
    }
}

/// The levels of a slide, finest first, and what its file says about spacing.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) pages: Vec<Page>,
    pub(super) levels: Vec<Level>,
    pub(super) spacing: SpacingTags,
    /// What the OME-XML says, if there is one.
    pub(super) ome: Option<Ome>,
}

/// A tiled page, or why it cannot be read here.
struct Candidate {
    page: Result<Page, SlideError>,
    size: (u32, u32),
    spacing: SpacingTags,
    /// Positions of the reduced images that hang on this one.
    reduced: Vec<u64>,
    /// Number in the chain of images.
    number: usize,
}

/// Reads and checks all images of a TIFF file.
pub(super) fn read(path: &Path) -> Result<Pages, SlideError> {
    let mut file = TiffFile::open(path)?;
    let mut next = file.decoder.ifd_pointer();
    let mut candidates = Vec::new();
    let mut described = None;
    for number in 0.. {
        let Some(pointer) = next else { break };
        if number >= limits::MAX_LEVELS {
            // Further planes and depths of an OME-TIFF are not read; anything else of that length is no slide.
            if described.is_some() {
                break;
            }
            return Err(SlideError::unsupported(path, format!("a stack of more than {} images", limits::MAX_LEVELS)));
        }
        let directory = file.directory(pointer, &format!("list of image {}", number + 1))?;
        next = directory.next();
        let mut tags = file.tags(&directory);
        if number == 0 {
            let read = ome::read(&tags.description()?);
            described = read.map_err(|why| SlideError::damaged(path, format!("its OME-XML cannot be used: {why}")))?;
        }
        if directory.contains(Tag::TileOffsets) {
            candidates.extend(tags.candidate(number)?);
        }
    }
    if let Some(ome) = &described {
        candidates.retain(|c| !ome.others.contains(&c.number));
    }
    let base = base(path, &mut candidates, described.as_ref())?;
    for (number, &pointer) in base.reduced.iter().enumerate() {
        let directory = file.directory(IfdPointer(pointer), &format!("list of reduced image {}", number + 1))?;
        if directory.contains(Tag::TileOffsets) {
            candidates.extend(file.tags(&directory).candidate(base.number)?);
        }
    }
    levels(base, candidates, described)
}

/// Takes the slide itself out of the images: the one that the OME-XML names, or the widest.
fn base(path: &Path, candidates: &mut Vec<Candidate>, ome: Option<&Ome>) -> Result<Candidate, SlideError> {
    let widest = candidates.iter().map(|c| c.size.0).max();
    let named = ome.and_then(|ome| candidates.iter().position(|c| c.number == ome.first));
    let Some(index) = named.or_else(|| candidates.iter().position(|c| Some(c.size.0) == widest)) else {
        return Err(SlideError::Striped { path: path.to_owned() });
    };
    let base = candidates.remove(index);
    if let (Some(ome), Ok(page)) = (ome, &base.page)
        && ome.channels > 1
    {
        let what = format!("an image of {} channels of {} samples each", ome.channels, page.samples);
        return Err(SlideError::unsupported(path, what));
    }
    Ok(base)
}

/// The levels: the base, and every smaller image of the same shape and colours.
fn levels(base: Candidate, mut candidates: Vec<Candidate>, ome: Option<Ome>) -> Result<Pages, SlideError> {
    let mut pages = vec![base.page?];
    let mut levels = vec![Level { width: base.size.0, height: base.size.1, downsample: 1.0 }];
    candidates.sort_by_key(|c| std::cmp::Reverse(c.size.0));
    for candidate in candidates {
        let (width, height) = candidate.size;
        // The same width again is another plane or focus of that level.
        let smaller = levels.last().is_some_and(|level| width < level.width);
        let alike = |page: &Page| page.samples == pages[0].samples && page.photometric.is_like(pages[0].photometric);
        // A reduced image in a coding that is not read here is not needed: the next finer one serves.
        if let (true, Some(downsample), Ok(page)) = (smaller, downsample(base.size, candidate.size), candidate.page)
            && alike(&page)
        {
            levels.push(Level { width, height, downsample });
            pages.push(page);
        }
    }
    // Spacing is the base's: reduced images often carry a stale resolution.
    Ok(Pages { pages, levels, spacing: base.spacing, ome })
}

/// A TIFF file whose lists of tags are being read, each once.
struct TiffFile<'a> {
    path: &'a Path,
    decoder: Decoder<BufReader<File>>,
    bytes: u64,
    seen: BTreeSet<u64>,
    /// Tiles that its images may still have.
    tiles_left: u64,
}

impl<'a> TiffFile<'a> {
    fn open(path: &'a Path) -> Result<Self, SlideError> {
        file::refuse_device(path)?;
        let file = File::open(path).map_err(|e| SlideError::read(path, "header", e))?;
        let bytes = file.metadata().map_err(|e| SlideError::read(path, "header", e))?.len();
        let decoder = Decoder::new(BufReader::new(file)).map_err(|e| SlideError::tiff(path, "first image", e))?;
        Ok(Self { path, decoder, bytes, seen: BTreeSet::new(), tiles_left: limits::MAX_SLIDE_TILES + 1 })
    }

    /// The list at a position, if it was not read before.
    fn directory(&mut self, pointer: IfdPointer, what: &str) -> Result<Directory, SlideError> {
        if !self.seen.insert(pointer.0) {
            return Err(SlideError::cyclic(self.path));
        }
        self.decoder.read_directory(pointer).map_err(|e| SlideError::tiff(self.path, what, e))
    }

    fn tags<'b>(&'b mut self, directory: &'b Directory) -> Tags<'b> {
        let ifd = self.decoder.read_directory_tags(directory);
        Tags { path: self.path, ifd, bytes: self.bytes, tiles_left: &mut self.tiles_left }
    }
}

/// How many base pixels one pixel of a reduced image spans; `None` if its shape differs from the base's.
///
/// Pyramids halve with rounding either way, so 2967 and 1483 mean exactly 2, not 2.0007.
pub(super) fn downsample(base: (u32, u32), reduced: (u32, u32)) -> Option<f64> {
    let ratio = |side: u32, small: u32| f64::from(side) / f64::from(small);
    let (x, y) = (ratio(base.0, reduced.0), ratio(base.1, reduced.1));
    let rounding = 1.0 / f64::from(reduced.0.min(reduced.1)) + 1e-3;
    if (x - y).abs() > rounding * x.max(y) || x < 1.0 {
        return None;
    }
    let whole = ((x + y) / 2.0).round().max(1.0);
    let rounds_to = |side: u32, small: u32| (f64::from(side) / whole - f64::from(small)).abs() < 1.0;
    Some(if rounds_to(base.0, reduced.0) && rounds_to(base.1, reduced.1) { whole } else { (x + y) / 2.0 })
}

/// The tags of one image.
struct Tags<'a> {
    path: &'a Path,
    ifd: IfdDecoder<'a>,
    /// Length of the file.
    bytes: u64,
    tiles_left: &'a mut u64,
}

/// A tag in words.
fn name(tag: Tag) -> String {
    format!("tag {}", tag.to_u16())
}

impl Tags<'_> {
    /// The image as a possible level; `None` for label, macro and mask images.
    fn candidate(&mut self, number: usize) -> Result<Option<Candidate>, SlideError> {
        let description = self.description()?;
        // Bits beyond "reduced" and "page" mark masks (4) and Aperio's macro image (8).
        let subfile = self.number(Tag::NewSubfileType)?.unwrap_or(0);
        let named = description.lines().map(str::trim_start).any(|line| {
            let word: String = line.chars().take(5).collect();
            word.eq_ignore_ascii_case("label") || word.eq_ignore_ascii_case("macro")
        });
        if named || subfile & !3 != 0 {
            return Ok(None);
        }
        let size = self.size()?;
        let spacing = SpacingTags {
            description: description.chars().take(KEPT_CHARS).collect(),
            x_resolution: self.real(Tag::XResolution),
            y_resolution: self.real(Tag::YResolution),
            unit: self.number(Tag::ResolutionUnit)?.and_then(|u| u16::try_from(u).ok()).unwrap_or(2),
            ome_um: None,
        };
        let reduced = self.numbers(Tag::SubIfd, limits::MAX_LEVELS as u64)?.unwrap_or_default();
        let page = self.page(size);
        if *self.tiles_left == 0 {
            return Err(grid::too_many_tiles(self.path));
        }
        Ok(Some(Candidate { page, size, spacing, reduced, number }))
    }

    fn size(&mut self) -> Result<(u32, u32), SlideError> {
        let width = self.number(Tag::ImageWidth)?.unwrap_or(0);
        let height = self.number(Tag::ImageLength)?.unwrap_or(0);
        let side = |n: u64| u32::try_from(n).ok().filter(|n| (1..=limits::MAX_SLIDE_SIDE_PX).contains(n));
        match (side(width), side(height)) {
            (Some(w), Some(h)) => Ok((w, h)),
            _ => Err(SlideError::Dimensions { path: self.path.to_owned(), width, height }),
        }
    }

    fn page(&mut self, (width, height): (u32, u32)) -> Result<Page, SlideError> {
        let compression = self.number(Tag::Compression)?.unwrap_or(1);
        let compression = Compression::from_tag(compression)
            .map_err(|name| SlideError::unsupported(self.path, format!("compression {name}")))?;
        let samples = self.samples()?;
        let photometric = self.number(Tag::PhotometricInterpretation)?.unwrap_or(u64::MAX);
        let photometric = Photometric::from_tag(photometric, samples, compression)
            .map_err(|name| SlideError::unsupported(self.path, format!("a {name} image of {samples} samples")))?;
        let tile_width = self.tile_side(Tag::TileWidth)?;
        let tile_height = self.tile_side(Tag::TileLength)?;
        let predictor = match self.number(Tag::Predictor)?.unwrap_or(1) {
            1 => false,
            2 => !compression.is_lossy(),
            other => return Err(SlideError::unsupported(self.path, format!("predictor {other}"))),
        };
        let jpeg_tables = self.bytes(Tag::JPEGTables, limits::MAX_DOCUMENT_BYTES)?.filter(|tables| tables.len() >= 4);
        let tables = jpeg_tables.as_deref().map(|tag| Arc::new(jpeg::Tables::shared(tag)));
        let mut page = Page {
            width,
            height,
            tile_width,
            tile_height,
            samples,
            predictor,
            compression,
            photometric,
            jpeg_tables,
            tables,
            chunks: Vec::new(),
        };
        page.chunks = self.chunks(&page)?;
        Ok(page)
    }

    /// Samples per pixel of an interleaved 8-bit image.
    fn samples(&mut self) -> Result<usize, SlideError> {
        let samples = self.number(Tag::SamplesPerPixel)?.unwrap_or(1);
        let bits = self.numbers(Tag::BitsPerSample, 16)?.unwrap_or_else(|| vec![1]);
        if !(1..=4).contains(&samples) || bits.iter().any(|&b| b != 8) {
            let depth = bits.iter().max().copied().unwrap_or(0);
            return Err(SlideError::unsupported(self.path, format!("an image of {samples} samples of {depth} bits")));
        }
        if samples > 1 && self.number(Tag::PlanarConfiguration)?.unwrap_or(1) != 1 {
            return Err(SlideError::unsupported(self.path, "an image with separate colour planes"));
        }
        Ok(samples as usize)
    }

    fn tile_side(&mut self, tag: Tag) -> Result<u32, SlideError> {
        let side = self.number(tag)?.unwrap_or(0);
        u32::try_from(side)
            .ok()
            .filter(|side| (1..=limits::MAX_TIFF_TILE_PX).contains(side))
            .ok_or_else(|| SlideError::damaged(self.path, format!("tiles of {side} pixels on a side")))
    }

    /// Where the tiles lie; every one must lie inside the file.
    fn chunks(&mut self, page: &Page) -> Result<Vec<(u64, u64)>, SlideError> {
        let expected = u64::from(page.columns()) * u64::from(page.height.div_ceil(page.tile_height));
        let listed = |tag: Tag| self.ifd.find_entry(tag).map_or(0, |entry| entry.count());
        let listed = listed(Tag::TileOffsets).min(listed(Tag::TileByteCounts));
        if listed < expected {
            return Err(SlideError::damaged(self.path, format!("it lists {listed} of {expected} tiles")));
        }
        // The images of a file may all share one list: together they must not claim more than a slide has.
        if expected >= *self.tiles_left {
            *self.tiles_left = 0;
            return Err(grid::too_many_tiles(self.path));
        }
        *self.tiles_left -= expected;
        let offsets = self.numbers(Tag::TileOffsets, expected)?.unwrap_or_default();
        let counts = self.numbers(Tag::TileByteCounts, expected)?.unwrap_or_default();
        if offsets.len() as u64 != expected || counts.len() as u64 != expected {
            let why = format!("it lists {} of {expected} tiles", offsets.len().min(counts.len()));
            return Err(SlideError::damaged(self.path, why));
        }
        // No coding inflates a tile beyond a few times its size.
        let most = page.tile_bytes() as u64 * 4 + (1 << 20);
        for (index, (&offset, &count)) in offsets.iter().zip(&counts).enumerate() {
            if count > 0 && offset.checked_add(count).is_none_or(|end| end > self.bytes) {
                return Err(SlideError::Truncated { path: self.path.to_owned(), what: format!("tile {index}") });
            }
            if count > most {
                return Err(SlideError::damaged(self.path, format!("tile {index} claims {count} bytes")));
            }
        }
        Ok(offsets.into_iter().zip(counts).collect())
    }

    fn number(&mut self, tag: Tag) -> Result<Option<u64>, SlideError> {
        Ok(self.numbers(tag, 16)?.and_then(|values| values.first().copied()))
    }

    fn numbers(&mut self, tag: Tag, most: u64) -> Result<Option<Vec<u64>>, SlideError> {
        let Some(entry) = self.ifd.find_entry(tag) else { return Ok(None) };
        if entry.count() > most.max(16) {
            return Err(SlideError::damaged(self.path, format!("{} has {} values", name(tag), entry.count())));
        }
        if entry.count() > self.bytes {
            return Err(SlideError::Truncated { path: self.path.to_owned(), what: name(tag) });
        }
        self.ifd.find_tag_unsigned_vec(tag).map_err(|e| SlideError::tiff(self.path, &name(tag), e))
    }

    fn real(&mut self, tag: Tag) -> Option<f64> {
        match self.ifd.find_tag(tag).ok().flatten()? {
            Value::Rational(n, d) => Some(f64::from(n) / f64::from(d)),
            Value::Float(value) => Some(f64::from(value)),
            Value::Double(value) => Some(value),
            other => other.into_u32().ok().map(f64::from),
        }
    }

    fn bytes(&mut self, tag: Tag, most: usize) -> Result<Option<Vec<u8>>, SlideError> {
        let Some(entry) = self.ifd.find_entry(tag) else { return Ok(None) };
        if entry.count() > most as u64 {
            let why = format!("{} has {} bytes, more than {most}", name(tag), entry.count());
            return Err(SlideError::damaged(self.path, why));
        }
        if entry.count() > self.bytes {
            return Err(SlideError::Truncated { path: self.path.to_owned(), what: name(tag) });
        }
        let mut buffer = ValueBuffer::empty(Type::UNDEFINED);
        let read = self.ifd.find_tag_buf(tag, &mut buffer);
        read.map_err(|e| SlideError::tiff(self.path, &name(tag), e))?;
        Ok(Some(buffer.as_bytes().to_vec()))
    }

    /// The description, in any encoding. It says which image is a label, so it must be there to be read.
    fn description(&mut self) -> Result<String, SlideError> {
        let bytes = self.bytes(Tag::ImageDescription, limits::MAX_TIFF_DESCRIPTION_BYTES)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::downsample;

    #[test]
    fn halving_with_any_rounding_is_exactly_two() {
        assert_eq!(downsample((2967, 2220), (1483, 1110)), Some(2.0));
        assert_eq!(downsample((2967, 2220), (1484, 1110)), Some(2.0));
        assert_eq!(downsample((2967, 2220), (370, 277)), Some(8.0));
        assert_eq!(downsample((46000, 32914), (11500, 8228)), Some(4.0));
        assert_eq!(downsample((1280, 431), (387, 463)), None);
        assert!((downsample((3000, 3000), (2000, 2000)).unwrap() - 1.5).abs() < 1e-9);
    }
}
