//! Memory for activations that is used again: every step of a training needs buffers of the same sizes, and memory that
//! the system hands out anew is cleared page by page first. Each thread keeps its own, up to a limit.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

/// Most numbers that a thread keeps: 256 MB.
const KEPT: usize = 1 << 26;

/// Spare memory by length, and how many numbers it holds.
#[derive(Debug)]
struct Store {
    spare: BTreeMap<usize, Vec<Vec<f32>>>,
    kept: usize,
}

thread_local! {
    static STORE: RefCell<Store> = const { RefCell::new(Store { spare: BTreeMap::new(), kept: 0 }) };
}

/// A run of numbers whose memory goes to the next buffer of the same length.
#[derive(Debug)]
pub(crate) struct Buffer(Vec<f32>);

impl Buffer {
    /// Numbers of any value: what is read must be written first.
    pub(crate) fn new(len: usize) -> Self {
        let spare = STORE.with_borrow_mut(|store| {
            let found = store.spare.get_mut(&len).and_then(Vec::pop);
            store.kept -= found.as_ref().map_or(0, Vec::len);
            found
        });
        Self(spare.unwrap_or_else(|| vec![0.0; len]))
    }

    /// Zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.0);
        // A thread that is ending has no store any more; then the memory is simply freed.
        let _ = STORE.try_with(|store| {
            let mut store = store.borrow_mut();
            if store.kept + memory.len() > KEPT {
                store.spare.clear();
                store.kept = 0;
            }
            if memory.len() <= KEPT {
                store.kept += memory.len();
                store.spare.entry(memory.len()).or_default().push(memory);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
