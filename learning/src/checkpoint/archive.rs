//! The zip archive of `torch.save` since PyTorch 1.6: its directory, and where each stored entry's bytes lie. Read here
//! rather than by a crate, so that every count and length is checked before memory is taken; compression is refused.

use std::collections::HashMap;

use consilium_common::limits;

use super::source::{Extent, Fault, Source};

const END: [u8; 4] = *b"PK\x05\x06";
const END_LEN: u64 = 22;
const LOCATOR: [u8; 4] = *b"PK\x06\x07";
const LOCATOR_LEN: u64 = 20;
const END64: [u8; 4] = *b"PK\x06\x06";
const END64_LEN: u64 = 56;
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const ENTRY_LEN: usize = 46;
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LOCAL_LEN: u64 = 30;
/// The number of the extra field with sizes and places of 64 bits.
const EXTRA64: u16 = 1;

/// The entries of an archive by name.
#[derive(Debug)]
pub(super) struct Archive(HashMap<String, Entry>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    encrypted: bool,
    method: u16,
    bytes: u64,
    /// Place of its own header.
    at: u64,
}

impl Archive {
    /// Reads the directory at the end of the file.
    pub(super) fn read(source: &Source) -> Result<Self, Fault> {
        let (count, at, bytes) = directory(source)?;
        if count > limits::MAX_CHECKPOINT_ENTRIES || bytes > limits::MAX_CHECKPOINT_DIRECTORY_BYTES {
            return Err(Fault::format(format!("its archive claims {count} entries in a directory of {bytes} bytes")));
        }
        let directory = source.read(at, bytes)?;
        let mut entries = HashMap::new();
        let mut left = directory.as_slice();
        for _ in 0..count {
            let (name, entry, rest) =
                entry(left).ok_or_else(|| Fault::format("its archive has a damaged directory"))?;
            if entries.insert(name.to_owned(), entry).is_some() {
                return Err(Fault::format(format!("its archive has `{name}` twice")));
            }
            left = rest;
        }
        Ok(Self(entries))
    }

    /// What stands before `/data.pkl` in the names of all entries.
    pub(super) fn root(&self) -> Result<&str, Fault> {
        let mut roots = self.0.keys().filter_map(|name| name.strip_suffix("/data.pkl"));
        match (roots.next(), roots.next()) {
            (Some(root), None) => Ok(root),
            (None, _) => Err(Fault::format("its archive has no `data.pkl`")),
            _ => Err(Fault::format("its archive has several `data.pkl`")),
        }
    }

    /// Where an entry's bytes lie; nothing if there is no such entry.
    pub(super) fn find(&self, source: &Source, name: &str) -> Result<Option<Extent>, Fault> {
        let Some(entry) = self.0.get(name) else { return Ok(None) };
        if entry.method != 0 || entry.encrypted {
            return Err(Fault::format(format!("`{name}` of its archive is compressed or encrypted")));
        }
        let header = source.read(entry.at, LOCAL_LEN)?;
        if !header.starts_with(&LOCAL) {
            return Err(Fault::format(format!("`{name}` is not where its archive says")));
        }
        let names = u64::from(u16_at(&header, 26).unwrap_or(0)) + u64::from(u16_at(&header, 28).unwrap_or(0));
        // The header was read, so its place is within the file and the sum far from its end of numbers.
        source.extent(entry.at + LOCAL_LEN + names, entry.bytes).map(Some)
    }
}

/// Entries, place and bytes of the directory.
fn directory(source: &Source) -> Result<(u64, u64, u64), Fault> {
    let no_end = || Fault::format("its archive has no end, so it is cut");
    let tail_len = source.len().min(END_LEN + u64::from(u16::MAX));
    let tail_at = source.len() - tail_len;
    let tail = source.read(tail_at, tail_len)?;
    let is_end = |at: &usize| {
        let comment = u16_at(&tail, at + 20);
        tail[*at..].starts_with(&END) && comment.is_some_and(|len| at + 22 + usize::from(len) == tail.len())
    };
    let end = (0..tail.len()).rev().find(is_end).ok_or_else(no_end)?;
    let end_at = tail_at + end as u64;
    if let Some(at) = end_at.checked_sub(LOCATOR_LEN) {
        let locator = source.read(at, LOCATOR_LEN)?;
        if locator.starts_with(&LOCATOR) {
            let end64 = source.read(u64_at(&locator, 8).ok_or_else(no_end)?, END64_LEN)?;
            let numbers = (u64_at(&end64, 32), u64_at(&end64, 48), u64_at(&end64, 40));
            return match numbers {
                (Some(count), Some(at), Some(bytes)) if end64.starts_with(&END64) => Ok((count, at, bytes)),
                _ => Err(no_end()),
            };
        }
    }
    match (u16_at(&tail, end + 10), u32_at(&tail, end + 16), u32_at(&tail, end + 12)) {
        (Some(count), Some(at), Some(bytes)) => Ok((u64::from(count), u64::from(at), u64::from(bytes))),
        _ => Err(no_end()),
    }
}

/// The first entry of a directory, and the rest.
fn entry(left: &[u8]) -> Option<(&str, Entry, &[u8])> {
    let fixed = left.get(..ENTRY_LEN).filter(|fixed| fixed.starts_with(&ENTRY))?;
    let lens = [u16_at(fixed, 28)?, u16_at(fixed, 30)?, u16_at(fixed, 32)?].map(usize::from);
    let (name, rest) = left.get(ENTRY_LEN..)?.split_at_checked(lens[0])?;
    let (extra, rest) = rest.split_at_checked(lens[1])?;
    let rest = rest.get(lens[2]..)?;
    let mut wide = extra64(extra);
    // Sizes and places that do not fit stand in the extra field, in this order, and only those.
    let mut number = |at| match u32_at(fixed, at)? {
        u32::MAX => {
            let (raw, rest) = wide.split_first_chunk()?;
            wide = rest;
            Some(u64::from_le_bytes(*raw))
        }
        fits => Some(u64::from(fits)),
    };
    let bytes = number(24)?;
    let _packed = number(20)?;
    let at = number(42)?;
    let entry = Entry { encrypted: u16_at(fixed, 8)? & 1 != 0, method: u16_at(fixed, 10)?, bytes, at };
    Some((str::from_utf8(name).ok()?, entry, rest))
}

/// The content of the extra field with numbers of 64 bits; empty if there is none.
fn extra64(mut extra: &[u8]) -> &[u8] {
    while let (Some(kind), Some(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some((content, rest)) = extra[4..].split_at_checked(usize::from(len)) else { break };
        if kind == EXTRA64 {
            return content;
        }
        extra = rest;
    }
    &[]
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|raw| u16::from_le_bytes(*raw))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|raw| u32::from_le_bytes(*raw))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|raw| u64::from_le_bytes(*raw))
}
