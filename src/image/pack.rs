//! Writes a tree as a tar archive that `docker import`, `tar` and `rcon image unpack` read.
//!
//! The same tree gives the same bytes: names are sorted, times are of whole seconds, and names of users are not
//! written. What does not fit into old headers (long names, attributes) goes into pax records.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor};
use tar::{Builder, EntryType, Header};

use super::report::Notes;
use crate::error::{Error, printable};
use crate::sys::xattr;

/// Writes the tree at `dir`. What is mounted in it is left out, and told.
///
/// # Errors
/// Names the file that cannot be read; or the writer's own error.
pub fn pack(dir: &Path, writer: &mut dyn Write) -> Result<Notes, Error> {
    let fail = |errno| Error::new("cannot be opened").errno(errno);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(dir, flags, Mode::empty()).map_err(fail)?;
    let device = fstat(&root).map_err(fail)?.st_dev;
    let mut packer =
        Packer { tar: Builder::new(writer), root, device, links: HashMap::new(), left: Notes::default() };
    // A stack of names and not of descriptors: trees may be deeper than the table of those.
    let mut todo = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let inside = packer.entry(&path).map_err(|error| {
            let name = if path.is_empty() { ".".to_owned() } else { printable(&path) };
            Error { what: format!("{name}: {}", error.what), ..error }
        })?;
        todo.extend(inside.into_iter().rev());
    }
    packer.tar.into_inner().map_err(|error| unwritable(&error))?;
    Ok(packer.left)
}

/// Writes the tree into a file, which gets its name when it is whole.
pub(super) fn to_file(dir: &Path, path: &Path) -> Result<Notes, Error> {
    let shown = printable(path.as_os_str().as_bytes());
    let at = |error: &io::Error| {
        let error = unwritable(error);
        Error { what: format!("{shown} {}", error.what), ..error }
    };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = Path::new(&name);
    let result = File::create_new(part).map_err(|error| at(&error)).and_then(|file| {
        let mut file = io::BufWriter::with_capacity(1 << 17, file);
        let left = pack(dir, &mut file)?;
        let file = file.into_inner().map_err(|error| at(error.error()))?;
        file.sync_all().and_then(|()| std::fs::rename(part, path)).map_err(|error| at(&error))?;
        Ok(left)
    });
    if result.is_err() {
        // It may be that it was never made.
        drop(std::fs::remove_file(part));
    }
    result
}

pub(super) fn unwritable(error: &io::Error) -> Error {
    Error::new("cannot be written").errno(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}

struct Packer<'a> {
    tar: Builder<&'a mut dyn Write>,
    root: OwnedFd,
    device: u64,
    /// The first names of files that have several.
    links: HashMap<u64, Vec<u8>>,
    left: Notes,
}

impl Packer<'_> {
    /// Opens what is at a name, which is no link and has none on its way, on no other file system.
    fn open(&self, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new().flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
        );
        openat2(&self.root, if path.is_empty() { &b"."[..] } else { path }, how)
    }

    /// Writes one file or directory; gives the names that are in it, sorted.
    fn entry(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let fail = |errno| Error::new("cannot be read").errno(errno);
        let cut = path.iter().rposition(|byte| *byte == b'/');
        let (dir, name) = match cut {
            Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
            None => (&b""[..], path),
        };
        let parent = self.open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY).map_err(fail)?;
        let name = if name.is_empty() { b"." } else { name };
        let stat = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(fail)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if kind != SFlag::S_IFDIR
            && stat.st_nlink > 1
            && let Some(first) = self.links.get(&stat.st_ino).cloned()
        {
            self.write(path, &stat, EntryType::Link, Some(&first), &[], &mut io::empty())?;
            return Ok(Vec::new());
        }
        let special = |entry| (entry, None);
        let (entry, link) = match kind {
            SFlag::S_IFDIR => return self.directory(path, &stat),
            SFlag::S_IFREG => {
                self.file(
                    path,
                    &stat,
                    openat(
                        &parent,
                        name,
                        OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
                        Mode::empty(),
                    )
                    .map_err(fail)?,
                )?;
                self.remember(path, &stat);
                return Ok(Vec::new());
            }
            SFlag::S_IFLNK => (EntryType::Symlink, Some(readlinkat(&parent, name).map_err(fail)?)),
            SFlag::S_IFIFO => special(EntryType::Fifo),
            SFlag::S_IFCHR => special(EntryType::Char),
            SFlag::S_IFBLK => special(EntryType::Block),
            _ => {
                self.left.add("sockets left out, which no archive can hold", || printable(path));
                return Ok(Vec::new());
            }
        };
        let link = link.as_ref().map(|link| link.as_bytes());
        self.write(path, &stat, entry, link, &[], &mut io::empty())?;
        self.remember(path, &stat);
        Ok(Vec::new())
    }

    fn remember(&mut self, path: &[u8], stat: &FileStat) {
        if stat.st_nlink > 1 {
            self.links.insert(stat.st_ino, path.to_vec());
        }
    }

    fn directory(&mut self, path: &[u8], stat: &FileStat) -> Result<Vec<Vec<u8>>, Error> {
        let fail = |errno| Error::new("cannot be read").errno(errno);
        let dir = match self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(Errno::EXDEV) => None,
            other => Some(other.map_err(fail)?).filter(|_| stat.st_dev == self.device),
        };
        let Some(dir) = dir else {
            self.left.add("other file systems left out, which are mounted there", || printable(path));
            self.write(path, stat, EntryType::Directory, None, &[], &mut io::empty())?;
            return Ok(Vec::new());
        };
        let attributes = attributes(dir.as_fd()).map_err(fail)?;
        self.write(path, stat, EntryType::Directory, None, &attributes, &mut io::empty())?;
        let mut inside = Vec::new();
        for entry in Dir::from_fd(dir).map_err(fail)?.iter() {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                inside.push(if path.is_empty() { name.to_vec() } else { [path, name].join(&b'/') });
            }
        }
        crate::order::sort_by(&mut inside, Ord::cmp);
        Ok(inside)
    }

    fn file(&mut self, path: &[u8], seen: &FileStat, fd: OwnedFd) -> Result<(), Error> {
        let fail = |errno| Error::new("cannot be read").errno(errno);
        let stat = fstat(&fd).map_err(fail)?;
        if (stat.st_ino, stat.st_dev) != (seen.st_ino, seen.st_dev) {
            return Err(Error::new("was replaced while it was read"));
        }
        let attributes = attributes(fd.as_fd()).map_err(fail)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut data = File::from(fd).take(size);
        self.write(path, &stat, EntryType::Regular, None, &attributes, &mut data)?;
        // The header has said how long it is.
        if data.limit() > 0 { Err(Error::new("became shorter while it was read")) } else { Ok(()) }
    }

    fn write(
        &mut self,
        path: &[u8],
        stat: &FileStat,
        kind: EntryType,
        link: Option<&[u8]>,
        attributes: &[(String, Vec<u8>)],
        data: &mut dyn Read,
    ) -> Result<(), Error> {
        let mut path = [b"./", path].concat();
        if kind == EntryType::Directory && path.len() > 2 {
            path.push(b'/');
        }
        // A hard link names an entry.
        let link =
            link.map(|link| if kind == EntryType::Link { [b"./", link].concat() } else { link.to_vec() });
        let mut header = Header::new_gnu();
        let mut records: Vec<(&str, Vec<u8>)> = Vec::new();
        let old = header.as_old_mut();
        if !fits(&path, &mut old.name) {
            records.push(("path", path));
        }
        if let Some(link) = link.filter(|link| !fits(link, &mut old.linkname)) {
            records.push(("linkpath", link));
        }
        if stat.st_mtime < 0 {
            records.push(("mtime", stat.st_mtime.to_string().into_bytes()));
        }
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(u64::from(stat.st_uid));
        header.set_gid(u64::from(stat.st_gid));
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(if kind == EntryType::Regular {
            u64::try_from(stat.st_size).unwrap_or(0)
        } else {
            0
        });
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let numbers = (u32::try_from(major(stat.st_rdev)), u32::try_from(minor(stat.st_rdev)));
            let (Ok(major), Ok(minor)) = numbers else { return Err(Error::new("has no device number")) };
            header
                .set_device_major(major)
                .and_then(|()| header.set_device_minor(minor))
                .map_err(|e| unwritable(&e))?;
        }
        header.set_cksum();
        let records = records.iter().map(|(key, value)| (*key, value.as_slice()));
        let all = records.chain(attributes.iter().map(|(key, value)| (key.as_str(), value.as_slice())));
        let written = self.tar.append_pax_extensions(all).and_then(|()| self.tar.append(&header, data));
        written.map_err(|error| unwritable(&error))
    }
}

/// Puts as much of a name as fits into a field; was it all?
fn fits(name: &[u8], field: &mut [u8]) -> bool {
    for (to, from) in field.iter_mut().zip(name) {
        *to = *from;
    }
    name.len() <= field.len()
}

/// Attributes as pax records, sorted. The kernel lists those that we may see.
fn attributes(fd: std::os::fd::BorrowedFd) -> Result<Vec<(String, Vec<u8>)>, Errno> {
    let names = match xattr::list(fd) {
        Err(Errno::ENOTSUP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for name in names {
        let Ok(text) = name.to_str() else { continue };
        match xattr::read(fd, &name) {
            // Sorted, as there are few.
            Ok(value) => {
                let at = found.iter().take_while(|(known, _): &&(String, _)| known.as_str() < text).count();
                found.insert(at, (text.to_owned(), value));
            }
            Err(Errno::ENODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found.into_iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), value)).collect())
}
