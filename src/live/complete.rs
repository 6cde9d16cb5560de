//! Limits that mean something only together: who changes one of them keeps the others as they are.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::cgroup::read_at;
use crate::limits::{Asked, Value, Version, limit};
use crate::value::{Cpu, Size, Span};

/// `asked`, with the companions that were not asked for as the group has them now.
#[must_use]
pub fn completed(
    asked: &[Asked],
    cpu: Option<(BorrowedFd, Version)>,
    memory: Option<(BorrowedFd, Version)>,
) -> Vec<Asked> {
    let mut out = asked.to_vec();
    let has = |name: &str| asked.iter().any(|one| one.limit.name == name);
    // An error names what was asked for, too.
    let mut add = |name: &str, value: Value, with: &[&str]| {
        if let Some(row) = limit(name).filter(|_| !has(name)) {
            let with = asked.iter().find(|one| with.contains(&one.limit.name));
            let with = with.map_or("", |with| with.spelled.as_str());
            // In front: the table's order decides when it is written.
            out.insert(0, Asked { limit: row, spelled: format!("{with} (and --{name} as it is)"), value });
        }
    };
    const CPU: &[&str] = &["cpu", "cpu-period", "cpu-burst"];
    if CPU.iter().any(|name| has(name))
        && let Some((quota, period)) = cpu.and_then(|(dir, version)| quota(dir, version))
    {
        add("cpu-period", Value::Span(Span(Duration::from_micros(period))), CPU);
        if let Some(quota) = quota {
            let millionths = u64::try_from(u128::from(quota) * 1_000_000 / u128::from(period.max(1)));
            add("cpu", Value::Cpu(Cpu { millionths: millionths.unwrap_or(u64::MAX).max(1) }), CPU);
        }
    }
    // v1 limits memory and swap together: as much swap as before goes on top of the new limit.
    if let Some((memory, Version::V1)) = memory
        && has("mem") != has("swap")
        && let Some((limit, both)) = memory_and_swap(memory)
    {
        match (has("mem"), both) {
            (true, Some(both)) => add("swap", Value::Size(Size::Bytes(both.saturating_sub(limit))), &["mem"]),
            (false, _) => add("mem", Value::Size(Size::Bytes(limit)), &["swap"]),
            (true, None) => {}
        }
    }
    out
}

/// (quota if there is one, period), in µs.
fn quota(dir: BorrowedFd, version: Version) -> Option<(Option<u64>, u64)> {
    match version {
        Version::V1 => Some((
            read_at(dir, "cpu.cfs_quota_us")?.trim().parse().ok(),
            read_at(dir, "cpu.cfs_period_us")?.trim().parse().ok()?,
        )),
        Version::V2 => {
            let text = read_at(dir, "cpu.max")?;
            let (quota, period) = text.trim().split_once(' ')?;
            Some((quota.parse().ok(), period.parse().ok()?))
        }
    }
}

/// v1: (memory limit, limit of both if there is one) where memory is limited.
fn memory_and_swap(dir: BorrowedFd) -> Option<(u64, Option<u64>)> {
    let number = |file| read_at(dir, file)?.trim().parse::<u64>().ok();
    // No limit shows as the largest number of whole pages.
    let limited = |bytes: &u64| *bytes < 1 << 62;
    let both = number("memory.memsw.limit_in_bytes").filter(limited);
    number("memory.limit_in_bytes").filter(limited).map(|limit| (limit, both))
}
