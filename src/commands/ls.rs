//! `rcon ls`: all runs, one line each.

use std::collections::{BTreeMap, btree_map::Entry};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use nix::unistd::Pid;
use serde_json::json;

use crate::error::Error;
use crate::runs::counters::{Files, State, Usage};
use crate::runs::process::Stat;
use crate::runs::{Run, find, first_process, process};
use crate::value::show_bytes;

/// How long CPU use is measured for.
const SAMPLE: Duration = Duration::from_millis(100);

pub(super) fn command() -> Command {
    Command::new("ls")
        .about("List all runs that can be seen from here")
        .arg(
            Arg::new("quiet").short('q').long("quiet").action(ArgAction::SetTrue).help("Names only"),
        )
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .conflicts_with("quiet")
                .help("json, or a template such as '{name}\\t{mem}' (fields: name pid command age cpu mem mem-limit pids pids-limit state path)"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    if matches.get_flag("quiet") {
        let names: Vec<String> = find()?.iter().map(|run| run.shown() + "\n").collect();
        crate::print(&names.concat())?;
        return Ok(0);
    }
    let format = matches.get_one::<String>("format").map(String::as_str);
    let template = match format {
        None | Some("json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let rates = template.as_ref().is_none_or(|template| template.needs_rates());
    let rows = rows(rates)?;
    match (format, template) {
        (Some("json"), _) => crate::print(&format!("{:#}\n", json(&rows)))?,
        (_, Some(template)) => {
            crate::print(&rows.iter().map(|row| template.fill(row)).collect::<String>())?;
        }
        _ => crate::print(&table(&rows, width()))?,
    }
    Ok(0)
}

/// What is known of a run at one moment.
pub(super) struct Row {
    pub(super) run: Run,
    pub(super) usage: Usage,
    pub(super) cpu: Option<f64>,
    pub(super) state: State,
    pub(super) command: Option<String>,
    pub(super) age: Option<Duration>,
}

/// What need not be asked again at each look.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) files: Files,
    /// The command of the run in this first directory, and its line.
    commands: BTreeMap<PathBuf, (Pid, String)>,
    /// When processes started.
    started: BTreeMap<Pid, Stat>,
}

impl Memory {
    /// A command may have executed another one, a number may be another process.
    pub(super) fn forget(&mut self) {
        self.commands.clear();
        self.started.clear();
    }

    fn command(&mut self, run: &Run) -> Option<(Pid, String)> {
        let place = run.dirs.first().map(|dir| dir.path.clone())?;
        if let Some(known) = self.commands.get(&place)
            && run.processes.binary_search(&known.0).is_ok()
        {
            return Some(known.clone());
        }
        let pid = first_process(run)?;
        let known = (pid, process::command_line(pid)?);
        self.commands.insert(place, known.clone());
        Some(known)
    }

    fn age(&mut self, pid: Pid, now: Duration) -> Option<Duration> {
        let stat = match self.started.entry(pid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(process::stat(pid)?),
        };
        Some(process::age(stat, now))
    }
}

impl Row {
    pub(super) fn new(run: Run, before: Option<&Usage>, now: Duration, memory: &mut Memory) -> Self {
        let usage = Usage::read(&run, &mut memory.files);
        let cpu = before.and_then(|before| usage.cpu_percent(before));
        let state = State::of(&run, before, &usage);
        let (first, command) = memory.command(&run).unzip();
        let oldest = run.wrappers.first().copied().or(first);
        let age = oldest.and_then(|pid| memory.age(pid, now));
        Self { run, usage, cpu, state, command, age }
    }
}

fn rows(rates: bool) -> Result<Vec<Row>, Error> {
    let mut runs = find()?;
    let mut memory = Memory::default();
    let mut before: Vec<Option<Usage>> = vec![None; runs.len()];
    if rates && !runs.is_empty() {
        before = runs.iter().map(|run| Some(Usage::read(run, &mut memory.files))).collect();
        std::thread::sleep(SAMPLE);
        // Who is in it now, not 100 ms ago.
        for run in &mut runs {
            run.processes = crate::runs::processes_now(run).into_iter().collect();
        }
    }
    let now = process::uptime();
    let rows = runs.into_iter().zip(before);
    Ok(rows.map(|(run, before)| Row::new(run, before.as_ref(), now, &mut memory)).collect())
}

fn json(rows: &[Row]) -> serde_json::Value {
    let runs: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.run.shown(),
                "wrappers": row.run.wrappers.iter().map(|pid| pid.as_raw()).collect::<Vec<_>>(),
                "processes": row.run.processes.iter().map(|pid| pid.as_raw()).collect::<Vec<_>>(),
                "command": row.command,
                "age_seconds": row.age.map(|age| age.as_secs_f64()),
                "cpu_percent": row.cpu,
                "cpu_ns": row.usage.cpu_ns,
                "memory_bytes": row.usage.memory,
                "memory_limit_bytes": row.usage.memory_limit,
                "tasks": row.usage.tasks,
                "tasks_limit": row.usage.tasks_limit,
                "state": row.state.word(),
                "groups": row.run.dirs.iter().map(|dir| dir.path.to_string_lossy()).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "schema_version": 1, "runs": runs })
}

/// The fields of a template and of the table.
const FIELDS: [&str; 11] =
    ["name", "pid", "command", "age", "cpu", "mem", "mem-limit", "pids", "pids-limit", "state", "path"];

pub(super) fn field(row: &Row, name: &str) -> String {
    let bytes = |value: Option<u64>, none: &str| value.map_or_else(|| none.to_owned(), show_bytes);
    match name {
        "name" => row.run.shown(),
        "pid" => match row.run.wrappers.first() {
            Some(pid) => pid.to_string(),
            None => "-".to_owned(),
        },
        "command" => row.command.clone().unwrap_or_else(|| "-".to_owned()),
        "age" => row.age.map_or_else(|| "-".to_owned(), age),
        "cpu" => row.cpu.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.0}%")),
        "mem" => bytes(row.usage.memory, "-"),
        "mem-limit" => bytes(row.usage.memory_limit, "max"),
        "pids" => row.usage.tasks.to_string(),
        "pids-limit" => row.usage.tasks_limit.map_or_else(|| "max".to_owned(), |n| n.to_string()),
        "state" => row.state.word().to_owned(),
        _ => {
            row.run.dirs.first().map_or_else(String::new, |dir| {
                crate::error::printable(dir.path.as_os_str().as_encoded_bytes())
            })
        }
    }
}

/// The two largest units.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, m) => format!("{m}m{:02}s", seconds % 60),
        (0, h, m) => format!("{h}h{m:02}m"),
        (d, h, _) => format!("{d}d{h:02}h"),
    }
}

/// A template: text and fields in turn.
struct Template(Vec<(String, Option<&'static str>)>);

impl Template {
    fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |what: String| {
            Error::new(what)
                .option("--format")
                .try_this(format!("fields are {{{}}}; \\t and \\n are tab and newline", FIELDS.join("} {")))
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, tail)) = rest.split_once('{') {
            let (name, tail) = tail.split_once('}').ok_or_else(|| wrong("a { without its }".to_owned()))?;
            let field = FIELDS.into_iter().find(|field| *field == name);
            let field = field.ok_or_else(|| wrong(format!("no field is called {name:?}")))?;
            parts.push((unescaped(literal), Some(field)));
            rest = tail;
        }
        if parts.is_empty() {
            return Err(wrong("give json, or a template with fields".to_owned()));
        }
        parts.push((unescaped(rest) + "\n", None));
        Ok(Self(parts))
    }

    fn needs_rates(&self) -> bool {
        self.0.iter().any(|(_, field)| matches!(field, Some("cpu" | "state")))
    }

    fn fill(&self, row: &Row) -> String {
        let part = |(text, name): &(String, Option<&'static str>)| {
            text.clone() + &name.map(|name| field(row, name)).unwrap_or_default()
        };
        self.0.iter().map(part).collect()
    }
}

fn unescaped(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// The terminal's width; without one, lines are as long as they are.
fn width() -> usize {
    crate::sys::terminal_size().map_or(usize::MAX, |(width, _)| usize::from(width))
}

pub(super) fn table(rows: &[Row], width: usize) -> String {
    const HEAD: [&str; 8] = ["NAME", "PID", "AGE", "CPU", "MEM", "PIDS", "STATE", "COMMAND"];
    let of =
        |used: String, limit: Option<String>| limit.map_or(used.clone(), |limit| format!("{used}/{limit}"));
    let lines: Vec<[String; 8]> = rows
        .iter()
        .map(|row| {
            let text = |name| field(row, name);
            [
                text("name"),
                text("pid"),
                text("age"),
                text("cpu"),
                of(text("mem"), row.usage.memory_limit.map(show_bytes)),
                of(text("pids"), row.usage.tasks_limit.map(|n| n.to_string())),
                text("state"),
                text("command"),
            ]
        })
        .collect();
    let mut widths = HEAD.map(str::len);
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for line in std::iter::once(&HEAD.map(str::to_owned)).chain(&lines) {
        let mut text = String::new();
        for (at, (cell, width)) in line.iter().zip(widths).enumerate() {
            match at {
                0 => text.push_str(&format!("{cell:<width$}")),
                1..=5 => text.push_str(&format!("  {cell:>width$}")),
                6 => text.push_str(&format!("  {cell:<width$}")),
                _ => text.push_str(&format!("  {cell}")),
            }
        }
        out.extend(text.trim_end().chars().take(width));
        out.push('\n');
    }
    out
}
