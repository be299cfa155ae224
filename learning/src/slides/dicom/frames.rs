//! Where the frames of one instance lie in its file, without reading them.
//!
//! Native frames follow each other. Coded frames are items, found by the extended offset table, by the basic one, or by
//! walking from item to item; one frame may be spread over several items. Every range lies inside the file.

use std::path::Path;

use consilium_common::limits;

use super::facts::Facts;
use super::header::Value;
use crate::slides::error::SlideError;
use crate::slides::file::SharedFile;

/// Bytes of an item's tag and length.
const ITEM_BYTES: u64 = 8;
const ITEM: [u8; 4] = [0xFE, 0xFF, 0x00, 0xE0];
const SEQUENCE_END: [u8; 4] = [0xFE, 0xFF, 0xDD, 0xE0];

/// The place of every frame.
#[derive(Debug)]
pub(super) enum Frames {
    /// One after the other, all of the same size.
    Native {
        /// First byte of the first frame.
        offset: u64,
        /// Bytes of a frame.
        bytes: u64,
    },
    /// From the first item of each frame to the end of its last.
    Items(Vec<(u64, u64)>),
}

impl Frames {
    /// Finds the frames of an instance; `native` is the size of a frame that is not coded.
    pub(super) fn find(
        path: &Path,
        file: &SharedFile,
        end: u64,
        facts: &Facts,
        native: Option<u64>,
    ) -> Result<Self, SlideError> {
        let truncated = || SlideError::Truncated { path: path.to_owned(), what: "pixels".to_owned() };
        let pixels = facts.pixels.ok_or_else(truncated)?;
        let Some(bytes) = native else {
            return Items { path, file, end, frames: facts.frames }.find(facts, pixels).map(Self::Items);
        };
        let wanted = bytes.saturating_mul(facts.frames);
        if pixels.bytes.is_none_or(|there| there < wanted) {
            let why = format!("it says {} frames and has no room for them", facts.frames);
            return Err(SlideError::damaged(path, why));
        }
        if pixels.offset.saturating_add(wanted) > end {
            return Err(truncated());
        }
        Ok(Self::Native { offset: pixels.offset, bytes })
    }

    /// The stored bytes of one frame; `most` is a bound on coded ones.
    pub(super) fn read(&self, path: &Path, file: &SharedFile, frame: u64, most: u64) -> Result<Vec<u8>, SlideError> {
        let failed = |e| SlideError::read(path, &format!("frame {frame}"), e);
        match self {
            Self::Native { offset, bytes } => file.read_at(offset + frame * bytes, *bytes as usize).map_err(failed),
            Self::Items(ranges) => {
                let (start, end) = ranges[frame as usize];
                let broken = |why: &str| SlideError::damaged(path, format!("frame {frame} {why}"));
                if end - start > most {
                    return Err(broken("is larger than its pixels"));
                }
                let items = file.read_at(start, (end - start) as usize).map_err(failed)?;
                unpacked(&items).ok_or_else(|| broken("is not where the file says"))
            }
        }
    }
}

/// The content of consecutive items, put together.
fn unpacked(mut items: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(items.len());
    while let Some((head, rest)) = items.split_first_chunk::<{ ITEM_BYTES as usize }>() {
        let bytes = item_bytes(head)?;
        let (fragment, next) = rest.split_at_checked(bytes as usize)?;
        content.extend_from_slice(fragment);
        items = next;
    }
    (!content.is_empty()).then_some(content)
}

/// Bytes that follow the head of an item; `None` if it is none.
fn item_bytes(head: &[u8; ITEM_BYTES as usize]) -> Option<u64> {
    let [a, b, c, d, length @ ..] = *head;
    let length = u32::from_le_bytes(length);
    ([a, b, c, d] == ITEM && length != u32::MAX).then_some(length.into())
}

struct Items<'a> {
    path: &'a Path,
    file: &'a SharedFile,
    /// Length of the file.
    end: u64,
    frames: u64,
}

impl Items<'_> {
    fn find(&self, facts: &Facts, pixels: Value) -> Result<Vec<(u64, u64)>, SlideError> {
        // Each frame is an item at least: no more memory is asked for than the file's size justifies.
        if self.frames == 0 || self.frames > limits::MAX_DICOM_FRAMES || self.frames > self.end / ITEM_BYTES {
            return Err(self.damaged(&format!("it says {} frames", self.frames)));
        }
        if pixels.bytes.is_some() {
            return Err(self.damaged("its coded frames are not stored as items"));
        }
        let table = self.item(pixels.offset)?.ok_or_else(|| self.damaged("its pixels have no items"))?;
        let first = table.1;
        if let (Some(offsets), Some(lengths)) = (facts.offsets, facts.lengths) {
            return self.by_extended_table(first, offsets, lengths);
        }
        let basic = self.by_basic_table(first, table)?;
        basic.map_or_else(|| self.walked(first), Ok)
    }

    /// From 64-bit offsets and lengths: each frame is one item.
    fn by_extended_table(&self, first: u64, offsets: Value, lengths: Value) -> Result<Vec<(u64, u64)>, SlideError> {
        let (offsets, lengths) = (self.table(offsets)?, self.table(lengths)?);
        let ranges = offsets.iter().zip(&lengths).map(|(&offset, &bytes)| {
            let start = first.checked_add(offset)?;
            let end = start.checked_add(ITEM_BYTES)?.checked_add(bytes)?.checked_add(bytes % 2)?;
            (end <= self.end).then_some((start, end))
        });
        let ranges: Option<Vec<_>> = ranges.collect();
        ranges.ok_or_else(|| self.damaged("its table of frames points outside the file"))
    }

    fn table(&self, value: Value) -> Result<Vec<u64>, SlideError> {
        let wanted = self.frames * 8;
        if value.bytes != Some(wanted) {
            return Err(self.damaged("its table of frames is not as long as it has frames"));
        }
        Ok(self.read(value.offset, wanted)?.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect())
    }

    /// From 32-bit offsets; `None` if they are not there, or wrapped because the file is larger than they can say.
    fn by_basic_table(&self, first: u64, (from, to): (u64, u64)) -> Result<Option<Vec<(u64, u64)>>, SlideError> {
        if to - from != self.frames * 4 {
            return Ok(None);
        }
        let bytes = self.read(from, to - from)?;
        let offsets = bytes.as_chunks::<4>().0.iter().map(|chunk| u64::from(u32::from_le_bytes(*chunk)));
        let starts: Vec<u64> = offsets.map(|offset| first + offset).collect();
        let mut last = *starts.last().unwrap_or(&first);
        if starts[0] != first || !starts.is_sorted_by(|a, b| a < b) || last > self.end {
            return Ok(None);
        }
        for count in 0.. {
            match self.item(last)? {
                Some((_, next)) if count < limits::MAX_DICOM_FRAMES => last = next,
                Some(_) => return Err(self.damaged("it has more items than a slide can have")),
                None => break,
            }
        }
        let ends = starts.iter().skip(1).copied().chain([last]);
        Ok(Some(starts.iter().copied().zip(ends).collect()))
    }

    /// From item to item. An item that opens an image opens a frame, if there are more items than frames.
    fn walked(&self, first: u64) -> Result<Vec<(u64, u64)>, SlideError> {
        let mut items = Vec::new();
        let mut at = first;
        while let Some((content, next)) = self.item(at)? {
            if items.len() as u64 >= limits::MAX_DICOM_FRAMES {
                return Err(self.damaged("it has more items than a slide can have"));
            }
            items.push((at, content, next));
            at = next;
        }
        if items.len() as u64 == self.frames {
            return Ok(items.into_iter().map(|(start, _, end)| (start, end)).collect());
        }
        let mut frames: Vec<(u64, u64)> = Vec::new();
        for (start, content, end) in items {
            let opens = end - content >= 2 && matches!(self.read(content, 2)?[..], [0xFF, 0xD8 | 0x4F]);
            match frames.last_mut() {
                Some(last) if !opens => last.1 = end,
                _ => frames.push((start, end)),
            }
        }
        if frames.len() as u64 != self.frames {
            return Err(self.damaged(&format!("it says {} frames and holds {}", self.frames, frames.len())));
        }
        Ok(frames)
    }

    /// Where the content of the item at a position lies; `None` at the end of all items.
    fn item(&self, at: u64) -> Result<Option<(u64, u64)>, SlideError> {
        let bytes = self.read(at, ITEM_BYTES)?;
        let Some(head) = bytes.first_chunk() else { return Ok(None) };
        if head.starts_with(&SEQUENCE_END) {
            return Ok(None);
        }
        let length = item_bytes(head).ok_or_else(|| self.damaged(&format!("byte {at} begins no item")))?;
        let content = at + ITEM_BYTES;
        match content.checked_add(length) {
            Some(end) if end <= self.end => Ok(Some((content, end))),
            _ => Err(SlideError::Truncated { path: self.path.to_owned(), what: "pixels".to_owned() }),
        }
    }

    fn read(&self, at: u64, bytes: u64) -> Result<Vec<u8>, SlideError> {
        if at.checked_add(bytes).is_none_or(|end| end > self.end) {
            return Err(SlideError::Truncated { path: self.path.to_owned(), what: "pixels".to_owned() });
        }
        self.file.read_at(at, bytes as usize).map_err(|e| SlideError::read(self.path, "frames", e))
    }

    fn damaged(&self, why: &str) -> SlideError {
        SlideError::damaged(self.path, why)
    }
}
