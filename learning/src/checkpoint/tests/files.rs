//! Whole files as `torch.save` writes them, made here byte by byte: layouts, tensors of all types, and damage.

use std::io::{Seek, SeekFrom, Write};

use proptest::prelude::*;

use super::*;

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn checkpoint(bytes: &[u8]) -> Checkpoint {
    read_checkpoint(file(bytes).path()).unwrap_or_else(|e| panic!("{e}"))
}

fn fault(bytes: &[u8]) -> String {
    match read_checkpoint(file(bytes).path()) {
        Err(e) => e.to_string(),
        Ok(read) => panic!("was read as {:?}", read.root()),
    }
}

/// An archive of stored entries, with numbers of 64 bits where asked for.
fn zip(entries: &[(&str, &[u8])], wide: bool) -> Vec<u8> {
    zip_from(entries, wide, 0)
}

/// The same for an archive that begins so many bytes later than these.
fn zip_from(entries: &[(&str, &[u8])], wide: bool, base: u64) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let at = base + out.len() as u64;
        let len = content.len() as u32;
        // As torch does it, the entry's own header carries padding.
        out.extend([b"PK\x03\x04".as_slice(), &[0; 22], &(name.len() as u16).to_le_bytes(), &[4, 0]].concat());
        out.extend([name.as_bytes(), b"FB\0\0", content].concat());
        let extra =
            [&[1, 0, 24, 0][..], &u64::from(len).to_le_bytes(), &u64::from(len).to_le_bytes(), &at.to_le_bytes()];
        let extra = if wide { extra.concat() } else { Vec::new() };
        let [len, at] = if wide { [u32::MAX; 2] } else { [len, at as u32] };
        directory.extend([b"PK\x01\x02".as_slice(), &[0; 16], &len.to_le_bytes(), &len.to_le_bytes()].concat());
        directory.extend((name.len() as u16).to_le_bytes());
        directory.extend([&(extra.len() as u16).to_le_bytes()[..], &[0; 10], &at.to_le_bytes()].concat());
        directory.extend([name.as_bytes(), &extra].concat());
    }
    let (count, at, bytes) = (entries.len() as u64, base + out.len() as u64, directory.len() as u64);
    out.extend(directory);
    if wide {
        let end64 = base + out.len() as u64;
        let counts = [count, count, bytes, at].map(u64::to_le_bytes).concat();
        out.extend([b"PK\x06\x06".as_slice(), &[0; 20], &counts].concat());
        out.extend([b"PK\x06\x07".as_slice(), &[0; 4], &end64.to_le_bytes(), &[1, 0, 0, 0]].concat());
    }
    let [count, bytes, at] = if wide { [u64::MAX; 3] } else { [count, bytes, at] };
    let count = (count as u16).to_le_bytes();
    out.extend([b"PK\x05\x06".as_slice(), &[0; 4], &count, &count].concat());
    out.extend([&(bytes as u32).to_le_bytes()[..], &(at as u32).to_le_bytes(), &[0, 0]].concat());
    out
}

fn integer(number: usize) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &(number as u64).to_le_bytes()].concat()
}

fn tuple(numbers: &[usize]) -> Vec<u8> {
    [b"(".as_slice(), &numbers.iter().flat_map(|n| integer(*n)).collect::<Vec<_>>(), b"t"].concat()
}

/// A tensor of a storage, without the end of the pickle.
fn tensor(storage: &str, key: &str, stored: usize, offset: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let class = format!("ctorch\n{storage}\n");
    let id = [b"(\x8c\x07storage".as_slice(), class.as_bytes(), &short(key), &short("cpu"), &integer(stored), b"tQ"];
    let start = b"ctorch._utils\n_rebuild_tensor_v2\n(";
    let end = b"\x89ccollections\nOrderedDict\n)RtR";
    [start.as_slice(), &id.concat(), &integer(offset), &tuple(shape), &tuple(strides), end].concat()
}

/// A checkpoint that is one tensor.
fn of_one(storage: &str, content: &[u8], stored: usize, offset: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let pickle = pickle(&[&tensor(storage, "0", stored, offset, shape, strides)]);
    zip(&[("a/data.pkl", &pickle), ("a/byteorder", b"little"), ("a/data/0", content), ("a/version", b"3\n")], false)
}

/// The values of a checkpoint that is one tensor.
fn read_one(bytes: &[u8]) -> Result<Vec<f32>, CheckpointError> {
    let read = checkpoint(bytes);
    let tensor = read.root().as_tensor().unwrap();
    let values = read.values(tensor)?;
    assert_eq!(values.shape, tensor.shape());
    assert_eq!(values.values.len(), tensor.elements());
    Ok(values.values)
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn tensors_of_all_types() {
    for (storage, content, expected) in [
        ("FloatStorage", floats(&[1.5, -2.0]), [1.5, -2.0]),
        ("DoubleStorage", [1.5f64, -0.1].iter().flat_map(|v| v.to_le_bytes()).collect(), [1.5, -0.1]),
        ("HalfStorage", vec![0, 0x3e, 0, 0xc0], [1.5, -2.0]),
        ("BFloat16Storage", vec![0xc0, 0x3f, 0, 0xc0], [1.5, -2.0]),
        ("LongStorage", [3i64, -4].iter().flat_map(|v| v.to_le_bytes()).collect(), [3.0, -4.0]),
        ("IntStorage", [1i32 << 30, -4].iter().flat_map(|v| v.to_le_bytes()).collect(), [1_073_741_824.0, -4.0]),
        ("ShortStorage", [3i16, -4].iter().flat_map(|v| v.to_le_bytes()).collect(), [3.0, -4.0]),
        ("CharStorage", vec![3, 0xfc], [3.0, -4.0]),
        ("ByteStorage", vec![3, 0xfc], [3.0, 252.0]),
        ("BoolStorage", vec![0, 1], [0.0, 1.0]),
    ] {
        assert_eq!(read_one(&of_one(storage, &content, 2, 0, &[2], &[1])).unwrap(), expected, "{storage}");
    }
}

#[test]
fn a_newer_type_names_itself() {
    let id = b"(\x8c\x07storagectorch.storage\nUntypedStorage\n\x8c\x010\x8c\x03cpuK\x04tQ";
    let parts = [b"ctorch._utils\n_rebuild_tensor_v3\n(".as_slice(), id, b"K\0", &tuple(&[2]), &tuple(&[1]), b"\x89N"];
    let pickle = pickle(&[&parts.concat(), b"ctorch\nuint16\ntR"]);
    let bytes = zip(&[("a/data.pkl", &pickle), ("a/data/0", &[1, 0, 0xff, 0xff])], false);
    assert_eq!(read_one(&bytes).unwrap(), [1.0, 65535.0]);
}

#[test]
fn whole_numbers_must_be_exact() {
    for value in [(1i64 << 24) + 1, i64::MAX, -(1 << 24) - 1] {
        let bytes = of_one("LongStorage", &value.to_le_bytes(), 1, 0, &[1], &[1]);
        let error = read_one(&bytes).unwrap_err().to_string();
        assert!(error.contains("a value of type torch.int64 is no 32-bit number"), "{error}");
    }
    let large = of_one("DoubleStorage", &1e300f64.to_le_bytes(), 1, 0, &[1], &[1]);
    assert!(matches!(read_one(&large), Err(CheckpointError::Tensor { .. })));
    let infinite = of_one("DoubleStorage", &f64::INFINITY.to_le_bytes(), 1, 0, &[1], &[1]);
    assert_eq!(read_one(&infinite).unwrap(), [f32::INFINITY]);
}

#[test]
fn views_are_read_as_they_lie() {
    let content = floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let read = |offset, shape: &[usize], strides: &[usize]| {
        read_one(&of_one("FloatStorage", &content, 8, offset, shape, strides)).unwrap()
    };
    assert_eq!(read(1, &[2, 3], &[3, 1]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(read(1, &[3, 2], &[1, 3]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(read(0, &[2, 2, 2], &[1, 4, 2]), [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
    assert_eq!(read(7, &[], &[]), [7.0]);
    assert_eq!(read(0, &[4], &[2]), [0.0, 2.0, 4.0, 6.0]);
    assert_eq!(read(2, &[2, 2], &[0, 1]), [2.0, 3.0, 2.0, 3.0]);
    assert_eq!(read(2, &[1, 2], &[1 << 62, 1]), [2.0, 3.0], "a step that is never taken");
    assert!(read(8, &[0, 3], &[3, 1]).is_empty());
}

#[test]
fn several_tensors_share_a_storage() {
    let tensors = [tensor("FloatStorage", "0", 3, 0, &[3], &[1]), tensor("FloatStorage", "0", 3, 2, &[1], &[1])];
    let parameter = [b"ctorch._utils\n_rebuild_parameter\n(", tensors[1].as_slice(), b"\x88NtR"].concat();
    let pickle = pickle(&[b"}(", &short("a"), &tensors[0], &short("b"), &parameter, b"u"]);
    for wide in [false, true] {
        let read = checkpoint(&zip(&[("x/y/data.pkl", &pickle), ("x/y/data/0", &floats(&[1.0, 2.0, 3.0]))], wide));
        let values = |name: &str| read.values(read.root().get(name).unwrap().as_tensor().unwrap()).unwrap().values;
        assert_eq!((values("a"), values("b")), (vec![1.0, 2.0, 3.0], vec![3.0]));
    }
}

#[test]
fn an_archive_of_more_than_four_gigabytes_is_read() {
    let pickle = pickle(&[&tensor("FloatStorage", "0", 2, 1, &[1], &[1])]);
    let base = 5 << 30;
    let end = zip_from(&[("a/data.pkl", &pickle), ("a/data/0", &floats(&[1.0, 2.0]))], true, base);
    let mut file = file(b"PK\x03\x04");
    file.seek(SeekFrom::Start(base)).unwrap();
    file.write_all(&end).unwrap();
    let read = read_checkpoint(file.path()).unwrap();
    assert_eq!(read.values(read.root().as_tensor().unwrap()).unwrap().values, [2.0]);
}

#[test]
fn tensors_beyond_their_storage_are_refused() {
    let content = floats(&[0.0; 8]);
    for (stored, offset, shape, strides) in [
        (8, 0, &[9][..], &[1][..]),
        (8, 1, &[8], &[1]),
        (8, 9, &[], &[]),
        (8, 0, &[2, 2], &[8, 1]),
        (8, 0, &[usize::MAX], &[1]),
        (8, 0, &[3, 3], &[usize::MAX / 2, 1]),
        (8, 0, &[2], &[1, 1]),
        (8, 0, &[1; 9], &[1; 9]),
        (8, 0, &[0, 1 << 40, 1 << 40], &[1, 1, 1]),
    ] {
        let error = fault(&of_one("FloatStorage", &content, stored, offset, shape, strides));
        assert!(error.contains("is no sound pickle") || error.contains("too many"), "{shape:?} {strides:?}: {error}");
    }
    // The pickle is content with these, the file is not.
    for (stored, offset, shape, strides) in [
        (9, 0, &[9][..], &[1][..]),
        (1 << 40, 0, &[1 << 40], &[1]),
        (1 << 40, 1 << 39, &[1], &[1]),
        (8, 0, &[1 << 40], &[0]),
        (8, 0, &[3, 3], &[0, 0]),
    ] {
        let error = read_one(&of_one("FloatStorage", &content, stored, offset, shape, strides)).unwrap_err();
        assert!(matches!(error, CheckpointError::Tensor { .. }), "{shape:?} {strides:?}: {error}");
    }
}

/// A file of PyTorch before 1.6 with one tensor of three values, and where its storage begins.
fn legacy(protocol: u8, version: &[u8], little: bool) -> Vec<u8> {
    let magic = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let frame: &[u8] = if protocol > 3 { b"\x95\x0d\0\0\0\0\0\0\0" } else { b"" };
    let machine = pickle(&[b"}", &short("little_endian"), if little { b"\x88" } else { b"\x89" }, b"s"]);
    let content = pickle(&[&tensor("FloatStorage", "94", 3, 1, &[2], &[1])]);
    let keys = pickle(&[b"]", &short("94"), b"a"]);
    let storage = [&3u64.to_le_bytes()[..], &floats(&[1.0, 2.0, 3.0])].concat();
    [&[0x80, protocol], frame, magic, version, &machine, &content, &keys, &storage].concat()
}

#[test]
fn files_from_before_the_archive() {
    for protocol in [2, 4] {
        assert_eq!(read_one(&legacy(protocol, b"M\xe9\x03.", true)).unwrap(), [2.0, 3.0]);
    }
    assert!(fault(&legacy(2, b"M\xea\x03.", true)).contains("unknown version"));
    assert!(fault(&legacy(2, b"M\xe9\x03.", false)).contains("not little-endian"));
    let whole = legacy(2, b"M\xe9\x03.", true);
    for len in 0..whole.len() {
        assert!(read_checkpoint(file(&whole[..len]).path()).is_err(), "cut to {len} bytes");
    }
}

#[test]
fn damaged_archives_are_refused() {
    let sound = of_one("FloatStorage", &floats(&[1.0]), 1, 0, &[1], &[1]);
    assert_eq!(read_one(&sound).unwrap(), [1.0]);
    for len in 0..sound.len() {
        assert!(read_checkpoint(file(&sound[..len]).path()).is_err(), "cut to {len} bytes");
    }
    let tensor = pickle(&[&tensor("FloatStorage", "0", 1, 0, &[1], &[1])]);
    for (entries, expected) in [
        (&[("a/data/0", &b"abcd"[..])][..], "has no `data.pkl`"),
        (&[("a/data.pkl", b"N."), ("b/data.pkl", b"N.")], "has several `data.pkl`"),
        (&[("a/data.pkl", b"N."), ("a/data.pkl", b"N.")], "has `a/data.pkl` twice"),
        (&[("a/data.pkl", b"N."), ("a/byteorder", b"big")], "not little-endian"),
        (&[("a/data.pkl", &tensor)], "has no `a/data/0`"),
    ] {
        for wide in [false, true] {
            let error = fault(&zip(entries, wide));
            assert!(error.contains(expected), "{error}");
        }
    }
    let mut packed = zip(&[("a/data.pkl", b"N.")], false);
    let method = packed.len() - 22 - "a/data.pkl".len() - 36;
    packed[method] = 8;
    assert!(fault(&packed).contains("compressed"));
}

#[test]
fn an_archive_that_claims_much_is_refused() {
    let sound = zip(&[("a/data.pkl", b"N.")], true);
    assert_eq!(checkpoint(&sound).root(), &Value::None);
    let end64 = sound.len() - 22 - 20 - 56;
    for (at, expected) in [(32, "claims"), (40, "claims"), (48, "beyond")] {
        let mut changed = sound.clone();
        changed[end64 + at..end64 + at + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
        let error = fault(&changed);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn other_files_are_refused_by_name() {
    assert!(fault(b"").contains("neither an archive nor"));
    assert!(fault(&[&[b'x'; 257], &b"ustar"[..], &[0; 300]].concat()).contains("tar archive"));
    assert!(fault(b"\x80\x04N.").contains("neither an archive nor"));
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(read_checkpoint(folder.path()), Err(CheckpointError::Io { .. })));
    assert!(matches!(read_pickle(&folder.path().join("none")), Err(CheckpointError::Io { .. })));
    let tensor = pickle(&[&tensor("FloatStorage", "0", 1, 0, &[1], &[1])]);
    assert!(matches!(read_pickle(file(&tensor).path()), Err(CheckpointError::Format { .. })));
    let long = tempfile::NamedTempFile::new().unwrap();
    long.as_file().set_len(limits::MAX_PICKLE_BYTES + 1).unwrap();
    assert!(matches!(read_pickle(long.path()), Err(CheckpointError::TooLong { .. })));
}

#[test]
fn a_plain_pickle_is_read_from_its_file() {
    let file = file(b"\x80\x04}\x8c\x01aK\x01s.");
    assert_eq!(read_pickle(file.path()).unwrap().get("a").and_then(Value::as_i64), Some(1));
}

#[test]
fn a_payload_in_an_archive_is_refused_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("was-run");
    let call = format!("cos\nsystem\n(Vtouch {}\ntR.", mark.display());
    let error = fault(&zip(&[("a/data.pkl", call.as_bytes())], false));
    assert!(error.contains("asks to run `os.system`; nothing was run"), "{error}");
    assert!(!mark.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_changed_file_is_read_or_refused(old in any::<bool>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = match old {
            true => legacy(2, b"M\xe9\x03.", true),
            false => of_one("FloatStorage", &floats(&[1.0, 2.0]), 2, 0, &[2], &[1]),
        };
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = read_checkpoint(file(&bytes).path())
            && let Some(tensor) = read.root().as_tensor()
        {
            let _ = read.values(tensor);
        }
    }
}
