//! The two layouts of `torch.save`: what a checkpoint's pickle holds, and where each storage's bytes lie in the file.

use std::collections::BTreeMap;

use consilium_common::limits;

use super::archive::Archive;
use super::arena::Storage;
use super::machine::{self, Unpickled};
use super::source::{Extent, Fault, Source};
use super::value::Value;

/// Where each storage's bytes lie.
pub(super) type Storages = BTreeMap<String, Extent>;

/// The number that begins files from before PyTorch 1.6, as pickle writes it behind its protocol and perhaps a frame.
const LEGACY_MAGIC: [u8; 13] = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
/// Bytes before that number: protocol, and frame with its length.
const LEGACY_BEFORE: [usize; 2] = [2, 11];
/// The version of that layout.
const LEGACY_VERSION: i64 = 1001;
/// Where a tar archive says what it is.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// Reads all of a checkpoint but its tensors' values.
pub(super) fn read(source: &Source) -> Result<(Value, Storages), Fault> {
    let head = source.read(0, source.len().min(512))?;
    if head.starts_with(b"PK\x03\x04") {
        zip(source)
    } else if LEGACY_BEFORE.iter().any(|at| head.get(*at..).is_some_and(|rest| rest.starts_with(&LEGACY_MAGIC))) {
        legacy(source)
    } else if head.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1)) {
        Err(Fault::format("it is a tar archive, as PyTorch wrote them before 2017"))
    } else {
        Err(Fault::format("it begins with neither an archive nor the number of PyTorch's older files"))
    }
}

fn zip(source: &Source) -> Result<(Value, Storages), Fault> {
    let archive = Archive::read(source)?;
    let root = archive.root()?;
    if let Some(order) = archive.find(source, &format!("{root}/byteorder"))? {
        let order = source.read(order.at, order.bytes.min(16))?;
        if order != b"little" {
            return Err(Fault::format("its numbers are not little-endian; write it on another machine"));
        }
    }
    let missing = |name: &str| Fault::format(format!("its archive has no `{name}`"));
    let pickle = archive.find(source, &format!("{root}/data.pkl"))?.ok_or_else(|| missing("data.pkl"))?;
    if pickle.bytes > limits::MAX_PICKLE_BYTES {
        return Err(Fault::format(format!("its structure alone takes {} bytes", pickle.bytes)));
    }
    let read = machine::unpickle(&source.read(pickle.at, pickle.bytes)?)?;
    let mut storages = Storages::new();
    for (key, storage) in &read.storages {
        let name = format!("{root}/data/{key}");
        // The entry of an empty storage may be left out.
        let extent = match archive.find(source, &name)? {
            Some(extent) => extent,
            None if storage.elements == 0 => source.extent(0, 0)?,
            None => return Err(missing(&name)),
        };
        storages.insert(key.clone(), extent);
    }
    Ok((read.value, storages))
}

/// Five pickles (magic number, version, machine, content, keys of storages) and the storages behind each other.
fn legacy(source: &Source) -> Result<(Value, Storages), Fault> {
    let head = source.read(0, source.len().min(limits::MAX_PICKLE_BYTES))?;
    let mut at = 0;
    let mut next = || -> Result<Unpickled, Fault> {
        let read = machine::unpickle(&head[at..])?;
        at += read.used;
        Ok(read)
    };
    let _magic = next()?;
    let (version, machine, content, keys) = (next()?.value, next()?.value, next()?, next()?.value);
    if version.as_i64() != Some(LEGACY_VERSION) {
        return Err(Fault::format("its layout has an unknown version"));
    }
    if machine.get("little_endian").and_then(Value::as_bool) != Some(true) {
        return Err(Fault::format("its numbers are not little-endian; write it on another machine"));
    }
    let keys = keys.as_list().ok_or_else(|| Fault::format("it has no list of its storages"))?;
    let storages = follow(source, at as u64, keys, &content.storages)?;
    match content.storages.keys().find(|key| !storages.contains_key(*key)) {
        Some(key) => Err(Fault::format(format!("it lacks the storage `{key}`"))),
        None => Ok((content.value, storages)),
    }
}

/// Finds the storages that lie behind each other, each behind the number of its elements.
fn follow(source: &Source, mut at: u64, keys: &[Value], known: &BTreeMap<String, Storage>) -> Result<Storages, Fault> {
    let mut storages = Storages::new();
    for key in keys {
        let storage = key.as_str().and_then(|key| known.get(key));
        let storage = storage.ok_or_else(|| Fault::format("it has a storage that no tensor lies in"))?;
        let count = source.read(at, 8)?;
        let count = count.first_chunk().map_or(0, |raw| u64::from_le_bytes(*raw));
        let extent = source.extent(at + 8, count.saturating_mul(storage.element.bytes() as u64))?;
        at = extent.at + extent.bytes;
        storages.insert(storage.key.clone(), extent);
    }
    Ok(storages)
}
