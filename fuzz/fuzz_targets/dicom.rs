//! Any bytes as a DICOM file: opened and read, or refused, never a crash or memory out of proportion.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = consilium_fuzz::folder().join("slide.dcm");
    std::fs::write(&path, bytes).expect("a file in memory");
    consilium_fuzz::read(&path);
});
