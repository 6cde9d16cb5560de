//! Where the parts of an image are: in a layout directory, or in an archive that is read in place.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat};

use super::config::LARGEST;
use super::entries::{Entries, Kind};
use super::limits::Budget;
use super::stream::{digest, from_io, read_up_to};
use super::tree::components;
use crate::error::{Error, printable};

/// Parts by name: `index.json`, `blobs/sha256/…`.
pub(super) enum Store {
    Layout(OwnedFd),
    Archive { file: Rc<File>, places: Vec<(Vec<u8>, Place)> },
}

pub(super) enum Place {
    /// Offset and length in the archive.
    Data(u64, u64),
    /// Another name (docker save writes a layer once and links to it).
    Link(Vec<u8>),
}

/// A part of a file, read without moving its position.
struct Part {
    file: Rc<File>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(into.len());
        let Some(into) = into.get_mut(..length).filter(|into| !into.is_empty()) else { return Ok(0) };
        let count = self.file.read_at(into, self.at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Store {
    /// Notes where each part of an uncompressed archive lies; reads headers only.
    pub(super) fn archive(file: File, budget: &Budget) -> Result<Self, Error> {
        let file = Rc::new(file);
        let length = file.metadata().map_err(|error| from_io(&error))?.len();
        let mut places = Vec::new();
        // Headers and data are far apart: the walk skips by offset, not by reading.
        let mut at = 0;
        loop {
            let mut part = Part { file: Rc::clone(&file), at, end: length };
            let mut entries = Entries::new(&mut part);
            let Some(entry) = entries.next()? else { break };
            budget.take_entry()?;
            budget.take_name(entry.path.len() + entry.link.len())?;
            let (start, size) = entries.place();
            let start = at + start;
            at = start.saturating_add(size).checked_next_multiple_of(512).unwrap_or(u64::MAX).min(length);
            let name = components(&entry.path)
                .map_err(|what| Error::new(format!("entry {}: {what}", printable(&entry.path))))?;
            let (name, dir) = (name.join(&b'/'), name.split_last().map_or(&[][..], |(_, dir)| dir));
            match entry.kind {
                Kind::File => {
                    places.push((name, Place::Data(start, size)));
                }
                Kind::Symlink => {
                    places.push((name, Place::Link(beside(dir, &entry.link))));
                }
                Kind::Hardlink => {
                    places.push((name, Place::Link(beside(&[], &entry.link))));
                }
                _ => {}
            }
        }
        Ok(Self::Archive { file, places })
    }

    /// Is there a part of this name?
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Layout(_) => self.open(name).is_ok(),
            Self::Archive { places, .. } => find(places, name.as_bytes()).is_some(),
        }
    }

    /// Opens a part.
    pub(super) fn open(&self, name: &str) -> Result<Box<dyn Read>, Error> {
        let shown = printable(name.as_bytes());
        let missing = || Error::new(format!("{shown} is not in it"));
        match self {
            Self::Layout(dir) => {
                let how = OpenHow::new()
                    .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
                    .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
                let fail = |errno| match errno {
                    Errno::ENOENT => missing(),
                    errno => Error::new(format!("{shown} cannot be opened")).errno(errno),
                };
                let file = openat2(dir, name, how).map_err(fail)?;
                let mode = fstat(&file).map_err(fail)?.st_mode;
                if mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
                    return Err(Error::new(format!("{shown} is no plain file")));
                }
                Ok(Box::new(File::from(file)))
            }
            Self::Archive { file, places } => {
                let mut name = name.as_bytes();
                // Links to links are not known to be written by anybody; a loop must end.
                for _ in 0..4 {
                    match find(places, name).ok_or_else(missing)? {
                        Place::Link(other) => name = other,
                        &Place::Data(at, size) => {
                            let end = at.saturating_add(size);
                            return Ok(Box::new(Part { file: Rc::clone(file), at, end }));
                        }
                    }
                }
                Err(Error::new(format!("{shown} is a loop of links")))
            }
        }
    }

    /// A small part, whole.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let shown = || printable(name.as_bytes());
        let bytes = read_up_to(&mut self.open(name)?, LARGEST + 1)
            .map_err(|error| Error { what: format!("{} {}", shown(), error.what), ..error })?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::new(format!("{} has more than 4 MiB", shown())));
        }
        Ok(bytes)
    }

    /// A small blob, whole, and what its digest promises.
    pub(super) fn blob(&self, wanted: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.read(&blob_name(wanted)?)?;
        let found = digest(&bytes);
        if found != wanted {
            return Err(Error::new(format!("{wanted} is damaged or was changed: its digest is {found}")));
        }
        Ok(bytes)
    }
}

/// Looks a name up; of several the last counts, as for tar. An image has a few dozen parts: no table is needed.
fn find<'a>(places: &'a [(Vec<u8>, Place)], name: &[u8]) -> Option<&'a Place> {
    places.iter().rev().find(|(known, _)| known == name).map(|(_, place)| place)
}

/// Where a blob lies: `sha256:abc…` → `blobs/sha256/abc…`.
pub(super) fn blob_name(digest: &str) -> Result<String, Error> {
    match digest.strip_prefix("sha256:").filter(|hex| is_hash(hex)) {
        Some(hex) => Ok(format!("blobs/sha256/{hex}")),
        None => Err(Error::new(format!(
            "names a blob by {}, which is no sha256 digest",
            printable(digest.as_bytes())
        ))),
    }
}

/// Is this a SHA-256, spelled as digests are?
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name that a link in `dir` means, as far as it can be said without looking.
fn beside(dir: &[&[u8]], link: &[u8]) -> Vec<u8> {
    let mut parts = dir.to_vec();
    for part in link.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}
