//! Directories that are ours for a while: beside a tree that is being unpacked, or for the writes of a run. They
//! go when we do; where we are killed, the next one that works in the same place removes them, because nobody
//! holds the lock on them any more.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat, mkdirat};
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
/// The kernel's answer; one that cannot be removed may stay if `lenient`, and one of another user always: who can
/// keep us from removing it must not keep us from working.
pub fn sweep(parent: BorrowedFd, prefix: &str, lenient: bool) -> Result<(), Errno> {
    let all = names(Dir::from_fd(openat(parent, ".", DIRECTORY, Mode::empty())?)?, usize::MAX)?;
    for name in all.into_iter().filter(|name| name.starts_with(prefix.as_bytes())).map(OsString::from_vec) {
        let Ok(dir) = openat(parent, name.as_os_str(), DIRECTORY, Mode::empty()) else { continue };
        let ours = fstat(&dir).is_ok_and(|stat| stat.st_uid == geteuid().as_raw());
        if (ours || geteuid().is_root()) && crate::sys::try_lock(dir.as_fd(), true).is_ok() {
            let removed = remove(parent, &name, dir.as_fd());
            if ours && !lenient {
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
        // To rename a directory into another one its owner must be able to write it (`..` changes).
        match permitted(|| renameat(from, name, trash, fresh.as_bytes()), || permit(from, name)) {
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
            other => return other,
        }
    }
}

/// Calls, and where that is forbidden and `permit` can change that, once more.
fn permitted<T>(
    call: impl Fn() -> Result<T, Errno>,
    permit: impl FnOnce() -> Result<(), Errno>,
) -> Result<T, Errno> {
    match call() {
        Err(Errno::EACCES) if permit().is_ok() => call(),
        other => other,
    }
}

/// Lets the owner of a directory do everything with it. Never by its name: root removes what other users have left, and
/// they can exchange the directory for a link to any file between two calls.
fn permit(parent: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
    match openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(dir) => fchmod(&dir, Mode::S_IRWXU),
        // It cannot be read. fchmod(2) takes no descriptor that only says where it is, and fchmodat2(2), which would,
        // is of Linux 6.6; the link to it in /proc leads nowhere else.
        Err(Errno::EACCES) => {
            let dir = openat(parent, name, DIRECTORY.union(OFlag::O_PATH), Mode::empty())?;
            let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
            fchmodat(AT_FDCWD, link.as_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)
        }
        Err(errno) => Err(errno),
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
            let open = || openat(trash, name.as_slice(), DIRECTORY, Mode::empty());
            let dir = permitted(open, || permit(trash, &name))?;
            let permit = || fchmod(&dir, Mode::S_IRWXU);
            loop {
                let inner = permitted(|| list(dir.as_fd(), b".", 1024), permit)?;
                if inner.is_empty() {
                    break;
                }
                for child in inner {
                    let unlink = || unlinkat(&dir, child.as_slice(), UnlinkatFlags::NoRemoveDir);
                    match permitted(unlink, permit) {
                        Err(Errno::EISDIR) => bury(dir.as_fd(), &child, trash, &mut count)?,
                        other => other?,
                    }
                }
            }
            unlinkat(trash, name.as_slice(), UnlinkatFlags::RemoveDir)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn opened(path: &Path) -> OwnedFd {
        nix::fcntl::open(path, DIRECTORY, Mode::empty()).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// From here on modes count for this thread as they do for an ordinary user.
    fn lose_power_over_modes() {
        for capability in [caps::Capability::CAP_DAC_OVERRIDE, caps::Capability::CAP_DAC_READ_SEARCH] {
            caps::drop(None, caps::CapSet::Effective, capability).unwrap();
        }
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_not_followed() {
        lose_power_over_modes();
        let ground = tempfile::tempdir().unwrap();
        let (left, victim) = (ground.path().join("left"), ground.path().join("victim"));
        fs::create_dir(&left).unwrap();
        fs::create_dir(&victim).unwrap();
        symlink(&victim, left.join("name")).unwrap();
        // Ends with one that lets the directory go.
        for bits in [0, 0o311, 0o755] {
            fs::set_permissions(&victim, fs::Permissions::from_mode(bits)).unwrap();
            assert!(permit(opened(&left).as_fd(), b"name").is_err());
            assert_eq!(mode(&victim), bits);
        }
        empty(opened(&left).as_fd()).unwrap();
        assert_eq!((mode(&victim), fs::read_dir(&left).unwrap().count()), (0o755, 0));
    }

    #[test]
    fn modes_are_not_in_the_way() {
        lose_power_over_modes();
        for bits in [0o000, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600] {
            let ground = tempfile::tempdir().unwrap();
            let inner = ground.path().join("outer/inner");
            fs::create_dir_all(inner.join("innermost")).unwrap();
            fs::write(inner.join("innermost/file"), "").unwrap();
            for dir in [&inner.join("innermost"), &inner, &ground.path().join("outer")] {
                fs::set_permissions(dir, fs::Permissions::from_mode(bits)).unwrap();
            }
            assert_eq!(empty(opened(ground.path()).as_fd()), Ok(()), "{bits:o}");
            assert_eq!(fs::read_dir(ground.path()).unwrap().count(), 0);
        }
    }
}
