//! Where the tensors of a member or delta file are: a strict reader and a deterministic writer of the safetensors header.
//!
//! A file is 8 bytes of little-endian header length, a JSON header, then the data. Only files that hold exactly the
//! float32 tensors of the architecture, without gaps or overlaps, are accepted; nothing is allocated on a stranger's word.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::Invalid;
use crate::limits;
use crate::plan::TensorShape;

/// Position of one tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpan {
    /// Its name.
    pub name: String,
    /// Offset of its first byte from the start of the file.
    pub offset: u64,
    /// Number of float32 elements.
    pub elements: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// Reads the length of the header from the first 8 bytes of a file.
pub fn header_len(prefix: [u8; 8]) -> Result<usize, Invalid> {
    let len = u64::from_le_bytes(prefix);
    if len > limits::MAX_TENSOR_HEADER_BYTES {
        return Err(Invalid::new("safetensors header", format!("claims {len} bytes; the file is not a member file")));
    }
    usize::try_from(len).map_err(|e| Invalid::new("safetensors header", e.to_string()))
}

/// Parses the header (without its 8-byte length) of a file of `file_len` bytes and checks it against the tensors that the
/// architecture has. The spans come back in the order of `expected`.
pub fn parse_header(header: &[u8], file_len: u64, expected: &[TensorShape]) -> Result<Vec<TensorSpan>, Invalid> {
    let fail = |why: String| Invalid::new("member file", why);
    let mut raw: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|e| fail(format!("its header is not safetensors JSON: {e}")))?;
    raw.remove("__metadata__");
    if raw.len() != expected.len() {
        return Err(fail(format!("has {} tensors, the architecture has {}", raw.len(), expected.len())));
    }
    let data_start = 8 + header.len() as u64;
    let (mut spans, mut ranges) = (Vec::with_capacity(expected.len()), Vec::with_capacity(expected.len()));
    for want in expected {
        let value = raw.remove(&want.name).ok_or_else(|| fail(format!("lacks tensor {}", want.name)))?;
        let entry: Entry = serde_json::from_value(value).map_err(|e| fail(format!("{}: {e}", want.name)))?;
        if entry.dtype != "F32" || entry.shape != want.shape {
            let has = format!("{} {:?}", entry.dtype, entry.shape);
            return Err(fail(format!("{} is {has}, the architecture has F32 {:?}", want.name, want.shape)));
        }
        let (begin, end) = entry.data_offsets;
        if end > file_len || end.checked_sub(begin) != Some(4 * want.elements() as u64) {
            return Err(fail(format!("{} has offsets that do not fit its shape", want.name)));
        }
        ranges.push((begin, end));
        spans.push(TensorSpan { name: want.name.clone(), offset: data_start + begin, elements: want.elements() });
    }
    ranges.sort_unstable();
    let mut at = 0;
    for (begin, end) in ranges {
        if begin != at {
            return Err(fail("its tensors overlap or leave gaps".into()));
        }
        at = end;
    }
    if data_start + at != file_len {
        return Err(fail(format!(
            "is {file_len} bytes long, its header describes {}; it is cut off or padded",
            data_start + at
        )));
    }
    Ok(spans)
}

/// The bytes before the data of a file that holds these tensors in this order: length, JSON, padded to 8 bytes.
pub fn write_header(tensors: &[TensorShape]) -> Vec<u8> {
    let (mut json, mut at) = (String::from("{"), 0u64);
    for (index, tensor) in tensors.iter().enumerate() {
        let end = at + 4 * tensor.elements() as u64;
        let comma = if index == 0 { "" } else { "," };
        // Names come from the architecture: letters, digits, dots and underscores, nothing to escape.
        let shape = tensor.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        json.push_str(&format!(
            r#"{comma}"{}":{{"dtype":"F32","shape":[{shape}],"data_offsets":[{at},{end}]}}"#,
            tensor.name
        ));
        at = end;
    }
    json.push('}');
    while json.len() % 8 != 0 {
        json.push(' ');
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

/// Bytes of a file that holds these tensors, header included, as `write_header` lays it out.
pub fn file_len(tensors: &[TensorShape]) -> u64 {
    write_header(tensors).len() as u64 + tensors.iter().map(|t| 4 * t.elements() as u64).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Architecture;

    fn parse(bytes: &[u8], len: u64, expected: &[TensorShape]) -> Result<Vec<TensorSpan>, Invalid> {
        assert_eq!(header_len(bytes[..8].try_into().unwrap()).unwrap(), bytes.len() - 8);
        parse_header(&bytes[8..], len, expected)
    }

    #[test]
    fn what_we_write_we_read_and_so_does_the_library() {
        let tensors = Architecture::plain(2, 4, 3).tensors();
        let header = write_header(&tensors);
        let len = file_len(&tensors);
        let spans = parse(&header, len, &tensors).unwrap();
        assert_eq!(spans[0].offset, header.len() as u64);
        assert!(spans.windows(2).all(|w| w[1].offset == w[0].offset + 4 * w[0].elements as u64));
        let mut file = header;
        file.resize(usize::try_from(len).unwrap(), 0);
        let library = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(library.len(), tensors.len());
    }

    #[test]
    fn foreign_files_are_refused_with_a_reason() {
        let tensors = Architecture::plain(2, 4, 3).tensors();
        let other = Architecture::plain(2, 8, 3).tensors();
        let len = file_len(&tensors);
        let header = write_header(&tensors);
        let why = |r: Result<Vec<TensorSpan>, Invalid>| r.unwrap_err().to_string();
        assert!(why(parse(&header, len, &other)).contains("the architecture has F32"));
        assert!(why(parse(&header, len - 4, &tensors)).contains("cut off"));
        assert!(why(parse(&header, len, &tensors[1..])).contains("tensors, the architecture has"));
        assert!(parse_header(b"{\"a\":1}", 15, &tensors[..1]).is_err());
        assert!(header_len(u64::MAX.to_le_bytes()).is_err());
        let text = String::from_utf8(header[8..].to_vec()).unwrap().replacen("[0,", "[4,", 1);
        assert!(parse_header(text.as_bytes(), len, &tensors).is_err());
    }
}
