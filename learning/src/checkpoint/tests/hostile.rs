//! Pickles that would run something, that are larger than they look, damaged or no pickles at all.

use consilium_common::limits;
use proptest::prelude::*;

use super::*;

fn forbidden(bytes: &[u8]) -> String {
    let error = refused(bytes);
    let message = error.to_string();
    let PickleError::Forbidden { name } = error else { panic!("{bytes:?}: {message}") };
    assert!(message.contains(&format!("asks to run `{name}`; nothing was run")), "{message}");
    name
}

#[test]
fn whatever_would_run_is_refused_by_name() {
    for (bytes, name) in [
        (&b"cos\nsystem\n(Vtouch x\ntR."[..], "os.system"),
        (b"cposix\nsystem\n(Vtouch x\ntR.", "posix.system"),
        (b"c__builtin__\neval\n(V1\ntR.", "builtins.eval"),
        (b"cbuiltins\nexec\n(V1\ntR.", "builtins.exec"),
        (b"cbuiltins\ngetattr\n(cbuiltins\ndict\nVget\ntR.", "builtins.getattr"),
        (b"cbuiltins\n__import__\n(Vos\ntR.", "builtins.__import__"),
        (b"(ios\nsystem\nVtouch x\n.", "os.system"),
        (b"(cos\nsystem\nVtouch x\no.", "os.system"),
        (b"csubprocess\nPopen\n)\x81.", "subprocess.Popen"),
        (b"ccollections\nOrderedDict.__reduce__\n)R.", "collections.OrderedDict.__reduce__"),
        (b"ccollections\n_sys.modules\n.", "collections._sys.modules"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"cnumpy.testing._private.utils\nrunstring\n.", "numpy.testing._private.utils.runstring"),
        (b"ctorch\nload\n.", "torch.load"),
        (b"ctorch.storage\n_load_from_bytes\n(C\x01xtR.", "torch.storage._load_from_bytes"),
        (b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n.", "torch._utils._rebuild_device_tensor_from_numpy"),
        (b"cpathlib\nPath.touch\n.", "pathlib.Path.touch"),
        (b"c_codecs\ndecode\n.", "_codecs.decode"),
        (b"ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
        // Inside of what is allowed.
        (b"ccollections\nOrderedDict\n(](Vx\ncos\nsystem\n(Vx\ntRetR.", "os.system"),
        (b"}Vx\ncnt\nsystem\ns.", "nt.system"),
    ] {
        assert_eq!(forbidden(bytes), name, "{bytes:?}");
    }
    let assembled = pickle(&[&short("os"), &short("system"), b"\x93", &short("touch x"), b"\x85R"]);
    assert_eq!(forbidden(&assembled), "os.system");
}

#[test]
fn codes_that_stand_for_unknown_code_are_refused() {
    for bytes in [
        &b"\x82\x01."[..],
        b"\x83\x01\x00.",
        b"\x84\x01\x00\x00\x00.",
        b"P1\n.",
        b"VModule\nQ.",
        b"(Vmodule\nccollections\nOrderedDict\nVx\nVsource\ntQ.",
        b"(Vstorage\ncollections\ntQ.",
        b"\x97.",
        b"ccollections\nOrderedDict\n)}\x92.",
        b"\x80\x06N.",
        b"ctorch\nComplexFloatStorage\n.",
        b"ctorch\nfloat8_e4m3fn\n.",
        b"ccollections\nOrderedDict\nccollections\nOrderedDict\n\x86R.",
    ] {
        assert!(unpickle(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn calls_of_data_are_refused() {
    for bytes in [
        &b"Vos.system\n)R."[..],
        b"}(Vx\ntR.",
        b"cbuiltins\nint\n(V1\ntR.",
        b"cnumpy\nndarray\n)R.",
        b"ctorch\nFloatStorage\n)R.",
        b"ccollections\nOrderedDict\n](R.",
        b"K\x01}b.",
        b"]}b.",
        b"ccollections\nOrderedDict\n)RK\x01b.",
        b"K\x01K\x02a.",
        b"]K\x01K\x02s.",
        b"}K\x01a.",
        b"}(K\x01u.",
    ] {
        assert!(matches!(refused(bytes), PickleError::Malformed { .. }), "{bytes:?}: {}", refused(bytes));
    }
}

/// Lists of two references to the list before, so many deep: 2^deep values in the tree.
fn laughs(deep: u8) -> Vec<u8> {
    let mut bytes = b"]q\0".to_vec();
    for level in 1..=deep {
        bytes.extend([b'0', b']', b'q', level, b'(', b'h', level - 1, b'h', level - 1, b'e']);
    }
    bytes.push(b'.');
    bytes
}

#[test]
fn shared_parts_do_not_fill_the_memory() {
    let read = value(&laughs(10));
    assert_eq!(read.as_list().map(<[Value]>::len), Some(2));
    assert!(matches!(refused(&laughs(40)), PickleError::TooLarge { .. }));
    // One text of 64 kB, a hundred thousand times in a path, a set of paths, and a dictionary.
    let long = [b"X\0\0\x01\0".as_slice(), &vec![b'a'; 1 << 16], b"q\x000"].concat();
    let many = b"h\0".repeat(100_000);
    let path = pickle(&[&long, b"cpathlib\nPath\n(", &many, b"tR"]);
    assert!(matches!(refused(&path), PickleError::TooLarge { .. }));
    let list = pickle(&[&long, b"](", &many, b"e"]);
    assert!(matches!(refused(&list), PickleError::TooLarge { .. }));
    // A long tuple that serves for many calls.
    let calls = pickle(&[b"(", &b"N".repeat(500_000), b"tq\0cpathlib\nPath\nq\x01", &b"h\x01h\0R".repeat(1000)]);
    assert!(unpickle(&calls).is_err());
    let lists = pickle(&[b"(", &b"N".repeat(500_000), b"t\x85q\0cbuiltins\nlist\nq\x01", &b"h\x01h\0R".repeat(1000)]);
    assert!(matches!(refused(&lists), PickleError::TooLarge { .. }));
    // The same bytes as the content of many arrays.
    let bytes = [b"B\0\0\x10\0".as_slice(), &vec![1; 1 << 20], b"q\0"].concat();
    let shape = b"J\0\0\x10\0\x85q\x01";
    let set_up = [&bytes, shape.as_slice(), &numpy_type("i1", "|"), b"q\x02Vno\nq\x03"].concat();
    let arrays = b"cnumpy.core.numeric\n_frombuffer\n(h\0h\x02h\x01h\x03tR".repeat(1000);
    assert!(matches!(refused(&pickle(&[&set_up, &arrays])), PickleError::TooLarge { .. }));
}

#[test]
fn what_contains_itself_is_refused() {
    for bytes in [&b"]q\0h\0a."[..], b"}q\0Vx\nh\0s.", b"]q\0(h\0ta.", b"\x8fq\0(h\0\x90.", b"]q\0]q\x01h\0ah\0h\x01a."]
    {
        let error = refused(bytes);
        assert!(error.to_string().contains("contains itself"), "{bytes:?}: {error}");
    }
    assert!(unpickle(b"(K\x01tq\0h\0h\0\x86.").is_ok(), "the same value twice is none of that");
}

#[test]
fn depth_and_stack_have_limits() {
    let nested = |depth: usize| pickle(&[&b"]".repeat(depth), &b"a".repeat(depth - 1)]);
    assert!(unpickle(&nested(limits::MAX_PICKLE_DEPTH)).is_ok());
    assert!(matches!(refused(&nested(limits::MAX_PICKLE_DEPTH + 1)), PickleError::TooLarge { .. }));
    assert!(matches!(refused(&nested(100_000)), PickleError::TooLarge { .. }));
    assert!(matches!(refused(&b"(".repeat(limits::MAX_PICKLE_STACK + 1)), PickleError::TooLarge { .. }));
    let copies = [&b"K\x01"[..], &b"2".repeat(limits::MAX_PICKLE_STACK)].concat();
    assert!(matches!(refused(&copies), PickleError::TooLarge { .. }));
}

#[test]
fn lengths_are_checked_against_the_file() {
    for bytes in [
        &b"X\xff\xff\xff\xffab."[..],
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fab.",
        b"\x96\x00\x00\x00\x00\x00\x00\x01\x00ab.",
        b"B\xff\xff\xff\xffab.",
        b"T\xff\xff\xff\xffab.",
        b"\x8b\xff\xff\xff\xffab.",
        b"\x8b\xff\xff\xff\x7fab.",
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xffN.",
        b"\x8c\xffab.",
        b"h\x07.",
        b"j\xff\xff\xff\xff.",
        b"g99999999999\n.",
        b"q\0.",
        b"t.",
        b"0.",
        b".",
        b"",
        b"(.",
        b"K\x01(.",
        b"(K\x01(\x86.",
        b"X\x01\0\0\0\xff.",
        b"Fx\n.",
        b"I1",
        b"S'x\n.",
        b"V\\u12\n.",
        b"V\\ud800\n.",
        b"\xff.",
        b"}(Vx\nNVx\nNu.",
    ] {
        assert!(matches!(refused(bytes), PickleError::Malformed { .. }), "{bytes:?}: {}", refused(bytes));
    }
    let text = refused(b"\x8c\x05ab.").to_string();
    assert_eq!(text, "is no sound pickle (it ends 2 bytes too early, before byte 2); copy it anew, or save it again");
}

#[test]
fn arrays_that_are_not_what_they_say_are_refused() {
    for bytes in [
        array("f8", "<", &[3], false, &raw(&[0; 16])),
        array("i1", "|", &[255, 255, 255, 255, 255, 255, 255, 255], false, &raw(&[0; 16])),
        array("i1", "|", &[1; 9], false, &raw(&[0])),
        array("O8", "|", &[3], false, b"]Na"),
        array("O8", "|", &[1], false, &raw(&[0; 8])),
        array("i1", "|", &[1], false, b"]Na"),
        array("i1", "x", &[1], false, &raw(&[0])),
        array("V8", "|", &[1], false, &raw(&[0; 8])),
        array("c8", "<", &[1], false, &raw(&[0; 8])),
        array("", "<", &[1], false, &raw(&[0; 8])),
        array("ä8", "<", &[1], false, &raw(&[0; 8])),
        array("U99999999999999999999", "<", &[1], false, &raw(&[0; 8])),
        array("U4611686018427387904", "<", &[1], false, &raw(&[0; 8])),
        array("U1", "<", &[1], false, &raw(&[0, 0xd8, 0, 0])),
        array("U1", "<", &[1, 1], false, &raw(&[0; 4])),
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R.".to_vec(),
    ] {
        assert!(unpickle(&bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_pickle_cut_anywhere_is_refused() {
    let whole = array("f8", "<", &[2], false, &raw(&[0; 16]));
    assert!(unpickle(&whole).is_ok());
    for len in 0..whole.len() {
        assert!(unpickle(&whole[..len]).is_err(), "cut to {len} bytes");
    }
}

/// Codes with some sense to them, so that random sequences come further than the first check.
fn codes() -> impl Strategy<Value = Vec<u8>> {
    let parts: Vec<&'static [u8]> = vec![
        b"(",
        b"0",
        b"1",
        b"2",
        b"N",
        b"\x88",
        b"K\x03",
        b"J\xff\xff\xff\xff",
        b"\x8c\x01a",
        b"C\x08abcdefgh",
        b"]",
        b"}",
        b")",
        b"\x8f",
        b"a",
        b"e",
        b"s",
        b"u",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"\x90",
        b"\x91",
        b"\x94",
        b"q\0",
        b"h\0",
        b"h\x01",
        b"q\x01",
        b"R",
        b"\x81",
        b"b",
        b"Q",
        b"o",
        b"d",
        b"l",
        b"ccollections\nOrderedDict\n",
        b"cnumpy\ndtype\n(\x8c\x02f8tR",
        b"cnumpy\nndarray\n",
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy.core.multiarray\nscalar\n",
        b"ctorch\nFloatStorage\n",
        b"\x8c\x07storage",
        b"cpathlib\nPath\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"cbuiltins\nlist\n",
        b"c_codecs\nencode\n",
        b"\x8c\x06latin1",
        b".",
    ];
    prop::collection::vec(prop::sample::select(parts), 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = unpickle(&bytes);
    }

    #[test]
    fn any_codes_are_read_or_refused(bytes in codes()) {
        let _ = unpickle(&bytes);
    }

    #[test]
    fn a_changed_pickle_is_read_or_refused(at in 0usize..150, byte in any::<u8>()) {
        let mut bytes = array("f8", "<", &[2], false, &raw(&[0; 16]));
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = unpickle(&bytes);
    }
}
