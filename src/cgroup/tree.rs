//! A group with the groups below it: listed, killed, removed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use super::{open_child, write_at};
use crate::limits::{Controller, Version};
use crate::runs::held::held_in;
use crate::sys::try_lock;

/// The names of the groups directly below.
#[must_use]
pub fn children(dir: BorrowedFd) -> Vec<OsString> {
    // A description of its own: reading a directory moves its position.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut listing) = Dir::openat(dir, ".", flags, Mode::empty()) else { return Vec::new() };
    let names = listing.iter().flatten().filter(|entry| entry.file_type() == Some(Type::Directory));
    names
        .map(|entry| OsString::from_vec(entry.file_name().to_bytes().to_vec()))
        .filter(|name| name != "." && name != "..")
        .collect()
}

/// Has a v2 group below, other than `except`, a limit of its own?
#[must_use]
pub(super) fn has_limited_children(dir: BorrowedFd, except: Option<&str>) -> bool {
    let limited = |name: &OsString| {
        open_child(dir, name).is_ok_and(|child| !held_in(child.as_fd(), Version::V2).is_empty())
    };
    children(dir).iter().filter(|name| Some(name.as_os_str()) != except.map(OsStr::new)).any(limited)
}

/// The processes in the group, without those of groups below it.
///
/// The file is opened anew each time: on v1 a descriptor that is kept shows a list that is kept.
#[must_use]
pub fn processes(dir: BorrowedFd) -> Vec<Pid> {
    processes_of(dir, OsStr::new("cgroup.procs"))
}

/// The same of a list named by its path below an open directory: one call less for each that is only looked at.
#[must_use]
pub fn processes_of(dir: BorrowedFd, file: &OsStr) -> Vec<Pid> {
    // A group that is gone, or closed to us, has none that we could name.
    let text = crate::files::lines_at(dir, file).unwrap_or_default();
    let text = String::from_utf8(text).unwrap_or_default();
    // 0 is a process of another pid namespace, which cannot be named from here.
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw).collect()
}

/// The processes in the group and in those below it.
pub(super) fn processes_below(dir: BorrowedFd) -> Vec<Pid> {
    let mut found = processes(dir);
    for name in children(dir) {
        if let Ok(child) = open_child(dir, &name) {
            found.extend(processes_below(child.as_fd()));
        }
    }
    found
}

/// Sends SIGKILL to all processes in the group and below. On v2 in one step that no fork outruns; on v1 once to
/// each, after forbidding new ones where the pids controller is mounted: the caller repeats it until all are gone.
/// Who is in `killed` has had it, and whoever gets it is in there then. `false`: some are not ours to signal.
pub fn kill_tree(dir: BorrowedFd, version: Version, mut killed: Option<&mut BTreeSet<Pid>>) -> bool {
    if version == Version::V2 {
        let all = killed.as_ref().map(|_| processes_below(dir));
        if write_at(dir, "cgroup.kill", "1").is_ok() {
            if let (Some(killed), Some(all)) = (killed, all) {
                killed.extend(all);
            }
            return true;
        }
    }
    let mut all = true;
    // No new ones from now on: by the pids controller, else by freezing all while the signals are sent (v2 has that
    // since Linux 5.2, and cgroup.kill since 5.14). Without any of these files the signals alone have to do.
    let forbidden = write_at(dir, "pids.max", "0");
    if version == Version::V2 && forbidden.is_err() {
        // Here a frozen process dies as it is.
        let frozen = write_at(dir, "cgroup.freeze", "1");
        debug_assert!(frozen != Err(Errno::EBADF));
    }
    let frozen = forbidden.is_err() && write_at(dir, "freezer.state", "FROZEN").is_ok();
    for pid in processes(dir) {
        if killed.as_mut().is_none_or(|killed| killed.insert(pid))
            && let Err(errno) = kill(pid, Signal::SIGKILL)
        {
            // ESRCH: gone already.
            debug_assert!(errno == Errno::ESRCH || errno == Errno::EPERM);
            all &= errno == Errno::ESRCH;
        }
    }
    // A frozen process dies when it is thawed, whoever has frozen it.
    let thawed = if version == Version::V1 { write_at(dir, "freezer.state", "THAWED") } else { Ok(()) };
    // Or the group has gone meanwhile, and who was in it.
    debug_assert!(!frozen || matches!(thawed, Ok(()) | Err(Errno::ENOENT | Errno::ENODEV)));
    for name in children(dir) {
        if let Ok(child) = open_child(dir, &name) {
            all &= kill_tree(child.as_fd(), version, killed.as_deref_mut());
        }
    }
    all
}

/// Lets a process go on that is in a group which `rcon freeze` has made on v1 and frozen: there SIGKILL waits for it.
pub fn thaw(pid: Pid) {
    // Who has ended needs it no more.
    let Ok(layout) = crate::runs::layout_of(pid) else { return };
    let Some(Ok(path)) = layout.v1_of(Controller::Freezer).map(|hierarchy| &hierarchy.own) else { return };
    let Ok(dir) = super::open_dir(path) else { return };
    if let (Some(name), Ok(stat)) = (path.file_name(), fstat(&dir))
        && crate::runs::is_ours(name, &stat)
    {
        // It may be gone, or no user's to write.
        let thawed = write_at(dir.as_fd(), "freezer.state", "THAWED");
        debug_assert!(thawed != Err(Errno::EBADF));
    }
}

/// How long after making a group its owner has surely locked it.
const GRACE: Duration = Duration::from_millis(200);

/// Does nobody hold the lock, and has the owner had the time to take it? If so, it is ours from here on, for as
/// long as `dir` is open.
#[must_use]
pub fn is_abandoned(dir: BorrowedFd) -> bool {
    let Ok(stat) = fstat(dir) else { return false };
    let made = UNIX_EPOCH
        + Duration::new(stat.st_ctime.try_into().unwrap_or(0), stat.st_ctime_nsec.try_into().unwrap_or(0));
    // A group from the future was made before the clock was set back: it waits as well, once.
    if !SystemTime::now().duration_since(made).is_ok_and(|age| age > GRACE) {
        // The lock of another open file, which goes with it: who is about to take it must not find it taken.
        let held = open_child(dir, OsStr::new(".")).is_ok_and(|dir| try_lock(dir.as_fd(), true).is_err());
        if held {
            return false;
        }
        std::thread::sleep(GRACE);
    }
    // One that was removed meanwhile is nobody's, but a living one may bear its name by now.
    try_lock(dir, true).is_ok() && super::is_alive(dir)
}

/// Removes the group `name` and the groups below it, deepest first. `false`: something is still in one of them.
pub fn remove_tree(parent: BorrowedFd, name: &OsStr) -> bool {
    if let Ok(dir) = open_child(parent, name) {
        for child in children(dir.as_fd()) {
            remove_tree(dir.as_fd(), &child);
        }
    }
    matches!(unlinkat(parent, name.as_bytes(), UnlinkatFlags::RemoveDir), Ok(()) | Err(Errno::ENOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v2_group_without_a_kill_file_is_frozen_first() {
        let group = tempfile::tempdir().unwrap();
        let file = group.path().join("cgroup.freeze");
        std::fs::write(&file, "").unwrap();
        std::fs::write(group.path().join("cgroup.procs"), "").unwrap();
        let dir = super::super::open_dir(group.path()).unwrap();
        assert!(kill_tree(dir.as_fd(), Version::V2, None));
        assert_eq!(std::fs::read_to_string(file).unwrap(), "1");
    }
}
