//! The bits of a JPEG scan and the codes in them.

use super::ZIGZAG;
use super::idct::Block;

/// Codes up to this length are looked up at once.
const FAST: u32 = 10;

/// A Huffman table, prepared for looking up.
#[derive(Debug)]
pub(super) struct Table {
    /// By the next ten bits: length of the code and its symbol, 0 for a longer code.
    short: [u16; 1 << FAST],
    /// By the next ten bits: value, run of zeros and length of code and value together; 0 where they are longer.
    whole: [i16; 1 << FAST],
    /// One above the largest code of each length, -1 for none, and what to add to a code for the place of its symbol.
    ends: [(i32, i32); 17],
    symbols: [u8; 256],
}

impl Table {
    /// From the number of codes of each length and their symbols; `None` if there are more codes than fit.
    pub(super) fn new(counts: &[u8], values: &[u8]) -> Option<Self> {
        let mut table = Self { short: [0; 1 << FAST], whole: [0; 1 << FAST], ends: [(-1, 0); 17], symbols: [0; 256] };
        table.symbols.get_mut(..values.len())?.copy_from_slice(values);
        let (mut code, mut place) = (0u32, 0);
        for (length, &count) in (1..).zip(counts) {
            let end = code + u32::from(count);
            if end > 1 << length {
                return None;
            }
            if count > 0 {
                table.ends[length as usize] = (end as i32, place - code as i32);
            }
            for _ in 0..count {
                let symbol = table.symbols[place as usize];
                if length <= FAST {
                    let from = (code << (FAST - length)) as usize;
                    let entry = (length as u16) << 8 | u16::from(symbol);
                    table.short[from..from + (1 << (FAST - length))].fill(entry);
                }
                (code, place) = (code + 1, place + 1);
            }
            code = end << 1;
        }
        table.fill_whole();
        Some(table)
    }

    fn fill_whole(&mut self) {
        for (bits, &entry) in self.short.iter().enumerate() {
            let (length, symbol) = (u32::from(entry >> 8), entry & 255);
            let (run, size) = (symbol >> 4, u32::from(symbol & 15));
            if entry == 0 || size == 0 || length + size > FAST {
                continue;
            }
            let value = signed((bits as u32 >> (FAST - length - size)) & ((1 << size) - 1), size);
            if (-128..128).contains(&value) {
                self.whole[bits] = (value as i16) << 8 | (run << 4) as i16 | (length + size) as i16;
            }
        }
    }
}

/// The value of `size` bits in JPEG's way: the lower half of the codes are negative.
#[inline(always)]
fn signed(bits: u32, size: u32) -> i32 {
    let bits = bits as i32;
    if size > 0 && bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits }
}

/// A scan read bit by bit; beyond its end come zeros, and are counted. Copied while a block is read, to stay in registers.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, the first one on top.
    ahead: u64,
    /// How many of them count.
    count: u32,
    /// How many of those, the last ones, are invented.
    invented: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, ahead: 0, count: 0, invented: 0 }
    }

    /// Whether bits that are not there were used.
    pub(super) fn beyond_the_end(&self) -> bool {
        self.invented > self.count
    }

    /// Goes on behind the next restart marker.
    pub(super) fn restart(&mut self) -> Result<(), &'static str> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let marker = rest.windows(2).position(|w| w[0] == 0xFF && (0xD0..=0xD7).contains(&w[1]));
        if self.beyond_the_end() {
            return Err("a part of it is too short");
        }
        *self = Self { at: self.at + marker.ok_or("a restart marker is missing")? + 2, ..Self::new(self.data) };
        Ok(())
    }

    /// Brings the bits ahead to at least 32.
    #[inline(always)]
    fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(eight) = self.data.get(self.at..self.at + 8) {
            let word =
                u64::from_be_bytes([eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7]]);
            // Without a byte 0xFF there is neither a marker nor a stuffed zero among them.
            let inverse = !word;
            if inverse.wrapping_sub(0x0101_0101_0101_0101) & !inverse & 0x8080_8080_8080_8080 == 0 {
                let bytes = (64 - self.count) / 8;
                // Bits above the whole bytes are the same again at the next time.
                self.ahead |= word >> self.count;
                self.at += bytes as usize;
                self.count += bytes * 8;
                return;
            }
        }
        *self = self.refilled_slowly();
    }

    #[cold]
    fn refilled_slowly(mut self) -> Self {
        while self.count <= 56 {
            let byte = match (self.data.get(self.at), self.data.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.at += 2;
                    0xFF
                }
                (Some(0xFF), _) | (None, _) => {
                    self.invented = self.invented.saturating_add(8);
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.ahead |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        self
    }

    /// The next `size` bits, at most 16, without taking them.
    #[inline(always)]
    fn peek(&self, size: u32) -> u32 {
        ((self.ahead >> 1) >> (63 - size)) as u32
    }

    #[inline(always)]
    fn take(&mut self, size: u32) {
        self.ahead <<= size;
        self.count -= size;
    }

    #[inline(always)]
    fn symbol(&mut self, table: &Table) -> Result<u8, &'static str> {
        let mut entry = table.short[self.peek(FAST) as usize];
        if entry == 0 {
            entry = self.long_symbol(table);
            if entry == 0 {
                return Err("a code is in no table");
            }
        }
        self.take(u32::from(entry >> 8));
        Ok((entry & 255) as u8)
    }

    /// Length and symbol of a long code, 0 if there is none.
    #[cold]
    fn long_symbol(self, table: &Table) -> u16 {
        for length in FAST + 1..=16 {
            let (code, (end, offset)) = (self.peek(length) as i32, table.ends[length as usize]);
            if code < end {
                return (length as u16) << 8 | u16::from(table.symbols[(code + offset) as usize & 255]);
            }
        }
        0
    }

    #[inline(always)]
    fn value(&mut self, size: u32) -> i32 {
        let value = signed(self.peek(size), size);
        self.take(size);
        value
    }

    /// Reads one block of coefficients into zeros; whether only the first one is set. `before` is the last block's.
    #[inline(always)]
    pub(super) fn block(
        &mut self,
        dc: &Table,
        ac: &Table,
        before: &mut i32,
        block: &mut Block,
    ) -> Result<bool, &'static str> {
        let mut bits = *self;
        bits.refill();
        let size = u32::from(bits.symbol(dc)?);
        if size > 11 {
            return Err("a difference has too many bits");
        }
        *before = before.wrapping_add(bits.value(size));
        block[0] = *before as i16;
        let mut flat = true;
        let mut at = 1;
        while at < 64 {
            bits.refill();
            let whole = ac.whole[bits.peek(FAST) as usize];
            let value = if whole != 0 {
                at += (whole >> 4 & 15) as usize;
                bits.take((whole & 15) as u32);
                whole >> 8
            } else {
                let symbol = bits.symbol(ac)?;
                let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
                if size == 0 {
                    if run < 15 {
                        break;
                    }
                    at += 16;
                    continue;
                }
                at += run;
                bits.value(size) as i16
            };
            let Some(&place) = ZIGZAG.get(at) else { return Err("a block has too many values") };
            block[usize::from(place & 63)] = value;
            flat = false;
            at += 1;
        }
        *self = bits;
        Ok(flat)
    }
}
