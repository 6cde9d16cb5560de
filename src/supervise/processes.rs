//! The processes of a run: found, and signalled without ever meeting a stranger.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::spawn::Running;
use crate::sys;

/// The command is our child and not reaped yet, so the number is still its own; the same holds for any child.
pub(crate) fn signal_child(pid: Pid, signal: i32) {
    if let Err(errno) = sys::signals::send(pid, signal) {
        // EPERM: it has become another user's; it is as unreachable for us as for whoever signalled us.
        debug_assert!(errno == Errno::EPERM || errno == Errno::ESRCH, "kill: {errno}");
    }
}

/// Is it in the process group that the caller put us in?
pub(super) fn together(pid: Pid) -> bool {
    nix::unistd::getpgid(Some(pid)).ok() == Some(crate::guardian::job())
}

/// Our children: the command, and its orphans, which we adopted.
pub(crate) fn children() -> Vec<Pid> {
    let own = Pid::this();
    // We have one thread.
    children_of_thread(Path::new(&format!("/proc/self/task/{own}/children")))
}

/// Sends a signal to every process of the run, and SIGCONT after it: a stopped process acts on no signal.
pub(super) fn signal_all(running: &Running, signal: i32) {
    // Opened, and only then seen (again) to belong to the run: whoever got the number meanwhile gets no signal.
    let opened: Vec<(Pid, OwnedFd)> =
        members(running).into_iter().filter_map(|pid| Some((pid, sys::pidfd::open(pid).ok()?))).collect();
    let now = members(running);
    for (_, process) in opened.iter().filter(|(pid, _)| now.contains(pid)) {
        for signal in [signal, libc::SIGCONT] {
            if let Err(errno) = sys::pidfd::signal(process.as_fd(), signal) {
                debug_assert!(errno == Errno::EPERM || errno == Errno::ESRCH, "pidfd_send_signal: {errno}");
            }
        }
    }
}

/// Descendants, and whoever else is in a group that is the run's alone.
fn members(running: &Running) -> Vec<Pid> {
    let mut found = children();
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children_of(*pid));
        at += 1;
    }
    found.extend(running.groups.processes());
    crate::order::unique(&mut found);
    if running.news.is_some() {
        // The init would pass the signal on to the command, which gets it itself.
        found.retain(|pid| *pid != running.pid);
    }
    found
}

/// The children of all threads of a process (proc(5); the file is there with CONFIG_PROC_CHILDREN, as all
/// distributions have it).
pub(crate) fn children_of(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads.flatten().flat_map(|thread| children_of_thread(&thread.path().join("children"))).collect()
}

fn children_of_thread(file: &Path) -> Vec<Pid> {
    let listed = crate::files::text(file).unwrap_or_default();
    listed.split_whitespace().filter_map(|word| word.parse().ok()).map(Pid::from_raw).collect()
}
