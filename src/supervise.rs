//! While the command runs: one wait, signals passed on; when it ends, everything that it left behind is ended too.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::outcome::{Ended, Outcome};
use crate::plan::{Ending, Plan};
use crate::spawn::Running;
use crate::sys;
use crate::sys::signals::Arrived;

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
    let others = reap_all(&running);
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
    let (mut changed, mut continued) = (false, false);
    while let Ok(Some(arrived)) = running.signals.next() {
        match arrived.signal {
            libc::SIGCHLD => changed = true,
            signal => {
                continued |= signal == libc::SIGCONT;
                pass_on(running.pid, &arrived);
            }
        }
    }
    if changed { reap_until(running.pid, continued) } else { None }
}

/// Hands a signal to a process, unless it has got it already.
fn pass_on(pid: Pid, arrived: &Arrived) {
    // The terminal has signalled its whole foreground group. One that a process sent to its own group (`kill 0`)
    // has reached that process; a signal of ours is SIGPIPE, because nobody reads our messages.
    let has_got_it = arrived.from_terminal && together(pid);
    if !has_got_it && arrived.sender != pid && arrived.sender != Pid::this() {
        send(pid, arrived.signal);
    }
}

/// Are we in one process group?
fn together(pid: Pid) -> bool {
    nix::unistd::getpgid(Some(pid)).ok() == Some(nix::unistd::getpgrp())
}

/// The process is our child and not reaped yet, so the number is still its own.
fn send(pid: Pid, signal: i32) {
    if let Err(errno) = sys::signals::send(pid, signal) {
        // EPERM: it has become another user's; it is as unreachable for us as for whoever signalled us.
        debug_assert!(errno == Errno::EPERM || errno == Errno::ESRCH, "kill: {errno}");
    }
}

/// Reaps whoever has ended; the command's end, if it is among them. `continued`: a SIGCONT has come as well.
fn reap_until(command: Pid, continued: bool) -> Option<Ended> {
    while let Ok(Some((pid, status, usage))) = sys::reap() {
        if libc::WIFSTOPPED(status) {
            // Stopped and continued before we looked: to stop now would leave us stopped beside it.
            if pid == command && !continued {
                stop_with_it(command, libc::WSTOPSIG(status));
            }
        } else if pid == command {
            return Some(Ended::from_status(status, &usage));
        }
    }
    None
}

/// The command has stopped. A shell with job control waits for *us* to stop, so we do, and wake the command when
/// we are woken. Only where there is such a shell: elsewhere somebody would wake the command, and nobody us.
fn stop_with_it(command: Pid, signal: i32) {
    let Ok(tty) = nix::fcntl::open(
        c"/dev/tty",
        nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    ) else {
        return;
    };
    let foreground = nix::unistd::tcgetpgrp(tty.as_fd()).ok() == Some(nix::unistd::getpgrp());
    let by_job_control = matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU);
    if foreground || (by_job_control && together(command)) {
        sys::signals::be_stopped_by(if by_job_control { signal } else { libc::SIGTSTP });
        // Who woke the whole process group has woken the command too; a second SIGCONT does no harm.
        send(command, libc::SIGCONT);
    }
}

/// Reaps all that have ended. `true`: there are processes of the command that have not.
fn reap_all(running: &Running) -> bool {
    loop {
        match sys::reap() {
            Ok(Some(_)) => {}
            Ok(None) => return running.strangers.is_empty() || !descendants(running).is_empty(),
            Err(_) => return false,
        }
    }
}

/// As a subreaper we are, sooner or later, the parent of every descendant.
fn wait_for_descendants(running: &Running) {
    while reap_all(running) {
        sleep(running, PollTimeout::NONE);
        while let Ok(Some(arrived)) = running.signals.next() {
            if arrived.signal != libc::SIGCHLD {
                for pid in descendants(running) {
                    pass_on(pid, &arrived);
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
        for pid in descendants(running) {
            send(pid, libc::SIGKILL);
        }
        let others = reap_all(running);
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

/// Children of ours that belong to the command: its orphans, and itself.
fn descendants(running: &Running) -> Vec<Pid> {
    children().into_iter().filter(|pid| !running.strangers.contains(pid)).collect()
}

/// Our children, orphans that we adopted among them.
pub(crate) fn children() -> Vec<Pid> {
    let pid = std::process::id();
    let listed = std::fs::read_to_string(format!("/proc/self/task/{pid}/children"));
    listed
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .map(Pid::from_raw)
        .collect()
}
