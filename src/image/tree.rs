//! Files below a root, by descriptor: nothing here can reach outside, whatever names and links say.
//!
//! A name is split here, its directory is opened by openat2(2) with RESOLVE_IN_ROOT, as it would be looked up
//! by a process whose root is that directory: `..` and absolute links stay inside. (RESOLVE_NO_SYMLINKS would be
//! narrower, but layers do write `lib/x` where an earlier one made `lib` a link to `usr/lib`.) The last component
//! is used with calls that never follow a link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::Error;
use crate::scratch::{bury, empty, names};

/// For the kernel these are enough to work in a directory; it need not be readable.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Opens `path` below `root` as a process would see it whose root that is.
pub(super) fn open_in(root: BorrowedFd, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV,
    );
    loop {
        match openat2(root, if path.is_empty() { &b"."[..] } else { path }, how) {
            // A rename elsewhere in the file system met a `..` of ours (openat2(2), EAGAIN).
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// The components of a name: no empty ones, no `.`; `..` and NUL are refused. A leading slash means nothing.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if path.contains(&0) {
        return Err("has a NUL byte in its name");
    }
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let parts: Vec<&[u8]> = parts.collect();
    if parts.contains(&&b".."[..]) { Err("goes up with “..”") } else { Ok(parts) }
}

/// A directory below the root, and a name in it.
pub(super) type Located = (Vec<u8>, Vec<u8>);

/// Directory and last component; `None` for the root itself.
pub(super) fn split(path: &[u8]) -> Result<Option<Located>, &'static str> {
    let mut parts = components(path)?;
    Ok(parts.pop().map(|name| (parts.join(&b'/'), name.to_vec())))
}

/// A tree that is being built.
pub(super) struct Tree {
    root: OwnedFd,
    /// Where removed directories go until they are emptied; on the same file system.
    trash: OwnedFd,
    /// The directory used last: most entries of an archive follow their neighbours.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree {
    pub(super) fn new(root: OwnedFd, trash: OwnedFd) -> Self {
        Self { root, trash, last: None }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens a directory; missing ones are made, and their names given to `made`.
    pub(super) fn directory(
        &mut self,
        path: &[u8],
        made: &mut dyn FnMut(&[u8]),
    ) -> Result<BorrowedFd<'_>, Error> {
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            self.last = None;
            let fd = match open_in(self.root.as_fd(), path, DIRECTORY) {
                Err(Errno::ENOENT) => self.make(path, made)?,
                other => other.map_err(|errno| below(path, errno))?,
            };
            self.last = Some((path.to_vec(), fd));
        }
        Ok(self.last.as_ref().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }

    /// Opens a directory that is there.
    pub(super) fn existing(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        open_in(self.root.as_fd(), path, DIRECTORY)
    }

    fn make(&self, path: &[u8], made: &mut dyn FnMut(&[u8])) -> Result<OwnedFd, Error> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut dir = self.existing(b"").map_err(|errno| below(b"", errno))?;
        let mut start = 0;
        for end in ends.chain([path.len()]) {
            let (upper, name) = (path.get(..end).unwrap_or(path), path.get(start..end).unwrap_or_default());
            start = end + 1;
            dir = match self.existing(upper) {
                Err(Errno::ENOENT) => {
                    match mkdirat(&dir, name, Mode::S_IRWXU) {
                        Err(Errno::EEXIST) => {
                            let shown = crate::error::printable(upper);
                            return Err(Error::new(format!("{shown} is a symbolic link that leads nowhere")));
                        }
                        other => other.map_err(|errno| below(upper, errno))?,
                    }
                    made(upper);
                    self.existing(upper).map_err(|errno| below(upper, errno))?
                }
                other => other.map_err(|errno| below(upper, errno))?,
            };
        }
        Ok(dir)
    }

    /// Removes what is at a name, a directory with all that is in it. `false`: there was nothing.
    pub(super) fn clear(&mut self, dir: &[u8], name: &[u8]) -> Result<bool, Errno> {
        let parent = match self.existing(dir) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(false),
            other => other?,
        };
        match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => return Ok(false),
            Err(Errno::EISDIR) => {}
            other => return other.map(|()| true),
        }
        // The remembered directory may be the one that goes.
        self.last = None;
        bury(parent.as_fd(), name, self.trash.as_fd(), &mut 0)?;
        empty(self.trash.as_fd())?;
        Ok(true)
    }

    /// Is there a directory (not a link to one) at this name?
    pub(super) fn is_directory(&self, dir: &[u8], name: &[u8]) -> bool {
        let found = self.existing(dir).and_then(|dir| fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW));
        found.is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
    }

    /// The names in a directory.
    pub(super) fn names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        names(Dir::from_fd(open_in(self.root.as_fd(), dir, flags)?)?, usize::MAX)
    }
}

fn below(path: &[u8], errno: Errno) -> Error {
    let shown = if path.is_empty() { "the root".to_owned() } else { crate::error::printable(path) };
    match errno {
        Errno::ENOSYS => {
            Error::new("this kernel has no openat2(2), without which no archive is unpacked safely")
                .try_this("Linux 5.6 or newer; in a container, a seccomp profile that allows openat2")
        }
        Errno::ENOTDIR => Error::new(format!("{shown} is no directory")),
        Errno::ELOOP => Error::new(format!("{shown} is a loop of symbolic links")),
        errno => Error::new(format!("{shown} cannot be opened as a directory")).errno(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_split() {
        assert_eq!(split(b"./a//b/"), Ok(Some((b"a".to_vec(), b"b".to_vec()))));
        assert_eq!(split(b"/a"), Ok(Some((Vec::new(), b"a".to_vec()))));
        assert_eq!(split(b"./"), Ok(None));
        assert_eq!(split(b"a/../b"), Err("goes up with “..”"));
        assert_eq!(split(b".."), Err("goes up with “..”"));
        assert_eq!(split(b"a\0b"), Err("has a NUL byte in its name"));
    }

    proptest! {
        #[test]
        fn no_component_leads_up(path in prop::collection::vec(prop::sample::select(b"./a\0".to_vec()), 0..24)) {
            if let Ok(parts) = components(&path) {
                for part in parts {
                    prop_assert!(!part.is_empty() && part != b"." && part != b".." && !part.contains(&b'/'));
                }
            }
        }
    }
}
