//! Numbers, texts and bytes of a pickle: every length is checked against what is left of the file before it is used.

use super::arena::Node;
use super::error::PickleError;
use super::machine::Machine;

/// The name under which a whole number of more than 64 bits is kept, with its bytes, lowest first.
const LONG_INT: &str = "builtins.int";

impl<'a> Machine<'a> {
    /// `None`, truth values, whole numbers and others.
    pub(super) fn number(&mut self, code: u8) -> Result<(), PickleError> {
        let node = match code {
            b'N' => Node::None,
            0x88 => Node::Bool(true),
            0x89 => Node::Bool(false),
            b'I' => match self.line()? {
                "00" => Node::Bool(false),
                "01" => Node::Bool(true),
                text => Node::Int(parsed(text)?),
            },
            b'J' => Node::Int(i64::from(i32::from_le_bytes(self.fixed()?))),
            b'K' => Node::Int(i64::from(self.byte()?)),
            b'M' => Node::Int(i64::from(u16::from_le_bytes(self.fixed()?))),
            b'L' => Node::Int(parsed(self.line()?.trim_end_matches('L'))?),
            // LONG1, LONG4
            0x8a => {
                let len = usize::from(self.byte()?);
                return self.long(len);
            }
            0x8b => {
                let len = i32::from_le_bytes(self.fixed()?);
                return self.long(self.length(len)?);
            }
            b'F' => Node::Float(parsed(self.line()?)?),
            _ => Node::Float(f64::from_be_bytes(self.fixed()?)),
        };
        self.push(node)
    }

    /// A whole number in two's complement, lowest byte first.
    fn long(&mut self, len: usize) -> Result<(), PickleError> {
        let bytes = self.take(len)?;
        let Some(last) = bytes.last() else { return self.push(Node::Int(0)) };
        if len > 8 {
            let bytes = self.arena.add(Node::Bytes(bytes.to_vec()))?;
            return self.push(Node::Named(LONG_INT, vec![bytes]));
        }
        let mut whole = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
        whole[..len].copy_from_slice(bytes);
        self.push(Node::Int(i64::from_le_bytes(whole)))
    }

    /// Texts and bytes of all kinds.
    pub(super) fn text(&mut self, code: u8) -> Result<(), PickleError> {
        let node = match code {
            b'S' => Node::Text(quoted(self.line()?)?.to_owned()),
            b'V' => Node::Text(unescaped(self.line_bytes()?)?),
            // Python 2 did not tell texts from bytes.
            b'T' | b'U' => {
                let bytes = self.counted(code)?;
                str::from_utf8(bytes).map_or_else(|_| Node::Bytes(bytes.to_vec()), |t| Node::Text(t.to_owned()))
            }
            b'X' | 0x8c | 0x8d => {
                let text = str::from_utf8(self.counted(code)?);
                Node::Text(text.map_err(|_| PickleError::malformed("a text is no UTF-8"))?.to_owned())
            }
            _ => Node::Bytes(self.counted(code)?.to_vec()),
        };
        self.push(node)
    }

    /// Bytes behind their number, which is as long as the code says.
    fn counted(&mut self, code: u8) -> Result<&'a [u8], PickleError> {
        let len = match code {
            b'U' | 0x8c | b'C' => usize::from(self.byte()?),
            b'T' => {
                let len = i32::from_le_bytes(self.fixed()?);
                self.length(len)?
            }
            b'X' | b'B' => {
                let len = self.u32()?;
                self.length(len)?
            }
            _ => {
                let len = self.u64()?;
                self.length(len)?
            }
        };
        self.take(len)
    }

    /// A length that the file can hold.
    fn length(&self, len: impl TryInto<usize>) -> Result<usize, PickleError> {
        len.try_into().map_err(|_| PickleError::malformed("a length is negative or beyond any memory"))
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], PickleError> {
        let left = &self.bytes[self.at..];
        let Some((taken, _)) = left.split_at_checked(len) else {
            return Err(PickleError::malformed(format!("it ends {} bytes too early", len - left.len())));
        };
        self.at += len;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let taken = self.take(N)?.first_chunk::<N>();
        taken.copied().ok_or_else(|| PickleError::malformed("it ends too early"))
    }

    pub(super) fn byte(&mut self) -> Result<u8, PickleError> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, PickleError> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, PickleError> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    fn line_bytes(&mut self) -> Result<&'a [u8], PickleError> {
        let left = &self.bytes[self.at..];
        let len = left.iter().position(|byte| *byte == b'\n');
        let line = self.take(len.ok_or_else(|| PickleError::malformed("a line has no end"))?)?;
        self.at += 1;
        Ok(line)
    }

    /// A line of text, without its end.
    pub(super) fn line(&mut self) -> Result<&'a str, PickleError> {
        str::from_utf8(self.line_bytes()?).map_err(|_| PickleError::malformed("a line is no UTF-8"))
    }

    pub(super) fn line_number(&mut self) -> Result<u32, PickleError> {
        parsed(self.line()?)
    }
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, PickleError> {
    text.trim().parse().map_err(|_| PickleError::malformed("a number is none"))
}

/// The inside of a Python 2 text in quotes.
fn quoted(line: &str) -> Result<&str, PickleError> {
    let line = line.trim_end();
    let inside = |quote| line.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    match inside('\'').or_else(|| inside('"')) {
        Some(text) if !text.contains('\\') => Ok(text),
        Some(_) => Err(PickleError::unsupported("a Python 2 text with escapes")),
        None => Err(PickleError::malformed("a text has no quotes")),
    }
}

/// A text of protocol 0: Latin-1 with `\uXXXX` and `\UXXXXXXXX`.
fn unescaped(line: &[u8]) -> Result<String, PickleError> {
    let wrong = || PickleError::malformed("a text has a wrong escape");
    let mut text = String::new();
    let mut left = line;
    while let Some((&byte, rest)) = left.split_first() {
        left = rest;
        let digits = match (byte, rest.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(char::from(byte));
                continue;
            }
        };
        let code = rest.get(1..=digits).and_then(|code| str::from_utf8(code).ok()).ok_or_else(wrong)?;
        let code = u32::from_str_radix(code, 16).map_err(|_| wrong())?;
        text.push(char::from_u32(code).ok_or_else(wrong)?);
        left = &rest[1 + digits..];
    }
    Ok(text)
}
