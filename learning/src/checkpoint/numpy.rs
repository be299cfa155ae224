//! numpy's types, numbers and arrays as pickles hold them: a type's name, and bytes.

use std::fmt;

use consilium_common::limits;

use super::arena::{Arena, Id, Node};
use super::error::PickleError;
use super::strided;
use super::value::{Array, Numbers};

/// A numpy type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NumpyType {
    kind: Kind,
    /// Bytes of one element.
    bytes: usize,
    big_endian: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Signed,
    Unsigned,
    Float,
    /// UTF-32.
    Text,
    Object,
}

impl fmt::Display for NumpyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.big_endian { ">" } else { "<" };
        match self.kind {
            Kind::Text => write!(f, "{order}U{}", self.bytes / 4),
            Kind::Object => write!(f, "O"),
            kind => {
                let letter = match kind {
                    Kind::Bool => 'b',
                    Kind::Signed => 'i',
                    Kind::Unsigned => 'u',
                    _ => 'f',
                };
                write!(f, "{order}{letter}{}", self.bytes)
            }
        }
    }
}

impl NumpyType {
    /// From its name, such as `f8`.
    pub(super) fn parse(name: &str) -> Result<Self, PickleError> {
        let unread = || PickleError::unsupported(format!("a numpy array of type `{name}`"));
        let plain = name.trim_start_matches(['<', '>', '|', '=']);
        let big_endian = name.starts_with('>');
        let (Some(letter), size) = (plain.chars().next(), plain.get(1..).unwrap_or_default()) else {
            return Err(unread());
        };
        let size = if size.is_empty() { 0 } else { size.parse::<usize>().map_err(|_| unread())? };
        let kind = match (letter, size) {
            ('b', 1) => Kind::Bool,
            ('i', 1 | 2 | 4 | 8) => Kind::Signed,
            ('u', 1 | 2 | 4 | 8) => Kind::Unsigned,
            ('f', 2 | 4 | 8) => Kind::Float,
            ('U', 1..) => Kind::Text,
            ('O', 0 | 4 | 8) => Kind::Object,
            _ => return Err(unread()),
        };
        let bytes = if kind == Kind::Text { size.checked_mul(4).ok_or_else(unread)? } else { size };
        Ok(Self { kind, bytes, big_endian })
    }

    /// The same with the byte order of a type's state.
    pub(super) fn with_order(self, order: &str) -> Result<Self, PickleError> {
        match order {
            "<" | "|" | "=" => Ok(Self { big_endian: false, ..self }),
            ">" => Ok(Self { big_endian: true, ..self }),
            _ => Err(PickleError::malformed("a numpy type has no byte order")),
        }
    }

    fn int(self, bytes: &[u8]) -> Result<i64, PickleError> {
        let raw = self.widened(bytes);
        match self.kind {
            Kind::Bool => Ok(i64::from(raw != 0)),
            Kind::Signed => {
                let unused = 64 - 8 * self.bytes as u32;
                Ok((raw.cast_signed() << unused) >> unused)
            }
            _ => i64::try_from(raw)
                .map_err(|_| PickleError::unsupported("a whole number of numpy that needs more than 63 bits")),
        }
    }

    fn float(self, bytes: &[u8]) -> f64 {
        let raw = self.widened(bytes);
        match self.bytes {
            2 => f64::from(half::f16::from_bits(raw as u16)),
            4 => f64::from(f32::from_bits(raw as u32)),
            _ => f64::from_bits(raw),
        }
    }

    /// The bytes of an element of at most eight as a number.
    fn widened(self, bytes: &[u8]) -> u64 {
        let shift = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if self.big_endian { bytes.iter().fold(0, shift) } else { bytes.iter().rev().fold(0, shift) }
    }

    /// A text of UTF-32 up to its padding of zeros.
    fn text(self, bytes: &[u8]) -> Result<String, PickleError> {
        let codes = bytes.as_chunks::<4>().0.iter();
        let codes: Vec<u32> =
            codes.map(|b| if self.big_endian { u32::from_be_bytes(*b) } else { u32::from_le_bytes(*b) }).collect();
        let used = codes.iter().rposition(|code| *code != 0).map_or(0, |last| last + 1);
        let text: Option<String> = codes[..used].iter().map(|code| char::from_u32(*code)).collect();
        text.ok_or_else(|| PickleError::malformed("a numpy text is no Unicode"))
    }
}

impl Arena {
    /// One numpy number or text.
    pub(super) fn scalar(&mut self, kind: NumpyType, bytes: &[u8]) -> Result<Id, PickleError> {
        if bytes.len() != kind.bytes || kind.kind == Kind::Object {
            return Err(PickleError::malformed(format!("a numpy number of type {kind} has {} bytes", bytes.len())));
        }
        let node = match kind.kind {
            Kind::Bool => Node::Bool(kind.int(bytes)? != 0),
            Kind::Float => Node::Float(kind.float(bytes)),
            Kind::Text => Node::Text(kind.text(bytes)?),
            _ => Node::Int(kind.int(bytes)?),
        };
        self.add(node)
    }

    /// An array of numbers, or a list of texts, from bytes.
    pub(super) fn array(
        &mut self,
        kind: NumpyType,
        shape: Vec<usize>,
        columns_first: bool,
        bytes: &[u8],
    ) -> Result<Node, PickleError> {
        let count = checked_elements(&shape)?;
        if kind.kind == Kind::Object || count.checked_mul(kind.bytes) != Some(bytes.len()) {
            let len = bytes.len();
            return Err(PickleError::malformed(format!("a numpy array {shape:?} of type {kind} has {len} bytes")));
        }
        // Paid before it is made: the same bytes may serve for many arrays.
        self.budget.spend(8 * count)?;
        let strides = if columns_first { strided::column_major(&shape) } else { strided::row_major(&shape) };
        let mut places = Vec::with_capacity(count);
        strided::for_each_place(&shape, &strides, |place| {
            places.push(place);
            Ok::<_, PickleError>(())
        })?;
        let element = |place: &usize| &bytes[place * kind.bytes..(place + 1) * kind.bytes];
        let numbers = match kind.kind {
            Kind::Text => return self.texts(kind, &shape, places.iter().map(element)),
            Kind::Float => Numbers::Floats(places.iter().map(|place| kind.float(element(place))).collect()),
            _ => Numbers::Ints(places.iter().map(|place| kind.int(element(place))).collect::<Result<_, _>>()?),
        };
        Ok(Node::Array(Box::new(Array { shape, numbers })))
    }

    fn texts<'a>(
        &mut self,
        kind: NumpyType,
        shape: &[usize],
        elements: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Node, PickleError> {
        one_dimension(shape)?;
        let mut ids = Vec::new();
        for bytes in elements {
            let text = kind.text(bytes)?;
            ids.push(self.add(Node::Text(text))?);
        }
        Ok(Node::List(ids))
    }

    /// An array of any objects, which the file holds as a list.
    pub(super) fn objects(&self, kind: NumpyType, shape: &[usize], items: &[Id]) -> Result<Node, PickleError> {
        one_dimension(shape)?;
        if kind.kind != Kind::Object || shape != [items.len()] {
            return Err(PickleError::malformed("a numpy array has a list for its bytes"));
        }
        Ok(Node::List(items.to_vec()))
    }
}

fn one_dimension(shape: &[usize]) -> Result<(), PickleError> {
    let what = "a numpy array of texts or objects with more than one dimension";
    if shape.len() == 1 { Ok(()) } else { Err(PickleError::unsupported(what)) }
}

/// Refuses a shape with too many dimensions.
pub(super) fn checked_dimensions(dimensions: usize) -> Result<(), PickleError> {
    if dimensions > limits::MAX_TENSOR_DIMENSIONS {
        return Err(PickleError::TooLarge { what: "an array or tensor has too many dimensions" });
    }
    Ok(())
}

/// Elements of a shape, as far as numbers go.
pub(super) fn checked_elements(shape: &[usize]) -> Result<usize, PickleError> {
    strided::elements(shape).ok_or(PickleError::TooLarge { what: "an array or tensor has too many elements" })
}
