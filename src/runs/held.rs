//! The limits that hold for a run, as the kernel shows them. Only what differs from what every group starts with.

use std::os::fd::{AsFd, BorrowedFd};

use super::Run;
use crate::cgroup::read_at;
use crate::limits::Version;

/// A value in a file of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The option that sets it, without dashes.
    pub option: &'static str,
    /// The file.
    pub file: &'static str,
    /// What it says; several lines where it has one for each disk.
    pub value: String,
}

/// Option, file, and what it says where nothing was asked (`None`: nothing at all).
type Row = (&'static str, &'static str, Option<&'static str>);

const V1: &[Row] = &[
    ("cpu-period", "cpu.cfs_period_us", Some("100000")),
    ("cpu", "cpu.cfs_quota_us", Some("-1")),
    ("cpu-burst", "cpu.cfs_burst_us", Some("0")),
    ("cpu-weight", "cpu.shares", Some("1024")),
    ("cpuset", "cpuset.cpus", None),
    ("mems", "cpuset.mems", None),
    ("mem", "memory.limit_in_bytes", None),
    ("swap", "memory.memsw.limit_in_bytes", None),
    ("pids", "pids.max", Some("max")),
    ("io-read", "blkio.throttle.read_bps_device", None),
    ("io-write", "blkio.throttle.write_bps_device", None),
    ("io-read-iops", "blkio.throttle.read_iops_device", None),
    ("io-write-iops", "blkio.throttle.write_iops_device", None),
    ("io-weight", "blkio.bfq.weight", Some("100")),
    ("io-weight", "blkio.weight", Some("100")),
];

const V2: &[Row] = &[
    ("cpu", "cpu.max", Some("max 100000")),
    ("cpu-burst", "cpu.max.burst", Some("0")),
    ("cpu-weight", "cpu.weight", Some("100")),
    ("cpuset", "cpuset.cpus", None),
    ("mems", "cpuset.mems", None),
    ("mem", "memory.max", Some("max")),
    ("mem-high", "memory.high", Some("max")),
    ("swap", "memory.swap.max", Some("max")),
    ("pids", "pids.max", Some("max")),
    ("io-read", "io.max", None),
    ("io-weight", "io.weight", Some("default 100")),
    ("io-weight", "io.bfq.weight", Some("default 100")),
];

/// All of them.
#[must_use]
pub fn held(run: &Run) -> Vec<Held> {
    let open = |dir: &super::Dir| dir.open().map(|fd| held_in(fd.as_fd(), dir.version));
    run.dirs.iter().filter_map(|dir| open(dir).ok()).flatten().collect()
}

/// Those of one group.
#[must_use]
pub fn held_in(dir: BorrowedFd, version: Version) -> Vec<Held> {
    let mut out = Vec::new();
    let rows = match version {
        Version::V1 => V1,
        Version::V2 => V2,
    };
    for (option, file, initial) in rows {
        let Some(value) = read_at(dir, file) else { continue };
        let value = value.trim();
        // v1 shows no memory limit as the largest number of whole pages.
        let unlimited = value.parse::<u64>().is_ok_and(|n| n >= 1 << 62);
        if value.is_empty() || Some(value) == *initial || unlimited {
            continue;
        }
        out.push(Held { option, file, value: value.to_owned() });
    }
    out
}
