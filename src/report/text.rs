//! The receipt for people: one line for each resource, what was used of which limit, and what that did.

use super::{Reason, Report};
use crate::value::show_bytes;

pub(super) fn of(report: &Report) -> String {
    let mut lines = vec![format!("rcon: {}", head(report))];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<9}{text}"));
    if let Some(error) = &report.error {
        line("error", error.strip_prefix("rcon: ").unwrap_or(error).replace('\n', "; "));
    } else {
        line("cpu", cpu(report));
        line("memory", memory(report));
        line("tasks", tasks(report));
        match &report.io {
            None => line("disk", absent(report, "io")),
            Some(disks) if disks.is_empty() => line("disk", "not used".to_owned()),
            Some(disks) => {
                for disk in disks {
                    let name = disk.name.as_deref().unwrap_or(&disk.device);
                    line(
                        "disk",
                        format!(
                            "{name}: read {} in {}, wrote {} in {} operations",
                            show_bytes(disk.read_bytes),
                            disk.reads,
                            show_bytes(disk.written_bytes),
                            disk.writes
                        ),
                    );
                }
                if report.missing.contains_key("io") {
                    line("disk", absent(report, "io"));
                }
            }
        }
        line("waited", waited(report));
        if report.shared_group {
            line(
                "note",
                "the group is shared: figures hold for all runs in it, counters since this one began"
                    .to_owned(),
            );
        }
        for left in &report.left_behind {
            line("left", format!("{left} is still there"));
        }
    }
    for sentence in &report.diagnosis {
        lines.push(format!("  -> {sentence}"));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn head(report: &Report) -> String {
    let name = report.command.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
    let wall = time(report.wall_seconds);
    let signal = report.signal.as_deref().unwrap_or("");
    let own = match report.exit_code {
        Some(code) => format!("exit {code}"),
        None => format!("SIG{signal}"),
    };
    match report.reason {
        Reason::Exited => format!("{name} ended with status {} after {wall}", report.exit_code.unwrap_or(0)),
        Reason::Signaled => format!("{name} was ended by SIG{signal} after {wall}"),
        Reason::OomKilled => format!("{name} was killed for want of memory after {wall}"),
        Reason::TimedOut => format!("{name} ran out of time after {wall} ({own})"),
        Reason::CpuTimeExceeded => format!("{name} used up its CPU time after {wall} ({own})"),
        Reason::NotStarted => format!("{name} could not be started"),
        Reason::WrapperError => "the command did not run".to_owned(),
    }
}

fn absent(report: &Report, field: &str) -> String {
    match report.missing.get(field) {
        Some(why) => format!("n/a ({why})"),
        None => "n/a".to_owned(),
    }
}

fn or_absent<T>(report: &Report, field: &str, value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| absent(report, field), show)
}

fn cpu(report: &Report) -> String {
    let cpu = &report.cpu;
    let Some(used) = cpu.used_seconds else { return absent(report, "cpu.used_seconds") };
    let mut text = time(used);
    if let (Some(user), Some(system)) = (cpu.user_seconds, cpu.system_seconds) {
        text += &format!(" (user {}, system {})", time(user), time(system));
    }
    let share = used / report.wall_seconds.max(0.000_001);
    text += &format!(", {:.0}% of a CPU", share * 100.0);
    if let Some(quota) = cpu.quota_cpus {
        text += &format!(" = {:.0}% of the quota of {:.0}%", share / quota * 100.0, quota * 100.0);
    }
    if let (Some(periods), Some(throttled), Some(time_lost)) =
        (cpu.periods, cpu.throttled_periods, cpu.throttled_seconds)
    {
        text += &format!("; throttled {} in {throttled} of {periods} periods", time(time_lost));
    }
    text
}

fn memory(report: &Report) -> String {
    let memory = &report.memory;
    let mut text =
        or_absent(report, "memory.peak_bytes", memory.peak_bytes, |n| format!("peak {}", show_bytes(n)));
    text +=
        &memory.limit_bytes.map_or_else(|| " (no limit)".to_owned(), |n| format!(" of {}", show_bytes(n)));
    if let Some(first) = memory.grown.first() {
        text += &format!(" (raised from {}, {} times)", show_bytes(first.from_bytes), memory.grown.len());
    }
    if memory.limit_bytes.is_some() {
        text += &format!(
            "; limit reached {}",
            or_absent(report, "memory.limit_hits", memory.limit_hits, |n| format!("{n} times"))
        );
    }
    if memory.peak_bytes.is_some() {
        text += &format!(
            "; OOM kills {}",
            or_absent(report, "memory.oom_kills", memory.oom_kills, |n| n.to_string())
        );
        text += &format!(
            "; swap {}",
            or_absent(report, "memory.swap_peak_bytes", memory.swap_peak_bytes, |n| format!(
                "peak {}",
                show_bytes(n)
            ))
        );
    }
    text
}

fn tasks(report: &Report) -> String {
    let pids = &report.pids;
    let mut text = or_absent(report, "pids.peak", pids.peak, |n| format!("peak {n}"));
    text += &pids.limit.map_or_else(|| " (no limit)".to_owned(), |n| format!(" of {n}"));
    if let Some(n) = pids.refused_forks {
        text += &format!("; forks refused {n}");
    }
    text
}

fn waited(report: &Report) -> String {
    or_absent(report, "pressure", report.pressure.as_ref(), |waits| {
        format!(
            "for a CPU {}, for memory {}, for disks {}",
            time(waits.cpu_some_seconds),
            time(waits.memory_some_seconds),
            time(waits.io_some_seconds)
        )
    })
}

/// `0.004 s`, `12.3 s`, `2 min 3 s`.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.9995 => format!("{s:.3} s"),
        s if s < 59.95 => format!("{s:.2} s"),
        s => {
            let whole = s.round() as u64;
            let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
            if hours > 0 {
                format!("{hours} h {minutes} min {seconds} s")
            } else {
                format!("{minutes} min {seconds} s")
            }
        }
    }
}
