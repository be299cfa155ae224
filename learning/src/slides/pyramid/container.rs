//! The TIFF file around the tiles of a pyramid: header, tiles as they come, and the list of images at the end.
//!
//! Tiles of all levels interleave, so their places are known only when the last one is written; the `tiff` crate writes
//! one image after the other. Classic TIFF or BigTIFF, little endian. The file lies under a temporary name until it is
//! complete, and is removed if it never is.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Values of one tag.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Short(Vec<u16>),
    Long(Vec<u32>),
    /// Places in the file: 4 bytes in classic TIFF, 8 in BigTIFF.
    Offsets(Vec<u64>),
    Rational(u32, u32),
}

/// Number and values of a tag.
pub(super) type Entry = (u16, Values);

/// A TIFF file being written.
#[derive(Debug)]
pub(super) struct Container {
    out: BufWriter<NamedTempFile<File>>,
    big: bool,
    /// Where the next byte goes.
    at: u64,
}

impl Container {
    /// Starts a file beside `path`.
    pub(super) fn create(path: &Path, big: bool) -> io::Result<Self> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Made with the usual permissions, not with those of a secret.
        let file = tempfile::Builder::new().prefix(".part-").make_in(dir, |part| File::create_new(part))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        // The place of the first image, the last word of the header, follows at the end.
        let header: &[u8] = if big { b"II\x2b\0\x08\0\0\0\0\0\0\0\0\0\0\0" } else { b"II\x2a\0\0\0\0\0" };
        out.write_all(header)?;
        Ok(Self { out, big, at: header.len() as u64 })
    }

    /// Writes a tile and returns its place and length.
    pub(super) fn write_tile(&mut self, bytes: &[u8]) -> io::Result<(u64, u32)> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let place = self.at;
        self.out.write_all(bytes)?;
        self.at += u64::from(length);
        if !self.big && self.at > u64::from(u32::MAX) {
            return Err(io::Error::other("it outgrows the 4 GiB of classic TIFF, which is a bug"));
        }
        Ok((place, length))
    }

    /// Writes the list of images and moves the file to its name.
    pub(super) fn finish(mut self, path: &Path, images: &[Vec<Entry>]) -> io::Result<()> {
        let padding = self.at.next_multiple_of(8) - self.at;
        self.out.write_all(&[0; 8][..padding as usize])?;
        let (tail, first) = directories(self.at + padding, images, self.big)?;
        self.out.write_all(&tail)?;
        self.out.seek(SeekFrom::Start(if self.big { 8 } else { 4 }))?;
        self.out.write_all(&word(first, self.big)?)?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}

/// The bytes of the image list, to be written at `start`, and the place of its first image.
fn directories(start: u64, images: &[Vec<Entry>], big: bool) -> io::Result<(Vec<u8>, u64)> {
    let mut tail: Vec<u8> = Vec::new();
    let mut first = 0;
    // Where in `tail` the place of the next image belongs.
    let mut link: Option<usize> = None;
    for image in images {
        let mut entries: Vec<&Entry> = image.iter().collect();
        entries.sort_by_key(|entry| entry.0);
        let mut list = Vec::new();
        if big {
            list.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        } else {
            list.extend_from_slice(&u16::try_from(entries.len()).map_err(io::Error::other)?.to_le_bytes());
        }
        for (tag, values) in entries {
            let (kind, count, bytes) = encoded(values, big)?;
            list.extend_from_slice(&tag.to_le_bytes());
            list.extend_from_slice(&kind.to_le_bytes());
            list.extend_from_slice(&word(count, big)?);
            let inline = if big { 8 } else { 4 };
            if bytes.len() <= inline {
                list.extend_from_slice(&bytes);
                list.resize(list.len() + inline - bytes.len(), 0);
            } else {
                list.extend_from_slice(&word(start + tail.len() as u64, big)?);
                tail.extend_from_slice(&bytes);
                tail.resize(tail.len().next_multiple_of(8), 0);
            }
        }
        let place = start + tail.len() as u64;
        match link {
            Some(at) => {
                let bytes = word(place, big)?;
                tail[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            None => first = place,
        }
        tail.extend_from_slice(&list);
        link = Some(tail.len());
        tail.extend_from_slice(&word(0, big)?);
        tail.resize(tail.len().next_multiple_of(8), 0);
    }
    Ok((tail, first))
}

/// Type, count and bytes of a tag's values.
fn encoded(values: &Values, big: bool) -> io::Result<(u16, u64, Vec<u8>)> {
    Ok(match values {
        Values::Short(v) => (3, v.len() as u64, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Values::Long(v) => (4, v.len() as u64, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Values::Rational(n, d) => (5, 1, [n.to_le_bytes(), d.to_le_bytes()].concat()),
        Values::Offsets(v) => {
            let words = v.iter().map(|&n| word(n, big)).collect::<io::Result<Vec<_>>>()?;
            (if big { 16 } else { 4 }, v.len() as u64, words.concat())
        }
    })
}

/// A place or count in the width of the format.
fn word(value: u64, big: bool) -> io::Result<Vec<u8>> {
    if big {
        return Ok(value.to_le_bytes().to_vec());
    }
    let short = u32::try_from(value);
    Ok(short
        .map_err(|_| io::Error::other("it outgrows the 4 GiB of classic TIFF, which is a bug"))?
        .to_le_bytes()
        .to_vec())
}

#[cfg(test)]
mod tests {
    use tiff::decoder::Decoder;
    use tiff::tags::Tag;

    use super::*;

    #[test]
    fn both_formats_are_read_by_another_parser() {
        let folder = tempfile::tempdir().unwrap();
        for big in [false, true] {
            let path = folder.path().join(format!("{big}.tif"));
            let mut file = Container::create(&path, big).unwrap();
            let tiles: Vec<(u64, u32)> = [1, 7, 300].map(|n| file.write_tile(&vec![n as u8; n]).unwrap()).into();
            assert!(!path.exists(), "nothing under the name before the end");
            let image = |width| {
                vec![
                    (325, Values::Long(tiles.iter().map(|t| t.1).collect())),
                    (324, Values::Offsets(tiles.iter().map(|t| t.0).collect())),
                    (256, Values::Long(vec![width])),
                    (257, Values::Long(vec![9])),
                    (258, Values::Short(vec![8, 8, 8])),
                    (262, Values::Short(vec![2])),
                    (277, Values::Short(vec![3])),
                    (322, Values::Long(vec![256])),
                    (323, Values::Long(vec![256])),
                    (282, Values::Rational(40_000, 3)),
                ]
            };
            file.finish(&path, &[image(700), image(600)]).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(bytes[2], if big { 43 } else { 42 });
            for &(at, length) in &tiles {
                assert_eq!(bytes[at as usize..][..length as usize], vec![length as u8; length as usize]);
            }
            let mut decoder = Decoder::new(io::Cursor::new(bytes)).unwrap();
            let mut next = decoder.ifd_pointer();
            for width in [700, 600] {
                let directory = decoder.read_directory(next.unwrap()).unwrap();
                next = directory.next();
                let mut tags = decoder.read_directory_tags(&directory);
                let mut numbers = |tag| tags.find_tag_unsigned_vec::<u64>(tag).unwrap().unwrap();
                assert_eq!(numbers(Tag::ImageWidth), [width]);
                assert_eq!(numbers(Tag::BitsPerSample), [8, 8, 8]);
                assert_eq!(numbers(Tag::TileByteCounts), [1, 7, 300]);
                assert_eq!(numbers(Tag::TileOffsets), tiles.iter().map(|t| t.0).collect::<Vec<_>>());
            }
            assert!(next.is_none());
        }
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Container::create(&folder.path().join("x.tif"), false).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
