//! Which limit was what hurt, in sentences. Pure: from the report's own figures.

use super::{Reason, Report};
use crate::value::show_bytes;

/// The sentences; none where no limit was felt.
pub(super) fn of(report: &Report) -> Vec<String> {
    [ended(report), cpu(report), memory(report), pids(report), disks(report)].into_iter().flatten().collect()
}

fn ended(report: &Report) -> Option<String> {
    let by = report.ended_by.as_ref()?;
    let how = if by.killed {
        "SIGKILL, as it did not end by itself".to_owned()
    } else {
        format!("SIG{}", by.signal)
    };
    match report.reason {
        Reason::TimedOut | Reason::CpuTimeExceeded => Some(format!("ended by {} ({how})", by.what)),
        _ if by.killed => Some(format!("{} was not obeyed in time: ended by SIGKILL", by.what)),
        _ => None,
    }
}

fn cpu(report: &Report) -> Option<String> {
    let cpu = &report.cpu;
    let (periods, throttled, time) = (cpu.periods?, cpu.throttled_periods?, cpu.throttled_seconds?);
    // A throttled period now and then costs nobody anything.
    if periods == 0 || throttled * 100 < periods || time < 0.01 {
        return None;
    }
    // On each CPU where it was stopped it wanted to go on: in such a period it would have run for so long on top
    // of the quota. In a shared group the quota may be another run's: then over the whole run.
    let wanted = match (cpu.quota_cpus, cpu.period_seconds) {
        (Some(quota), Some(period)) => quota + time / (throttled as f64 * period),
        _ => (cpu.used_seconds? + time) / report.wall_seconds.max(0.001),
    };
    let percent = (wanted * 20.0).ceil() as u64 * 5;
    let share = (throttled * 100).div_ceil(periods);
    Some(format!(
        "was CPU-limited: throttled in {share}% of its periods; --cpu {percent}% would have sufficed"
    ))
}

fn memory(report: &Report) -> Option<String> {
    let memory = &report.memory;
    let (kills, hits) = (memory.oom_kills.unwrap_or(0), memory.limit_hits.unwrap_or(0));
    let times = |n: u64| if n == 1 { "once".to_owned() } else { format!("{n} times") };
    if kills > 0 {
        let processes = if kills == 1 { "1 process".to_owned() } else { format!("{kills} processes") };
        return Some(match memory.limit_bytes {
            Some(limit) => format!(
                "the kernel killed {processes} for want of memory: --mem {} is not enough",
                show_bytes(limit)
            ),
            None => format!(
                "the kernel killed {processes} for want of memory: an enclosing group or the machine was short of it"
            ),
        });
    }
    let limit = memory.limit_bytes?;
    if let (Some(first), Some(peak)) = (memory.grown.first(), memory.peak_bytes) {
        let peak = show_bytes(peak.div_ceil(1 << 20) << 20);
        let first = show_bytes(first.from_bytes);
        return Some(format!(
            "needed more than --mem {first}, which was raised: --mem {peak} would have sufficed"
        ));
    }
    (hits > 0).then(|| {
        format!(
            "memory limit {} reached {} without a kill (page cache or swap gave way)",
            show_bytes(limit),
            times(hits)
        )
    })
}

fn pids(report: &Report) -> Option<String> {
    let refused = report.pids.refused_forks.filter(|n| *n > 0)?;
    let times = if refused == 1 { "once".to_owned() } else { format!("{refused} times") };
    // A peak below the own limit: that one has refused nothing.
    let own = report.pids.limit.filter(|limit| report.pids.peak.is_none_or(|peak| peak >= *limit));
    Some(match own {
        Some(limit) => format!("fork refused {times} by --pids {limit}"),
        None => format!("fork refused {times} by a limit of an enclosing group"),
    })
}

fn disks(report: &Report) -> Option<String> {
    let waits = report.pressure.as_ref()?;
    let share = |seconds: f64| (seconds * 100.0 / report.wall_seconds.max(0.001)) as u64;
    let io = share(waits.io_full_seconds);
    if report.wall_seconds > 0.1 && io >= 20 {
        let limited = report.limits.iter().any(|limit| limit.option.starts_with("--io-"));
        let why = if limited { " (its I/O limit is part of that)" } else { "" };
        return Some(format!("waited for disks {io}% of the time{why}"));
    }
    let memory = share(waits.memory_full_seconds);
    (report.wall_seconds > 0.1 && memory >= 10)
        .then(|| format!("waited for memory {memory}% of the time: reclaim or swap slowed it down"))
}
