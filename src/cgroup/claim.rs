//! Whose a group is: its directory is made and locked, so that nobody takes it for a dead one's, and nobody for his.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use super::{DIRECTORY, MODE, is_abandoned, open_child, processes, remove_tree};
use crate::error::Error;
use crate::plan::GroupPlan;

/// Makes the group's directory, or joins it where it is shared; returns its name, opened and locked.
pub(super) fn make(plan: &GroupPlan, parent: BorrowedFd) -> Result<(String, OwnedFd), Errno> {
    let mut name = plan.name.clone();
    let exclusive = plan.named.is_some();
    // A generated name that is taken gets a suffix; a shared one that vanishes under us is made again. Its last
    // user may take a moment to end what was left in it.
    for attempt in 1..=5000 {
        let made = mkdirat(parent, name.as_str(), MODE);
        match made {
            Ok(()) => {}
            Err(Errno::EEXIST) if plan.shared => {}
            // What a dead run of the name has left is taken away.
            Err(Errno::EEXIST) if exclusive && remove_stale(parent, OsStr::new(&name)) => continue,
            Err(Errno::EEXIST) if exclusive => return Err(Errno::EEXIST),
            Err(Errno::EEXIST) => {
                name = format!("{}.{attempt}", plan.name);
                continue;
            }
            Err(errno) => return Err(errno),
        }
        match openat(parent, name.as_str(), DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()) {
            // One that we have just made is nobody's to remove: rcon gc leaves young ones alone.
            Ok(dir) if made.is_ok() => {
                // Others who want this name for themselves may have taken our group for a stale one, or have come
                // to share it and gone again, before it was locked.
                let locked = lock(dir.as_fd(), exclusive);
                if !(exclusive || plan.shared) || (locked && is_alive(dir.as_fd())) {
                    if exclusive {
                        let claimed = crate::sys::claim(dir.as_fd());
                        debug_assert!(claimed != Err(Errno::EBADF));
                    }
                    return Ok((name, dir));
                }
            }
            Ok(dir) => {
                // Fails while the last user of a shared group is removing it: it is gone in a moment. A name for
                // one run is locked against everybody, and that may last.
                if crate::sys::try_lock(dir.as_fd(), exclusive).is_ok() {
                    if is_alive(dir.as_fd()) {
                        return Ok((name, dir));
                    }
                } else if crate::sys::is_claimed(dir.as_fd()) {
                    return Err(Errno::EBUSY);
                }
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err(Errno::EBUSY)
}

/// Removes a group that nobody holds and nobody is in.
fn remove_stale(parent: BorrowedFd, name: &OsStr) -> bool {
    open_child(parent, name).is_ok_and(|dir| {
        is_abandoned(dir.as_fd()) && processes(dir.as_fd()).is_empty() && remove_tree(parent, name)
    })
}

/// A group that was removed keeps its directory for those who have it open, but has no files.
pub(super) fn is_alive(dir: BorrowedFd) -> bool {
    nix::unistd::faccessat(dir, "cgroup.procs", nix::unistd::AccessFlags::F_OK, nix::fcntl::AtFlags::empty())
        .is_ok()
}

/// The name was free when we looked, or is another's group, or processes of a dead run go on in it.
pub(super) fn taken(name: &str) -> Error {
    Error::new("a run of this name lives, or processes that one has left")
        .option(format!("--name {name}"))
        .errno(Errno::EEXIST)
        .try_this(format!("rcon show {name}, rcon kill {name}; or --name {name}%n, which numbers runs"))
}

/// Somebody who holds the lock exclusively is looking whether it is used, which takes a moment; a stranger who
/// holds it for ever must not stop us.
pub(super) fn lock(dir: BorrowedFd, exclusive: bool) -> bool {
    for _ in 0..50 {
        if crate::sys::try_lock(dir, exclusive).is_ok() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    false
}
