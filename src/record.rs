//! `--record`: looks at the group's counters while it runs, at even intervals, and keeps what it saw in bounded
//! memory: when the space is full, every two samples become one and the interval doubles. Written at the end.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde::Serialize;
use serde_json::Value;

use crate::cgroup::Groups;
use crate::files::again;
use crate::limits::{Controller, Version};
use crate::usage::{CpuMeter, disk};

/// Samples that are kept at most: twice as many as a wide terminal has columns, several times over.
const SPACE: usize = 2048;

/// One look. What the kernel does not tell is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Since the start.
    pub at: Duration,
    /// CPU time used by now, in seconds.
    pub cpu: Option<f64>,
    /// Memory at this moment, in bytes.
    pub memory: Option<u64>,
    /// Tasks at this moment.
    pub pids: Option<u64>,
    /// Bytes moved by now: read, written.
    pub io: Option<(u64, u64)>,
}

/// Takes samples.
#[derive(Debug)]
pub struct Recorder {
    interval: Duration,
    next: Option<Instant>,
    start: Option<Instant>,
    cpu: Option<CpuMeter>,
    memory: Option<OwnedFd>,
    pids: Option<OwnedFd>,
    io: Option<(OwnedFd, Version)>,
    samples: Vec<Sample>,
}

impl Recorder {
    /// Opens the counters that are there; they stay open, a look is one read of each.
    #[must_use]
    pub fn new(groups: &Groups, interval: Duration) -> Self {
        let open = |controller, v1: &str, v2: &str| {
            let (dir, version) = groups.of(controller)?;
            let file = if version == Version::V1 { v1 } else { v2 };
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            Some((openat(dir, file, flags, Mode::empty()).ok()?, version))
        };
        Self {
            interval,
            next: None,
            start: None,
            cpu: CpuMeter::open(groups).ok(),
            memory: open(Controller::Memory, "memory.usage_in_bytes", "memory.current").map(|(fd, _)| fd),
            pids: open(Controller::Pids, "pids.current", "pids.current").map(|(fd, _)| fd),
            io: open(Controller::Io, "blkio.throttle.io_service_bytes_recursive", "io.stat"),
            samples: Vec::new(),
        }
    }

    /// The command has started.
    pub fn start(&mut self, now: Instant) {
        self.start = Some(now);
        self.look(now);
    }

    /// When the next look is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Looks, if it is time.
    pub fn look_if_due(&mut self, now: Instant) {
        if self.next.is_some_and(|next| next <= now) {
            self.look(now);
        }
    }

    fn look(&mut self, now: Instant) {
        let Some(start) = self.start else { return };
        self.samples.push(Sample {
            at: now.saturating_duration_since(start),
            cpu: self.cpu.as_ref().and_then(CpuMeter::read).map(|ns| ns as f64 / 1e9),
            memory: self.memory.as_ref().and_then(number),
            pids: self.pids.as_ref().and_then(number),
            io: self.io.as_ref().and_then(|(fd, version)| moved(fd, *version)),
        });
        if self.samples.len() >= SPACE {
            self.samples = halved(&self.samples);
            self.interval *= 2;
        }
        self.next = now.checked_add(self.interval);
    }

    /// A last look, and all of them.
    pub fn finish(&mut self, now: Instant) -> Vec<Sample> {
        self.look(now);
        self.next = None;
        std::mem::take(&mut self.samples)
    }
}

/// Two samples become one: counters as they were at the later moment, of the rest the larger.
fn halved(samples: &[Sample]) -> Vec<Sample> {
    let (first, rest) = match samples.split_first() {
        Some((first, rest)) => (*first, rest),
        None => return Vec::new(),
    };
    let pairs = rest.chunks(2).filter_map(|pair| {
        let last = *pair.last()?;
        Some(Sample {
            memory: pair.iter().filter_map(|sample| sample.memory).max(),
            pids: pair.iter().filter_map(|sample| sample.pids).max(),
            ..last
        })
    });
    std::iter::once(first).chain(pairs).collect()
}

fn number(fd: &OwnedFd) -> Option<u64> {
    again(fd)?.trim().parse().ok()
}

fn moved(fd: &OwnedFd, version: Version) -> Option<(u64, u64)> {
    let text = again(fd)?;
    let disks = disk::parse(&text, version);
    // On v1 nothing at all may also mean that nothing is counted.
    (version == Version::V2 || !disks.is_empty())
        .then(|| disks.iter().fold((0, 0), |sum, (_, read, written)| (sum.0 + read, sum.1 + written)))
}

/// A record as a file: one object, columns as arrays.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Record {
    pub record_version: u32,
    pub command: Vec<String>,
    pub started_at: String,
    pub limits: Limits,
    pub seconds: Vec<f64>,
    pub cpu_seconds: Vec<Option<f64>>,
    pub memory_bytes: Vec<Option<u64>>,
    pub pids: Vec<Option<u64>>,
    pub read_bytes: Vec<Option<u64>>,
    pub written_bytes: Vec<Option<u64>>,
}

/// The limits that were asked for, as lines in a plot.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Limits {
    pub cpus: Option<f64>,
    pub memory_bytes: Option<u64>,
    pub pids: Option<u64>,
}

impl Record {
    /// From the samples of a run and its report.
    #[must_use]
    pub fn of(report: &crate::report::Report, samples: &[Sample]) -> Self {
        Self {
            record_version: 1,
            command: report.command.clone(),
            started_at: report.started_at.clone(),
            limits: Limits {
                cpus: report.cpu.quota_cpus,
                memory_bytes: report.memory.limit_bytes,
                pids: report.pids.limit,
            },
            seconds: samples.iter().map(|s| s.at.as_millis() as f64 / 1e3).collect(),
            cpu_seconds: samples.iter().map(|s| s.cpu).collect(),
            memory_bytes: samples.iter().map(|s| s.memory).collect(),
            pids: samples.iter().map(|s| s.pids).collect(),
            read_bytes: samples.iter().map(|s| s.io.map(|io| io.0)).collect(),
            written_bytes: samples.iter().map(|s| s.io.map(|io| io.1)).collect(),
        }
    }

    /// From a file's content.
    ///
    /// # Errors
    /// What it lacks.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let limits = &value["limits"];
        let word = |name: &str, of: &Value| of.as_str().map(str::to_owned).ok_or(format!("no {name}"));
        let record = Self {
            record_version: 1,
            command: list(&value, "command")?
                .iter()
                .map(|one| word("command", one))
                .collect::<Result<_, _>>()?,
            started_at: word("started_at", &value["started_at"])?,
            limits: Limits {
                cpus: limits["cpus"].as_f64(),
                memory_bytes: limits["memory_bytes"].as_u64(),
                pids: limits["pids"].as_u64(),
            },
            seconds: numbers(&value, "seconds", Value::as_f64)?
                .into_iter()
                .map(|at| at.unwrap_or(-1.0))
                .collect(),
            cpu_seconds: numbers(&value, "cpu_seconds", Value::as_f64)?,
            memory_bytes: numbers(&value, "memory_bytes", Value::as_u64)?,
            pids: numbers(&value, "pids", Value::as_u64)?,
            read_bytes: numbers(&value, "read_bytes", Value::as_u64)?,
            written_bytes: numbers(&value, "written_bytes", Value::as_u64)?,
        };
        if value["record_version"] != 1 {
            return Err("its record_version is not 1".to_owned());
        }
        record.is_sound().then_some(record).ok_or_else(|| "its columns do not fit".to_owned())
    }

    /// All columns are equally long, and time runs forward.
    fn is_sound(&self) -> bool {
        let length = self.seconds.len();
        let columns = [
            self.memory_bytes.len(),
            self.pids.len(),
            self.read_bytes.len(),
            self.written_bytes.len(),
            self.cpu_seconds.len(),
        ];
        columns.iter().all(|n| *n == length)
            && self.seconds.iter().all(|at| at.is_finite() && *at >= 0.0)
            && self.seconds.is_sorted()
    }
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>, String> {
    value[name].as_array().ok_or_else(|| format!("no {name}"))
}

/// Not a number: not told.
fn numbers<T>(value: &Value, name: &str, of: fn(&Value) -> Option<T>) -> Result<Vec<Option<T>>, String> {
    Ok(list(value, name)?.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_space_keeps_the_peaks_and_the_end() {
        let samples: Vec<Sample> = (0..SPACE as u64)
            .map(|n| Sample {
                at: Duration::from_secs(n),
                cpu: Some(n as f64),
                memory: Some(if n == 777 { 1 << 30 } else { n }),
                pids: None,
                io: Some((n, 2 * n)),
            })
            .collect();
        let half = halved(&samples);
        assert_eq!(half.len(), SPACE / 2 + 1);
        assert_eq!(half.iter().filter_map(|s| s.memory).max(), Some(1 << 30));
        assert_eq!((half[0], half[half.len() - 1].cpu), (samples[0], Some((SPACE - 1) as f64)));
        assert!(half.is_sorted_by(|a, b| a.at < b.at));
    }
}
