//! The header of one DICOM instance: the few elements that a slide needs, and nothing else.
//!
//! Elements are walked from the file one header at a time; values that are not asked for are skipped unread, so no word
//! about a patient is ever in memory. The walk ends where the pixels begin. Lengths are checked against the file and
//! the limits before anything is read, and sequences inside sequences are counted.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use consilium_common::limits;
use dicom_core::header::{Header, SequenceItemHeader};
use dicom_core::{Length, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::decode::Decode;
use dicom_encoding::decode::explicit_le::ExplicitVRLittleEndianDecoder;
use dicom_encoding::decode::implicit_le::ImplicitVRLittleEndianDecoder;

use super::facts::Facts;
use crate::slides::error::SlideError;

/// Bytes before the first element: a free preamble and the word DICM.
const PREAMBLE_BYTES: u64 = 132;
/// Ends an item whose length is not given.
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);

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
pub(super) enum Want<'a> {
    /// The series alone.
    Series,
    /// Everything, if it belongs to this series.
    All(&'a str),
}

/// Reads what is wanted of an instance; `None` if it is no slide image or of another series.
pub(super) fn read(path: &Path, want: Want<'_>) -> Result<Option<Facts>, SlideError> {
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
    want: Want<'a>,
}

#[derive(Clone, Copy)]
struct Element {
    tag: Tag,
    vr: VR,
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
            (tags::SERIES_INSTANCE_UID, Want::All(series)) if facts.series != series => Next::Stop,
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
                self.explicit &= element.vr != VR::UN;
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
            match self.item()? {
                SequenceItemHeader::Item { len } => {
                    if let Some(facts) = facts.as_mut() {
                        facts.begin_item(self.path, within)?;
                    }
                    let item_end = length(len).map(|bytes| self.at.saturating_add(bytes));
                    match item_end {
                        Some(item_end) if facts.is_none() => self.skip(item_end - self.at)?,
                        _ => drop(self.elements(item_end, facts, within)?),
                    }
                }
                SequenceItemHeader::SequenceDelimiter if end.is_none() => break,
                _ => return Err(self.damaged("a delimiter in the wrong place")),
            }
        }
        within.pop();
        Ok(())
    }

    fn header(&mut self) -> Result<Element, SlideError> {
        self.room(8)?;
        let decoded = if self.explicit {
            ExplicitVRLittleEndianDecoder::default().decode_header(&mut self.file)
        } else {
            ImplicitVRLittleEndianDecoder::with_std_dict().decode_header(&mut self.file)
        };
        let (header, bytes) = decoded.map_err(|_| self.truncated())?;
        self.at += bytes as u64;
        Ok(Element { tag: header.tag(), vr: header.vr(), bytes: length(header.len) })
    }

    fn item(&mut self) -> Result<SequenceItemHeader, SlideError> {
        self.room(8)?;
        let decoded = ExplicitVRLittleEndianDecoder::default().decode_item_header(&mut self.file);
        self.at += 8;
        decoded.map_err(|_| self.damaged("a sequence of something else than items"))
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

fn length(length: Length) -> Option<u64> {
    length.get().map(u64::from)
}
