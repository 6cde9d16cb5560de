//! The processes of a run: found, and signalled without ever meeting a stranger.

use std::collections::BTreeSet;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::runs::process::{self, Stat};
use crate::spawn::Running;
use crate::sys;

/// The command is our child and not reaped yet, so the number is still its own; the same holds for any child.
pub(crate) fn signal_child(pid: Pid, signal: i32) {
    if let Err(errno) = sys::signals::send(pid, signal) {
        // EPERM: it has become another user's; it is as unreachable for us as for whoever signalled us.
        debug_assert!(errno == Errno::EPERM || errno == Errno::ESRCH, "kill: {errno}");
    }
}

/// Those who stopped with the command for the stop of this number go on: an init sees what its command needs. Where
/// nothing can be queued the plain signal is for a command that is stopped.
pub(crate) fn resume_init(init: Pid, stop: u16) {
    if !sys::signals::say_resumed(init, stop) {
        signal_child(init, libc::SIGCONT);
    }
}

/// Is it in the process group that the caller put us in?
pub(super) fn together(pid: Pid) -> bool {
    nix::unistd::getpgid(Some(pid)).ok() == Some(crate::guardian::job())
}

/// Our children: the command, and its orphans, which we adopted. As far as they can be seen ([`can_see`]).
pub(crate) fn children() -> Vec<Pid> {
    if !can_see() {
        return Vec::new();
    }
    let own = Pid::this();
    // We have one thread.
    children_of_thread(Path::new(&format!("/proc/self/task/{own}/children")))
}

/// Is there a /proc that knows processes by the numbers that they have for us? In a bare root there is none, and in a
/// new pid namespace it may still be that of the one outside.
pub(crate) fn can_see() -> bool {
    let own = Pid::this().to_string();
    std::fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == own.as_str())
}

/// Our children, the command among them as long as it is not reaped, seen or not.
pub(super) fn family(command: Option<Pid>) -> Vec<Pid> {
    let mut found = children();
    found.extend(command.filter(|command| !found.contains(command)));
    found
}

/// What the kernel says of a process, where it can be seen.
pub(crate) fn stat(pid: Pid) -> Option<Stat> {
    process::stat(pid).filter(|_| can_see())
}

/// So often is looked for processes that have not been told.
const ROUNDS: usize = 10;

/// Sends a signal to every process of the run, and SIGCONT after it: a stopped process acts on no signal. The command is
/// one as long as it is not reaped.
pub(super) fn signal_all(running: &Running, command: Option<Pid>, signal: i32) {
    let mut told: BTreeSet<(i32, u64)> = BTreeSet::new();
    let mut quiet = 0;
    // Those that were born meanwhile, again and again; who makes processes for ever is not waited for. Twice, because one
    // that is just being adopted is not to be seen.
    for _ in 0..ROUNDS {
        // In the list before and after it was looked at: it is one of the run's that has started then.
        let listed = members(running, command);
        let mut news: Vec<(Pid, u64)> =
            listed.into_iter().map(|pid| (pid, process::stat(pid).map_or(0, |stat| stat.started))).collect();
        news.retain(|(pid, started)| !told.contains(&(pid.as_raw(), *started)));
        quiet = if news.is_empty() { quiet + 1 } else { 0 };
        if quiet == 2 {
            return;
        }
        let (now, family) = (members(running, command), family(command));
        // Children before their parents, whose end would hide them for a moment.
        for (pid, started) in news.into_iter().rev().filter(|(pid, _)| now.contains(pid)) {
            told.insert((pid.as_raw(), started));
            // The init would pass the signal on to the command, which gets it itself.
            let is_init = running.news.is_some() && pid == running.pid;
            for signal in [signal, libc::SIGCONT].into_iter().filter(|_| !is_init) {
                if family.contains(&pid) {
                    signal_child(pid, signal);
                } else if let Err(errno) = process::signal(pid, started, signal) {
                    // Without descriptors, or before Linux 5.3, who is no child of ours cannot be signalled safely.
                    debug_assert!(
                        matches!(
                            errno,
                            Errno::EPERM | Errno::ESRCH | Errno::EMFILE | Errno::ENFILE | Errno::ENOSYS
                        ),
                        "pidfd_send_signal: {errno}"
                    );
                }
            }
        }
    }
}

/// Descendants, parents before their children, and whoever else is in a group that is the run's alone.
fn members(running: &Running, command: Option<Pid>) -> Vec<Pid> {
    let visible = can_see();
    let mut found = family(command);
    let mut at = 0;
    while let Some(pid) = found.get(at).filter(|_| visible) {
        found.extend(children_of_all_threads(*pid));
        at += 1;
    }
    let others = running.groups.processes();
    found.extend(crate::order::set(others).difference(&crate::order::set(found.iter().copied())));
    found
}

/// The children of a process, where they can be seen.
pub(crate) fn children_of(pid: Pid) -> Vec<Pid> {
    if can_see() { children_of_all_threads(pid) } else { Vec::new() }
}

/// Of all its threads (proc(5); the file is there with CONFIG_PROC_CHILDREN, as all distributions have it).
fn children_of_all_threads(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads.flatten().flat_map(|thread| children_of_thread(&thread.path().join("children"))).collect()
}

fn children_of_thread(file: &Path) -> Vec<Pid> {
    let listed = crate::files::text(file).unwrap_or_default();
    listed.split_whitespace().filter_map(|word| word.parse().ok()).map(Pid::from_raw).collect()
}
