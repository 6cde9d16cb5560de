//! What a run uses, in the kernel's own figures. What the kernel does not tell is absent, never zero.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::{Run, process};
use crate::cgroup::{keyed, read_at};
use crate::limits::{Controller, Version};

/// A reading.
#[derive(Clone, Debug)]
pub struct Usage {
    /// When it was taken.
    pub at: Instant,
    /// CPU time used by now, in ns.
    pub cpu_ns: Option<u64>,
    /// Periods in which it was throttled.
    pub throttled: Option<u64>,
    /// Bytes charged to it.
    pub memory: Option<u64>,
    /// Bytes allowed; `None` also where there is no limit.
    pub memory_limit: Option<u64>,
    /// Processes and threads; where the kernel does not count them, processes alone.
    pub tasks: u64,
    /// Allowed tasks.
    pub tasks_limit: Option<u64>,
    /// It is frozen, or on its way to be.
    pub frozen: bool,
}

/// The number that a file holds; `max` is none.
fn number(dir: BorrowedFd, file: &str) -> Option<u64> {
    read_at(dir, file)?.trim().parse().ok()
}

impl Usage {
    /// Reads it.
    #[must_use]
    pub fn read(run: &Run) -> Self {
        let mut usage = Self {
            at: Instant::now(),
            cpu_ns: None,
            throttled: None,
            memory: None,
            memory_limit: None,
            tasks: run.processes.len() as u64,
            tasks_limit: None,
            frozen: false,
        };
        for dir in &run.dirs {
            if let Ok(fd) = dir.open() {
                match dir.version {
                    Version::V1 => usage.v1(fd.as_fd(), |controller| dir.has(controller)),
                    Version::V2 => usage.v2(fd.as_fd(), |controller| dir.has(controller)),
                }
            }
        }
        if usage.cpu_ns.is_none() && !run.processes.is_empty() {
            // No group counts it: what the processes that live have used.
            let ticks: u64 =
                run.processes.iter().filter_map(|pid| process::stat(*pid)).map(|s| s.ticks).sum();
            usage.cpu_ns = Some(ticks.saturating_mul(1_000_000_000 / crate::sys::ticks_per_second()));
        }
        usage
    }

    fn v1(&mut self, dir: BorrowedFd, has: impl Fn(Controller) -> bool) {
        if has(Controller::Cpuacct) {
            self.cpu_ns = number(dir, "cpuacct.usage");
        }
        if has(Controller::Cpu) {
            self.throttled = read_at(dir, "cpu.stat").and_then(|text| keyed(&text, "nr_throttled"));
        }
        if has(Controller::Memory) {
            self.memory = number(dir, "memory.usage_in_bytes");
            // No limit shows as the largest number of whole pages.
            self.memory_limit = number(dir, "memory.limit_in_bytes").filter(|n| *n < 1 << 62);
        }
        self.pids(dir, has(Controller::Pids));
        if has(Controller::Freezer) {
            self.frozen |= read_at(dir, "freezer.state").is_some_and(|text| text.trim() != "THAWED");
        }
    }

    fn v2(&mut self, dir: BorrowedFd, has: impl Fn(Controller) -> bool) {
        if let Some(text) = read_at(dir, "cpu.stat") {
            self.cpu_ns = keyed(&text, "usage_usec").map(|us| us.saturating_mul(1000)).or(self.cpu_ns);
            if has(Controller::Cpu) {
                self.throttled = keyed(&text, "nr_throttled");
            }
        }
        if has(Controller::Memory) {
            self.memory = number(dir, "memory.current");
            self.memory_limit = number(dir, "memory.max");
        }
        self.pids(dir, has(Controller::Pids));
        self.frozen |= number(dir, "cgroup.freeze") == Some(1);
    }

    fn pids(&mut self, dir: BorrowedFd, has: bool) {
        if has {
            self.tasks = number(dir, "pids.current").unwrap_or(self.tasks);
            self.tasks_limit = number(dir, "pids.max");
        }
    }

    /// Per cent of one CPU between two readings.
    #[must_use]
    pub fn cpu_percent(&self, before: &Self) -> Option<f64> {
        let wall = self.at.duration_since(before.at).as_nanos();
        // Processes that ended took their ticks with them.
        let used = self.cpu_ns?.saturating_sub(before.cpu_ns?);
        (wall > 0).then(|| used as f64 * 100.0 / wall as f64)
    }
}

/// What a run does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing else is to be said.
    Running,
    /// It is frozen.
    Frozen,
    /// Its CPU limit has held it back since the last reading.
    Throttled,
    /// Processes run, but nobody holds the group: its wrapper was killed.
    Orphaned,
    /// Nothing is in it: it starts, or ends.
    Empty,
    /// Nothing is in it and nobody holds it.
    Stale,
}

impl State {
    /// From two readings.
    #[must_use]
    pub fn of(run: &Run, before: Option<&Usage>, now: &Usage) -> Self {
        let throttled = before.and_then(|before| Some(now.throttled? > before.throttled?));
        match (run.held, run.processes.is_empty()) {
            (false, true) => Self::Stale,
            (false, false) => Self::Orphaned,
            _ if now.frozen => Self::Frozen,
            (true, true) => Self::Empty,
            _ if throttled == Some(true) => Self::Throttled,
            _ => Self::Running,
        }
    }

    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Frozen => "frozen",
            Self::Throttled => "throttled",
            Self::Orphaned => "orphaned",
            Self::Empty => "empty",
            Self::Stale => "stale",
        }
    }
}
