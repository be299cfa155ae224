//! The header of one DICOM instance: the few elements that a slide needs, and nothing else.
//!
//! Elements are walked from the file one header at a time; values that are not asked for are skipped unread, so no word
//! about a patient is ever in memory. The walk ends where the pixels begin. Lengths are checked against the file and
//! the limits before anything is read, and sequences inside sequences are counted.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use consilium_common::limits;
use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::facts::Facts;
use crate::slides::error::SlideError;

/// Bytes before the first element: a free preamble and the word DICM.
const PREAMBLE_BYTES: u64 = 132;
/// Begins an item of a sequence.
const ITEM: Tag = Tag(0xFFFE, 0xE000);
/// Ends an item whose length is not given.
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
/// Ends a sequence whose length is not given.
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
/// Value representations whose length has 16 bits; that of all others, also of future ones, has 32 (PS3.5, 7.1.2).
const SHORT: [&[u8; 2]; 21] = [
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
];
/// Value representations of 32-bit length that are known.
const LONG: [&[u8; 2]; 12] = [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UR", b"UT", b"UV"];

/// Where the pixels of an instance lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// First byte of the value.
    pub(super) offset: u64,
    /// Bytes; `None` for items up to a delimiter.
    pub(super) bytes: Option<u64>,
}

/// What a walk is to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The series and what precedes it, the type of the image among it.
    Series,
    /// Everything.
    All,
}

/// Reads what is wanted of an instance; `None` if it is no slide image.
pub(super) fn read(path: &Path, want: Want) -> Result<Option<Facts>, SlideError> {
    let failed = |e| SlideError::read(path, "header", e);
    let mut file = File::open(path).map_err(failed)?;
    let end = file.metadata().map_err(failed)?.len();
    file.seek(SeekFrom::Start(PREAMBLE_BYTES)).map_err(failed)?;
    let mut walk = Walk { path, file: BufReader::new(file), at: PREAMBLE_BYTES, end, explicit: true, want };
    let mut facts = Facts::default();
    walk.meta(&mut facts)?;
    if facts.is_slide_by_meta() == Some(false) {
        return Ok(None);
    }
    walk.explicit = facts.is_explicit(path)?;
    match walk.elements(None, &mut Some(&mut facts), &mut Vec::new())? {
        Next::Found | Next::End if facts.is_slide() => Ok(Some(facts)),
        _ => Ok(None),
    }
}

/// Why a walk through elements ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// At the end of the item or file.
    End,
    /// What was wanted is known.
    Found,
    /// The instance is of no interest.
    Stop,
}

struct Walk<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// Position in the file.
    at: u64,
    /// Length of the file.
    end: u64,
    /// Whether elements name their value representation.
    explicit: bool,
    want: Want,
}

#[derive(Clone, Copy)]
struct Element {
    tag: Tag,
    /// Whether its value representation is not known.
    unknown: bool,
    /// `None` if it ends with a delimiter.
    bytes: Option<u64>,
}

impl Walk<'_> {
    /// The elements of group 2, which are always explicit.
    fn meta(&mut self, facts: &mut Facts) -> Result<(), SlideError> {
        while self.at < self.end {
            let start = self.at;
            let element = self.header()?;
            if element.tag.group() != 2 {
                self.at = start;
                self.file.seek(SeekFrom::Start(start)).map_err(|e| SlideError::read(self.path, "header", e))?;
                break;
            }
            let bytes = element.bytes.ok_or_else(|| self.damaged("an element without end"))?;
            if facts.wants(&[], element.tag) {
                let value = self.value(bytes)?;
                facts.set(&[], element.tag, &value);
            } else {
                self.skip(bytes)?;
            }
        }
        Ok(())
    }

    /// The elements up to `end`, or up to a delimiter; `facts` are `None` in what is only passed over.
    fn elements(
        &mut self,
        end: Option<u64>,
        facts: &mut Option<&mut Facts>,
        within: &mut Vec<Tag>,
    ) -> Result<Next, SlideError> {
        loop {
            if end.is_some_and(|end| self.at >= end) {
                return if end == Some(self.at) {
                    Ok(Next::End)
                } else {
                    Err(self.damaged("an item longer than it says"))
                };
            }
            if within.is_empty() && self.at >= self.end {
                return Ok(Next::End);
            }
            let element = self.header()?;
            if element.tag == ITEM_END && end.is_none() && !within.is_empty() {
                return Ok(Next::End);
            }
            if element.tag.group() == 0xFFFE {
                return Err(self.damaged("a delimiter in the wrong place"));
            }
            if let (true, Some(facts)) = (within.is_empty(), facts.as_mut())
                && self.note_pixels(&element, facts)
            {
                return Ok(Next::Found);
            }
            self.element(element, facts, within)?;
            if let (true, Some(facts)) = (within.is_empty(), facts.as_ref()) {
                match self.verdict(element.tag, facts) {
                    Next::End => {}
                    done => return Ok(done),
                }
            }
        }
    }

    /// Whether the walk can end after an element of the data set itself.
    fn verdict(&self, tag: Tag, facts: &Facts) -> Next {
        match (tag, self.want) {
            (tags::SOP_CLASS_UID, _) if !facts.is_slide() => Next::Stop,
            (tags::SERIES_INSTANCE_UID, Want::Series) => Next::Found,
            _ => Next::End,
        }
    }

    /// Remembers where pixels and frame tables lie; true when the pixels are reached.
    fn note_pixels(&self, element: &Element, facts: &mut Facts) -> bool {
        let value = Value { offset: self.at, bytes: element.bytes };
        match element.tag {
            tags::EXTENDED_OFFSET_TABLE => facts.offsets = Some(value),
            tags::EXTENDED_OFFSET_TABLE_LENGTHS => facts.lengths = Some(value),
            tags::PIXEL_DATA => facts.pixels = Some(value),
            _ => {}
        }
        element.tag == tags::PIXEL_DATA
    }

    fn element(
        &mut self,
        element: Element,
        facts: &mut Option<&mut Facts>,
        within: &mut Vec<Tag>,
    ) -> Result<(), SlideError> {
        let descend = facts.is_some() && Facts::enters(within, element.tag);
        match element.bytes {
            Some(_) if descend => self.items(element, facts, within),
            Some(bytes) => match facts.as_mut().filter(|facts| facts.wants(within, element.tag)) {
                Some(facts) => {
                    let value = self.value(bytes)?;
                    facts.set(within, element.tag, &value);
                    Ok(())
                }
                None => self.skip(bytes),
            },
            None if descend => self.items(element, facts, within),
            None => {
                // A sequence that a writer did not know is stored without value representations.
                let explicit = self.explicit;
                self.explicit &= !element.unknown;
                let passed = self.items(element, &mut None, within);
                self.explicit = explicit;
                passed
            }
        }
    }

    fn items(
        &mut self,
        sequence: Element,
        facts: &mut Option<&mut Facts>,
        within: &mut Vec<Tag>,
    ) -> Result<(), SlideError> {
        if within.len() >= limits::MAX_DICOM_DEPTH {
            return Err(self.damaged("sequences inside sequences without end"));
        }
        within.push(sequence.tag);
        let end = sequence.bytes.map(|bytes| self.at.saturating_add(bytes));
        loop {
            if end.is_some_and(|end| self.at >= end) {
                if end != Some(self.at) {
                    return Err(self.damaged("a sequence longer than it says"));
                }
                break;
            }
            let item = self.header()?;
            match item.tag {
                ITEM => {
                    if let Some(facts) = facts.as_mut() {
                        facts.begin_item(self.path, within)?;
                    }
                    let item_end = item.bytes.map(|bytes| self.at.saturating_add(bytes));
                    match item_end {
                        Some(item_end) if facts.is_none() => self.skip(item_end - self.at)?,
                        _ => drop(self.elements(item_end, facts, within)?),
                    }
                }
                SEQUENCE_END if end.is_none() => break,
                _ => return Err(self.damaged("a sequence of something else than items")),
            }
        }
        within.pop();
        Ok(())
    }

    /// The next tag with the length of what follows: an element, an item, or a delimiter.
    fn header(&mut self) -> Result<Element, SlideError> {
        let [a, b, c, d] = self.take()?;
        let tag = Tag(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        // Items and delimiters never name a value representation.
        if !self.explicit || tag.group() == 0xFFFE {
            return Ok(Element { tag, unknown: false, bytes: length(self.take()?) });
        }
        let [a, b, low, high] = self.take()?;
        if SHORT.contains(&&[a, b]) {
            return Ok(Element { tag, unknown: false, bytes: Some(u16::from_le_bytes([low, high]).into()) });
        }
        Ok(Element { tag, unknown: !LONG.contains(&&[a, b]), bytes: length(self.take()?) })
    }

    fn take(&mut self) -> Result<[u8; 4], SlideError> {
        self.room(4)?;
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes).map_err(|e| SlideError::read(self.path, "header", e))?;
        self.at += 4;
        Ok(bytes)
    }

    fn value(&mut self, bytes: u64) -> Result<Vec<u8>, SlideError> {
        if bytes > limits::MAX_DICOM_VALUE_BYTES {
            return Err(self.damaged(&format!("a value of {bytes} bytes where a number or a name belongs")));
        }
        self.room(bytes)?;
        let mut value = vec![0; bytes as usize];
        self.file.read_exact(&mut value).map_err(|e| SlideError::read(self.path, "header", e))?;
        self.at += bytes;
        Ok(value)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), SlideError> {
        self.room(bytes)?;
        let by = i64::try_from(bytes).map_err(|_| self.truncated())?;
        self.file.seek_relative(by).map_err(|e| SlideError::read(self.path, "header", e))?;
        self.at += bytes;
        Ok(())
    }

    /// Whether so many more bytes are there, within the file and the limit of a header.
    fn room(&self, bytes: u64) -> Result<(), SlideError> {
        let next = self.at.saturating_add(bytes);
        if next > self.end {
            return Err(self.truncated());
        }
        if next > limits::MAX_DICOM_HEADER_BYTES {
            return Err(self.damaged("its header does not end"));
        }
        Ok(())
    }

    fn truncated(&self) -> SlideError {
        SlideError::Truncated { path: self.path.to_owned(), what: "pixels".to_owned() }
    }

    fn damaged(&self, what: &str) -> SlideError {
        SlideError::damaged(self.path, format!("{what}, at byte {}", self.at))
    }
}

/// A length of 32 bits; `None` if it is not given.
fn length(bytes: [u8; 4]) -> Option<u64> {
    let length = u32::from_le_bytes(bytes);
    (length != u32::MAX).then_some(length.into())
}
