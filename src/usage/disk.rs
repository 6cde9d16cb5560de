//! Disks: what was moved to and from each.

use std::path::{Path, PathBuf};

use crate::limits::Version;

/// What one disk did for a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DiskUsage {
    /// `MAJ:MIN`.
    pub device: String,
    /// The kernel's name for it, such as `sda`; nothing if it has gone.
    pub name: Option<String>,
    /// Bytes that reached the disk's queue, not those that the page cache answered.
    pub read_bytes: u64,
    /// Bytes written; what the page cache still holds at the end of the run is not in it.
    pub written_bytes: u64,
    /// Operations.
    pub reads: u64,
    /// Operations.
    pub writes: u64,
}

/// The entry of a disk, made where there is none.
pub(super) fn entry<'a>(list: &'a mut Vec<DiskUsage>, device: &str) -> &'a mut DiskUsage {
    let at = list.iter().position(|disk| disk.device == device).unwrap_or(list.len());
    if at == list.len() {
        list.push(DiskUsage { device: device.to_owned(), name: name(device), ..DiskUsage::default() });
    }
    &mut list[at]
}

/// Bytes read and written for each disk, from `io.stat` (v2) or `blkio.throttle.io_service_bytes_recursive` (v1).
pub(crate) fn parse(text: &str, version: Version) -> Vec<(&str, u64, u64)> {
    let mut out: Vec<(&str, u64, u64)> = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(device) = words.next() else { continue };
        if version == Version::V2 {
            let value =
                |key: &str| words.clone().find_map(|word| word.strip_prefix(key)?.parse().ok()).unwrap_or(0);
            out.push((device, value("rbytes="), value("wbytes=")));
        } else if let (Some(what @ ("Read" | "Write")), Some(Ok(n))) =
            (words.next(), words.next().map(str::parse))
        {
            let (read, written) = if what == "Read" { (n, 0) } else { (0, n) };
            out.push((device, read, written));
        }
    }
    out
}

/// What has come since.
pub(super) fn minus(mut now: Vec<DiskUsage>, before: &[DiskUsage]) -> Vec<DiskUsage> {
    for disk in &mut now {
        if let Some(old) = before.iter().find(|old| old.device == disk.device) {
            disk.read_bytes = disk.read_bytes.saturating_sub(old.read_bytes);
            disk.written_bytes = disk.written_bytes.saturating_sub(old.written_bytes);
            disk.reads = disk.reads.saturating_sub(old.reads);
            disk.writes = disk.writes.saturating_sub(old.writes);
        }
    }
    now
}

fn directory(device: &str) -> PathBuf {
    Path::new("/sys/dev/block").join(device)
}

fn name(device: &str) -> Option<String> {
    let target = std::fs::read_link(directory(device)).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Whole disks that have done anything since the machine started: `MAJ:MIN` and name
/// (Documentation/admin-guide/iostats.rst).
pub(super) fn in_use() -> Vec<(String, String)> {
    let text = crate::files::text(Path::new("/proc/diskstats")).unwrap_or_default();
    let mut out = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [major, minor, name, reads, _, _, _, writes, ..] = words[..] else { continue };
        let device = format!("{major}:{minor}");
        if (reads != "0" || writes != "0") && !directory(&device).join("partition").exists() {
            out.push((device, name.to_owned()));
        }
    }
    out
}
