//! The counters of cgroup v2.

use std::os::fd::BorrowedFd;

use super::disk::{self, DiskUsage};
use super::{CpuTime, Figure, Pressure, key, no_file, number};
use crate::cgroup::{keyed, read_at};

/// Counted in every group, also without the cpu controller.
pub(super) fn cpu_time(dir: BorrowedFd) -> Figure<CpuTime> {
    let text = read_at(dir, "cpu.stat").ok_or_else(|| no_file("cpu.stat"))?;
    let used =
        keyed(&text, "usage_usec").ok_or_else(|| "this kernel has no usage_usec in cpu.stat".to_owned())?;
    Ok(CpuTime { used, split: keyed(&text, "user_usec").zip(keyed(&text, "system_usec")) })
}

pub(super) fn memory_peak(dir: BorrowedFd) -> Figure<u64> {
    number(dir, "memory.peak").map_err(|why| format!("{why} (Linux 5.19 has)"))
}

pub(super) fn memory_hits(dir: BorrowedFd) -> Figure<u64> {
    key(dir, "memory.events", "max")
}

pub(super) fn oom_kills(dir: BorrowedFd) -> Figure<u64> {
    key(dir, "memory.events", "oom_kill")
}

pub(super) fn swap_peak(dir: BorrowedFd) -> Figure<u64> {
    number(dir, "memory.swap.peak").map_err(|why| format!("{why} (Linux 6.5 has)"))
}

/// Lines `MAJ:MIN rbytes=N wbytes=N rios=N wios=N dbytes=N dios=N`; a disk that was not used has none.
pub(super) fn io(dir: BorrowedFd) -> Figure<Vec<DiskUsage>> {
    let text = read_at(dir, "io.stat").ok_or_else(|| no_file("io.stat"))?;
    let mut out = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(device) = words.next() else { continue };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(n) = value.parse::<u64>() else { continue };
            let usage = disk::entry(&mut out, device);
            match name {
                "rbytes" => usage.read_bytes = n,
                "wbytes" => usage.written_bytes = n,
                "rios" => usage.reads = n,
                "wios" => usage.writes = n,
                _ => {}
            }
        }
    }
    Ok(out)
}

/// Lines `some avg10=… total=N`, in microseconds.
pub(super) fn pressure(dir: BorrowedFd) -> Figure<Pressure> {
    let total = |file: &str, line: &str| -> Figure<u64> {
        let text = read_at(dir, file).ok_or_else(|| {
            "this kernel counts no pressure (CONFIG_PSI is off, or psi=1 is missing)".to_owned()
        })?;
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.rsplit_once("total=")?.1.parse().ok());
        found.ok_or_else(|| format!("{file} has no {line}"))
    };
    Ok(Pressure {
        cpu_some: total("cpu.pressure", "some")?,
        memory_some: total("memory.pressure", "some")?,
        memory_full: total("memory.pressure", "full")?,
        io_some: total("io.pressure", "some")?,
        io_full: total("io.pressure", "full")?,
    })
}
