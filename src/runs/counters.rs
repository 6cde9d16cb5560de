//! What a run uses, in the kernel's own figures. What the kernel does not tell is absent, never zero.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::{Dir, Run, process};
use crate::cgroup::keyed;
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

/// Files of groups that stay open between readings: each reading is one call.
#[derive(Debug, Default)]
pub struct Files {
    open: BTreeMap<(u64, u64, &'static str), OwnedFd>,
}

impl Files {
    /// What a small file of the group says; `None` where there is none, or it does not answer.
    fn text(&mut self, dir: &Dir, file: &'static str) -> Option<String> {
        let key = (dir.device, dir.inode, file);
        if !self.open.contains_key(&key) {
            let fd = match open(dir, file) {
                // All that we may have are in use: those that are needed are opened anew.
                Err(Errno::EMFILE) => {
                    self.open.clear();
                    open(dir, file)
                }
                other => other,
            };
            self.open.insert(key, fd.ok()?);
        }
        // ENODEV: the group is gone.
        crate::files::again(self.open.get(&key)?)
    }

    /// The number that a file holds; `max` is none.
    fn number(&mut self, dir: &Dir, file: &'static str) -> Option<u64> {
        self.text(dir, file)?.trim().parse().ok()
    }

    /// Closes those of all groups but these.
    pub fn keep<'a>(&mut self, dirs: impl Iterator<Item = &'a Dir>) {
        let kept = crate::order::set(dirs.map(|dir| (dir.device, dir.inode)));
        self.open.retain(|(device, inode, _), _| kept.contains(&(*device, *inode)));
    }
}

fn open(dir: &Dir, file: &str) -> Result<OwnedFd, Errno> {
    openat(dir.open()?, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

impl Usage {
    /// Reads it.
    #[must_use]
    pub fn read(run: &Run, files: &mut Files) -> Self {
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
            match dir.version {
                Version::V1 => usage.v1(dir, files),
                Version::V2 => usage.v2(dir, files),
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

    fn v1(&mut self, dir: &Dir, files: &mut Files) {
        if dir.has(Controller::Cpuacct) {
            self.cpu_ns = files.number(dir, "cpuacct.usage");
        }
        if dir.has(Controller::Cpu) {
            self.throttled = files.text(dir, "cpu.stat").and_then(|text| keyed(&text, "nr_throttled"));
        }
        if dir.has(Controller::Memory) {
            self.memory = files.number(dir, "memory.usage_in_bytes");
            // No limit shows as the largest number of whole pages.
            self.memory_limit = files.number(dir, "memory.limit_in_bytes").filter(|n| *n < 1 << 62);
        }
        self.pids(dir, files);
        if dir.has(Controller::Freezer) {
            self.frozen |= files.text(dir, "freezer.state").is_some_and(|text| text.trim() != "THAWED");
        }
    }

    fn v2(&mut self, dir: &Dir, files: &mut Files) {
        if let Some(text) = files.text(dir, "cpu.stat") {
            self.cpu_ns = keyed(&text, "usage_usec").map(|us| us.saturating_mul(1000)).or(self.cpu_ns);
            if dir.has(Controller::Cpu) {
                self.throttled = keyed(&text, "nr_throttled");
            }
        }
        if dir.has(Controller::Memory) {
            self.memory = files.number(dir, "memory.current");
            self.memory_limit = files.number(dir, "memory.max");
        }
        self.pids(dir, files);
        self.frozen |= files.number(dir, "cgroup.freeze") == Some(1);
    }

    fn pids(&mut self, dir: &Dir, files: &mut Files) {
        if dir.has(Controller::Pids) {
            self.tasks = files.number(dir, "pids.current").unwrap_or(self.tasks);
            self.tasks_limit = files.number(dir, "pids.max");
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
