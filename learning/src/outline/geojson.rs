//! GeoJSON as QuPath reads it: one feature an object, written as it ends.
//!
//! Coordinates are level-0 pixels with two decimals, from the top-left corner of the slide. Rings are closed, outer ones
//! counter-clockwise by the numbers and holes clockwise (RFC 7946, 3.1.6). Each class has a colour: QuPath refuses a
//! classification without one.

use std::io::{self, Write};

use super::valid::Point;

/// A class as it is written.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// JSON of `{"name": ..., "color": [r, g, b]}`.
    json: String,
}

impl Class {
    pub(super) fn new(name: &str, colour: [u8; 3]) -> Self {
        Self { json: serde_json::json!({ "name": name, "color": colour }).to_string() }
    }
}

/// Writes a collection of features, keeping none.
#[derive(Debug)]
pub(super) struct GeoJson<W> {
    out: W,
    slide: String,
    features: u64,
    buffer: Vec<u8>,
}

impl<W: Write> GeoJson<W> {
    /// `slide` makes the ids of one slide's objects others than those of another's.
    pub(super) fn new(mut out: W, slide: &str) -> io::Result<Self> {
        out.write_all(b"{\"type\":\"FeatureCollection\",\"features\":[")?;
        Ok(Self { out, slide: slide.to_owned(), features: 0, buffer: Vec::new() })
    }

    pub(super) fn feature(&mut self, class: &Class, rings: &[Vec<Point>], area_um2: f64) -> io::Result<()> {
        self.buffer.clear();
        let out = &mut self.buffer;
        out.extend_from_slice(if self.features == 0 { b"\n" } else { b",\n" });
        let first = rings[0][0];
        let id = uuid(&format!("{}\0{}\0{} {}", self.slide, class.json, first.x, first.y));
        write!(out, "{{\"type\":\"Feature\",\"id\":\"{id}\",\"geometry\":{{\"type\":\"Polygon\",\"coordinates\":[")?;
        for (i, ring) in rings.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"[" } else { b",[" });
            for point in ring.iter().chain(ring.first()) {
                out.push(b'[');
                decimal(out, point.x);
                out.push(b',');
                decimal(out, point.y);
                out.extend_from_slice(b"],");
            }
            // The comma after the last point.
            out.pop();
            out.push(b']');
        }
        let class = &class.json;
        write!(out, "]}},\"properties\":{{\"objectType\":\"annotation\",\"classification\":{class},")?;
        write!(out, "\"measurements\":{{\"Area um^2\":{area_um2:.2}}}}}}}")?;
        self.features += 1;
        self.out.write_all(&self.buffer)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(b"\n]}\n")?;
        Ok(self.out)
    }
}

/// Hundredths as a decimal number without trailing zeros.
fn decimal(out: &mut Vec<u8>, hundredths: i64) {
    if hundredths < 0 {
        out.push(b'-');
    }
    let (mut whole, rest) = (hundredths.unsigned_abs() / 100, hundredths.unsigned_abs() % 100);
    let start = out.len();
    loop {
        out.push(b'0' + (whole % 10) as u8);
        whole /= 10;
        if whole == 0 {
            break;
        }
    }
    out[start..].reverse();
    if rest > 0 {
        out.extend_from_slice(&[b'.', b'0' + (rest / 10) as u8]);
        if rest % 10 > 0 {
            out.push(b'0' + (rest % 10) as u8);
        }
    }
}

/// A UUID from a hash (RFC 9562, version 8): the same object has the same one whenever it is written.
fn uuid(text: &str) -> String {
    let hash = blake3::hash(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut id = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&i) {
            id.push('-');
        }
        id.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ids() {
        let written = |n: i64| {
            let mut out = Vec::new();
            decimal(&mut out, n);
            String::from_utf8(out).unwrap()
        };
        assert_eq!([0, 5, 50, 100, 123_456, -250].map(written), ["0", "0.05", "0.5", "1", "1234.56", "-2.5"]);
        let id = uuid("a");
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "8");
        assert_ne!(id, uuid("b"));
    }
}
