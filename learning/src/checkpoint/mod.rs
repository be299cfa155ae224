//! Checkpoints of PyTorch and plain pickles, read without running anything of them; and written.
//!
//! A pickle is a program for a stack machine that may call any function of Python. The machine here arranges data and
//! knows a short list of names (dictionaries, numpy arrays, tensors, paths); any other is refused by name. Tensors stay in
//! the file until their values are asked for. Every size is bounded before memory is taken, whatever the file claims.

mod archive;
mod arena;
mod construct;
mod error;
mod globals;
mod layout;
mod machine;
mod numbers;
mod numpy;
mod scalars;
mod source;
mod strided;
#[cfg(test)]
mod tests;
mod value;
mod write;

use std::path::Path;

use consilium_common::limits;

pub use error::{CheckpointError, PickleError};
pub use value::{Array, ElementType, Numbers, Tensor, Value};

pub(crate) use write::{Item, Stored, write_checkpoint};

use crate::network::WeightTensor;
use layout::Storages;
use source::{Fault, Source};

/// Reads a plain pickle of protocol 0 to 5, such as the plans of nnU-Net v1.
///
/// # Errors
/// An unreadable or too long file, one that is no sound pickle, that holds more than the limits allow, or that asks to run
/// anything: nothing of it is run.
pub fn read_pickle(path: &Path) -> Result<Value, CheckpointError> {
    let source = Source::open(path, limits::MAX_PICKLE_BYTES)?;
    let bytes = source.read(0, source.len()).map_err(|fault| fault.of(path))?;
    match machine::unpickle(&bytes) {
        Ok(read) if read.storages.is_empty() => Ok(read.value),
        Ok(_) => Err(Fault::format("it holds tensors whose values are in another file").of(path)),
        Err(source) => Err(Fault::Pickle(source).of(path)),
    }
}

/// A checkpoint of `torch.save`: its structure in memory, its tensors in the open file.
#[derive(Debug)]
pub struct Checkpoint {
    root: Value,
    source: Source,
    storages: Storages,
}

/// Opens a checkpoint of `torch.save`, of PyTorch 0.4 to 1.5 (pickles and storages behind each other) or later (zip).
///
/// # Errors
/// As for [`read_pickle`], and a file that is damaged, big-endian or compressed.
pub fn read_checkpoint(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let source = Source::open(path, limits::MAX_BLOB_BYTES)?;
    let (root, storages) = layout::read(&source).map_err(|fault| fault.of(path))?;
    Ok(Checkpoint { root, source, storages })
}

impl Checkpoint {
    /// What was saved.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// Reads the values of one tensor of this checkpoint as 32-bit numbers, in row-major order.
    ///
    /// # Errors
    /// An unreadable or cut file, more elements than the limits allow or than the file has, and a value that no 32-bit
    /// number can be: a whole number beyond 2^24 that is not exact, a 64-bit number beyond the range.
    pub fn values(&self, tensor: &Tensor) -> Result<WeightTensor, CheckpointError> {
        let fault = |why| CheckpointError::Tensor { path: self.source.path().to_owned(), why };
        let storage = self.storages.get(&tensor.storage);
        let storage = *storage.ok_or_else(|| fault(format!("it has no storage `{}`", tensor.storage)))?;
        numbers::check(tensor, storage).map_err(fault)?;
        numbers::read(&self.source, storage, tensor).map_err(|why| match why {
            Fault::Format(why) => fault(why),
            other => other.of(self.source.path()),
        })
    }
}
