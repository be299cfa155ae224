//! Writing what `torch.load` reads: a pickle of plain data and tensors, in the zip form of PyTorch 1.6 and later. The same
//! content gives the same bytes.

use std::io::{self, Seek, Write};

use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

/// Something to be saved.
#[derive(Clone, Debug)]
pub(crate) enum Item<'a> {
    None,
    Int(i32),
    Text(&'a str),
    Tuple(Vec<Item<'a>>),
    /// Becomes an `OrderedDict`.
    Dict(Vec<(String, Item<'a>)>),
    /// 32-bit numbers with their shape; which of the storages holds them.
    Tensor {
        shape: &'a [usize],
        storage: usize,
    },
    /// A 64-bit whole number as a tensor without dimensions.
    Count {
        storage: usize,
    },
}

/// The values of a tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored<'a> {
    Floats(&'a [f32]),
    Count(i64),
}

impl Stored<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Floats(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::Count(count) => count.to_le_bytes().to_vec(),
        }
    }

    fn kind(&self) -> (&'static str, usize) {
        match self {
            Self::Floats(values) => ("FloatStorage", values.len()),
            Self::Count(_) => ("LongStorage", 1),
        }
    }
}

/// Writes a checkpoint.
///
/// # Errors
/// The writer refused.
pub(crate) fn write_checkpoint(out: impl Write + Seek, root: &Item<'_>, storages: &[Stored<'_>]) -> io::Result<()> {
    let mut pickle = Pickle { bytes: b"\x80\x02".to_vec(), storages };
    pickle.item(root);
    pickle.bytes.push(b'.');
    let mut archive = ZipWriter::new(out);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let mut entry = |name: &str, bytes: &[u8]| -> io::Result<()> {
        archive.start_file(format!("archive/{name}"), options)?;
        archive.write_all(bytes)
    };
    entry("data.pkl", &pickle.bytes)?;
    entry("byteorder", b"little")?;
    for (number, storage) in storages.iter().enumerate() {
        entry(&format!("data/{number}"), &storage.bytes())?;
    }
    entry("version", b"3\n")?;
    archive.finish()?.flush()
}

/// A pickle of protocol 2 being written.
struct Pickle<'a> {
    bytes: Vec<u8>,
    storages: &'a [Stored<'a>],
}

impl Pickle<'_> {
    fn item(&mut self, item: &Item<'_>) {
        match item {
            Item::None => self.bytes.push(b'N'),
            Item::Int(value) => self.int(*value),
            Item::Text(text) => self.text(text),
            Item::Tuple(items) => self.tuple(|pickle| items.iter().for_each(|item| pickle.item(item))),
            Item::Dict(entries) => {
                self.empty_dict();
                self.bytes.push(b'(');
                for (key, value) in entries {
                    self.text(key);
                    self.item(value);
                }
                self.bytes.push(b'u');
            }
            Item::Tensor { shape, storage } => self.tensor(shape, *storage),
            Item::Count { storage } => self.tensor(&[], *storage),
        }
    }

    /// `_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`.
    fn tensor(&mut self, shape: &[usize], storage: usize) {
        let (kind, length) = self.storages[storage].kind();
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.tuple(|pickle| {
            pickle.tuple(|pickle| {
                pickle.text("storage");
                pickle.global("torch", kind);
                pickle.text(&storage.to_string());
                pickle.text("cpu");
                pickle.count(length);
            });
            // A persistent name: torch finds the storage by it.
            pickle.bytes.push(b'Q');
            pickle.int(0);
            pickle.tuple(|pickle| shape.iter().for_each(|&side| pickle.count(side)));
            pickle.tuple(|pickle| {
                for dimension in 0..shape.len() {
                    pickle.count(shape[dimension + 1..].iter().product());
                }
            });
            pickle.bytes.push(b'\x89');
            pickle.empty_dict();
        });
        self.bytes.push(b'R');
    }

    fn empty_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.bytes.extend_from_slice(b")R");
    }

    fn global(&mut self, module: &str, name: &str) {
        self.bytes.extend_from_slice(format!("c{module}\n{name}\n").as_bytes());
    }

    fn tuple(&mut self, fill: impl FnOnce(&mut Self)) {
        self.bytes.push(b'(');
        fill(self);
        self.bytes.push(b't');
    }

    fn text(&mut self, text: &str) {
        self.bytes.push(b'X');
        // Names and keys: far below 4 GiB.
        self.bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn int(&mut self, value: i32) {
        self.bytes.push(b'J');
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A count, as a whole number of eight bytes: counts are below 2^63.
    fn count(&mut self, value: usize) {
        self.bytes.extend_from_slice(b"\x8a\x08");
        self.bytes.extend_from_slice(&(value as u64).to_le_bytes());
    }
}
