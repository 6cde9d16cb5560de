//! `rcon history`: what the runs of a command have used, from what `--report-append` has gathered, and which limits
//! would have been enough for all of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, ArgMatches, Command};
use serde_json::Value;

use crate::error::{Error, printable};
use crate::report::time;
use crate::value::show_bytes;

pub(super) fn command() -> Command {
    Command::new("history")
        .about("Show what runs have used, from files of --report-append, and advise limits")
        .arg(
            Arg::new("FILE")
                .required(true)
                .num_args(1..)
                .value_parser(clap::value_parser!(OsString))
                .help("Files of --report-append"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    let mut runs: BTreeMap<String, Vec<Past>> = BTreeMap::new();
    let mut others = 0;
    for file in matches.get_many::<OsString>("FILE").into_iter().flatten() {
        let shown = printable(file.as_encoded_bytes());
        let bytes = crate::files::read(Path::new(file))
            .map_err(|e| Error::new(format!("cannot read {shown}")).errno(e))?;
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line).ok().and_then(|line| Past::read(&line)) {
                Some((command, past)) => runs.entry(command).or_default().push(past),
                None => others += 1,
            }
        }
    }
    if others > 0 {
        let lines = if others == 1 { "1 line is".to_owned() } else { format!("{others} lines are") };
        crate::say(&format!("rcon: {lines} no report and left out"));
    }
    crate::print(&table(&runs))?;
    Ok(0)
}

/// What a report tells that a history needs. Read by hand: a table of all fields of a report would weigh ten times
/// as much, and refuse reports of later versions.
struct Past {
    failed: bool,
    out_of_memory: bool,
    seconds: f64,
    cpus: Option<f64>,
    memory: Option<f64>,
    tasks: Option<f64>,
}

impl Past {
    /// With the command; nothing if it is no report.
    fn read(report: &Value) -> Option<(String, Self)> {
        let words = report["command"].as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
        let seconds = report["wall_seconds"].as_f64()?;
        // CPU time per time that the run would have taken without a quota.
        let cpus = report["cpu"]["used_seconds"]
            .as_f64()
            .filter(|_| seconds >= 0.01)
            .map(|used| (used + report["cpu"]["throttled_seconds"].as_f64().unwrap_or(0.0)) / seconds);
        let past = Self {
            failed: report["status"].as_i64()? != 0,
            out_of_memory: report["reason"].as_str()? == "oom-killed"
                || report["memory"]["oom_kills"].as_u64().unwrap_or(0) > 0,
            seconds,
            cpus,
            memory: report["memory"]["peak_bytes"].as_f64(),
            tasks: report["pids"]["peak"].as_f64(),
        };
        report["schema_version"].as_u64().map(|_| (words.join(" "), past))
    }
}

/// One row for each command: median and peak, and the advice.
fn table(runs: &BTreeMap<String, Vec<Past>>) -> String {
    let mut rows =
        vec![["COMMAND", "RUNS", "FAILED", "TIME", "CPU", "MEMORY", "TASKS", "ADVICE"].map(str::to_owned)];
    for (command, reports) in runs {
        let seconds = figures(reports, |past| Some(past.seconds));
        let cpu = figures(reports, |past| past.cpus);
        let memory = figures(reports, |past| past.memory);
        let tasks = figures(reports, |past| past.tasks);
        let failed = reports.iter().filter(|past| past.failed).count();
        rows.push([
            command.chars().take(40).collect(),
            reports.len().to_string(),
            failed.to_string(),
            shown(&seconds, time),
            shown(&cpu, |cpus| format!("{:.0}%", cpus * 100.0)),
            shown(&memory, |bytes| show_bytes((bytes / 1024.0).round() as u64 * 1024)),
            shown(&tasks, |n| format!("{n:.0}")),
            advice(reports, &cpu, &memory, &tasks),
        ]);
    }
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Sorted, without those that were not told.
fn figures(reports: &[Past], figure: fn(&Past) -> Option<f64>) -> Vec<f64> {
    let mut found: Vec<f64> = reports.iter().filter_map(figure).collect();
    crate::order::sort_by(&mut found, f64::total_cmp);
    found
}

/// Median and peak.
fn shown(sorted: &[f64], show: fn(f64) -> String) -> String {
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(median), Some(peak)) if sorted.len() > 1 => format!("{} / {}", show(*median), show(*peak)),
        (Some(only), _) => show(*only),
        _ => "n/a".to_owned(),
    }
}

/// The most that any run wanted, and a fifth more. A run that was killed for want of memory wanted more than is
/// known.
fn advice(reports: &[Past], cpu: &[f64], memory: &[f64], tasks: &[f64]) -> String {
    let mut words = Vec::new();
    if let Some(most) = memory.last() {
        let factor = if reports.iter().any(|past| past.out_of_memory) { 2.0 } else { 1.2 };
        words.push(format!("--mem {}M", step(most * factor / f64::from(1 << 20)).max(4)));
    }
    if let Some(most) = cpu.last() {
        words.push(format!("--cpu {}%", step(most * 120.0).max(5)));
    }
    if let Some(most) = tasks.last() {
        words.push(format!("--pids {}", step(most * 1.5).max(8)));
    }
    if words.is_empty() { "n/a".to_owned() } else { words.join(" ") }
}

/// The next number that is not finer than an eighth of its power of two: 1, 2, … 16, 18, 20, … 32, 36, …
fn step(value: f64) -> u64 {
    let whole = (value.ceil() as u64).max(1);
    let unit = (whole.next_power_of_two() / 16).max(1);
    whole.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_never_below() {
        assert_eq!(
            [0.2, 1.0, 7.5, 17.0, 100.0, 430.0, 512.0, 1025.0].map(step),
            [1, 1, 8, 18, 104, 448, 512, 1152]
        );
    }

    #[test]
    fn median_and_peak() {
        assert_eq!(shown(&[1.0, 2.0, 9.0], |n| n.to_string()), "2 / 9");
        assert_eq!(shown(&[1.0], |n| n.to_string()), "1");
        assert_eq!(shown(&[], |n| n.to_string()), "n/a");
    }
}
