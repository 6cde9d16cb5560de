//! Directories that are ours for a while: beside a tree that is being unpacked, or for the writes of a run. They
//! go when we do; where we are killed, the next one that works in the same place removes them, because nobody
//! holds the lock on them any more.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::error::printable;

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A directory that only we can reach. Removed with all that is in it when dropped.
#[derive(Debug)]
pub struct Scratch {
    parent: OwnedFd,
    name: OsString,
    /// Its open description holds the lock that says that we live.
    pub(crate) dir: OwnedFd,
}

impl Scratch {
    /// Makes it. `None`: there is one of this name, or somebody's sweep has met this one.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn new(parent: BorrowedFd, name: &str) -> Result<Option<Self>, Errno> {
        match mkdirat(parent, name, Mode::S_IRWXU) {
            Err(Errno::EEXIST) => return Ok(None),
            other => other?,
        }
        let dir = openat(parent, name, DIRECTORY, Mode::empty())?;
        // A sweep that came between has removed it, or has the lock for now.
        if crate::sys::try_lock(dir.as_fd(), true).is_err() || fstat(&dir)?.st_nlink == 0 {
            return Ok(None);
        }
        let parent = openat(parent, ".", DIRECTORY, Mode::empty())?;
        Ok(Some(Self { parent, name: name.into(), dir }))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = remove(self.parent.as_fd(), &self.name, self.dir.as_fd());
        if let Err(errno) = removed {
            let name = printable(self.name.as_bytes());
            crate::say(&format!(
                "rcon: the temporary directory {name} could not be removed: {}",
                errno.desc()
            ));
        }
    }
}

fn remove(parent: BorrowedFd, name: &OsStr, dir: BorrowedFd) -> Result<(), Errno> {
    empty(dir)?;
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Removes directories of ours whose names begin so and whose makers are dead.
///
/// # Errors
/// The kernel's answer; one that cannot be removed may stay if `lenient`.
pub fn sweep(parent: BorrowedFd, prefix: &str, lenient: bool) -> Result<(), Errno> {
    let all = names(Dir::from_fd(openat(parent, ".", DIRECTORY, Mode::empty())?)?, usize::MAX)?;
    for name in all.into_iter().filter(|name| name.starts_with(prefix.as_bytes())).map(OsString::from_vec) {
        let Ok(dir) = openat(parent, name.as_os_str(), DIRECTORY, Mode::empty()) else { continue };
        let ours = geteuid().is_root() || fstat(&dir).is_ok_and(|stat| stat.st_uid == geteuid().as_raw());
        if ours && crate::sys::try_lock(dir.as_fd(), true).is_ok() {
            let removed = remove(parent, &name, dir.as_fd());
            if !lenient {
                removed?;
            }
        }
    }
    Ok(())
}

/// The names in a directory, up to a number of them.
pub(crate) fn names(mut dir: Dir, at_most: usize) -> Result<Vec<Vec<u8>>, Errno> {
    let mut found = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            found.push(name.to_vec());
            if found.len() >= at_most {
                break;
            }
        }
    }
    Ok(found)
}

/// Moves a directory into `trash`, under a name that is free there.
pub(crate) fn bury(from: BorrowedFd, name: &[u8], trash: BorrowedFd, count: &mut u64) -> Result<(), Errno> {
    loop {
        *count += 1;
        let fresh = format!("removed-{count}");
        match renameat(from, name, trash, fresh.as_bytes()) {
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
            // To rename a directory into another one its owner must be able to write it (`..` changes).
            Err(Errno::EACCES) => {
                fchmodat(from, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
                return renameat(from, name, trash, fresh.as_bytes());
            }
            other => return other,
        }
    }
}

/// Empties a directory that is ours alone. Directories are not descended into but moved up and emptied there:
/// an archive can nest them deeper than any stack, table of descriptors or path name.
pub(crate) fn empty(trash: BorrowedFd) -> Result<(), Errno> {
    let list = |dir: BorrowedFd, name: &[u8], at_most| {
        names(Dir::from_fd(openat(dir, name, DIRECTORY, Mode::empty())?)?, at_most)
    };
    let mut count = 0;
    loop {
        let batch = list(trash, b".", 1024)?;
        if batch.is_empty() {
            return Ok(());
        }
        for name in batch {
            match unlinkat(trash, name.as_slice(), UnlinkatFlags::NoRemoveDir) {
                Err(Errno::EISDIR) => {}
                other => {
                    other?;
                    continue;
                }
            }
            fchmodat(trash, name.as_slice(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            let dir = openat(trash, name.as_slice(), DIRECTORY, Mode::empty())?;
            loop {
                let inner = list(dir.as_fd(), b".", 1024)?;
                if inner.is_empty() {
                    break;
                }
                for child in inner {
                    match unlinkat(&dir, child.as_slice(), UnlinkatFlags::NoRemoveDir) {
                        Err(Errno::EISDIR) => bury(dir.as_fd(), &child, trash, &mut count)?,
                        other => other?,
                    }
                }
            }
            unlinkat(trash, name.as_slice(), UnlinkatFlags::RemoveDir)?;
        }
    }
}
