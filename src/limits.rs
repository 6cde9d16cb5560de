//! Every limit, one row each: how it is spelled, what it means, and which files of which cgroup version hold it.
//! The only file that names a controller's files. Pure.
//!
//! Sources: Documentation/admin-guide/cgroup-v1/*.rst, Documentation/admin-guide/cgroup-v2.rst,
//! Documentation/scheduler/sched-bwc.rst.

use crate::error::Error;
use crate::value::{Count, Cpu, IoRule, List, Size, Span, Weight, byte_rate, operation_rate};

/// A resource controller, by the part of the machine that it rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// Which CPUs and memory nodes.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// The number of tasks.
    Pids,
    /// Block devices; `blkio` on v1.
    Io,
    /// v1 only: stops and starts a whole group.
    Freezer,
    /// v1 only: counts CPU time.
    Cpuacct,
}

impl Controller {
    /// All of them, in the order in which groups are made.
    pub const ALL: [Self; 7] =
        [Self::Cpu, Self::Cpuset, Self::Memory, Self::Pids, Self::Io, Self::Freezer, Self::Cpuacct];

    /// The kernel's name for it on v1.
    #[must_use]
    pub fn v1_name(self) -> &'static str {
        match self {
            Self::Io => "blkio",
            Self::Freezer => "freezer",
            Self::Cpuacct => "cpuacct",
            _ => self.name(),
        }
    }

    /// The kernel's name for it on v2, and ours for people. On v2 freezing and CPU accounting belong to every
    /// group, so these two have no controller there.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Io => "io",
            Self::Freezer => "freezer",
            Self::Cpuacct => "cpuacct",
        }
    }
}

/// The value of a limit that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A share of CPU time.
    Cpu(Cpu),
    /// A length of time.
    Span(Span),
    /// A share under contention.
    Weight(Weight),
    /// CPU or node numbers.
    List(List),
    /// Memory.
    Size(Size),
    /// A number of tasks.
    Count(Count),
    /// An I/O rate.
    Io(IoRule),
}

/// One limit as asked for on the command line.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its row.
    pub limit: &'static Limit,
    /// How the user spelled it: `--mem 256M`.
    pub spelled: String,
    /// What it says.
    pub value: Value,
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        self.limit.name == other.limit.name && self.value == other.value
    }
}

/// Which of a write's files take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The first that exists.
    #[default]
    First,
    /// Every one that exists, and at least one does.
    Every,
    /// The first that exists, unless it holds something already.
    IfEmpty,
}

impl Eq for Asked {}

/// One write to one file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Write {
    /// Which controller's group.
    #[serde(skip)]
    pub controller: Controller,
    /// File names with the value that each wants.
    pub alternatives: Vec<(&'static str, String)>,
    /// Which of them.
    pub how: How,
    /// A file that must say the same afterwards, where the kernel may silently take less.
    pub verify: Option<(&'static str, String)>,
    /// How the user spelled the option that this serves.
    pub option: String,
}

/// The disks of a place, or why it has none.
pub type Disks = Result<Vec<String>, Error>;

/// What a row needs to know of the machine to compute its values. All of it is read before planning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bytes per page.
    pub page: u64,
    /// The memory that percentages are of: the machine's, or the lowest enclosing limit.
    pub memory: u64,
    /// v1: what the enclosing cpuset allows, (cpus, mems), for the file that was not asked for.
    pub cpuset: (String, String),
    /// For each place that an I/O rule names: the disks (`MAJ:MIN`) that it means, or why it means none.
    pub disks: Vec<(Option<String>, Disks)>,
    /// The group may be there already, with limits that another run has set.
    pub shared: bool,
}

/// What a row computes from: its own value and the others that were asked.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The value of this row.
    pub value: &'a Value,
    /// All asked limits.
    pub all: &'a [Asked],
    /// The machine.
    pub facts: &'a Facts,
}

/// One write of a row.
#[derive(Clone, Debug)]
pub struct Line {
    files: Vec<(&'static str, String)>,
    how: How,
    verify: Option<(&'static str, String)>,
}

/// The writes of a row; or why it cannot be had.
type Lines = Result<Vec<Line>, Error>;

/// How one version of cgroups serves a row.
#[derive(Clone, Copy, Debug)]
pub enum Support {
    /// By these files.
    Files(fn(&Ask) -> Lines),
    /// Not at all, because…
    Absent(&'static str),
}

/// One row.
#[derive(Debug)]
pub struct Limit {
    /// The long option.
    pub name: &'static str,
    /// Placeholder of its value in `--help`.
    pub value_name: &'static str,
    /// One line for `--help`: meaning, unit, default.
    pub help: &'static str,
    /// Which controller it belongs to.
    pub controller: Controller,
    /// Whether each use adds a rule, rather than replacing the one before.
    pub repeatable: bool,
    /// Reads the value.
    pub parse: fn(&str) -> Result<Value, String>,
    /// The files on v1.
    pub v1: Support,
    /// The files on v2.
    pub v2: Support,
}

impl Ask<'_> {
    fn other(&self, name: &str) -> Option<&Value> {
        self.all.iter().rev().find(|asked| asked.limit.name == name).map(|asked| &asked.value)
    }

    fn period_us(&self) -> u64 {
        match self.other("cpu-period") {
            Some(Value::Span(span)) => micros(span),
            _ => 100_000,
        }
    }

    /// Bytes as the kernel will hold them: rounded down to whole pages; `None` is no limit.
    fn size(&self, value: &Value) -> Result<Option<u64>, Error> {
        let Value::Size(size) = value else { unreachable_value() };
        let bytes = match *size {
            Size::Max => return Ok(None),
            Size::Bytes(n) => n,
            Size::Percent(hundredths) => {
                u64::try_from(u128::from(self.facts.memory) * u128::from(hundredths) / 10_000)
                    .unwrap_or(u64::MAX)
            }
        };
        let page = self.facts.page.max(1);
        if bytes > 0 && bytes < page {
            return refuse(format!("less than one page of memory ({page} bytes)"));
        }
        Ok(Some(bytes / page * page))
    }
}

/// Rows build their own `Value` variant; another one here is a mistake in this file that the table test finds.
fn unreachable_value() -> ! {
    unreachable!("a row of LIMITS parses one kind of value and reads another")
}

fn micros(span: &Span) -> u64 {
    u64::try_from(span.0.as_micros()).unwrap_or(u64::MAX)
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(why))
}

fn line(file: &'static str, value: impl ToString) -> Line {
    Line { files: vec![(file, value.to_string())], how: How::First, verify: None }
}

fn one(file: &'static str, value: impl ToString) -> Lines {
    Ok(vec![line(file, value)])
}

fn v1_or_max(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-1".to_owned(), |n| n.to_string())
}

fn v2_or_max(value: Option<u64>) -> String {
    value.map_or_else(|| "max".to_owned(), |n| n.to_string())
}

fn parse_size(text: &str) -> Result<Value, String> {
    Ok(Value::Size(text.parse()?))
}

fn parse_nonzero_size(text: &str) -> Result<Value, String> {
    match text.parse()? {
        Size::Bytes(0) => Err("zero would let nothing start; give a size such as 256M, or max".to_owned()),
        size => Ok(Value::Size(size)),
    }
}

fn parse_bytes_rule(text: &str) -> Result<Value, String> {
    IoRule::parse(text, byte_rate).map(Value::Io)
}

fn parse_operations_rule(text: &str) -> Result<Value, String> {
    IoRule::parse(text, operation_rate).map(Value::Io)
}

fn parse_weight(text: &str) -> Result<Value, String> {
    Ok(Value::Weight(text.parse()?))
}

fn parse_list(text: &str) -> Result<Value, String> {
    Ok(Value::List(text.parse()?))
}

/// A quota below 1 ms is refused by the kernel (`min_cfs_quota_period`), with an EINVAL that explains nothing.
fn quota_us(ask: &Ask) -> Result<u64, Error> {
    let Value::Cpu(cpu) = ask.value else { unreachable_value() };
    let period = ask.period_us();
    match cpu.quota_us(period) {
        0..1000 => refuse(format!(
            "{cpu} of a period of {period} µs is less than the kernel's minimum of 1 ms; lengthen it with --cpu-period"
        )),
        quota => Ok(quota),
    }
}

fn io_lines(ask: &Ask, file: &'static str, text: impl Fn(&str, &IoRule) -> String) -> Lines {
    let Value::Io(rule) = ask.value else { unreachable_value() };
    match ask.facts.disks.iter().find(|(place, _)| *place == rule.place) {
        Some((_, Ok(disks))) => Ok(disks.iter().map(|disk| line(file, text(disk, rule))).collect()),
        Some((_, Err(error))) => Err(error.clone()),
        None => refuse("the disk has not been looked up"),
    }
}

/// v1 takes one `MAJ:MIN rate` per write, where 0 lifts a limit.
fn v1_io(ask: &Ask, file: &'static str) -> Lines {
    io_lines(ask, file, |disk, rule| format!("{disk} {}", rule.rate.unwrap_or(0)))
}

fn v2_io(ask: &Ask, key: &'static str) -> Lines {
    io_lines(ask, "io.max", |disk, rule| format!("{disk} {key}={}", v2_or_max(rule.rate)))
}

/// v1 starts a cpuset group empty, and lets nothing join before both files are filled in: the one that was not
/// asked for with what the enclosing group has. On a shared group another run may have asked for it.
fn v1_cpuset(ask: &Ask, file: &'static str) -> Lines {
    let Value::List(list) = ask.value else { unreachable_value() };
    let mut lines = vec![line(file, list)];
    if file == "cpuset.cpus" && ask.other("mems").is_none() {
        lines.push(Line { how: How::IfEmpty, ..line("cpuset.mems", &ask.facts.cpuset.1) });
    }
    if file == "cpuset.mems" && ask.other("cpuset").is_none() {
        lines.push(Line { how: How::IfEmpty, ..line("cpuset.cpus", &ask.facts.cpuset.0) });
    }
    Ok(lines)
}

/// What a v1 group needs where cpuset is mounted together with a controller that was asked for (`cpu,cpuset`):
/// without CPUs and memory nodes nothing can join it.
#[must_use]
pub fn filled_cpuset(facts: &Facts, option: &str) -> Vec<Write> {
    let fill = |file, value: &String| Write {
        controller: Controller::Cpuset,
        alternatives: vec![(file, value.clone())],
        how: How::IfEmpty,
        verify: None,
        option: option.to_owned(),
    };
    vec![fill("cpuset.cpus", &facts.cpuset.0), fill("cpuset.mems", &facts.cpuset.1)]
}

/// v2 takes any number and silently uses what there is of it: the effective list has the truth.
fn v2_cpuset(ask: &Ask, file: &'static str, effective: &'static str) -> Lines {
    let Value::List(list) = ask.value else { unreachable_value() };
    Ok(vec![Line { verify: Some((effective, list.to_string())), ..line(file, list) }])
}

fn weight(ask: &Ask) -> u64 {
    let Value::Weight(weight) = ask.value else { unreachable_value() };
    weight.0
}

/// The bfq scheduler's range is 1 to 1000 with 100 as default: the same scale up to its end, as systemd has it.
fn bfq_weight(weight: u64) -> u64 {
    if weight <= 100 { weight } else { 100 + (weight - 100) * 900 / 9_900 }
}

/// All limits, in the order in which they are written. `cpu-period` stands before `cpu`: v1 checks a quota
/// against the period that holds at that moment; `mem` before `swap`: memsw may not be below the limit.
pub static LIMITS: &[Limit] = &[
    Limit {
        name: "cpu-period",
        value_name: "TIME",
        help: "The period that --cpu is counted over (default 100ms; 1ms to 1s)",
        controller: Controller::Cpu,
        repeatable: false,
        parse: |text| {
            let span: Span = text.parse()?;
            match micros(&span) {
                1_000..=1_000_000 if span.0.subsec_nanos().is_multiple_of(1_000) => Ok(Value::Span(span)),
                _ => Err("the kernel takes 1ms to 1s, in whole microseconds".to_owned()),
            }
        },
        v1: Support::Files(|ask| match ask.other("cpu") {
            Some(_) => one("cpu.cfs_period_us", ask.period_us()),
            None => refuse("means nothing without --cpu"),
        }),
        // Part of the one write to cpu.max.
        v2: Support::Files(|ask| match ask.other("cpu") {
            Some(_) => Ok(Vec::new()),
            None => refuse("means nothing without --cpu"),
        }),
    },
    Limit {
        name: "cpu",
        value_name: "SHARE",
        help: "CPU time: 30% (of one CPU), 250%, 1.5cpus (default: no limit)",
        controller: Controller::Cpu,
        repeatable: false,
        parse: |text| Ok(Value::Cpu(text.parse()?)),
        // Another run may have given a shared group another period.
        v1: Support::Files(|ask| {
            let quota = line("cpu.cfs_quota_us", quota_us(ask)?);
            let period = (ask.facts.shared && ask.other("cpu-period").is_none())
                .then(|| line("cpu.cfs_period_us", ask.period_us()));
            Ok(period.into_iter().chain([quota]).collect())
        }),
        v2: Support::Files(|ask| one("cpu.max", format!("{} {}", quota_us(ask)?, ask.period_us()))),
    },
    Limit {
        name: "cpu-burst",
        value_name: "TIME",
        help: "Unused CPU time that may be saved up and spent at once (default 0)",
        controller: Controller::Cpu,
        repeatable: false,
        parse: |text| Ok(Value::Span(text.parse()?)),
        v1: Support::Files(|ask| burst(ask, "cpu.cfs_burst_us")),
        v2: Support::Files(|ask| burst(ask, "cpu.max.burst")),
    },
    Limit {
        name: "cpu-weight",
        value_name: "N",
        help: "Share of the CPU when others want it too, 1 to 10000 (default 100)",
        controller: Controller::Cpu,
        repeatable: false,
        parse: parse_weight,
        // systemd's conversion: 100 is 1024 shares, and the kernel takes 2 to 262144.
        v1: Support::Files(|ask| one("cpu.shares", (weight(ask) * 1024 / 100).max(2))),
        v2: Support::Files(|ask| one("cpu.weight", weight(ask))),
    },
    Limit {
        name: "cpuset",
        value_name: "LIST",
        help: "Which CPUs: 0-1,3 (default: the caller's)",
        controller: Controller::Cpuset,
        repeatable: false,
        parse: parse_list,
        v1: Support::Files(|ask| v1_cpuset(ask, "cpuset.cpus")),
        v2: Support::Files(|ask| v2_cpuset(ask, "cpuset.cpus", "cpuset.cpus.effective")),
    },
    Limit {
        name: "mems",
        value_name: "LIST",
        help: "Which memory nodes: 0 (default: the caller's)",
        controller: Controller::Cpuset,
        repeatable: false,
        parse: parse_list,
        v1: Support::Files(|ask| v1_cpuset(ask, "cpuset.mems")),
        v2: Support::Files(|ask| v2_cpuset(ask, "cpuset.mems", "cpuset.mems.effective")),
    },
    Limit {
        name: "mem",
        value_name: "SIZE",
        help: "Memory: 256M, 1.5G, 25% of what there is (default: no limit)",
        controller: Controller::Memory,
        repeatable: false,
        parse: parse_nonzero_size,
        v1: Support::Files(|ask| one("memory.limit_in_bytes", v1_or_max(ask.size(ask.value)?))),
        v2: Support::Files(|ask| one("memory.max", v2_or_max(ask.size(ask.value)?))),
    },
    Limit {
        name: "mem-high",
        value_name: "SIZE",
        help: "Memory above which the command is slowed and reclaimed from (cgroup v2)",
        controller: Controller::Memory,
        repeatable: false,
        parse: parse_nonzero_size,
        v1: Support::Absent(
            "cgroup v1 has no throttling limit: its soft limit acts only when the whole machine is short",
        ),
        v2: Support::Files(|ask| one("memory.high", v2_or_max(ask.size(ask.value)?))),
    },
    Limit {
        name: "swap",
        value_name: "SIZE",
        help: "Swap on top of --mem; 0 for none (default: no limit)",
        controller: Controller::Memory,
        repeatable: false,
        parse: parse_size,
        v1: Support::Files(|ask| {
            let Some(memory) = ask.other("mem") else {
                return refuse("cgroup v1 limits memory and swap together: give --mem too");
            };
            let both = match (ask.size(memory)?, ask.size(ask.value)?) {
                (Some(memory), Some(swap)) => memory.checked_add(swap),
                (None, Some(_)) => return refuse("cgroup v1 cannot limit swap where --mem is max"),
                (_, None) => None,
            };
            one("memory.memsw.limit_in_bytes", v1_or_max(both))
        }),
        v2: Support::Files(|ask| one("memory.swap.max", v2_or_max(ask.size(ask.value)?))),
    },
    Limit {
        name: "pids",
        value_name: "N",
        help: "Tasks (processes and threads) at once (default: no limit)",
        controller: Controller::Pids,
        repeatable: false,
        parse: |text| Ok(Value::Count(text.parse()?)),
        v1: Support::Files(|ask| {
            let Value::Count(count) = ask.value else { unreachable_value() };
            one("pids.max", count)
        }),
        v2: Support::Files(|ask| {
            let Value::Count(count) = ask.value else { unreachable_value() };
            one("pids.max", count)
        }),
    },
    Limit {
        name: "io-read",
        value_name: "[WHERE:]RATE",
        help: "Bytes read per second, 10M or /data:10M; WHERE: device, MAJ:MIN or a path on the disk",
        controller: Controller::Io,
        repeatable: true,
        parse: parse_bytes_rule,
        v1: Support::Files(|ask| v1_io(ask, "blkio.throttle.read_bps_device")),
        v2: Support::Files(|ask| v2_io(ask, "rbps")),
    },
    Limit {
        name: "io-write",
        value_name: "[WHERE:]RATE",
        help: "Bytes written per second",
        controller: Controller::Io,
        repeatable: true,
        parse: parse_bytes_rule,
        v1: Support::Files(|ask| v1_io(ask, "blkio.throttle.write_bps_device")),
        v2: Support::Files(|ask| v2_io(ask, "wbps")),
    },
    Limit {
        name: "io-read-iops",
        value_name: "[WHERE:]N",
        help: "Read operations per second",
        controller: Controller::Io,
        repeatable: true,
        parse: parse_operations_rule,
        v1: Support::Files(|ask| v1_io(ask, "blkio.throttle.read_iops_device")),
        v2: Support::Files(|ask| v2_io(ask, "riops")),
    },
    Limit {
        name: "io-write-iops",
        value_name: "[WHERE:]N",
        help: "Write operations per second",
        controller: Controller::Io,
        repeatable: true,
        parse: parse_operations_rule,
        v1: Support::Files(|ask| v1_io(ask, "blkio.throttle.write_iops_device")),
        v2: Support::Files(|ask| v2_io(ask, "wiops")),
    },
    Limit {
        name: "io-weight",
        value_name: "N",
        help: "Share of the disk when others want it too, 1 to 10000 (default 100)",
        controller: Controller::Io,
        repeatable: false,
        parse: parse_weight,
        // Each belongs to another I/O scheduler, and the disk decides which one is in charge.
        v1: Support::Files(|ask| {
            let bfq = bfq_weight(weight(ask));
            Ok(vec![Line {
                files: vec![("blkio.bfq.weight", bfq.to_string()), ("blkio.weight", bfq.max(10).to_string())],
                how: How::Every,
                verify: None,
            }])
        }),
        v2: Support::Files(|ask| {
            let weight = weight(ask);
            Ok(vec![Line {
                files: vec![
                    ("io.weight", format!("default {weight}")),
                    ("io.bfq.weight", format!("default {}", bfq_weight(weight))),
                ],
                how: How::Every,
                verify: None,
            }])
        }),
    },
];

fn burst(ask: &Ask, file: &'static str) -> Lines {
    let (Value::Span(span), Some(Value::Cpu(cpu))) = (ask.value, ask.other("cpu")) else {
        return refuse("means nothing without --cpu");
    };
    let (burst, quota) = (micros(span), cpu.quota_us(ask.period_us()));
    if burst > quota {
        return refuse(format!(
            "more than the quota of {quota} µs in each period, which the kernel does not take"
        ));
    }
    one(file, burst)
}

/// The bytes that a size comes to here; nothing where it is none, or no limit.
#[must_use]
pub fn bytes(asked: &Asked, facts: &Facts) -> Option<u64> {
    let Value::Size(_) = &asked.value else { return None };
    Ask { value: &asked.value, all: &[], facts }.size(&asked.value).ok().flatten()
}

/// The row of an option.
#[must_use]
pub fn limit(name: &str) -> Option<&'static Limit> {
    LIMITS.iter().find(|limit| limit.name == name)
}

/// Which version's files are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// One hierarchy for each controller or set of controllers.
    V1,
    /// The one unified hierarchy.
    V2,
}

/// The writes that serve everything asked of controllers for which `place` names a version, in table order.
///
/// # Errors
/// What cannot be had, by the spelling of its option, and why.
pub fn writes(
    asked: &[Asked],
    facts: &Facts,
    place: impl Fn(Controller) -> Option<Version>,
) -> Result<Vec<Write>, Error> {
    let mut out = Vec::new();
    for limit in LIMITS {
        let uses = asked.iter().filter(|one| one.limit.name == limit.name);
        // The last one said holds, but for rules, which add up.
        let skipped = if limit.repeatable { 0 } else { uses.clone().count().saturating_sub(1) };
        for one in uses.skip(skipped) {
            let Some(version) = place(limit.controller) else { continue };
            let support = match version {
                Version::V1 => limit.v1,
                Version::V2 => limit.v2,
            };
            let ask = Ask { value: &one.value, all: asked, facts };
            let lines = match support {
                Support::Files(files) => files(&ask),
                Support::Absent(why) => refuse(why),
            };
            for Line { files, how, verify } in lines.map_err(|error| error.option(&one.spelled))? {
                let option = one.spelled.clone();
                out.push(Write { controller: limit.controller, alternatives: files, how, verify, option });
            }
        }
    }
    Ok(out)
}
