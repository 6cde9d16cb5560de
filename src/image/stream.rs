//! Bytes of an archive: decompressed, counted, bounded and hashed while they pass; never kept.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::rc::Rc;

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest, Sha256};

use super::gzip::Gzip;
use super::limits::Budget;
use crate::error::Error;

/// How much is read at a time.
pub(super) const CHUNK: usize = 128 << 10;

/// A decompressed stream.
pub(super) struct Stream<'a> {
    reader: Box<dyn Read + 'a>,
    /// Before decompression; absent where nothing is compressed.
    packed: Option<Rc<Meter>>,
    plain: Meter,
    /// Bytes that were read to look at them, already counted.
    ahead: Cursor<Vec<u8>>,
    budget: &'a Budget<'a>,
}

/// SHA-256 of a stream, as OCI spells it (`sha256:…`).
pub(super) struct Digests {
    /// Of the bytes as they were stored.
    pub(super) packed: String,
    /// Of the bytes after decompression (OCI: diff_id).
    pub(super) plain: String,
}

#[derive(Default)]
struct Meter {
    hash: RefCell<Sha256>,
    bytes: Cell<u64>,
}

impl Meter {
    fn pass(&self, bytes: &[u8]) {
        self.hash.borrow_mut().update(bytes);
        self.bytes.set(self.bytes.get() + bytes.len() as u64);
    }

    fn digest(&self) -> String {
        spell(&self.hash.borrow().clone().finalize())
    }
}

/// The digest of a few bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    spell(&Sha256::digest(bytes))
}

fn spell(hash: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in hash {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

struct Metered<R> {
    inner: R,
    meter: Rc<Meter>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.meter.pass(into.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl<'a> Stream<'a> {
    /// Looks at the first bytes and decompresses what is compressed: media types and file names are only hearsay.
    pub(super) fn open(mut raw: Box<dyn Read + 'a>, budget: &'a Budget<'a>) -> Result<Self, Error> {
        let magic = read_up_to(&mut raw, 6)?;
        let compression = match magic.as_slice() {
            [0x1f, 0x8b, ..] => Some("gzip"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some("zstd"),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(foreign("xz")),
            [b'B', b'Z', b'h', b'0'..=b'9', ..] => return Err(foreign("bzip2")),
            _ => None,
        };
        let whole = Cursor::new(magic).chain(raw);
        let meter = Rc::new(Meter::default());
        let metered = |inner| BufReader::with_capacity(CHUNK, Metered { inner, meter: Rc::clone(&meter) });
        let reader: Box<dyn Read + 'a> = match compression {
            Some("gzip") => Box::new(Gzip::new(metered(whole))),
            Some(_) => Box::new(Zstd::new(metered(whole))),
            None => Box::new(whole),
        };
        let packed = compression.map(|_| meter);
        Ok(Self { reader, packed, plain: Meter::default(), ahead: Cursor::default(), budget })
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.packed.is_some()
    }

    /// The first bytes, which will be read again.
    pub(super) fn look_ahead(&mut self, count: u64) -> Result<&[u8], Error> {
        self.ahead = Cursor::new(read_up_to(self, count)?);
        Ok(self.ahead.get_ref())
    }

    /// Reads what is left (padding, as a rule) and gives the digests of all.
    pub(super) fn finish(mut self) -> Result<Digests, Error> {
        skip(&mut self, u64::MAX).map_err(|error| from_io(&error))?;
        let plain = self.plain.digest();
        Ok(Digests { packed: self.packed.map_or_else(|| plain.clone(), |meter| meter.digest()), plain })
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.ahead.read(into)?;
        if count > 0 || into.is_empty() {
            return Ok(count);
        }
        let count = self.reader.read(into)?;
        self.plain.pass(into.get(..count).unwrap_or_default());
        let bounded = self.budget.take_bytes(count as u64).and_then(|()| match &self.packed {
            Some(packed) => self.budget.check_ratio(packed.bytes.get(), self.plain.bytes.get()),
            None => Ok(()),
        });
        bounded.map(|()| count).map_err(io::Error::other)
    }
}

/// The first bytes, fewer at the end.
pub(super) fn read_up_to(reader: &mut dyn Read, count: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.take(count).read_to_end(&mut bytes).map_err(|error| from_io(&error))?;
    Ok(bytes)
}

/// Reads and forgets; how many there were.
pub(super) fn skip(reader: &mut dyn Read, count: u64) -> io::Result<u64> {
    io::copy(&mut reader.take(count), &mut io::sink())
}

fn foreign(name: &str) -> Error {
    Error::new(format!("is compressed with {name}; plain, gzip and zstd are read"))
        .try_this(format!("{name} -dc FILE | rcon image unpack - DIR"))
}

/// Our own error where that is what a reader gave; else what the system or a decoder said.
pub(super) fn from_io(error: &io::Error) -> Error {
    if let Some(own) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return own.clone();
    }
    match error.raw_os_error() {
        Some(errno) => Error::new("cannot be read").errno(nix::errno::Errno::from_raw(errno)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Error::new("ends in the middle"),
        None => Error::new(format!("is damaged: {error}")),
    }
}

/// Zstandard frames one after another, skippable ones skipped (the decoder itself knows one frame only).
struct Zstd<R> {
    source: R,
    decoder: Box<FrameDecoder>,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        Self { source, decoder: Box::default(), in_frame: false }
    }

    /// Enters the next frame; `false` at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if skip(&mut self.source, length)? != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(FrameDecoderError::WindowSizeTooBig { .. }) => {
                    return Err(io::Error::other(
                        Error::new("needs more than 128 MiB of memory to decompress (a long zstd window)")
                            .try_this("zstd -dc --long=31 FILE | rcon image unpack - DIR"),
                    ));
                }
                // The decoder's own words would take more room in the program than the decoder.
                Err(_) => return Err(io::Error::other("no right zstd frame")),
            }
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            if !self.in_frame {
                self.in_frame = self.next_frame()?;
                if !self.in_frame {
                    return Ok(0);
                }
            }
            let count = self.decoder.read(into)?;
            if count > 0 {
                return Ok(count);
            }
            if !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|_| io::Error::other("no right zstd block"))?;
                continue;
            }
            if let (Some(told), Some(found)) =
                (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum())
                && told != found
            {
                return Err(io::Error::other("zstd: wrong checksum"));
            }
            self.in_frame = false;
        }
        Ok(0)
    }
}
