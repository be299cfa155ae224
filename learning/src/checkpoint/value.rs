//! What a pickle holds, as plain data: a tree without shared parts, of bounded depth and size, so that walking it ends.

use std::fmt;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Python's `None`.
    None,
    /// A truth value, numpy's too.
    Bool(bool),
    /// A whole number of at most 64 bits, numpy's too.
    Int(i64),
    /// A number, numpy's too.
    Float(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list; also a numpy array of texts or objects with one dimension.
    List(Vec<Value>),
    /// A tuple or a `torch.Size`.
    Tuple(Vec<Value>),
    /// A set, in the file's order.
    Set(Vec<Value>),
    /// A dictionary of any kind, in the file's order, no text or whole number twice as a key.
    Dict(Vec<(Value, Value)>),
    /// A numpy array of numbers.
    Array(Array),
    /// A tensor; [`Checkpoint::values`](super::Checkpoint::values) reads its values.
    Tensor(Tensor),
    /// A path of pathlib, its parts joined by `/`.
    Path(String),
    /// Something of Python that is known and stays a name, such as a `torch.device`, with what it would be made of.
    Named {
        /// Its name in Python.
        name: String,
        /// What it would be made of.
        arguments: Vec<Value>,
    },
}

impl Value {
    /// What a dictionary holds under a text.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_dict()?.iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// The whole number that this is.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The number that this is, a whole one too.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The truth value that this is.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The text or path that this is.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) => Some(text),
            _ => None,
        }
    }

    /// The values of a list, tuple or set.
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(values) | Self::Tuple(values) | Self::Set(values) => Some(values),
            _ => None,
        }
    }

    /// The entries of a dictionary, in the file's order.
    pub fn as_dict(&self) -> Option<&[(Self, Self)]> {
        match self {
            Self::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The tensor that this is.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The numbers of a list, tuple or array of one dimension, if it holds nothing else.
    pub fn to_f64s(&self) -> Option<Vec<f64>> {
        match self {
            Self::Array(Array { shape, numbers }) if shape.len() == 1 => Some(match numbers {
                Numbers::Ints(values) => values.iter().map(|&v| v as f64).collect(),
                Numbers::Floats(values) => values.clone(),
            }),
            _ => self.as_list()?.iter().map(Self::as_f64).collect(),
        }
    }
}

/// A numpy array of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its shape, outermost first.
    pub shape: Vec<usize>,
    /// Its values in row-major order.
    pub numbers: Numbers,
}

/// The values of a numpy array.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Of whole numbers and truth values (0 and 1).
    Ints(Vec<i64>),
    /// Of numbers with a fraction.
    Floats(Vec<f64>),
}

/// A tensor of a checkpoint: where its values are, not the values. Within its storage, which the reader checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub(super) storage: String,
    pub(super) element: ElementType,
    /// First element, counted in the storage's elements.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Elements from one index to the next, of each dimension.
    pub(super) strides: Vec<usize>,
    /// One more than the last element's place in the storage, `offset` if there is none.
    pub(super) end: usize,
    /// Elements of the storage.
    pub(super) stored: usize,
}

impl Tensor {
    /// Its shape, outermost first; empty for a single number.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// What its elements are stored as.
    pub fn element_type(&self) -> ElementType {
        self.element
    }

    /// Number of its elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What a tensor's elements are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are torch's and say all")]
pub enum ElementType {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl ElementType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// torch's name of it, without `torch.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U64 => "uint64",
            Self::U32 => "uint32",
            Self::U16 => "uint16",
            Self::U8 => "uint8",
            Self::Bool => "bool",
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "torch.{}", self.name())
    }
}
