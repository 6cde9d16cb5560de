//! While the command runs: one wait, signals passed on; when it ends, everything that it left behind is ended too.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::outcome::{Ended, Outcome};
use crate::plan::{Ending, Plan};
use crate::spawn::Running;
use crate::sys;

/// How long the end of what the command left behind is waited for, after SIGKILL.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the command, and for the end of its group.
///
/// # Errors
/// None that the kernel is known to give.
pub fn wait(mut running: Running, plan: &Plan) -> Outcome {
    let ended = wait_for_command(&running);
    if plan.ending == Ending::WaitAll {
        wait_for_descendants(&running);
    }
    let mut outcome = Outcome { ended, out_of_memory: None, left: Vec::new() };
    let others = reap_all();
    outcome.out_of_memory = running.groups.out_of_memory();
    if others || !running.groups.try_remove() {
        outcome.left = end_all(&mut running);
    }
    outcome
}

/// Sleeps until a signal comes or `limit` has passed.
fn sleep(running: &Running, limit: PollTimeout) {
    let mut fds = [PollFd::new(running.signals.fd(), PollFlags::POLLIN)];
    match poll(&mut fds, limit) {
        // An interruption is as good as a signal: the caller looks again.
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => debug_assert!(false, "poll: {errno}"),
    }
}

fn wait_for_command(running: &Running) -> Ended {
    loop {
        sleep(running, PollTimeout::NONE);
        if let Some(ended) = take_signals(running) {
            return ended;
        }
    }
}

/// Handles all signals that have come; the command's end, if it is among them.
fn take_signals(running: &Running) -> Option<Ended> {
    let mut ended = None;
    while let Ok(Some(arrived)) = running.signals.next() {
        if arrived.signal == libc::SIGCHLD {
            ended = ended.or_else(|| reap_until(running.pid));
            if ended.is_some() {
                break;
            }
        } else if !arrived.from_terminal {
            // The terminal has signalled the whole foreground group, the command included.
            pass_on(running.pid, arrived.signal);
        }
    }
    ended
}

/// The command is our child and not reaped yet, so the number is still its own.
fn pass_on(pid: Pid, signal: i32) {
    if let Ok(signal) = Signal::try_from(signal)
        && let Err(errno) = kill(pid, signal)
    {
        // EPERM: it has become another user's; it is as unreachable for us as for whoever signalled us.
        debug_assert!(errno == Errno::EPERM || errno == Errno::ESRCH);
    }
}

/// Reaps whoever has ended; the command's end, if it is among them.
fn reap_until(command: Pid) -> Option<Ended> {
    while let Ok(Some((pid, status, usage))) = sys::reap() {
        if libc::WIFSTOPPED(status) {
            if pid == command {
                stop_with_it(command, libc::WSTOPSIG(status));
            }
        } else if pid == command {
            return Some(Ended::from_status(status, &usage));
        }
    }
    None
}

/// The command stopped itself at a terminal (Ctrl-Z stops us directly): a shell waits for us, so we stop too.
/// Only in the foreground group's own way: elsewhere nobody would wake us.
fn stop_with_it(command: Pid, signal: i32) {
    let together = nix::unistd::getpgid(Some(command)).ok() == Some(nix::unistd::getpgrp());
    let Ok(tty) = nix::fcntl::open(
        c"/dev/tty",
        nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    ) else {
        return;
    };
    let foreground = nix::unistd::tcgetpgrp(tty.as_fd()).ok() == Some(nix::unistd::getpgrp());
    if together && (foreground || signal != libc::SIGSTOP) && kill(Pid::this(), Signal::SIGSTOP).is_ok() {
        // Woken: so must the command be, whoever woke us.
        pass_on(command, libc::SIGCONT);
    }
}

/// Reaps all that have ended. `true`: there are children that have not.
fn reap_all() -> bool {
    loop {
        match sys::reap() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// As a subreaper we are, sooner or later, the parent of every descendant.
fn wait_for_descendants(running: &Running) {
    while reap_all() {
        sleep(running, PollTimeout::NONE);
        while let Ok(Some(arrived)) = running.signals.next() {
            if arrived.signal != libc::SIGCHLD {
                for pid in children() {
                    pass_on(pid, arrived.signal);
                }
            }
        }
    }
}

/// Kills what the command left behind, until it is gone; what could not be removed within the patience.
fn end_all(running: &mut Running) -> Vec<String> {
    let start = Instant::now();
    let mut pause = 1_u16;
    loop {
        running.groups.kill();
        for pid in children() {
            pass_on(pid, libc::SIGKILL);
        }
        let others = reap_all();
        if running.groups.try_remove() && !others {
            return Vec::new();
        }
        if start.elapsed() > PATIENCE {
            return running.groups.left();
        }
        // Every end of a descendant wakes us; the time is for what is no descendant of ours.
        sleep(running, PollTimeout::from(pause));
        while let Ok(Some(_)) = running.signals.next() {}
        pause = (pause * 2).min(50);
    }
}

/// Our children, orphans that we adopted among them.
fn children() -> Vec<Pid> {
    let pid = std::process::id();
    let listed = std::fs::read_to_string(format!("/proc/self/task/{pid}/children"));
    listed
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .map(Pid::from_raw)
        .collect()
}
