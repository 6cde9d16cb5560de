//! A command that is stopped, and those who are stopped with it: the keeper or the init, whose child it is, counts its
//! stops and finds out what it needs when the others go on. Async-signal-safe.
//!
//! A shell's `fg` wakes its whole job. The command, where it belongs to that, runs when the front has just been woken,
//! and may have been stopped once more before the word of the front arrives.

/// A stop of a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// The signal that stopped it.
    pub signal: i32,
    /// Counted from 1, and around, but for an init's own ([`OF_INIT`]).
    pub number: u16,
}

/// The number of any stop of an init, which somebody outside has stopped, where those of its lead are counted.
pub const OF_INIT: u16 = 0;

/// The stops of a child, whose parent is told of each, and tells those who stop with the child.
#[derive(Debug, Default)]
pub struct Stops {
    last: Stop,
    /// It has been continued since.
    woken: bool,
}

/// What is to be done with the child when those who were stopped with it go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It has not been woken: it gets SIGCONT.
    Wake,
    /// It was, and has been stopped again, by somebody who wants all of them to stop: they are told once more, because
    /// what they are told before they have gone on is over for them.
    Again(Stop),
    /// It was, as the whole process group is by a shell's `fg`. Another SIGCONT would undo a stop that is under way.
    Runs,
}

impl Stops {
    /// wait(2) has told of one more.
    pub fn another(&mut self, signal: i32) -> Stop {
        *self = Self { last: Stop { signal, number: self.last.number.wrapping_add(1).max(1) }, woken: false };
        self.last
    }

    /// Those who were stopped with the child for the stop of this number go on.
    pub fn resume(&mut self, child: i32, number: u16) -> Resume {
        // In this order: a stop takes away the mark of the SIGCONT before it. One that wait(2) has not told of yet it
        // will, and they are told after they have gone on.
        self.woken |= has_changed(child, libc::WCONTINUED);
        if self.woken || has_changed(child, libc::WSTOPPED | libc::WNOWAIT) {
            Resume::Runs
        } else if number == self.last.number {
            Resume::Wake
        } else {
            Resume::Again(self.last)
        }
    }

    /// Has it been stopped, and not been woken?
    #[must_use]
    pub fn is_stopped(&self, child: i32) -> bool {
        let over = libc::WCONTINUED | libc::WSTOPPED | libc::WNOWAIT;
        self.last != Stop::default() && !self.woken && !has_changed(child, over)
    }
}

/// Does wait(2) know of such a change? Nothing but a SIGCONT is taken from what it tells.
fn has_changed(child: i32, what: i32) -> bool {
    // SAFETY: all-zero is a valid siginfo.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is valid to write to; nothing is waited for.
    let known =
        unsafe { libc::waitid(libc::P_PID, child as libc::id_t, &raw mut info, what | libc::WNOHANG) };
    // SAFETY: written to by waitid, or zero as before.
    known == 0 && unsafe { info.si_pid() } != 0
}

/// What an init tells: a wait status, and the number of a stop.
pub(super) fn message(status: i32, stop: u16) -> [u8; 8] {
    (u64::from(status as u32) | u64::from(stop) << 32).to_ne_bytes()
}

/// What a message of an init says.
#[must_use]
pub fn told(message: [u8; 8]) -> (i32, u16) {
    let number = u64::from_ne_bytes(message);
    (number as i32, (number >> 32) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;

    #[test]
    fn who_was_woken_is_not_woken_again() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let pid = Pid::from_raw(child.id() as i32);
        let mut stops = Stops::default();
        let stop = |stops: &mut Stops| {
            kill(pid, Signal::SIGSTOP).expect("kill");
            let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("wait");
            assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP));
            stops.another(libc::SIGSTOP)
        };
        let wake = || kill(pid, Signal::SIGCONT).expect("kill");
        let child_pid = pid.as_raw();

        assert!(!stops.is_stopped(child_pid));
        let first = stop(&mut stops);
        assert!(stops.is_stopped(child_pid));
        assert_eq!(stops.resume(child_pid, first.number), Resume::Wake);
        wake();
        assert!(!stops.is_stopped(child_pid));
        // The same word, late.
        assert_eq!(stops.resume(child_pid, first.number), Resume::Runs);
        assert_eq!(stops.resume(child_pid, first.number), Resume::Runs);

        // Stopped, woken, and stopped again before the word of the first comes.
        let second = stop(&mut stops);
        wake();
        let third = stop(&mut stops);
        assert_eq!(stops.resume(child_pid, second.number), Resume::Again(third));
        assert_eq!(stops.resume(child_pid, third.number), Resume::Wake);

        // One that wait(2) has not told of yet.
        wake();
        kill(pid, Signal::SIGSTOP).expect("kill");
        while !has_changed(child_pid, libc::WSTOPPED | libc::WNOWAIT) {
            std::thread::yield_now();
        }
        assert_eq!(stops.resume(child_pid, third.number), Resume::Runs);
        assert!(!stops.is_stopped(child_pid));
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    #[test]
    fn messages_arrive_as_they_were_sent() {
        for sent in [(0x057f, 1), (9, 0), (0x147f, u16::MAX)] {
            assert_eq!(told(message(sent.0, sent.1)), sent);
        }
    }
}
