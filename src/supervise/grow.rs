//! `--mem-grow`: a group that needs more memory than its limit gets twice as much, up to a maximum.
//!
//! Nothing is polled. On v2 a part of the limit becomes `memory.high`: whoever goes above it is slowed down, and
//! `memory.events` tells us (cgroup-v2.rst). On v1 the kernel is told to let processes wait at the limit instead of
//! killing one, and tells us through an eventfd (cgroup-v1/memory.rst, "OOM Control"). In both a process waits for
//! our answer, so that no race is to be won. Page cache does not count as need: the kernel takes that back by itself.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::stat::Mode;

use crate::cgroup::{Groups, keyed, read_at, write_at};
use crate::error::Error;
use crate::files::again;
use crate::limits::{Controller, Version};
use crate::value::show_bytes;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Since the start.
    pub at: Duration,
    /// The limit before, in bytes.
    pub from: u64,
    /// The limit after, in bytes.
    pub to: u64,
}

/// Watches a group's memory.
#[derive(Debug)]
pub(super) struct Grow {
    dir: OwnedFd,
    bell: Bell,
    limit: u64,
    max: u64,
    steps: Vec<Growth>,
}

#[derive(Debug)]
enum Bell {
    /// v1: counts.
    Event(EventFd),
    /// v2: `memory.events`, to be read again whenever it has changed.
    File(OwnedFd),
}

impl Grow {
    /// Sets the bell.
    ///
    /// # Errors
    /// What the kernel does not have or does not take.
    pub(super) fn new(groups: &Groups, limit: u64, max: u64) -> Result<Self, Error> {
        let (dir, version) =
            groups.of(Controller::Memory).ok_or_else(|| Error::new("no group of this run limits memory"))?;
        let dir = dir.try_clone_to_owned().map_err(|_| Error::new("no descriptor is left"))?;
        let failed = |file: &'static str| {
            move |errno: Errno| Error::new(format!("cannot use {file} of the group")).errno(errno)
        };
        let open = |file: &'static str| {
            openat(&dir, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed(file))
        };
        let bell = match version {
            Version::V2 => Bell::File(open("memory.events")?),
            Version::V1 => {
                let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                    .map_err(|e| Error::new("cannot make an eventfd").errno(e))?;
                let control = open("memory.oom_control")?;
                let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
                write_at(dir.as_fd(), "cgroup.event_control", &line)
                    .map_err(failed("cgroup.event_control"))?;
                write_at(dir.as_fd(), "memory.oom_control", "1").map_err(failed("memory.oom_control"))?;
                Bell::Event(event)
            }
        };
        let grow = Self { dir, bell, limit, max, steps: Vec::new() };
        if version == Version::V2 {
            write_at(grow.dir.as_fd(), "memory.high", &high(limit).to_string())
                .map_err(failed("memory.high"))?;
            // kernfs tells of changes since the last look.
            grow.listen();
        }
        Ok(grow)
    }

    /// What to wait for.
    pub(super) fn fd(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.bell {
            Bell::Event(event) => (event.as_fd(), PollFlags::POLLIN),
            Bell::File(file) => (file.as_fd(), PollFlags::POLLPRI),
        }
    }

    /// Takes the bell's message; the file's content, where it is a file.
    fn listen(&self) -> Option<String> {
        match &self.bell {
            Bell::Event(event) => event.read().ok().map(|_| String::new()),
            Bell::File(file) => again(file),
        }
    }

    /// The bell may have rung: grows if there is need.
    pub(super) fn look(&mut self, start: Instant) {
        if self.listen().is_none() || self.limit >= self.max || !self.is_needed() {
            return;
        }
        let to = self.limit.saturating_mul(2).min(self.max);
        if let Err(errno) = self.raise(to) {
            // The kernel's own way is all that is left.
            crate::say(&format!("rcon: --mem-grow: the memory limit cannot be raised: {}", errno.desc()));
            self.max = self.limit;
            self.let_go();
            return;
        }
        let from = std::mem::replace(&mut self.limit, to);
        self.steps.push(Growth { at: start.elapsed(), from, to });
        crate::say(&format!("rcon: memory limit raised from {} to {}", show_bytes(from), show_bytes(to)));
        if to == self.max {
            self.let_go();
        }
    }

    /// On v1 somebody waits, or has been let go on meanwhile. On v2 much of what is used may be page cache.
    fn is_needed(&self) -> bool {
        let dir = self.dir.as_fd();
        match &self.bell {
            Bell::Event(_) => {
                read_at(dir, "memory.oom_control").and_then(|text| keyed(&text, "under_oom")) == Some(1)
            }
            Bell::File(_) => {
                let current = read_at(dir, "memory.current").and_then(|text| text.trim().parse::<u64>().ok());
                let stat = read_at(dir, "memory.stat").unwrap_or_default();
                let of = |key| keyed(&stat, key).unwrap_or(0);
                let cache = of("file").saturating_sub(of("shmem"));
                current.is_some_and(|current| current.saturating_sub(cache) >= high(self.limit) / 8 * 7)
            }
        }
    }

    fn raise(&self, to: u64) -> Result<(), Errno> {
        let dir = self.dir.as_fd();
        match &self.bell {
            Bell::File(_) => {
                write_at(dir, "memory.max", &to.to_string())?;
                write_at(dir, "memory.high", &high(to).to_string())
            }
            Bell::Event(_) => {
                let both = "memory.memsw.limit_in_bytes";
                let before = read_at(dir, both).and_then(|text| text.trim().parse::<u64>().ok());
                // Never below the other; where it is no limit it stays none.
                if let Some(before) = before.filter(|before| *before < 1 << 60) {
                    write_at(dir, both, &before.saturating_add(to - self.limit).to_string())?;
                }
                write_at(dir, "memory.limit_in_bytes", &to.to_string())
            }
        }
    }

    /// No further step: from here on the limit means what it means without us.
    fn let_go(&self) {
        let dir = self.dir.as_fd();
        let done = match &self.bell {
            Bell::Event(_) => write_at(dir, "memory.oom_control", "0"),
            Bell::File(_) => write_at(dir, "memory.high", "max"),
        };
        if let Err(errno) = done {
            crate::say(&format!("rcon: --mem-grow: {}", errno.desc()));
        }
    }

    /// What was done.
    pub(super) fn steps(&mut self) -> Vec<Growth> {
        std::mem::take(&mut self.steps)
    }
}

/// The mark above which we want to be told: an eighth below the limit.
fn high(limit: u64) -> u64 {
    limit / 8 * 7
}
