//! What a run has used, from the kernel's own counters of its groups: they count every process, also those that
//! ended long ago. Where the kernel does not tell, there is a reason and no number.
//!
//! Sources: Documentation/admin-guide/cgroup-v2.rst, Documentation/admin-guide/cgroup-v1/*.rst,
//! Documentation/accounting/psi.rst.

pub mod disk;
mod v1;
mod v2;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::cgroup::{Groups, keyed, read_at};
use crate::error::Error;
use crate::limits::{Controller, Version};
use disk::DiskUsage;

/// What is known before the run about the counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// `v1`, `v2`, `hybrid` or `none`.
    pub layout: &'static str,
    /// Controllers that have no group here, and why.
    pub missing: Vec<(Controller, String)>,
    /// Where the v1 hierarchy for disks is mounted.
    pub blkio: Option<PathBuf>,
}

/// A figure, or why there is none.
pub type Figure<T> = Result<T, String>;

/// All figures of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all processes.
    pub cpu: Figure<CpuTime>,
    /// What the quota did.
    pub throttle: Figure<Throttle>,
    /// The most memory at one time, in bytes, page cache included.
    pub memory_peak: Figure<u64>,
    /// How often the memory limit was reached.
    pub memory_hits: Figure<u64>,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: Figure<u64>,
    /// The most swap at one time, in bytes.
    pub swap_peak: Figure<u64>,
    /// The most tasks at one time.
    pub pids_peak: Figure<u64>,
    /// Forks that the limit refused.
    pub forks_refused: Figure<u64>,
    /// For each disk that was used.
    pub io: Figure<Vec<DiskUsage>>,
    /// Why there may be disks that were used and are not in `io`.
    pub io_uncounted: Option<String>,
    /// Time in which processes wanted to run and could not.
    pub pressure: Figure<Pressure>,
    /// The group was there before the run, and others may be in it: peaks are the group's since it was made.
    pub shared: bool,
}

/// CPU time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// All of it; measured.
    pub used: u64,
    /// In user mode and in the kernel; the kernel divides by sampling. Nothing: too short to tell.
    pub split: Option<(u64, u64)>,
}

/// What a CPU quota did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Periods in which something ran.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled: u64,
    /// Time in which something would have run, summed over CPUs, in microseconds.
    pub time: u64,
}

/// Pressure stall information, in microseconds of wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Some process waited for a CPU.
    pub cpu_some: u64,
    /// Some process, and all of them, waited for memory.
    pub memory_some: u64,
    /// See `memory_some`.
    pub memory_full: u64,
    /// Some process, and all of them, waited for a disk.
    pub io_some: u64,
    /// See `io_some`.
    pub io_full: u64,
}

impl Usage {
    /// Reads all of them.
    #[must_use]
    pub fn read(groups: &Groups, counting: &Counting) -> Self {
        let missing = |controller: Controller| {
            let mut why = groups.missing().iter().chain(&counting.missing).filter(|(c, _)| *c == controller);
            why.next()
                .map_or_else(|| format!("no group counts {}", controller.name()), |(_, why)| why.clone())
        };
        let of = |controller| groups.of(controller).ok_or_else(|| missing(controller));
        let by_version =
            |controller, v1: &dyn Fn(BorrowedFd) -> Figure<u64>, v2: &dyn Fn(BorrowedFd) -> Figure<u64>| {
                let (dir, version) = of(controller)?;
                match version {
                    Version::V1 => v1(dir),
                    Version::V2 => v2(dir),
                }
            };
        let (io, io_uncounted) = io(of(Controller::Io), counting);
        Self {
            cpu: match (groups.v2(), groups.of(Controller::Cpuacct)) {
                (Some(dir), _) => v2::cpu_time(dir),
                (None, Some((dir, _))) => v1::cpu_time(dir),
                (None, None) => Err(missing(Controller::Cpuacct)),
            },
            throttle: of(Controller::Cpu)
                .map_err(|_| "no --cpu limit was asked for".to_owned())
                .and_then(|(dir, version)| throttle(dir, version)),
            memory_peak: by_version(Controller::Memory, &v1::memory_peak, &v2::memory_peak),
            memory_hits: by_version(Controller::Memory, &v1::memory_hits, &v2::memory_hits),
            oom_kills: by_version(Controller::Memory, &v1::oom_kills, &v2::oom_kills),
            swap_peak: by_version(Controller::Memory, &v1::swap_peak, &v2::swap_peak),
            pids_peak: by_version(Controller::Pids, &pids_peak, &pids_peak),
            forks_refused: by_version(Controller::Pids, &forks_refused, &forks_refused),
            io,
            io_uncounted,
            pressure: match groups.v2() {
                Some(dir) => v2::pressure(dir),
                None => Err("it is counted for cgroup v2 groups, and this run has none".to_owned()),
            },
            shared: groups.shared(),
        }
    }

    /// What has been used since an earlier reading: counters become differences, peaks stay what they are.
    #[must_use]
    pub fn since(self, before: &Self) -> Self {
        let count = |now: Figure<u64>, before: &Figure<u64>| {
            now.map(|n| n.saturating_sub(*before.as_ref().unwrap_or(&0)))
        };
        Self {
            cpu: minus(self.cpu, &before.cpu, |now, old| CpuTime {
                used: now.used.saturating_sub(old.used),
                split: now
                    .split
                    .zip(old.split)
                    .map(|(a, b)| (a.0.saturating_sub(b.0), a.1.saturating_sub(b.1))),
            }),
            throttle: minus(self.throttle, &before.throttle, |now, old| Throttle {
                periods: now.periods.saturating_sub(old.periods),
                throttled: now.throttled.saturating_sub(old.throttled),
                time: now.time.saturating_sub(old.time),
            }),
            memory_hits: count(self.memory_hits, &before.memory_hits),
            oom_kills: count(self.oom_kills, &before.oom_kills),
            forks_refused: count(self.forks_refused, &before.forks_refused),
            io: minus(self.io, &before.io, |now, old| disk::minus(now, &old)),
            pressure: minus(self.pressure, &before.pressure, |now, old| Pressure {
                cpu_some: now.cpu_some.saturating_sub(old.cpu_some),
                memory_some: now.memory_some.saturating_sub(old.memory_some),
                memory_full: now.memory_full.saturating_sub(old.memory_full),
                io_some: now.io_some.saturating_sub(old.io_some),
                io_full: now.io_full.saturating_sub(old.io_full),
            }),
            ..self
        }
    }
}

fn minus<T: Clone>(now: Figure<T>, before: &Figure<T>, difference: fn(T, T) -> T) -> Figure<T> {
    match (now, before) {
        (Ok(now), Ok(before)) => Ok(difference(now, before.clone())),
        (now, _) => now,
    }
}

/// What the disks did, and why some may be left out of it. None counted: then there is no figure at all.
fn io(group: Figure<(BorrowedFd, Version)>, counting: &Counting) -> (Figure<Vec<DiskUsage>>, Option<String>) {
    let (dir, version) = match group {
        Ok(group) => group,
        Err(why) => return (Err(why), None),
    };
    if version == Version::V2 {
        return (v2::io(dir), None);
    }
    match (v1::io(dir), v1::uncounted(counting.blkio.as_deref())) {
        (Ok(disks), Some(why)) if disks.is_empty() => (Err(why), None),
        told => told,
    }
}

/// The number in a file of one number.
fn number(dir: BorrowedFd, file: &str) -> Figure<u64> {
    let text = read_at(dir, file).ok_or_else(|| no_file(file))?;
    text.trim().parse().map_err(|_| format!("{file} holds no number"))
}

/// The number behind a key.
fn key(dir: BorrowedFd, file: &str, key: &str) -> Figure<u64> {
    let text = read_at(dir, file).ok_or_else(|| no_file(file))?;
    keyed(&text, key).ok_or_else(|| format!("this kernel has no {key} in {file}"))
}

fn no_file(file: &str) -> String {
    format!("this kernel has no {file}")
}

/// The same file in both versions, but for a unit.
fn throttle(dir: BorrowedFd, version: Version) -> Figure<Throttle> {
    let text = read_at(dir, "cpu.stat").ok_or_else(|| no_file("cpu.stat"))?;
    let value = |key: &str| keyed(&text, key).ok_or_else(|| format!("this kernel has no {key} in cpu.stat"));
    let time = match version {
        Version::V1 => value("throttled_time")? / 1_000,
        Version::V2 => value("throttled_usec")?,
    };
    Ok(Throttle { periods: value("nr_periods")?, throttled: value("nr_throttled")?, time })
}

fn pids_peak(dir: BorrowedFd) -> Figure<u64> {
    number(dir, "pids.peak")
}

/// A line `max N` in both versions.
fn forks_refused(dir: BorrowedFd) -> Figure<u64> {
    key(dir, "pids.events", "max")
}

/// CPU time of all processes of a run, kept open to be read again and again.
#[derive(Debug)]
pub struct CpuMeter {
    file: OwnedFd,
    version: Version,
}

impl CpuMeter {
    /// Every v2 group counts it (`cpu.stat`); on v1 the cpuacct controller does.
    ///
    /// # Errors
    /// No group that counts it.
    pub fn open(groups: &Groups) -> Result<Self, Error> {
        let (dir, version, file) = match (groups.v2(), groups.of(Controller::Cpuacct)) {
            (Some(dir), _) => (dir, Version::V2, "cpu.stat"),
            (None, Some((dir, version))) => (dir, version, "cpuacct.usage"),
            (None, None) => return Err(Error::new("no group of this run counts CPU time")),
        };
        let file = openat(dir, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| Error::new(format!("cannot open {file} of the group")).errno(e))?;
        Ok(Self { file, version })
    }

    /// Nanoseconds; nothing if the file cannot be read any more.
    #[must_use]
    pub fn read(&self) -> Option<u64> {
        let text = crate::files::again(&self.file)?;
        match self.version {
            Version::V1 => text.trim_end().parse().ok(),
            Version::V2 => keyed(&text, "usage_usec")?.checked_mul(1_000),
        }
    }
}
