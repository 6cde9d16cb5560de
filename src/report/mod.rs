//! The receipt: how a run ended, what it used, and which limit was what hurt. One structure, made once and shown
//! in two ways; a figure that the kernel did not tell is `null` and has its reason in `missing`.

mod diagnosis;
pub mod sink;
mod text;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
pub(crate) use text::time;

use crate::cli::{Args, Format};
use crate::error::{Class, Error, printable};
use crate::limits::Value;
use crate::outcome::{Ended, Outcome};
use crate::plan::Plan;
use crate::receipt::{Asked, Sink, signal_name};
use crate::supervise::{Cause, Growth};
use crate::usage::disk::DiskUsage;
use crate::usage::{CpuTime, Figure, Pressure, Throttle};

/// The shape of the JSON; grows when a field changes its meaning or goes, not when one is added.
pub const SCHEMA_VERSION: u32 = 1;

/// The period of a CPU quota where nobody says another (Documentation/scheduler/sched-bwc.rst).
const PERIOD: Duration = Duration::from_millis(100);

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// By itself.
    Exited,
    /// By a signal.
    Signaled,
    /// The kernel killed it for want of memory.
    OomKilled,
    /// `--timeout` or `--timeout-boottime`.
    TimedOut,
    /// `--cpu-time`.
    CpuTimeExceeded,
    /// The command could not be executed.
    NotStarted,
    /// rcon failed before it came to that.
    WrapperError,
}

/// The whole report, as it is in JSON. Units stand in the names.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)] // each field is described in schema.json
pub struct Report {
    pub schema_version: u32,
    pub rcon_version: String,
    pub command: Vec<String>,
    pub host: HostName,
    pub started_at: String,
    pub ended_at: String,
    pub wall_seconds: f64,
    pub reason: Reason,
    pub exit_code: Option<i32>,
    pub signal: Option<String>,
    pub status: i32,
    pub ended_by: Option<EndedBy>,
    pub error: Option<String>,
    pub limits: Vec<LimitSaid>,
    pub not_honoured: Vec<String>,
    pub groups: Vec<String>,
    pub shared_group: bool,
    pub cpu: Cpu,
    pub memory: Memory,
    pub pids: Pids,
    pub io: Option<Vec<DiskUsage>>,
    pub pressure: Option<Waits>,
    pub missing: BTreeMap<String, String>,
    pub diagnosis: Vec<String>,
    pub left_behind: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct HostName {
    pub name: String,
    pub kernel: String,
    pub layout: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct EndedBy {
    pub what: String,
    pub signal: String,
    pub killed: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct LimitSaid {
    pub option: String,
    pub applied: Vec<Applied>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Applied {
    pub group: String,
    pub files: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Cpu {
    pub used_seconds: Option<f64>,
    pub user_seconds: Option<f64>,
    pub system_seconds: Option<f64>,
    pub quota_cpus: Option<f64>,
    pub period_seconds: Option<f64>,
    pub periods: Option<u64>,
    pub throttled_periods: Option<u64>,
    pub throttled_seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Memory {
    pub peak_bytes: Option<u64>,
    pub limit_bytes: Option<u64>,
    pub limit_hits: Option<u64>,
    pub oom_kills: Option<u64>,
    pub swap_peak_bytes: Option<u64>,
    pub grown: Vec<Grown>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Grown {
    pub at_seconds: f64,
    pub from_bytes: u64,
    pub to_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Pids {
    pub peak: Option<u64>,
    pub limit: Option<u64>,
    pub refused_forks: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Waits {
    pub cpu_some_seconds: f64,
    pub memory_some_seconds: f64,
    pub memory_full_seconds: f64,
    pub io_some_seconds: f64,
    pub io_full_seconds: f64,
}

/// Microseconds as seconds.
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Puts reasons of absent figures aside.
#[derive(Default)]
struct Missing(BTreeMap<String, String>);

impl Missing {
    fn take<T>(&mut self, field: &str, figure: &Figure<T>) -> Option<T>
    where
        T: Clone,
    {
        match figure {
            Ok(value) => Some(value.clone()),
            Err(why) => {
                self.0.insert(field.to_owned(), why.clone());
                None
            }
        }
    }
}

impl Report {
    /// What is known of any run.
    fn frame(command: Vec<String>, started: SystemTime, wall: Duration) -> Self {
        let rfc3339 = |time: SystemTime| humantime::format_rfc3339_millis(time).to_string();
        Self {
            schema_version: SCHEMA_VERSION,
            rcon_version: env!("CARGO_PKG_VERSION").to_owned(),
            command,
            host: HostName::here(),
            started_at: rfc3339(started),
            ended_at: rfc3339(started + wall),
            wall_seconds: seconds(u64::try_from(wall.as_micros()).unwrap_or(u64::MAX)),
            reason: Reason::WrapperError,
            exit_code: None,
            signal: None,
            status: 125,
            ended_by: None,
            error: None,
            limits: Vec::new(),
            not_honoured: Vec::new(),
            groups: Vec::new(),
            shared_group: false,
            cpu: Cpu::default(),
            memory: Memory::default(),
            pids: Pids::default(),
            io: None,
            pressure: None,
            missing: BTreeMap::new(),
            diagnosis: Vec::new(),
            left_behind: Vec::new(),
        }
    }

    /// Of a run that has not come to the command.
    #[must_use]
    pub fn of_failure(args: &Args, error: &Error, started: SystemTime) -> Self {
        let command = args.command.iter().map(|word| printable(word.as_encoded_bytes())).collect();
        let wall = started.elapsed().unwrap_or_default();
        let mut missing = BTreeMap::new();
        for field in ["cpu", "memory", "pids", "io", "pressure"] {
            missing.insert(field.to_owned(), "the command did not run".to_owned());
        }
        Self {
            reason: if error.class == Class::Ours { Reason::WrapperError } else { Reason::NotStarted },
            status: error.status(),
            error: Some(error.to_string()),
            missing,
            ..Self::frame(command, started, wall)
        }
    }

    /// Of a run.
    #[must_use]
    pub fn of(plan: &Plan, outcome: &Outcome) -> Self {
        let argv = plan.exec().map_or(&[][..], |exec| &exec.argv);
        let command = argv.iter().map(|word| printable(word.as_bytes())).collect();
        let end = outcome.end(&plan.receipt);
        let (exit_code, signal) = match outcome.ended {
            Ended::Exited(status) => (Some(status), None),
            Ended::Signaled(signal) => (None, Some(signal_name(signal))),
        };
        let mut report = Self {
            reason: reason(outcome),
            exit_code,
            signal,
            status: match end {
                Ended::Exited(status) => status,
                Ended::Signaled(signal) => 128 + signal,
            },
            ended_by: outcome.cause.map(|cause| EndedBy::new(cause, &plan.receipt, outcome.killed)),
            limits: limits(plan, &outcome.waived),
            not_honoured: outcome.waived.clone(),
            groups: plan.groups.iter().map(|group| group.dir().display().to_string()).collect(),
            shared_group: plan.groups.iter().any(|group| group.shared),
            left_behind: outcome.left.iter().map(ToString::to_string).collect(),
            ..Self::frame(command, outcome.started, outcome.wall)
        };
        report.host.layout = plan.counting.layout.to_owned();
        report.figures(plan, outcome);
        report.diagnosis = diagnosis::of(&report);
        report
    }

    fn figures(&mut self, plan: &Plan, outcome: &Outcome) {
        let Some(usage) = &outcome.usage else { return };
        let mut missing = Missing::default();
        let cpu: Option<CpuTime> = missing.take("cpu.used_seconds", &usage.cpu);
        let throttle: Option<Throttle> = missing.take("cpu.throttled_seconds", &usage.throttle);
        let split = cpu.and_then(|cpu| cpu.split);
        if cpu.is_some() && split.is_none() {
            missing
                .0
                .insert("cpu.user_seconds".to_owned(), "too short to be told from system time".to_owned());
        }
        let quota_cpus = match plan.limit("cpu").map(|asked| &asked.value) {
            Some(Value::Cpu(cpu)) => Some(cpu.millionths as f64 / 1e6),
            _ => None,
        };
        let period = match plan.limit("cpu-period").map(|asked| &asked.value) {
            Some(Value::Span(span)) => span.0,
            _ => PERIOD,
        };
        self.cpu = Cpu {
            used_seconds: cpu.map(|cpu| seconds(cpu.used)),
            user_seconds: split.map(|split| seconds(split.0)),
            system_seconds: split.map(|split| seconds(split.1)),
            quota_cpus,
            period_seconds: quota_cpus.map(|_| period.as_secs_f64()),
            periods: throttle.map(|throttle| throttle.periods),
            throttled_periods: throttle.map(|throttle| throttle.throttled),
            throttled_seconds: throttle.map(|throttle| seconds(throttle.time)),
        };
        self.memory = Memory {
            peak_bytes: missing.take("memory.peak_bytes", &usage.memory_peak),
            limit_bytes: outcome.growth.last().map(|last| last.to).or(crate::outcome::memory_limit(plan)),
            limit_hits: missing.take("memory.limit_hits", &usage.memory_hits),
            oom_kills: missing.take("memory.oom_kills", &usage.oom_kills),
            swap_peak_bytes: missing.take("memory.swap_peak_bytes", &usage.swap_peak),
            grown: outcome.growth.iter().map(Grown::from).collect(),
        };
        self.pids = Pids {
            peak: missing.take("pids.peak", &usage.pids_peak),
            limit: match plan.limit("pids").map(|asked| &asked.value) {
                Some(Value::Count(crate::value::Count::Number(n))) => Some(*n),
                _ => None,
            },
            refused_forks: missing.take("pids.refused_forks", &usage.forks_refused),
        };
        self.io = missing.take("io", &usage.io);
        if let Some(why) = &usage.io_uncounted {
            missing.0.insert("io".to_owned(), why.clone());
        }
        let pressure: Option<Pressure> = missing.take("pressure", &usage.pressure);
        self.pressure = pressure.map(|p| Waits {
            cpu_some_seconds: seconds(p.cpu_some),
            memory_some_seconds: seconds(p.memory_some),
            memory_full_seconds: seconds(p.memory_full),
            io_some_seconds: seconds(p.io_some),
            io_full_seconds: seconds(p.io_full),
        });
        if usage.shared {
            let why = "the group is shared: its peak since it was made, of all runs in it";
            for field in ["memory.peak_bytes", "pids.peak", "memory.swap_peak_bytes"] {
                missing.0.entry(field.to_owned()).or_insert_with(|| why.to_owned());
            }
        }
        self.missing = missing.0;
    }

    /// One line of JSON with its newline.
    #[must_use]
    pub fn json(&self) -> String {
        // Serialisation of this structure cannot fail: its keys are strings and its numbers finite.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        text::of(self)
    }
}

/// Writes the report everywhere that it was asked to go; what could not be written.
#[must_use]
pub fn deliver(report: &Report, asked: &Asked) -> Vec<Error> {
    let mut failures = Vec::new();
    for target in &asked.reports {
        let content = match target.format {
            Format::Text => report.text(),
            Format::Json => report.json(),
        };
        let written = match &target.sink {
            Sink::Stderr => sink::descriptor(2, content.as_bytes()),
            Sink::Descriptor(number) => sink::descriptor(*number, content.as_bytes()),
            Sink::File(path) => sink::file(path, content.as_bytes()),
        };
        failures.extend(written.err());
    }
    if let Some(path) = &asked.append {
        failures.extend(sink::append(path, report.json().as_bytes()).err());
    }
    failures
}

fn reason(outcome: &Outcome) -> Reason {
    match (outcome.cause, outcome.ended) {
        (Some(Cause::Timeout), _) => Reason::TimedOut,
        (Some(Cause::CpuTime), _) => Reason::CpuTimeExceeded,
        _ if outcome.is_out_of_memory() => Reason::OomKilled,
        (_, Ended::Exited(_)) => Reason::Exited,
        (_, Ended::Signaled(_)) => Reason::Signaled,
    }
}

/// Each asked limit, with what was written for it.
fn limits(plan: &Plan, waived: &[String]) -> Vec<LimitSaid> {
    let mut out: Vec<LimitSaid> = Vec::new();
    for asked in &plan.limits {
        if waived.iter().any(|one| one.starts_with(&asked.spelled))
            || out.iter().any(|l| l.option == asked.spelled)
        {
            continue;
        }
        let writes =
            plan.groups.iter().flat_map(|group| group.writes.iter().map(move |write| (group, write)));
        let applied = writes
            .filter(|(_, write)| write.option == asked.spelled)
            .map(|(group, write)| Applied {
                group: group.dir().display().to_string(),
                files: crate::order::map(
                    write.alternatives.iter().map(|(file, value)| ((*file).to_owned(), value.clone())),
                ),
            })
            .collect();
        out.push(LimitSaid { option: asked.spelled.clone(), applied });
    }
    out
}

impl EndedBy {
    fn new(cause: Cause, asked: &Asked, killed: bool) -> Self {
        let spelled =
            |name: &str, span: &Option<crate::value::Span>| span.map(|span| format!("{name} {span}"));
        let what = match cause {
            Cause::Timeout => spelled("--timeout", &asked.timeout)
                .filter(|_| {
                    asked.timeout_boottime.is_none_or(|boot| asked.timeout.is_some_and(|own| own.0 <= boot.0))
                })
                .or_else(|| spelled("--timeout-boottime", &asked.timeout_boottime)),
            Cause::CpuTime => spelled("--cpu-time", &asked.cpu_time),
            Cause::Told => Some("SIGTERM to rcon".to_owned()),
            Cause::FrontDied => Some("SIGKILL to rcon".to_owned()),
        };
        let signal = match cause {
            Cause::Told => libc::SIGTERM,
            Cause::FrontDied => libc::SIGKILL,
            Cause::Timeout | Cause::CpuTime => asked.first_signal(),
        };
        Self { what: what.unwrap_or_default(), signal: signal_name(signal), killed }
    }
}

impl HostName {
    fn here() -> Self {
        let uname = nix::sys::utsname::uname();
        let text = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname.as_ref().map_or_else(|_| String::new(), |uname| printable(part(uname).as_encoded_bytes()))
        };
        Self { name: text(|u| u.nodename()), kernel: text(|u| u.release()), layout: String::new() }
    }
}

impl From<&Growth> for Grown {
    fn from(step: &Growth) -> Self {
        Self { at_seconds: step.at.as_secs_f64(), from_bytes: step.from, to_bytes: step.to }
    }
}
