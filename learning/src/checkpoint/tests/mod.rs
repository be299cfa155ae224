//! Pickles written by hand, as Python's pickler would: every group of codes, and what becomes of each.

mod files;
mod hostile;

use super::machine::unpickle;
use super::*;

/// The value of a pickle.
fn value(bytes: &[u8]) -> Value {
    unpickle(bytes).unwrap_or_else(|e| panic!("{:?}: {e}", String::from_utf8_lossy(bytes))).value
}

/// The error of a pickle.
fn refused(bytes: &[u8]) -> PickleError {
    match unpickle(bytes) {
        Err(e) => e,
        Ok(read) => panic!("{:?} was read as {:?}", String::from_utf8_lossy(bytes), read.value),
    }
}

/// A text behind its length of one byte.
fn short(text: &str) -> Vec<u8> {
    [&[0x8c, text.len() as u8], text.as_bytes()].concat()
}

/// Parts behind each other and the end of a pickle.
fn pickle(parts: &[&[u8]]) -> Vec<u8> {
    [&parts.concat(), &b"."[..]].concat()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn ints(numbers: &[i64]) -> Vec<Value> {
    numbers.iter().map(|number| Value::Int(*number)).collect()
}

#[test]
fn numbers_of_all_codes() {
    let cases: [(&[u8], Value); 23] = [
        (b"N.", Value::None),
        (b"\x88.", Value::Bool(true)),
        (b"\x89.", Value::Bool(false)),
        (b"I01\n.", Value::Bool(true)),
        (b"I00\n.", Value::Bool(false)),
        (b"I-12\n.", Value::Int(-12)),
        (b"J\xfe\xff\xff\xff.", Value::Int(-2)),
        (b"K\xff.", Value::Int(255)),
        (b"M\x01\x02.", Value::Int(513)),
        (b"L123L\n.", Value::Int(123)),
        (b"L-9223372036854775808L\n.", Value::Int(i64::MIN)),
        (b"\x8a\x00.", Value::Int(0)),
        (b"\x8a\x01\xff.", Value::Int(-1)),
        (b"\x8a\x02\xff\x00.", Value::Int(255)),
        (b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.", Value::Int(i64::MAX)),
        (b"\x8b\x02\x00\x00\x00\x00\x80.", Value::Int(-32768)),
        (b"F1.5\n.", Value::Float(1.5)),
        (b"F-inf\n.", Value::Float(f64::NEG_INFINITY)),
        (b"G\x3f\xf8\x00\x00\x00\x00\x00\x00.", Value::Float(1.5)),
        (b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00K\x07.", Value::Int(7)),
        (b"K\x01K\x020.", Value::Int(1)),
        (b"K\x01(K\x02K\x031.", Value::Int(1)),
        (b"K\x01(0.", Value::Int(1)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(value(bytes), expected, "{bytes:?}");
    }
    let long = value(b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00.");
    let bytes = vec![255, 255, 255, 255, 255, 255, 255, 255, 0];
    assert_eq!(long, Value::Named { name: "builtins.int".to_owned(), arguments: vec![Value::Bytes(bytes)] });
}

#[test]
fn texts_and_bytes_of_all_codes() {
    for (bytes, expected) in [
        (&b"S'plain'\n."[..], "plain"),
        (b"S\"plain\"\n.", "plain"),
        (b"T\x02\x00\x00\x00ab.", "ab"),
        (b"U\x02ab.", "ab"),
        (b"Va\\u00e4\\U0001f600\xe4\\n\n.", "aä😀ä\\n"),
        ("X\x02\0\0\0ä.".as_bytes(), "ä"),
        (b"\x8c\x02ab.", "ab"),
        (b"\x8d\x02\0\0\0\0\0\0\0ab.", "ab"),
    ] {
        assert_eq!(value(bytes), text(expected), "{bytes:?}");
    }
    for bytes in [
        &b"B\x02\0\0\0\xff\x01."[..],
        b"C\x02\xff\x01.",
        b"\x8e\x02\0\0\0\0\0\0\0\xff\x01.",
        b"\x96\x02\0\0\0\0\0\0\0\xff\x01.",
        b"U\x02\xff\x01.",
        b"c_codecs\nencode\n(V\xff\x01\nVlatin1\ntR.",
        b"cbuiltins\nbytearray\n(C\x02\xff\x01tR.",
        b"c__builtin__\nbytearray\n(V\xff\x01\nVlatin-1\ntR.",
    ] {
        assert_eq!(value(bytes), Value::Bytes(vec![255, 1]), "{bytes:?}");
    }
    assert_eq!(value(b"c__builtin__\nbytes\n)R."), Value::Bytes(Vec::new()));
}

#[test]
fn lists_tuples_sets_and_dictionaries() {
    for bytes in [&b"]K\x01aK\x02a."[..], b"](K\x01K\x02e.", b"(K\x01K\x02l.", b"c__builtin__\nlist\n((K\x01K\x02ltR."]
    {
        assert_eq!(value(bytes), Value::List(ints(&[1, 2])), "{bytes:?}");
    }
    for (bytes, count) in [(&b")."[..], 0), (b"K\x01\x85.", 1), (b"K\x01K\x02\x86.", 2), (b"K\x01K\x02K\x03\x87.", 3)] {
        assert_eq!(value(bytes), Value::Tuple(ints(&[1, 2, 3][..count])), "{bytes:?}");
    }
    assert_eq!(value(b"(K\x01K\x02K\x03K\x04t."), Value::Tuple(ints(&[1, 2, 3, 4])));
    assert_eq!(value(b"ctorch\nSize\n(K\x01K\x02\x86tR."), Value::Tuple(ints(&[1, 2])));
    for bytes in [&b"\x8f(K\x01K\x02\x90."[..], b"(K\x01K\x02\x91.", b"c__builtin__\nset\n(](K\x01K\x02etR."] {
        assert_eq!(value(bytes), Value::Set(ints(&[1, 2])), "{bytes:?}");
    }
    let expected = Value::Dict(vec![(text("a"), Value::Int(1)), (Value::Int(2), Value::None)]);
    for bytes in [
        &b"}\x8c\x01aK\x01sK\x02Ns."[..],
        b"}(\x8c\x01aK\x01K\x02Nu.",
        b"(\x8c\x01aK\x01K\x02Nd.",
        b"ccollections\nOrderedDict\n)R(\x8c\x01aK\x01K\x02Nu.",
        b"ccollections\nOrderedDict\n)\x81(\x8c\x01aK\x01K\x02Nu}b.",
        b"ccollections\nOrderedDict\n(]](\x8c\x01aK\x01ea](K\x02NeatR.",
        b"ccollections\ndefaultdict\ncbuiltins\nlist\n\x85R(\x8c\x01aK\x01K\x02Nu.",
        b"(icollections\nOrderedDict\n(\x8c\x01aK\x01K\x02Nu.",
        b"(ccollections\nOrderedDict\no(\x8c\x01aK\x01K\x02Nu.",
    ] {
        assert_eq!(value(bytes), expected, "{bytes:?}");
    }
    assert_eq!(expected.get("a"), Some(&Value::Int(1)));
    assert_eq!(expected.get("b"), None);
}

#[test]
fn what_is_kept_comes_again() {
    for bytes in [
        &b"\x8c\x01aq\x050h\x05h\x05\x86."[..],
        b"\x8c\x01ar\x05\0\0\x010j\x05\0\0\x01j\x05\0\0\x01\x86.",
        b"\x8c\x01ap5\n0g5\ng5\n\x86.",
        b"\x8c\x01a\x94h\0\x86.",
        b"\x8c\x01a2\x86.",
    ] {
        assert_eq!(value(bytes), Value::Tuple(vec![text("a"), text("a")]), "{bytes:?}");
    }
    // A list that grows after it was kept is the same list wherever it stands.
    assert_eq!(value(b"]q\0K\x01ah\0K\x02a\x86."), {
        let list = Value::List(ints(&[1, 2]));
        Value::Tuple(vec![list.clone(), list])
    });
}

#[test]
fn names_that_stay_names() {
    let device = value(b"ctorch\ndevice\n\x8c\x04cudaK\x01\x86R.");
    assert_eq!(device, Value::Named { name: "torch.device".to_owned(), arguments: vec![text("cuda"), Value::Int(1)] });
    let float = Value::Named { name: "torch.float16".to_owned(), arguments: Vec::new() };
    assert_eq!(value(b"ctorch\nfloat16\n."), float);
    assert_eq!(value(&pickle(&[&short("torch"), &short("float16"), b"\x93"])), float);
    let path = value(b"cpathlib\nPosixPath\n(\x8c\x01/\x8c\x04data\x8c\x01xtR.");
    assert_eq!(path, Value::Path("/data/x".to_owned()));
    assert_eq!(path.as_str(), Some("/data/x"));
}

/// `numpy.dtype(kind)` with its state.
fn numpy_type(kind: &str, order: &str) -> Vec<u8> {
    let state = [&b"(K\x03"[..], &short(order), b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"].concat();
    [b"cnumpy\ndtype\n(".as_slice(), &short(kind), b"\x89\x88tR", &state].concat()
}

/// A numpy array as protocol 2 to 4 write it.
fn array(kind: &str, order: &str, shape: &[u8], columns_first: bool, content: &[u8]) -> Vec<u8> {
    let shape: Vec<u8> = shape.iter().flat_map(|side| [b'K', *side]).collect();
    let empty = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R";
    let flag = if columns_first { b"\x88" } else { b"\x89" };
    pickle(&[empty, b"(K\x01(", &shape, b"t", &numpy_type(kind, order), flag, content, b"tb"])
}

fn raw(bytes: &[u8]) -> Vec<u8> {
    [&[b'C', bytes.len() as u8], bytes].concat()
}

#[test]
fn numpy_arrays_of_all_types() {
    let float = |shape: &[usize], values: &[f64]| {
        Value::Array(Array { shape: shape.to_vec(), numbers: Numbers::Floats(values.to_vec()) })
    };
    let whole = |shape: &[usize], values: &[i64]| {
        Value::Array(Array { shape: shape.to_vec(), numbers: Numbers::Ints(values.to_vec()) })
    };
    let f8: Vec<u8> = [1.5f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(value(&array("f8", "<", &[2], false, &raw(&f8))), float(&[2], &[1.5, -2.0]));
    assert_eq!(value(&array("f8", "<", &[2], false, &raw(&f8))).to_f64s(), Some(vec![1.5, -2.0]));
    let f4: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_be_bytes()).collect();
    assert_eq!(value(&array("f4", ">", &[1, 2], false, &raw(&f4))), float(&[1, 2], &[1.5, -2.0]));
    assert_eq!(value(&array("f2", "<", &[1], false, &raw(&[0, 0x3c]))), float(&[1], &[1.0]));
    assert_eq!(value(&array("i2", "<", &[2], false, &raw(&[0xfe, 0xff, 1, 2]))), whole(&[2], &[-2, 513]));
    assert_eq!(value(&array("u2", ">", &[1], false, &raw(&[0xff, 0xfe]))), whole(&[1], &[65534]));
    assert_eq!(value(&array("b1", "|", &[2], false, &raw(&[0, 1]))), whole(&[2], &[0, 1]));
    // Columns first: [[1, 2, 3], [4, 5, 6]].
    assert_eq!(value(&array("i1", "|", &[2, 3], true, &raw(&[1, 4, 2, 5, 3, 6]))), whole(&[2, 3], &[1, 2, 3, 4, 5, 6]));
    assert_eq!(value(&array("i1", "|", &[0, 3], true, &raw(&[]))), whole(&[0, 3], &[]));
    assert_eq!(value(&array("i1", "|", &[], false, &raw(&[9]))), whole(&[], &[9]));
    let texts = [b'a', 0, 0, 0, 0, 0, 0, 0, 0xe4, 0, 0, 0, b'b', 0, 0, 0];
    assert_eq!(value(&array("U2", "<", &[2], false, &raw(&texts))), Value::List(vec![text("a"), text("äb")]));
    assert_eq!(value(&array("O8", "|", &[2], false, b"]\x8c\x01aaNa")), Value::List(vec![text("a"), Value::None]));
}

#[test]
fn numpy_numbers() {
    let scalar = |kind: &str, bytes: &[u8]| {
        pickle(&[b"cnumpy.core.multiarray\nscalar\n", &numpy_type(kind, "<"), &raw(bytes), b"\x86R"])
    };
    assert_eq!(value(&scalar("f8", &0.25f64.to_le_bytes())), Value::Float(0.25));
    assert_eq!(value(&scalar("i8", &(-5i64).to_le_bytes())), Value::Int(-5));
    assert_eq!(value(&scalar("u1", &[200])), Value::Int(200));
    assert_eq!(value(&scalar("b1", &[1])), Value::Bool(true));
    assert_eq!(value(&scalar("U1", &[b'x', 0, 0, 0])), text("x"));
    assert!(matches!(refused(&scalar("i8", &[1, 2])), PickleError::Malformed { .. }));
    assert!(matches!(refused(&scalar("u8", &[255; 8])), PickleError::Unsupported { .. }));
    assert!(matches!(refused(&scalar("M8", &[0; 8])), PickleError::Unsupported { .. }));
}

#[test]
fn helpers_give_only_what_is_there() {
    let list = value(b"](K\x01F2.5\ne.");
    assert_eq!(list.to_f64s(), Some(vec![1.0, 2.5]));
    assert_eq!(value(b"](K\x01Ne.").to_f64s(), None);
    assert_eq!((list.as_i64(), list.as_str(), list.as_bool(), list.as_f64()), (None, None, None, None));
    assert_eq!(list.as_list().map(<[Value]>::len), Some(2));
    assert_eq!(Value::Bool(true).as_i64(), None);
    assert_eq!(Value::Int(3).as_f64(), Some(3.0));
}
