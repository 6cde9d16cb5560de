//! `rcon show`: all that is to be known of one run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::fd::AsFd;

use clap::{ArgMatches, Command};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::ls::{Memory, Row, field};
use crate::cgroup::read_at;
use crate::cli::{self, Request};
use crate::error::{Error, printable};
use crate::limits::Version;
use crate::runs::held::{Held, held};
use crate::runs::{Run, counters::Usage, one, process};

pub(super) fn command() -> Command {
    Command::new("show")
        .about("Show a run: limits asked and in force, use, pressure, processes")
        .arg(super::name())
        .arg(super::format())
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    let word = matches.get_one::<OsString>("NAME").cloned().unwrap_or_default();
    let run = one(&word)?;
    let mut memory = Memory::default();
    let before = Usage::read(&run, &mut memory.files);
    std::thread::sleep(std::time::Duration::from_millis(100));
    let view = View {
        asked: asked(&run),
        held: held(&run),
        pressure: pressure(&run),
        tree: tree(&run),
        row: Row::new(run, Some(&before), process::uptime(), &mut memory),
    };
    crate::print(&match matches.get_one::<String>("format").map(String::as_str) {
        Some("json") => format!("{:#}\n", view.json()),
        _ => view.text(),
    })?;
    Ok(0)
}

struct View {
    row: Row,
    /// The limits on the wrapper's own command line.
    asked: Vec<String>,
    held: Vec<Held>,
    /// (resource, line).
    pressure: Vec<(&'static str, String)>,
    /// (depth, process, command line).
    tree: Vec<(usize, Pid, String)>,
}

/// What its wrappers were asked for: their command lines are the only record, and cannot go stale.
fn asked(run: &Run) -> Vec<String> {
    let mut out = Vec::new();
    for pid in &run.wrappers {
        let line = process::read(*pid, "cmdline").unwrap_or_default();
        let words: Vec<OsString> = line
            .strip_suffix(b"\0")
            .unwrap_or(&line)
            .split(|byte| *byte == 0)
            .skip(1)
            .map(|word| std::os::unix::ffi::OsStringExt::from_vec(word.to_vec()))
            .collect();
        let args = match words.first().and_then(|word| word.to_str()) {
            Some("attach") => by_clap(super::attach::command(), &words, super::attach::takes),
            Some("set") => by_clap(super::set::command(), &words, super::set::is_limit),
            _ => match cli::parse(&words, false) {
                Ok(Request::Run(args)) => Some(*args),
                _ => None,
            },
        };
        out.extend(args.into_iter().flat_map(|args| args.limits).map(|asked| asked.spelled));
    }
    out
}

fn by_clap(command: Command, words: &[OsString], takes: fn(&cli::options::Opt) -> bool) -> Option<cli::Args> {
    cli::options_of(&command.try_get_matches_from(words).ok()?, takes).ok()
}

/// The kernel's own pressure figures, where the group has them (v2, CONFIG_PSI).
fn pressure(run: &Run) -> Vec<(&'static str, String)> {
    let Some(dir) = run.v2().and_then(|dir| dir.open().ok()) else { return Vec::new() };
    let mut out = Vec::new();
    for (resource, file) in [("cpu", "cpu.pressure"), ("memory", "memory.pressure"), ("io", "io.pressure")] {
        let text = read_at(dir.as_fd(), file).unwrap_or_default();
        out.extend(text.lines().map(|line| (resource, line.to_owned())));
    }
    out
}

/// Parents before children; who has no parent in the run stands at the left.
fn tree(run: &Run) -> Vec<(usize, Pid, String)> {
    let mut children: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
    let mut tops = Vec::new();
    for pid in &run.processes {
        let Some(stat) = process::stat(*pid) else { continue };
        if run.processes.binary_search(&stat.parent).is_ok() {
            children.entry(stat.parent).or_default().push(*pid);
        } else {
            tops.push(*pid);
        }
    }
    let mut out = Vec::new();
    let mut stack: Vec<(usize, Pid)> = tops.into_iter().rev().map(|pid| (0, pid)).collect();
    while let Some((depth, pid)) = stack.pop() {
        let line = process::command_line(pid).unwrap_or_else(|| "(has ended)".to_owned());
        out.push((depth, pid, line));
        stack.extend(children.remove(&pid).into_iter().flatten().rev().map(|pid| (depth + 1, pid)));
    }
    out
}

impl View {
    fn text(&self) -> String {
        let row = &self.row;
        let mut out = String::new();
        let mut line = |key: &str, value: &str| {
            // Writing to a String does not fail.
            let written = writeln!(out, "{key:<10} {value}");
            debug_assert!(written.is_ok());
        };
        line("name", &row.run.shown());
        line("state", &format!("{}, age {}", row.state.word(), field(row, "age")));
        let wrappers: Vec<String> = row.run.wrappers.iter().map(ToString::to_string).collect();
        line("wrapper", if wrappers.is_empty() { "none".to_owned() } else { wrappers.join(" ") }.as_str());
        line("command", &field(row, "command"));
        for (at, dir) in row.run.dirs.iter().enumerate() {
            let version = match dir.version {
                Version::V1 => "v1",
                Version::V2 => "v2",
            };
            let key = if at == 0 { "groups" } else { "" };
            let path = printable(dir.path.as_os_str().as_encoded_bytes());
            line(key, &format!("{path} ({version}: {})", dir.controllers.join(" ")));
        }
        let spelled = self.asked.join(" ");
        line("asked", if spelled.is_empty() { "nothing that is known" } else { &spelled });
        for (at, held) in self.held.iter().enumerate() {
            for (n, value) in held.value.lines().enumerate() {
                let key = if at + n == 0 { "in force" } else { "" };
                line(key, &format!("{:<34} {:<22} (--{})", held.file, value, held.option));
            }
        }
        if self.held.is_empty() {
            line("in force", "no limit");
        }
        let usage = &row.usage;
        let cpu = usage.cpu_ns.map_or_else(|| "n/a".to_owned(), |ns| format!("{:.1} s", ns as f64 / 1e9));
        line("cpu", &format!("{} now, {cpu} in all", field(row, "cpu")));
        if let Some(throttled) = usage.throttled {
            line("", &format!("throttled in {throttled} periods"));
        }
        line(
            "memory",
            &usage.memory.map_or_else(|| "n/a (no memory group)".to_owned(), crate::value::show_bytes),
        );
        line("tasks", &usage.tasks.to_string());
        for (at, (resource, text)) in self.pressure.iter().enumerate() {
            line(if at == 0 { "pressure" } else { "" }, &format!("{resource:<7} {text}"));
        }
        for (at, (depth, pid, text)) in self.tree.iter().enumerate() {
            line(if at == 0 { "processes" } else { "" }, &format!("{}{pid} {text}", "  ".repeat(*depth)));
        }
        out
    }

    fn json(&self) -> Value {
        let row = &self.row;
        json!({
            "schema_version": 1,
            "name": row.run.shown(),
            "state": row.state.word(),
            "age_seconds": row.age.map(|age| age.as_secs_f64()),
            "wrappers": row.run.wrappers.iter().map(|pid| pid.as_raw()).collect::<Vec<_>>(),
            "command": row.command,
            "groups": row.run.dirs.iter().map(|dir| json!({
                "path": dir.path.to_string_lossy(),
                "version": dir.version,
                "controllers": dir.controllers,
            })).collect::<Vec<_>>(),
            "asked": self.asked,
            "limits": self.held.iter().map(|held| json!({
                "option": held.option, "file": held.file, "value": held.value,
            })).collect::<Vec<_>>(),
            "cpu_percent": row.cpu,
            "cpu_ns": row.usage.cpu_ns,
            "throttled_periods": row.usage.throttled,
            "memory_bytes": row.usage.memory,
            "memory_limit_bytes": row.usage.memory_limit,
            "tasks": row.usage.tasks,
            "tasks_limit": row.usage.tasks_limit,
            "pressure": self.pressure.iter().map(|(resource, line)| json!({
                "resource": resource, "line": line,
            })).collect::<Vec<_>>(),
            "processes": self.tree.iter().map(|(depth, pid, line)| json!({
                "pid": pid.as_raw(), "depth": depth, "command": line,
            })).collect::<Vec<_>>(),
        })
    }
}
