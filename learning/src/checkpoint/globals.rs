//! The only names that a pickle may use, and what each stands for here. No name leads to code of the file's choice:
//! each is a way to arrange data, or stays a name.

use super::error::PickleError;
use super::value::ElementType;

/// What an allowed name stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Global {
    Dict,
    DefaultDict,
    List,
    Tuple,
    Set,
    Bytes,
    ByteArray,
    /// `_codecs.encode`: how old protocols write bytes.
    Encode,
    Path,
    /// numpy's empty array, to be filled.
    EmptyArray,
    /// A numpy number with its type and bytes.
    Scalar,
    /// A numpy array with its bytes, type and shape.
    FromBuffer,
    NumpyType,
    /// A tensor of a storage with offset, shape and strides.
    Tensor,
    /// The same with its own element type, for newer types.
    TypedTensor,
    /// A tensor that is learnt.
    Parameter,
    /// A storage of elements of one type.
    Storage(ElementType),
    /// A type of torch's elements.
    Element(ElementType),
    /// Kept as a name with its arguments.
    Kept(&'static str),
    /// Kept as a name, and nothing that could be made of it is read.
    Name(&'static str),
}

const KEPT: [&str; 4] = ["torch.device", "builtins.complex", "builtins.slice", "builtins.range"];
const NAMES: [&str; 17] = [
    "builtins.int",
    "builtins.float",
    "builtins.bool",
    "builtins.str",
    "numpy.ndarray",
    "numpy.float64",
    "numpy.float32",
    "numpy.float16",
    "numpy.int64",
    "numpy.int32",
    "numpy.int16",
    "numpy.int8",
    "numpy.uint64",
    "numpy.uint32",
    "numpy.uint16",
    "numpy.uint8",
    "numpy.bool_",
];
const STORAGES: [(&str, ElementType); 11] = [
    ("DoubleStorage", ElementType::F64),
    ("FloatStorage", ElementType::F32),
    ("HalfStorage", ElementType::F16),
    ("BFloat16Storage", ElementType::Bf16),
    ("LongStorage", ElementType::I64),
    ("IntStorage", ElementType::I32),
    ("ShortStorage", ElementType::I16),
    ("CharStorage", ElementType::I8),
    ("ByteStorage", ElementType::U8),
    ("BoolStorage", ElementType::Bool),
    // Counted in bytes.
    ("UntypedStorage", ElementType::U8),
];
const ELEMENTS: [ElementType; 13] = [
    ElementType::F64,
    ElementType::F32,
    ElementType::F16,
    ElementType::Bf16,
    ElementType::I64,
    ElementType::I32,
    ElementType::I16,
    ElementType::I8,
    ElementType::U64,
    ElementType::U32,
    ElementType::U16,
    ElementType::U8,
    ElementType::Bool,
];

/// What a name stands for; one that is not on the list is refused by name.
pub(super) fn find(module: &str, name: &str) -> Result<Global, PickleError> {
    // Python 2, and protocols that imitate it.
    let module = if module == "__builtin__" { "builtins" } else { module };
    Ok(match (module, name) {
        ("collections", "OrderedDict") | ("builtins", "dict") => Global::Dict,
        ("collections", "defaultdict") => Global::DefaultDict,
        ("builtins", "list") => Global::List,
        ("builtins", "tuple") | ("torch", "Size") => Global::Tuple,
        ("builtins", "set" | "frozenset") => Global::Set,
        ("builtins", "bytes") => Global::Bytes,
        ("builtins", "bytearray") => Global::ByteArray,
        ("_codecs", "encode") => Global::Encode,
        (
            "pathlib" | "pathlib._local",
            "Path" | "PurePath" | "PosixPath" | "PurePosixPath" | "WindowsPath" | "PureWindowsPath",
        ) => Global::Path,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::EmptyArray,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::Scalar,
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Global::FromBuffer,
        ("numpy", "dtype") => Global::NumpyType,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::Tensor,
        ("torch._utils", "_rebuild_tensor_v3") => Global::TypedTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::Parameter,
        ("torch" | "torch.storage", _) if name.ends_with("Storage") => storage(module, name)?,
        _ => return other(module, name),
    })
}

fn storage(module: &str, name: &str) -> Result<Global, PickleError> {
    let found = STORAGES.iter().find(|(known, _)| *known == name);
    found.map(|(_, element)| Global::Storage(*element)).ok_or_else(|| unread(module, name))
}

fn other(module: &str, name: &str) -> Result<Global, PickleError> {
    let full = format!("{module}.{name}");
    let listed = |names: &[&'static str]| names.iter().copied().find(|known| *known == full);
    if let Some(kept) = listed(&KEPT) {
        return Ok(Global::Kept(kept));
    }
    if let Some(name) = listed(&NAMES) {
        return Ok(Global::Name(name));
    }
    if module == "torch" {
        if let Some(element) = ELEMENTS.iter().find(|element| element.name() == name) {
            return Ok(Global::Element(*element));
        }
        if ["complex", "float8", "float4", "quint", "qint", "bits"].iter().any(|kind| name.starts_with(kind)) {
            return Err(unread(module, name));
        }
    }
    Err(PickleError::Forbidden { name: full })
}

fn unread(module: &str, name: &str) -> PickleError {
    PickleError::unsupported(format!("a tensor of type `{module}.{name}`"))
}
