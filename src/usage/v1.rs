//! The counters of cgroup v1: a hierarchy for each controller.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::disk::{self, DiskUsage};
use super::{CpuTime, Figure, key, no_file, number};
use crate::cgroup::read_at;

/// The total is measured in nanoseconds. The division into user and system is sampled and is only used as one.
pub(super) fn cpu_time(dir: BorrowedFd) -> Figure<CpuTime> {
    let used = number(dir, "cpuacct.usage")? / 1_000;
    let split = match (number(dir, "cpuacct.usage_user"), number(dir, "cpuacct.usage_sys")) {
        (Ok(user), Ok(system)) if user.saturating_add(system) > 0 => {
            let user = u128::from(used) * u128::from(user) / (u128::from(user) + u128::from(system));
            let user = u64::try_from(user).unwrap_or(used);
            Some((user, used.saturating_sub(user)))
        }
        _ => None,
    };
    Ok(CpuTime { used, split })
}

pub(super) fn memory_peak(dir: BorrowedFd) -> Figure<u64> {
    number(dir, "memory.max_usage_in_bytes")
}

/// Where memory and swap together are limited too, that limit may be the one that is met, and is counted apart.
pub(super) fn memory_hits(dir: BorrowedFd) -> Figure<u64> {
    let hits = number(dir, "memory.failcnt")? + number(dir, "memory.memsw.failcnt").unwrap_or(0);
    let both = |file| number(dir, file).unwrap_or(0);
    // Linux 6.13 has stopped to count the latter. What did not fit below the limit was a huge page at most.
    let peak = both("memory.memsw.max_usage_in_bytes") + (2 << 20);
    if hits == 0 && peak >= both("memory.memsw.limit_in_bytes").max(4 << 20) {
        return Err(
            "this kernel does not count how often the limit on memory and swap together is met".to_owned()
        );
    }
    Ok(hits)
}

pub(super) fn oom_kills(dir: BorrowedFd) -> Figure<u64> {
    key(dir, "memory.oom_control", "oom_kill")
}

pub(super) fn swap_peak(_: BorrowedFd) -> Figure<u64> {
    Err("cgroup v1 counts the peak of memory and swap together only".to_owned())
}

const BYTES: &str = "blkio.throttle.io_service_bytes_recursive";

/// Why some of the disks that this machine uses are not in [`io`].
///
/// Since Linux 6.10 a disk is counted from the first limit on it on, not before: then even the hierarchy's root has no
/// line for it.
pub(super) fn uncounted(mount: Option<&Path>) -> Option<String> {
    let all = mount.and_then(|mount| crate::files::text(&mount.join(BYTES))).unwrap_or_default();
    let names: Vec<String> = disk::in_use()
        .into_iter()
        .filter(|disk| !all.lines().any(|line| line.starts_with(&format!("{} ", disk.0))))
        .map(|disk| disk.1)
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "this kernel counts I/O of cgroup v1 groups only on disks that had a limit once, and not on {}",
            names.join(", ")
        )
    })
}

/// Lines `MAJ:MIN Read N`; a disk that was not used has none.
pub(super) fn io(dir: BorrowedFd) -> Figure<Vec<DiskUsage>> {
    const OPERATIONS: &str = "blkio.throttle.io_serviced_recursive";
    let read = |file| read_at(dir, file).ok_or_else(|| no_file(file));
    let (bytes, operations) = (read(BYTES)?, read(OPERATIONS)?);
    let mut out = Vec::new();
    for (text, is_bytes) in [(&bytes, true), (&operations, false)] {
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(device), Some(what), Some(Ok(n))) =
                (words.next(), words.next(), words.next().map(str::parse::<u64>))
            else {
                continue;
            };
            let usage = disk::entry(&mut out, device);
            match (what, is_bytes) {
                ("Read", true) => usage.read_bytes = n,
                ("Write", true) => usage.written_bytes = n,
                ("Read", false) => usage.reads = n,
                ("Write", false) => usage.writes = n,
                _ => {}
            }
        }
    }
    Ok(out)
}
