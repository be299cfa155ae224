//! Slides stored as OME-Zarr 0.4: a folder of arrays (Zarr version 2), one for each level, cut into chunks.
//!
//! A chunk in x and y is a tile; a missing one has the array's fill value. Arrays hold 8-bit samples of one or three
//! channels; of several planes or times the first is read. No path in the metadata, and no link, leads out of the folder.

mod blosc;
mod codec;
mod metadata;
mod series;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use consilium_common::Mpp;

use super::error::SlideError;
use super::grid::Grid;
use super::pages::downsample;
use super::tiles::{TileReader, TileSource};
use super::{About, Level, spacing};
use metadata::Array;

/// An OME-Zarr slide. Chunks are files of their own.
pub(super) type ZarrSlide = TileReader<ZarrTiles>;

/// The chunks of all levels.
#[derive(Debug)]
pub(super) struct ZarrTiles {
    /// The slide's folder without links; nothing outside it is read.
    root: PathBuf,
    arrays: Vec<Array>,
}

impl ZarrSlide {
    /// Opens the folder and checks the metadata of all levels; no chunk is read yet.
    ///
    /// # Errors
    /// See [`super::open_slide`].
    pub(super) fn open(path: &Path, mpp: Option<Mpp>) -> Result<Self, SlideError> {
        let found = metadata::read(path)?;
        let root = path.canonicalize().map_err(|e| SlideError::read(path, "folder", e))?;
        let stated = match found.sides_um {
            Ok((x, y)) => spacing::from_sides(path, x, y),
            Err(why) => Err(SlideError::NoSpacing { path: path.to_owned(), why }),
        };
        let mut about = About::new("OME-Zarr", stated.as_ref().ok().copied(), mpp);
        about.warnings.extend(found.warnings);
        let (levels, arrays) = select(found.arrays, &mut about.warnings);
        let mpp = mpp.map_or(stated, Ok)?;
        Ok(Self::new(path, ZarrTiles { root, arrays }, levels, mpp, about))
    }
}

impl TileSource for ZarrTiles {
    fn grid(&self, level: usize) -> Option<Grid> {
        self.arrays.get(level).map(|array| array.grid)
    }

    /// A tile from its chunks: one, or one for each channel.
    fn rgb(&self, path: &Path, level: usize, index: u64) -> Result<Option<Vec<u8>>, SlideError> {
        let array = &self.arrays[level];
        let (column, row) = array.grid.place(index);
        let strides = strides(&array.chunks);
        let (step_x, step_y) = (strides[array.axes.x], strides[array.axes.y]);
        let (width, height) = (array.grid.tile_width as usize, array.grid.tile_height as usize);
        let mut rgb = vec![0; array.grid.tile_pixels() * 3];
        let mut chunk: Option<(usize, Vec<u8>)> = None;
        for channel in 0..array.channels {
            let (deep, first) = match array.axes.c {
                Some(c) => (channel / array.chunks[c], channel % array.chunks[c] * strides[c]),
                None => (0, 0),
            };
            if chunk.as_ref().is_none_or(|(held, _)| *held != deep) {
                chunk = Some((deep, self.chunk(path, array, column, row, deep)?));
            }
            let Some((_, samples)) = &chunk else { continue };
            for (y, line) in rgb.chunks_exact_mut(width * 3).enumerate().take(height) {
                for (x, pixel) in line.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                    let sample = samples[first + y * step_y + x * step_x];
                    match array.channels {
                        1 => *pixel = [sample; 3],
                        _ => pixel[channel] = sample,
                    }
                }
            }
        }
        Ok(Some(rgb))
    }
}

impl ZarrTiles {
    /// The samples of the chunk at a column, a row and a depth of channels.
    fn chunk(&self, path: &Path, array: &Array, column: u32, row: u32, deep: usize) -> Result<Vec<u8>, SlideError> {
        let mut place = vec![0; array.chunks.len()];
        (place[array.axes.x], place[array.axes.y]) = (column as usize, row as usize);
        if let Some(c) = array.axes.c {
            place[c] = deep;
        }
        let name = place.iter().map(usize::to_string).collect::<Vec<_>>().join(&array.separator.to_string());
        let expected = array.chunk_bytes();
        let damaged = |why: String| SlideError::damaged(path, format!("chunk {name} cannot be decoded: {why}"));
        let file = match array.folder.join(&name).canonicalize() {
            Ok(file) if file.starts_with(&self.root) => file,
            Ok(_) => return Err(damaged("it is a link out of its folder".to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![array.fill; expected]),
            Err(e) => return Err(SlideError::read(path, &format!("chunk {name}"), e)),
        };
        // No coding inflates a chunk beyond a few times its size.
        let most = expected as u64 * 4 + (1 << 20);
        let stored = stored(&file, most).map_err(|e| SlideError::read(path, &format!("chunk {name}"), e))?;
        if stored.len() as u64 > most {
            return Err(damaged("it is larger than its pixels".to_owned()));
        }
        array.codec.unpack(stored, expected).map_err(damaged)
    }
}

/// Up to one byte more than allowed, of a plain file.
fn stored(file: &Path, most: u64) -> io::Result<Vec<u8>> {
    // A pipe would never answer.
    if !file.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Distance of neighbouring samples along each axis, the last axis lying closest.
fn strides(chunks: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; chunks.len()];
    for axis in (1..chunks.len()).rev() {
        strides[axis - 1] = strides[axis] * chunks[axis];
    }
    strides
}

/// The first array, and every smaller one of the same shape.
fn select(arrays: Vec<Array>, warnings: &mut Vec<String>) -> (Vec<Level>, Vec<Array>) {
    let base = (arrays[0].grid.width, arrays[0].grid.height);
    let mut levels: Vec<Level> = Vec::new();
    let mut kept = Vec::new();
    for array in arrays {
        let size @ (width, height) = (array.grid.width, array.grid.height);
        let smaller = levels.last().is_none_or(|level| width < level.width);
        match downsample(base, size) {
            Some(downsample) if smaller => {
                levels.push(Level { width, height, downsample });
                kept.push(array);
            }
            _ => warnings.push(format!("its level of {width} x {height} has another shape and is not read")),
        }
    }
    (levels, kept)
}

#[cfg(test)]
mod tests;
