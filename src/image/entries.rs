//! The entries of a tar stream, one after another.
//!
//! Fields are decoded by the `tar` crate. Walking is ours, because the crate's own iterator keeps extension
//! headers of any size in memory and cuts pax records at newlines, which are allowed in names and usual in the
//! binary values of extended attributes.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::stream::{from_io, skip};
use crate::error::{Error, printable};

const BLOCK: u64 = 512;

/// The most bytes of extension headers (long names, attributes, maps of holes) that one entry may bring.
/// The kernel takes names of 4 KiB and attributes of 64 KiB.
const METADATA: u64 = 1 << 20;

/// One member of an archive, with all its extensions applied.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    /// The target of a symbolic or hard link.
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Seconds and nanoseconds since 1970.
    pub(super) mtime: (i64, i64),
    /// Of the file, with its holes.
    pub(super) size: u64,
    /// Major and minor number.
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data belongs, offset and length; `None`: all of it at the start.
    pub(super) pieces: Option<Vec<(u64, u64)>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    File,
    Directory,
    Symlink,
    Hardlink,
    Fifo,
    CharDevice,
    BlockDevice,
}

/// Walks a stream.
pub(super) struct Entries<'a> {
    inner: &'a mut dyn Read,
    /// Bytes read so far.
    position: u64,
    /// Where the next header is.
    next: u64,
    /// Where the data of the present entry ends.
    data_end: u64,
}

#[derive(Default)]
struct Extensions {
    spent: u64,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, i64)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: bool,
}

impl<'a> Entries<'a> {
    pub(super) fn new(inner: &'a mut dyn Read) -> Self {
        Self { inner, position: 0, next: 0, data_end: 0 }
    }

    /// Where the data of the present entry begins in the stream, and how long it is there.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.position, self.data_end - self.position)
    }

    /// The next entry; what is left of the present one's data is skipped. `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else {
                if extensions.spent > 0 {
                    return Err(Error::new("ends in the middle: a long name belongs to no entry"));
                }
                return Ok(None);
            };
            let name = || printable(&header.path_bytes());
            let told = header.entry_size().map_err(|_| bad(&name(), "size"))?;
            let kind = header.entry_type();
            let extends = kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions()
                || kind.is_gnu_longname()
                || kind.is_gnu_longlink();
            let size = extensions.size.filter(|_| !extends).unwrap_or(told);
            self.data_end = self.position.checked_add(size).ok_or_else(|| bad(&name(), "size"))?;
            self.next = self.data_end.checked_next_multiple_of(BLOCK).ok_or_else(|| bad(&name(), "size"))?;
            if extends {
                extensions.spent = extensions.spent.saturating_add(size).saturating_add(BLOCK);
                if extensions.spent > METADATA {
                    return Err(Error::new(format!(
                        "entry {}: extension headers of more than 1 MiB",
                        name()
                    )));
                }
                let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
                self.read_exactly(&mut data)?;
                extensions.add(kind, data).map_err(|what| Error::new(format!("entry {}: {what}", name())))?;
                continue;
            }
            // A volume label (GNU) is the archive's name, not a file's.
            if kind.as_byte() == b'V' {
                continue;
            }
            return self.entry(&header, extensions, size).map(Some);
        }
    }

    fn entry(&mut self, header: &Header, extensions: Extensions, size: u64) -> Result<Entry, Error> {
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let fail = |what: &str| Error::new(format!("entry {}: {what}", printable(&path)));
        let old = header.as_old();
        let number = |told: Option<u64>, field: &[u8], value: io::Result<u64>, what: &str| match told {
            Some(value) => Ok(value),
            None if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(0),
            None => value.map_err(|_| fail(&format!("its {what} is no number"))),
        };
        let mut entry = Entry {
            link: extensions
                .link
                .unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned()),
            mode: u32::try_from(number(None, &old.mode, header.mode().map(u64::from), "mode")?)
                .unwrap_or_default(),
            uid: number(extensions.uid, &old.uid, header.uid(), "owner")?,
            gid: number(extensions.gid, &old.gid, header.gid(), "group")?,
            mtime: match extensions.mtime {
                Some(time) => time,
                None => (i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), 0),
            },
            size,
            xattrs: extensions.xattrs,
            ..Entry::default()
        };
        entry.kind = match header.entry_type() {
            // A name that ends with a slash was a directory before there was a type for it (v7).
            EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::Hardlink,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => Kind::CharDevice,
            EntryType::Block => Kind::BlockDevice,
            other => {
                let letter = printable(&[other.as_byte()]);
                return Err(fail(&format!("is of a kind that is not known here ({letter})")));
            }
        };
        if extensions.sparse {
            return Err(fail("is a sparse file in the pax format, which is not read here")
                .try_this("write the archive again with tar --format=gnu, or without --sparse"));
        }
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            let numbers = (header.device_major(), header.device_minor());
            let (Ok(Some(major)), Ok(Some(minor))) = numbers else {
                return Err(fail("is a device without a number"));
            };
            entry.device = (major, minor);
        }
        if header.entry_type() == EntryType::GNUSparse {
            let pieces = self.pieces(header).map_err(|error| match error.errno {
                None => fail(&error.what),
                Some(_) => error,
            })?;
            let stored = pieces.iter().try_fold(0_u64, |sum, piece| sum.checked_add(piece.1));
            if stored != Some(size) {
                return Err(fail("its map of holes does not match its data"));
            }
            entry.size = header.as_gnu().and_then(|gnu| gnu.real_size().ok()).unwrap_or(0);
            let mut end = 0;
            for &(offset, length) in &pieces {
                end = match offset.checked_add(length) {
                    Some(next) if offset >= end && next <= entry.size => next,
                    _ => return Err(fail("its map of holes overlaps or leaves the file")),
                };
            }
            entry.pieces = Some(pieces);
        }
        if entry.kind != Kind::File {
            entry.size = 0;
        }
        entry.path = path;
        Ok(entry)
    }

    /// The map of a sparse file in GNU's own format; blocks that continue it stand before the data.
    fn pieces(&mut self, header: &Header) -> Result<Vec<(u64, u64)>, Error> {
        let wrong = || Error::new("its map of holes is damaged");
        let gnu = header.as_gnu().ok_or_else(wrong)?;
        let mut pieces = Vec::new();
        let mut add = |blocks: &[tar::GnuSparseHeader]| {
            for block in blocks.iter().filter(|block| !block.is_empty()) {
                let (Ok(offset), Ok(length)) = (block.offset(), block.length()) else { return Err(wrong()) };
                pieces.push((offset, length));
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let (mut more, mut spent) = (gnu.is_extended(), 0);
        while more {
            let mut block = GnuExtSparseHeader::new();
            self.read_exactly(block.as_mut_bytes())?;
            self.next += BLOCK;
            self.data_end += BLOCK;
            spent += BLOCK;
            if spent > METADATA {
                return Err(Error::new("its map of holes takes more than 1 MiB"));
            }
            add(&block.sparse)?;
            more = block.is_extended();
        }
        Ok(pieces)
    }

    fn header(&mut self) -> Result<Option<Header>, Error> {
        let count = self.next - self.position;
        if skip(self.inner, count).map_err(|error| from_io(&error))? != count {
            return Err(Error::new("ends in the middle"));
        }
        self.position = self.next;
        let mut header = Header::new_old();
        // The end is a block of zeros, or the end of the file where the writer saved those: GNU tar takes that after
        // at least one entry, and refuses what holds none, as `unpack` does.
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.inner.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(Error::new("ends in the middle")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_io(&error)),
            }
        }
        self.position += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(Error::new("is no tar archive, or damaged: a header has a wrong checksum"));
        }
        Ok(Some(header))
    }

    fn read_exactly(&mut self, into: &mut [u8]) -> Result<(), Error> {
        self.inner.read_exact(into).map_err(|error| from_io(&error))?;
        self.position += into.len() as u64;
        Ok(())
    }
}

/// The data of the present entry.
impl Read for Entries<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.data_end - self.position).unwrap_or(usize::MAX);
        let length = left.min(into.len());
        let Some(into) = into.get_mut(..length).filter(|into| !into.is_empty()) else { return Ok(0) };
        let count = self.inner.read(into)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Extensions {
    fn add(&mut self, kind: EntryType, mut data: Vec<u8>) -> Result<(), String> {
        if kind.is_gnu_longname() || kind.is_gnu_longlink() {
            if data.last() == Some(&0) {
                data.pop();
            }
            let slot = if kind.is_gnu_longname() { &mut self.path } else { &mut self.link };
            // What pax says of the same entry wins, whatever the order.
            slot.get_or_insert(data);
            return Ok(());
        }
        // Global headers carry comments (git archive); values for all that follows are used by no image tool.
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let (key, value, after) = record(rest).ok_or("its pax header is damaged")?;
            rest = after;
            let number = || {
                std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| format!("its pax header has a wrong {}", printable(key)))
            };
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number()?),
                b"uid" => self.uid = Some(number()?),
                b"gid" => self.gid = Some(number()?),
                b"mtime" => self.mtime = time(value),
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Takes a pax record apart: `LENGTH KEY=VALUE\n`, where the length counts all of it. Gives key, value, rest.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(data.get(..space)?).ok()?.parse().ok()?;
    let body = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((body.get(..equals)?, body.get(equals + 1..)?, data.get(length..)?))
}

/// `1700000000.25`, also below zero.
fn time(value: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction)).parse().ok()?;
    match (whole.starts_with('-'), nanos) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((seconds, nanos)),
    }
}

fn bad(name: &str, what: &str) -> Error {
    Error::new(format!("entry {name}: its {what} cannot be"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pax_records_may_hold_newlines() {
        let data = b"25 SCHILY.xattr.a=x\ny\n=z\n10 uid=12\nrest";
        let (key, value, rest) = record(data).unwrap();
        assert_eq!((key, value), (&b"SCHILY.xattr.a"[..], &b"x\ny\n=z"[..]));
        assert_eq!(record(rest).unwrap(), (&b"uid"[..], &b"12"[..], &b"rest"[..]));
        for broken in
            [&b"9 a=b"[..], b"5 a=b\nc", b"99999999999999999999999 a=b\n", b"0 a=b\n", b"-1 a=b\n", b""]
        {
            assert_eq!(record(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(time(b"12"), Some((12, 0)));
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"1.0000000001"), Some((1, 0)));
        assert_eq!(time(b"x"), None);
        assert_eq!(time(b"1.-3"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut stream = bytes.as_slice();
            let mut entries = Entries::new(&mut stream);
            while let Ok(Some(_)) = entries.next() {}
        }

        /// Headers with right checksums and wild fields: the walk ends, and never reads past the stream.
        #[test]
        fn wild_headers_end_without_a_panic(
            blocks in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 512), any::<bool>()), 0..12)
        ) {
            let mut bytes = Vec::new();
            for (kind, fill, gnu) in blocks {
                let mut header = if gnu { Header::new_gnu() } else { Header::new_ustar() };
                let digits = |at: usize| fill.get(at).copied().unwrap_or(0);
                header.as_mut_bytes()[..100].copy_from_slice(&fill[..100]);
                header.as_mut_bytes()[156] = b"0123456xgLKSVM7"[usize::from(kind) % 15];
                header.set_size(u64::from(digits(101)) << (digits(102) % 56));
                header.as_mut_bytes()[345..512].copy_from_slice(&fill[345..]);
                header.set_cksum();
                bytes.extend_from_slice(header.as_bytes());
                bytes.extend_from_slice(&fill);
            }
            let mut stream = bytes.as_slice();
            let mut entries = Entries::new(&mut stream);
            while let Ok(Some(entry)) = entries.next() {
                let (start, length) = entries.place();
                prop_assert!(start <= bytes.len() as u64, "{:?} {}", entry, length);
            }
        }
    }
}
