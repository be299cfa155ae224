//! Slides of vendor formats, read through the OpenSlide library, which is loaded at run time where a site has it.
//!
//! A region comes back as OpenSlide gives it, over white, and exact to the pixel on every level; a level whose pixels
//! cannot be addressed exactly is left out. Label and macro images are never asked for. OpenSlide's handles give nothing
//! but their first error for ever, so a handle that failed is replaced and the failed piece is read part by part on a
//! handle of its own, so that what other threads read is not lost with it. A damaged tile costs its own area where the
//! file says its tiles. Elsewhere it costs the parts of 256 px that it touches: each is decoded or given up as a whole,
//! whichever box of it was asked for; until that was tried, a box beside the damage comes back as it is in the file.

mod address;
mod ffi;
mod library;
mod vendor;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use consilium_common::{Mpp, limits};
use image::{Rgb, RgbImage};
use rayon::prelude::*;

use super::about::Holes;
use super::error::SlideError;
use super::grid::Grid;
use super::region::{inside, paste, white_level};
use super::{About, Hole, Level, SlideReader, file, pages, spacing};
use ffi::{Cache, Handle};
use library::{Loaded, loaded};
pub use library::{openslide_library, set_openslide_library};
pub(super) use vendor::open_or;

/// Side of the largest region asked of OpenSlide at once: 4 MB a thread, and several tiles for one call.
const PIECE_PX: u32 = 1024;
/// Side of the parts in which a failed piece is read again, where the file does not say its tiles.
const PART_PX: u32 = 256;
/// Bytes of decoded tiles that OpenSlide keeps for one slide, as our own readers do within a factor of two.
const CACHE_BYTES: usize = 64 << 20;

/// A slide read through OpenSlide, by any number of threads.
#[derive(Debug)]
pub struct OpenSlideSlide {
    path: PathBuf,
    name: CString,
    openslide: &'static Loaded,
    cache: Option<Cache>,
    levels: Vec<Level>,
    stored: Vec<Stored>,
    mpp: Mpp,
    about: About,
    /// The handle that reads share.
    shared: RwLock<Generation>,
    /// The handle on which failed pieces are read again, by one thread at a time.
    repair: Mutex<Option<Handle>>,
    /// Parts that cannot be decoded: level, and index in its grid of parts.
    bad: Mutex<BTreeSet<(usize, u64)>>,
    holes: Holes,
}

/// The handle in use and how many were before it.
#[derive(Debug)]
struct Generation {
    number: u64,
    handle: Arc<Handle>,
}

/// A level as OpenSlide has it.
#[derive(Clone, Copy, Debug)]
struct Stored {
    /// OpenSlide's number of the level.
    level: i32,
    /// OpenSlide's own downsample, by which it divides.
    downsample: f64,
    /// Width and height of the parts that fail alone: the tiles, where the file says them.
    part: (u32, u32),
}

/// A box in pixels of a level.
#[derive(Clone, Copy, Debug)]
struct Rect {
    x: u32,
    y: u32,
    w: u32,
    h: u32,
}

impl OpenSlideSlide {
    /// Opens the file and checks what OpenSlide says of it; no pixel is decoded yet. `mpp` overrides the file's spacing.
    ///
    /// # Errors
    /// There is no OpenSlide library, it does not know the file or finds it damaged, or the spacing is not known.
    pub fn open(path: &Path, mpp: Option<Mpp>) -> Result<Self, SlideError> {
        file::refuse_device(path)?;
        vendor::check_parts(path)?;
        let openslide = loaded().map_err(|why| {
            let refusal = format!("{}: is a {} slide, which is read through OpenSlide", path.display(), kind(path));
            SlideError::NeedsOpenSlide { refusal, why: Box::new(why) }
        })?;
        let name = c_path(path)?;
        let Some(vendor) = openslide.api.vendor(&name) else {
            return Err(SlideError::unsupported(path, format!("a {} slide that OpenSlide does not know", kind(path))));
        };
        let cache = openslide.api.cache(CACHE_BYTES);
        let handle = openslide.api.open(&name, cache.as_ref()).map_err(|why| failed(path, &why))?;
        let (levels, stored) = levels(path, &handle)?;
        let stated = stated_mpp(path, &handle);
        let format = format!("{} (OpenSlide {})", format_name(path, &vendor), openslide.info.version);
        let mut about = About::new(format, stated.as_ref().ok().copied(), mpp);
        about.objective = number(&handle, "openslide.objective-power").filter(|power| (0.1..=1000.0).contains(power));
        let mpp = mpp.map_or(stated, Ok)?;
        Ok(Self {
            path: path.to_owned(),
            name,
            openslide,
            cache,
            levels,
            stored,
            mpp,
            about,
            shared: RwLock::new(Generation { number: 0, handle: Arc::new(handle) }),
            repair: Mutex::default(),
            bad: Mutex::default(),
            holes: Holes::default(),
        })
    }

    fn reopened(&self) -> Result<Handle, SlideError> {
        self.openslide.api.open(&self.name, self.cache.as_ref()).map_err(|why| failed(&self.path, &why))
    }

    /// The shared handle, with its number.
    fn current(&self) -> (u64, Arc<Handle>) {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        (shared.number, Arc::clone(&shared.handle))
    }

    /// Replaces the shared handle, unless another thread has done that since it was `number`.
    fn renew(&self, number: u64) -> Result<(), SlideError> {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        if shared.number == number {
            shared.handle = Arc::new(self.reopened()?);
            shared.number += 1;
        }
        Ok(())
    }

    /// One piece of a level; what cannot be decoded is white and a hole.
    fn piece(&self, level: usize, piece: Rect) -> Result<RgbImage, SlideError> {
        let parts = self.parts(level, piece);
        if !parts.iter().any(|(index, _)| self.is_bad(level, *index)) {
            let (number, handle) = self.current();
            if let Ok(image) = self.read(&handle, level, piece) {
                return Ok(image);
            }
            // The error may be another thread's, on the same handle: the parts say which cannot be read.
            self.renew(number)?;
        }
        self.parted(level, piece)
    }

    /// One piece of a level part by part.
    fn parted(&self, level: usize, piece: Rect) -> Result<RgbImage, SlideError> {
        let mut image = RgbImage::from_pixel(piece.w, piece.h, Rgb([255; 3]));
        let mut repair = self.repair.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, part) in self.parts(level, piece) {
            if let Some(read) = self.part(&mut repair, level, index, part)? {
                let from = |at: u32, corner: u32| i64::from(at) - i64::from(corner);
                paste(&mut image, &read, from(part.x, piece.x), from(part.y, piece.y));
            }
        }
        Ok(image)
    }

    /// One part on the handle for repairs, which is this thread's alone, so that an error is this part's.
    fn part(
        &self,
        repair: &mut MutexGuard<'_, Option<Handle>>,
        level: usize,
        index: u64,
        part: Rect,
    ) -> Result<Option<RgbImage>, SlideError> {
        if self.is_bad(level, index) {
            return Ok(None);
        }
        let handle = match repair.take() {
            Some(handle) => handle,
            None => self.reopened()?,
        };
        match self.read(&handle, level, part) {
            Ok(image) => {
                **repair = Some(handle);
                Ok(Some(image))
            }
            Err(why) => {
                let (grid, downsample) = (self.grid(level), self.levels[level].downsample);
                let hole = grid.hole(index, level, downsample, why).within(self.levels[0]);
                // A part that ends the slide stays unknown, so that every later read of it ends there too.
                self.holes.add(&self.path, index, hole, grid.tiles())?;
                self.bad.lock().unwrap_or_else(PoisonError::into_inner).insert((level, index));
                Ok(None)
            }
        }
    }

    fn is_bad(&self, level: usize, index: u64) -> bool {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner).contains(&(level, index))
    }

    /// The parts of the level that a box meets, whole, each with its index in the level: whether a part can be decoded
    /// must not depend on the box.
    fn parts(&self, level: usize, within: Rect) -> Vec<(u64, Rect)> {
        let Grid { width, height, tile_width, tile_height } = self.grid(level);
        let columns = u64::from(width.div_ceil(tile_width));
        let whole = |cell: Rect| {
            let (column, row) = (cell.x / tile_width, cell.y / tile_height);
            let (x, y) = (column * tile_width, row * tile_height);
            let part = Rect { x, y, w: tile_width.min(width - x), h: tile_height.min(height - y) };
            (u64::from(row) * columns + u64::from(column), part)
        };
        cells(within, tile_width, tile_height).map(whole).collect()
    }

    /// The parts of the level.
    fn grid(&self, level: usize) -> Grid {
        let (shape, (tile_width, tile_height)) = (self.levels[level], self.stored[level].part);
        Grid { width: shape.width, height: shape.height, tile_width, tile_height }
    }

    /// Reads a box from its nearest exact corner and drops what lies before it.
    fn read(&self, handle: &Handle, level: usize, wanted: Rect) -> Result<RgbImage, String> {
        let stored = self.stored[level];
        let corner = |at| address::exact_before(at, stored.downsample).ok_or("the level has no exact corner there");
        let ((left, x), (top, y)) = (corner(wanted.x)?, corner(wanted.y)?);
        let (skip, above) = (wanted.x - left, wanted.y - top);
        let width = wanted.w + skip;
        let argb = handle.read(stored.level, x, y, width, wanted.h + above)?;
        let mut image = RgbImage::new(wanted.w, wanted.h);
        let lines = argb.chunks_exact(width as usize).skip(above as usize);
        for (line, from) in image.as_mut().chunks_exact_mut(wanted.w as usize * 3).zip(lines) {
            for (pixel, argb) in line.chunks_exact_mut(3).zip(&from[skip as usize..]) {
                pixel.copy_from_slice(&over_white(*argb));
            }
        }
        Ok(image)
    }
}

impl SlideReader for OpenSlideSlide {
    fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn mpp(&self) -> Mpp {
        self.mpp
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn about(&self) -> About {
        self.about.clone()
    }

    fn holes(&self) -> Vec<Hole> {
        self.holes.all()
    }

    fn read_level(&self, level: usize, x: i64, y: i64, w: u32, h: u32) -> Result<RgbImage, SlideError> {
        let mut region = white_level(self, level, w, h)?;
        let shape = self.levels[level];
        let (left, right) = inside(x, w, shape.width);
        let (top, bottom) = inside(y, h, shape.height);
        if left >= right || top >= bottom {
            return Ok(region);
        }
        let wanted = Rect { x: left, y: top, w: right - left, h: bottom - top };
        let pieces: Vec<Rect> = pieces(wanted).collect();
        // A few rows of pieces at a time: what is read and not yet in place stays bounded.
        for few in pieces.chunks(rayon::current_num_threads().max(1)) {
            let images: Vec<RgbImage> = match few {
                [one] => vec![self.piece(level, *one)?],
                few => few.par_iter().map(|piece| self.piece(level, *piece)).collect::<Result<_, _>>()?,
            };
            for (piece, image) in few.iter().zip(&images) {
                paste(&mut region, image, i64::from(piece.x) - x, i64::from(piece.y) - y);
            }
        }
        Ok(region)
    }
}

/// A box cut into pieces of at most [`PIECE_PX`], from its own corner on: a small box is one piece.
fn pieces(within: Rect) -> impl Iterator<Item = Rect> {
    let from_corner = Rect { x: 0, y: 0, ..within };
    cells(from_corner, PIECE_PX, PIECE_PX).map(move |cell| Rect { x: cell.x + within.x, y: cell.y + within.y, ..cell })
}

/// The cells of a grid that a box meets, row by row, cut to the box.
fn cells(within: Rect, side_x: u32, side_y: u32) -> impl Iterator<Item = Rect> {
    let (right, bottom) = (within.x + within.w, within.y + within.h);
    let starts = |from: u32, to: u32, side: u32| (from / side..to.div_ceil(side)).map(move |cell| cell * side);
    starts(within.y, bottom, side_y).flat_map(move |top| {
        starts(within.x, right, side_x).map(move |left| {
            let (x, y) = (left.max(within.x), top.max(within.y));
            Rect { x, y, w: (left + side_x).min(right) - x, h: (top + side_y).min(bottom) - y }
        })
    })
}

/// Premultiplied ARGB over white.
fn over_white(argb: u32) -> [u8; 3] {
    let [alpha, r, g, b] = argb.to_be_bytes();
    [r, g, b].map(|colour| colour.saturating_add(255 - alpha))
}

/// The levels that can be read exactly, and how OpenSlide has them.
fn levels(path: &Path, handle: &Handle) -> Result<(Vec<Level>, Vec<Stored>), SlideError> {
    let said = |why: String| failed(path, &why);
    let count = handle.level_count().map_err(said)?;
    if !(1..=limits::MAX_LEVELS as i32).contains(&count) {
        return Err(SlideError::damaged(path, format!("OpenSlide finds {count} levels")));
    }
    let (mut levels, mut stored) = (Vec::<Level>::new(), Vec::new());
    for level in 0..count {
        let (width, height) = size(path, handle.dimensions(level).map_err(said)?)?;
        let own = handle.downsample(level).map_err(said)?;
        if !(1.0..=f64::from(limits::MAX_SLIDE_SIDE_PX)).contains(&own) || (level == 0 && own != 1.0) {
            return Err(SlideError::damaged(path, format!("level {level} is {own} times coarser than level 0")));
        }
        let finer = levels.last().map_or(0.0, |finer| finer.downsample);
        // Two levels of one spacing are focal planes or roundings: the first serves.
        if own <= finer || !address::addressable(width, height, own) {
            continue;
        }
        let base = levels.first().map_or((width, height), |base| (base.width, base.height));
        let whole = if own.fract() == 0.0 { None } else { pages::downsample(base, (width, height)) };
        levels.push(Level { width, height, downsample: whole.unwrap_or(own) });
        let side = |name: &str, longest: u32| {
            let tile = number(handle, &format!("openslide.level[{level}].tile-{name}"));
            let fits = |px: &f64| (64.0..=f64::from(PIECE_PX.min(longest))).contains(px) && px.fract() == 0.0;
            tile.filter(fits).map_or(PART_PX, |px| px as u32)
        };
        stored.push(Stored { level, downsample: own, part: (side("width", width), side("height", height)) });
    }
    Ok((levels, stored))
}

fn size(path: &Path, (width, height): (i64, i64)) -> Result<(u32, u32), SlideError> {
    let side = |n: i64| u32::try_from(n).ok().filter(|n| (1..=limits::MAX_SLIDE_SIDE_PX).contains(n));
    side(width).zip(side(height)).ok_or_else(|| {
        let claimed = |n: i64| u64::try_from(n).unwrap_or(0);
        SlideError::Dimensions { path: path.to_owned(), width: claimed(width), height: claimed(height) }
    })
}

/// The spacing that OpenSlide finds in the file, if its pixels are square and a microscope's.
fn stated_mpp(path: &Path, handle: &Handle) -> Result<Mpp, SlideError> {
    let none = |why: String| SlideError::NoSpacing { path: path.to_owned(), why };
    let (Some(x), Some(y)) = (number(handle, "openslide.mpp-x"), number(handle, "openslide.mpp-y")) else {
        return Err(none("OpenSlide finds none in the file".to_owned()));
    };
    if (x - y).abs() > spacing::SQUARE_WITHIN * x.max(y) {
        return Err(none(format!("its pixels would be {x} x {y} um, not square")));
    }
    match Mpp::new(x) {
        Ok(mpp) if x <= spacing::COARSEST_CREDIBLE_UM => Ok(mpp),
        _ => Err(none(format!("it would be {x} um/px, no microscope's"))),
    }
}

fn number(handle: &Handle, property: &str) -> Option<f64> {
    handle.property(property)?.trim().parse().ok().filter(|value: &f64| value.is_finite())
}

/// What a file looks like before OpenSlide has said anything.
fn kind(path: &Path) -> &'static str {
    vendor::vendor_file(path).unwrap_or("vendor's")
}

/// A vendor of OpenSlide's in words.
fn format_name(path: &Path, vendor: &str) -> String {
    let hamamatsu = path.extension().map(|ending| ending.to_string_lossy().to_ascii_uppercase());
    match vendor {
        "aperio" => "Aperio SVS".to_owned(),
        "dicom" => "DICOM".to_owned(),
        "generic-tiff" => "tiled TIFF".to_owned(),
        "hamamatsu" => format!("Hamamatsu {}", hamamatsu.unwrap_or_default()).trim_end().to_owned(),
        "leica" => "Leica SCN".to_owned(),
        "mirax" => "3DHISTECH MIRAX".to_owned(),
        "philips" => "Philips TIFF".to_owned(),
        "sakura" => "Sakura".to_owned(),
        "trestle" => "Trestle TIFF".to_owned(),
        "ventana" => "Ventana BIF".to_owned(),
        "zeiss" => "Zeiss CZI".to_owned(),
        other => other.to_owned(),
    }
}

/// What OpenSlide said of a file that it knows and cannot read.
fn failed(path: &Path, why: &str) -> SlideError {
    SlideError::damaged(path, format!("OpenSlide says: {why}"))
}

/// The path as OpenSlide takes it: the system's bytes, on Windows UTF-8.
fn c_path(path: &Path) -> Result<CString, SlideError> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| SlideError::Missing { path: path.to_owned() })
}

#[cfg(test)]
mod tests;
