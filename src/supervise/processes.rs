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

/// The parent of a process, where it can be seen.
pub(crate) fn parent_of(pid: Pid) -> Option<Pid> {
    stat(pid)?.split_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}

/// Is it stopped, as far as it can be seen?
pub(crate) fn is_stopped(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| stat.starts_with('T'))
}

/// What the kernel says of a process behind its name, which is in brackets and may have brackets in it (proc(5)): state,
/// parent and so on.
fn stat(pid: Pid) -> Option<String> {
    let stat = crate::files::text(Path::new(&format!("/proc/{pid}/stat"))).filter(|_| can_see())?;
    stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned())
}

/// So often is looked for processes that have not been told.
const ROUNDS: usize = 10;

/// So many are opened at a time.
const AT_ONCE: usize = 256;

/// So many descriptors are left, to look with.
const SPARE: usize = 8;

/// Sends a signal to every process of the run, and SIGCONT after it: a stopped process acts on no signal. The command is
/// one as long as it is not reaped.
pub(super) fn signal_all(running: &Running, command: Option<Pid>, signal: i32) {
    let mut told: Vec<Pid> = Vec::new();
    // The init would pass the signal on to the command, which gets it itself.
    told.extend(command.filter(|_| running.news.is_some()));
    let mut quiet = 0;
    // Those that were born meanwhile, again and again; who makes processes for ever is not waited for. Twice, because one
    // that is just being adopted is not to be seen.
    for _ in 0..ROUNDS {
        let mut list = members(running, command);
        list.retain(|pid| !told.contains(pid));
        quiet = if list.is_empty() { quiet + 1 } else { 0 };
        if quiet == 2 {
            return;
        }
        told.extend_from_slice(&list);
        while !list.is_empty() {
            // Opened, and only then seen (again) to belong to the run: whoever got the number meanwhile gets no signal.
            let (opened, children) = open_some(&mut list, command);
            let now = members(running, command);
            for pid in children {
                [signal, libc::SIGCONT].into_iter().for_each(|signal| signal_child(pid, signal));
            }
            for (_, process) in opened.iter().filter(|(pid, _)| now.contains(pid)) {
                for signal in [signal, libc::SIGCONT] {
                    if let Err(errno) = sys::pidfd::signal(process.as_fd(), signal) {
                        debug_assert!(
                            errno == Errno::EPERM || errno == Errno::ESRCH,
                            "pidfd_send_signal: {errno}"
                        );
                    }
                }
            }
        }
    }
}

/// Takes from the list's end as many as there are descriptors for, and those that are gone: opened, and our children of
/// those that cannot be opened, whose numbers are their own as long as we do not reap them.
fn open_some(list: &mut Vec<Pid>, command: Option<Pid>) -> (Vec<(Pid, OwnedFd)>, Vec<Pid>) {
    let (mut opened, mut unopened) = (Vec::new(), Vec::new());
    while opened.len() < AT_ONCE
        && let Some(pid) = list.pop()
    {
        match sys::pidfd::open(pid) {
            Ok(process) => opened.push((pid, process)),
            Err(Errno::EMFILE | Errno::ENFILE) if opened.len() > 1 => {
                list.push(pid);
                let spared = opened.split_off(opened.len().saturating_sub(SPARE).max(1));
                list.extend(spared.into_iter().rev().map(|(pid, _)| pid));
                break;
            }
            Err(Errno::ESRCH) => {}
            Err(_) => unopened.push(pid),
        }
    }
    if !unopened.is_empty() {
        let family = family(command);
        unopened.retain(|pid| family.contains(pid));
    }
    (opened, unopened)
}

/// Descendants, parents before their children, and whoever else is in a group that is the run's alone.
fn members(running: &Running, command: Option<Pid>) -> Vec<Pid> {
    let mut found = family(command);
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children_of(*pid));
        at += 1;
    }
    let others = running.groups.processes();
    found.extend(crate::order::set(others).difference(&crate::order::set(found.iter().copied())));
    found
}

/// The children of all threads of a process (proc(5); the file is there with CONFIG_PROC_CHILDREN, as all
/// distributions have it).
pub(crate) fn children_of(pid: Pid) -> Vec<Pid> {
    if !can_see() {
        return Vec::new();
    }
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads.flatten().flat_map(|thread| children_of_thread(&thread.path().join("children"))).collect()
}

fn children_of_thread(file: &Path) -> Vec<Pid> {
    let listed = crate::files::text(file).unwrap_or_default();
    listed.split_whitespace().filter_map(|word| word.parse().ok()).map(Pid::from_raw).collect()
}
