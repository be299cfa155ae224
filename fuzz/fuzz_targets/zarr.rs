//! Any bytes as the documents and one chunk of an OME-Zarr folder: opened and read, or refused.
//!
//! The input is three parts, cut at two bytes of 0xff (which no JSON holds): `.zattrs`, `0/.zarray`, chunk `0/0/0`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = consilium_fuzz::folder().join("slide.zarr");
    let level = folder.join("0");
    std::fs::create_dir_all(level.join("0").join("0")).expect("a folder in memory");
    let mut parts = bytes.splitn(3, |&byte| byte == 0xff);
    let mut next = || parts.next().unwrap_or_default();
    let (attributes, array, chunk) = (next(), next(), next());
    for (path, content) in [
        (folder.join(".zgroup"), &b"{\"zarr_format\": 2}"[..]),
        (folder.join(".zattrs"), attributes),
        (level.join(".zarray"), array),
        (level.join("0.0.0"), chunk),
        (level.join("0").join("0").join("0"), chunk),
    ] {
        std::fs::write(path, content).expect("a file in memory");
    }
    consilium_fuzz::read(&folder);
});
