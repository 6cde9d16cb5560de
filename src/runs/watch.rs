//! Waiting for the end of a run, woken by the kernel: on one process after the other, by pidfd, so that a number
//! that was given to somebody else cannot be mistaken.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::Pid;

use super::{Run, gather_from};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// It is over.
    Ended,
    /// The time is over.
    TimedOut,
}

/// Between looks where there is nothing to be woken by.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until nobody is in any of these groups, or they are gone.
#[must_use]
pub fn until_empty(dirs: &[BorrowedFd], deadline: Option<Instant>) -> Watched {
    let changes = changes_of(dirs);
    until(deadline, changes.as_ref(), || {
        let mut list = std::collections::BTreeSet::new();
        dirs.iter().for_each(|dir| gather_from(*dir, &mut list));
        // A zombie is listed no more; who is of another pid namespace cannot be named.
        let left = !list.is_empty() || dirs.iter().any(|dir| holds_unnamed(*dir));
        left.then(|| list.into_iter().map(Pid::from_raw).collect())
    })
}

/// Processes of a pid namespace that is no child of ours show as 0.
fn holds_unnamed(dir: BorrowedFd) -> bool {
    crate::cgroup::read_at(dir, "cgroup.procs").is_some_and(|text| text.lines().any(|line| line == "0"))
}

/// Waits until nobody holds the run any more and nothing is in it.
#[must_use]
pub fn until_released(run: &Run, deadline: Option<Instant>) -> Watched {
    until(deadline, None, || {
        let runs = super::find().ok()?;
        let same = |other: &&Run| other.dirs.iter().any(|a| run.dirs.iter().any(|b| same_dir(a, b)));
        let now = runs.iter().find(same).filter(|now| !now.is_stale())?;
        Some(if now.wrappers.is_empty() { now.processes.clone() } else { now.wrappers.clone() })
    })
}

fn same_dir(a: &super::Dir, b: &super::Dir) -> bool {
    (a.device, a.inode) == (b.device, b.inode)
}

/// Asks `left` who is left, and waits for the end of one of them, until it says `None`.
fn until(
    deadline: Option<Instant>,
    changes: Option<&Inotify>,
    left: impl Fn() -> Option<Vec<Pid>>,
) -> Watched {
    let mut pause = Duration::from_millis(1);
    loop {
        let Some(pids) = left() else { return Watched::Ended };
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if rest == Some(Duration::ZERO) {
            return Watched::TimedOut;
        }
        let handles = pids.iter().find_map(|pid| crate::sys::pidfd::open(*pid).ok().map(|fd| (*pid, fd)));
        // The number could have been given away before the descriptor was ours: is it still one of those?
        match handles.filter(|(pid, _)| left().is_some_and(|now| now.contains(pid))) {
            Some((_, fd)) => {
                pause = Duration::from_millis(1);
                sleep_on(&fd, changes, rest);
            }
            None => {
                std::thread::sleep(rest.unwrap_or(pause).min(pause));
                pause = (pause * 2).min(PAUSE);
            }
        }
    }
}

/// Tells when one of the groups is removed, or (v2) has lost its last process: processes may leave without ending.
/// Without it, only ends are noticed.
fn changes_of(dirs: &[BorrowedFd]) -> Option<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    for dir in dirs {
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        // A directory that is held open is told of only by the one above it.
        inotify.add_watch(format!("{path}/..").as_str(), AddWatchFlags::IN_DELETE).ok()?;
        // Whoever takes processes out says so by touching the group's attributes: on v1 nothing else tells.
        inotify.add_watch(path.as_str(), AddWatchFlags::IN_ATTRIB).ok()?;
        // v1 has no such file.
        let events = inotify.add_watch(format!("{path}/cgroup.events").as_str(), AddWatchFlags::IN_MODIFY);
        debug_assert!(events != Err(Errno::EBADF));
    }
    Some(inotify)
}

fn sleep_on(fd: &OwnedFd, changes: Option<&Inotify>, rest: Option<Duration>) {
    let mut fds = vec![PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    fds.extend(changes.map(|changes| PollFd::new(changes.as_fd(), PollFlags::POLLIN)));
    // Rounded up, so as not to spin in the last millisecond.
    let limit = rest.map_or(PollTimeout::NONE, |rest| {
        PollTimeout::try_from(rest.as_millis() + 1).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut fds, limit) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => debug_assert!(false, "poll: {errno}"),
    }
    // What has happened is seen by looking again; here it is only taken out.
    while changes.is_some_and(|changes| changes.read_events().is_ok_and(|events| !events.is_empty())) {}
}
