//! What is to be known of a process: `/proc/PID/…` (proc_pid_stat(5), proc_pid_cmdline(5)).

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::error::printable;
use crate::guardian::KEEPER;

/// Fields of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name of the executable, shortened by the kernel. Anybody's bytes.
    pub comm: Vec<u8>,
    /// `R`, `S`, `Z`…
    pub state: char,
    /// The parent.
    pub parent: Pid,
    /// CPU time used, in ticks.
    pub ticks: u64,
    /// When it started, in ticks since boot: with the number, the identity of a process.
    pub started: u64,
}

/// The content of a file of `/proc/PID`; nothing if there is no such process.
#[must_use]
pub fn read(pid: Pid, file: &str) -> Option<Vec<u8>> {
    crate::files::read(Path::new(&format!("/proc/{pid}/{file}"))).ok()
}

/// Reads it; `None`: there is no such process.
#[must_use]
pub fn stat(pid: Pid) -> Option<Stat> {
    parse(&read(pid, "stat")?)
}

/// Sends a signal by descriptor, and only if it is still the process that started then.
///
/// # Errors
/// ESRCH: it has ended; EPERM; those of [`crate::sys::pidfd::open`].
pub fn signal(pid: Pid, started: u64, signal: i32) -> Result<(), Errno> {
    let fd = crate::sys::pidfd::open(pid)?;
    match stat(pid) {
        Some(stat) if stat.started == started => crate::sys::pidfd::signal(fd.as_fd(), signal),
        _ => Err(Errno::ESRCH),
    }
}

/// The name may hold spaces and parentheses: the last one ends it.
fn parse(text: &[u8]) -> Option<Stat> {
    let (open, close) = (text.iter().position(|b| *b == b'(')?, text.iter().rposition(|b| *b == b')')?);
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    // The first one here is field 3.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
    Some(Stat {
        comm: text.get(open + 1..close)?.to_vec(),
        state: fields.first()?.chars().next()?,
        parent: Pid::from_raw(fields.get(1)?.parse().ok()?),
        ticks: number(14)? + number(15)?,
        started: number(22)?,
    })
}

/// The command line, safe for a terminal; the name in brackets where it has none.
#[must_use]
pub fn command_line(pid: Pid) -> Option<String> {
    let mut line = read(pid, "cmdline")?;
    while line.last() == Some(&0) {
        line.pop();
    }
    if line.is_empty() {
        return stat(pid).map(|stat| format!("[{}]", printable(&stat.comm)));
    }
    line.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    Some(printable(&line))
}

/// Time since boot that processes' start times count from.
#[must_use]
pub fn uptime() -> Duration {
    // Start times are on this clock (proc_pid_stat(5), "since system boot", since Linux 2.6).
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// How long ago that was.
#[must_use]
pub fn age(stat: &Stat, now: Duration) -> Duration {
    let per_second = crate::sys::ticks_per_second();
    now.saturating_sub(Duration::from_millis(stat.started.saturating_mul(1000) / per_second))
}

/// The process that a run's caller waits for, where `holder` of the run's lock is its keeper; else `holder`.
#[must_use]
pub fn front_of(holder: Pid) -> Pid {
    let line = |pid: Pid| read(pid, "cmdline");
    let parent = stat(holder).filter(|stat| stat.comm == KEEPER.to_bytes()).map(|stat| stat.parent);
    // A keeper is a copy of its front; when that is gone, the parent is somebody else.
    parent.filter(|parent| line(*parent).is_some_and(|of| line(holder) == Some(of))).unwrap_or(holder)
}

/// The children of a process' main thread.
#[must_use]
pub fn children(pid: Pid) -> Vec<Pid> {
    let text = read(pid, &format!("task/{pid}/children")).and_then(|text| String::from_utf8(text).ok());
    text.unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_fields() {
        let line = b"42 (a) R 1 (b) S 7 42 42 0 -1 4194304 1 2 3 4 50 60 7 8 20 0 1 0 1234 5 6\n";
        let stat = parse(line).unwrap();
        assert_eq!((stat.comm.as_slice(), stat.state, stat.parent.as_raw()), (&b"a) R 1 (b"[..], 'S', 7));
        assert_eq!((stat.ticks, stat.started), (110, 1234));
        assert_eq!(parse(b"42 (x"), None);
    }
}
