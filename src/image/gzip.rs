//! Gzip (RFC 1952), member after member. The deflate stream in it is `flate2`'s work; its own gzip reader would
//! bring a checksum with 20 KiB of tables and instructions, for which this is no place.

use std::io::{self, BufRead, Read};

use flate2::{Decompress, FlushDecompress, Status};

/// Optional parts of a header (section 2.3.1).
const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

pub(super) struct Gzip<R> {
    source: R,
    inflate: Decompress,
    in_member: bool,
    crc: Crc,
    length: u32,
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, inflate: Decompress::new(false), in_member: false, crc: Crc::new(), length: 0 }
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Up to a zero, which a name or comment ends with.
    fn skip_text(&mut self) -> io::Result<()> {
        while self.bytes()? != [0] {}
        Ok(())
    }

    /// Enters the next member; `false` at the end of the stream.
    fn next_member(&mut self) -> io::Result<bool> {
        if self.source.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let [id1, id2, method, flags, ..] = self.bytes::<10>()?;
        if (id1, id2, method) != (0x1f, 0x8b, 8) || flags & RESERVED != 0 {
            return Err(io::Error::other("no right gzip header"));
        }
        if flags & FEXTRA != 0 {
            for _ in 0..u16::from_le_bytes(self.bytes()?) {
                self.bytes::<1>()?;
            }
        }
        for text in [FNAME, FCOMMENT] {
            if flags & text != 0 {
                self.skip_text()?;
            }
        }
        if flags & FHCRC != 0 {
            self.bytes::<2>()?;
        }
        self.inflate.reset(false);
        (self.crc, self.length) = (Crc::new(), 0);
        Ok(true)
    }

    fn end_member(&mut self) -> io::Result<()> {
        let (crc, length) = (u32::from_le_bytes(self.bytes()?), u32::from_le_bytes(self.bytes()?));
        if (crc, length) == (self.crc.value(), self.length) {
            Ok(())
        } else {
            Err(io::Error::other("gzip: wrong checksum"))
        }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            if !self.in_member {
                self.in_member = self.next_member()?;
                if !self.in_member {
                    return Ok(0);
                }
            }
            let input = self.source.fill_buf()?;
            let at_end = input.is_empty();
            let (before, after) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(input, into, FlushDecompress::None)
                .map_err(|_| io::Error::other("no right deflate stream"))?;
            self.source.consume((self.inflate.total_in() - before) as usize);
            let count = (self.inflate.total_out() - after) as usize;
            self.crc.add(into.get(..count).unwrap_or_default());
            self.length = self.length.wrapping_add(count as u32);
            if status == Status::StreamEnd {
                self.end_member()?;
                self.in_member = false;
            }
            if count > 0 {
                return Ok(count);
            }
            if at_end && self.in_member {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(0)
    }
}

/// CRC-32 (section 8), four bytes at a time.
struct Crc(u32);

const TABLES: [[u32; 256]; 4] = tables();

#[allow(clippy::indexing_slicing)] // evaluated by the compiler, which checks every index
const fn tables() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        tables[0][at] = value;
        at += 1;
    }
    at = 0;
    while at < 256 {
        let mut table = 1;
        while table < 4 {
            let value = tables[table - 1][at];
            tables[table][at] = value >> 8 ^ tables[0][(value & 0xff) as usize];
            table += 1;
        }
        at += 1;
    }
    tables
}

impl Crc {
    fn new() -> Self {
        Self(u32::MAX)
    }

    fn value(&self) -> u32 {
        !self.0
    }

    fn add(&mut self, bytes: &[u8]) {
        let [t0, t1, t2, t3] = &TABLES;
        // A byte is an index of 256 entries always.
        let at = |table: &[u32; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or_default();
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            let [a, b, c, d] = (self.0 ^ u32::from_le_bytes(*word)).to_le_bytes();
            self.0 = at(t3, a) ^ at(t2, b) ^ at(t1, c) ^ at(t0, d);
        }
        for byte in rest {
            self.0 = self.0 >> 8 ^ at(t0, self.0 as u8 ^ byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let builder = flate2::GzBuilder::new().filename("name").comment("comment").extra(vec![1, 2, 3]);
        let mut out = builder.write(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        // Little at a time, so that every boundary is met.
        Gzip::new(io::BufReader::with_capacity(7, bytes)).read_to_end(&mut out).map(|_| out)
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(one: Vec<u8>, two: Vec<u8>, cut: prop::sample::Index, bit in 0_u8..8) {
            let both = [packed(&one), packed(&two)].concat();
            prop_assert_eq!(unpacked(&both).unwrap(), [one.as_slice(), &two].concat());
            // A stream that was cut is not taken for a whole one, unless that is where a member ends.
            let end = cut.index(both.len());
            if end != 0 && end != packed(&one).len() {
                prop_assert!(unpacked(both.get(..end).unwrap()).is_err());
            }
            // Nor is one that was changed taken for what it was. No checksum covers a header: a longer extra field can
            // reach over all of a member, to the data of the next.
            const HEADER: usize = 10 + 2 + 3 + "name ".len() + "comment ".len();
            let second = packed(&one).len();
            prop_assume!(end >= HEADER && !(second..second + HEADER).contains(&end));
            let mut changed = both.clone();
            *changed.get_mut(end).unwrap() ^= 1 << bit;
            if let Ok(text) = unpacked(&changed) {
                prop_assert_eq!(text, [one, two].concat());
            }
        }
    }
}
