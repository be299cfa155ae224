//! Any bytes as a pickle and as a checkpoint: read or refused, never a crash or memory out of proportion.
#![no_main]

use consilium_learning::checkpoint::{Checkpoint, Value, read_checkpoint, read_pickle};
use libfuzzer_sys::fuzz_target;

/// Tensors of a checkpoint whose values are read; each may be as long as the file.
const TENSORS: usize = 100;

fuzz_target!(|bytes: &[u8]| {
    let path = consilium_fuzz::folder().join("checkpoint.pth");
    std::fs::write(&path, bytes).expect("a file in memory");
    let _ = read_pickle(&path);
    if let Ok(checkpoint) = read_checkpoint(&path) {
        visit(&checkpoint, checkpoint.root(), &mut 0);
    }
});

/// Reads the first tensors below a value.
fn visit(checkpoint: &Checkpoint, value: &Value, seen: &mut usize) {
    if let Some(tensor) = value.as_tensor().filter(|_| *seen < TENSORS) {
        *seen += 1;
        if let Ok(read) = checkpoint.values(tensor) {
            assert_eq!(read.values.len(), read.shape.iter().product::<usize>());
        }
    }
    for inner in value.as_list().unwrap_or_default() {
        visit(checkpoint, inner, seen);
    }
    for (key, inner) in value.as_dict().unwrap_or_default() {
        visit(checkpoint, key, seen);
        visit(checkpoint, inner, seen);
    }
}
