//! `--hint-env`: what the command has, in the variables by which runtimes are told. Most size their thread pools and
//! heaps by the machine, whatever the group says, and are throttled or killed for it.

use std::ffi::{CString, OsString};
use std::path::{Path, PathBuf};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::cgroup::layout::Layout;
use crate::environment;
use crate::files;
use crate::host::{below, memory_limit};
use crate::limits::{Asked, Controller, Value};
use crate::value::Size;

/// What encloses the run already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// CPUs that the caller may run on (sched_getaffinity(2), which cpusets show in).
    pub cpus: u64,
    /// CPU time per time, in millionths of one CPU, where an enclosing group limits it.
    pub quota: Option<u64>,
    /// Bytes, where an enclosing group limits them.
    pub memory: Option<u64>,
}

impl Facts {
    /// Reads them. `groups` are the directories of the caller's groups for a controller, up to the mount's root.
    #[must_use]
    pub fn read(root: &Path, layout: &Layout, groups: impl Fn(Controller) -> Vec<PathBuf>) -> Self {
        let v1 = layout.v1_of(Controller::Cpu).is_some();
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let cpus = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count().max(1);
        Self {
            cpus: cpus as u64,
            quota: groups(Controller::Cpu).iter().filter_map(|dir| quota(&below(root, dir), v1)).min(),
            memory: groups(Controller::Memory).iter().filter_map(|dir| memory_limit(&below(root, dir))).min(),
        }
    }
}

fn quota(dir: &Path, v1: bool) -> Option<u64> {
    let (quota, period): (u64, u64) = if v1 {
        let number = |file| files::text(&dir.join(file)).and_then(|text| text.parse().ok());
        (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
    } else {
        let text = files::text(&dir.join("cpu.max"))?;
        let (quota, period) = text.split_once(' ')?;
        (quota.parse().ok()?, period.parse().ok()?)
    };
    quota.checked_mul(1_000_000)?.checked_div(period)
}

/// The variables, but for those that the caller has set. `whole` is what percentages are of.
#[must_use]
#[inline(never)]
pub fn variables(
    limits: &[Asked],
    facts: &Facts,
    whole: u64,
    caller: &[CString],
) -> Vec<(OsString, OsString)> {
    // The last of two equal options holds.
    let asked = |name: &str| limits.iter().rev().find(|one| one.limit.name == name).map(|one| &one.value);
    let mut quota = facts.quota;
    if let Some(Value::Cpu(cpu)) = asked("cpu") {
        quota = Some(quota.map_or(cpu.millionths, |enclosing| enclosing.min(cpu.millionths)));
    }
    let mut cpus = quota.map(|millionths| millionths.div_ceil(1_000_000).clamp(1, facts.cpus));
    if let Some(Value::List(list)) = asked("cpuset") {
        let count: u64 = list.0.iter().map(|(from, to)| u64::from(to.saturating_sub(*from)) + 1).sum();
        cpus = Some(cpus.unwrap_or(facts.cpus).min(count.max(1)));
    }
    let mut memory = facts.memory;
    for name in ["mem", "mem-high"] {
        let bytes = match asked(name) {
            Some(Value::Size(Size::Bytes(bytes))) => *bytes,
            Some(Value::Size(Size::Percent(share))) => {
                (u128::from(whole) * u128::from(*share) / 10_000) as u64
            }
            _ => continue,
        };
        memory = Some(memory.map_or(bytes, |enclosing| enclosing.min(bytes)));
    }
    let mut out = Vec::new();
    let mut say = |name: &str, value: String| {
        if environment::get(caller, name).is_none() {
            out.push((name.into(), value.into()));
        }
    };
    let mut java = Vec::new();
    if let Some(cpus) = cpus {
        for name in
            ["GOMAXPROCS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS", "CARGO_BUILD_JOBS", "PYTHON_CPU_COUNT"]
        {
            say(name, cpus.to_string());
        }
        say("MAKEFLAGS", format!("-j{cpus}"));
        java.push(format!("-XX:ActiveProcessorCount={cpus}"));
    }
    if let Some(memory) = memory {
        // A tenth for what is no heap, as the documentation of Go's runtime advises.
        say("GOMEMLIMIT", (memory / 10 * 9).to_string());
        // V8 has more beside its old generation: code, young objects, buffers.
        say("NODE_OPTIONS", format!("--max-old-space-size={}", ((memory / 4 * 3) >> 20).max(1)));
        java.push(format!("-XX:MaxRAM={memory}"));
    }
    if !java.is_empty() {
        say("JAVA_TOOL_OPTIONS", java.join(" "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str], facts: &Facts, caller: &[CString]) -> Vec<String> {
        let words: Vec<OsString> = words.iter().chain(&["--", "x"]).map(OsString::from).collect();
        let Ok(crate::cli::Request::Run(args)) = crate::cli::parse(&words, false) else {
            panic!("{words:?}")
        };
        let said = variables(&args.limits, facts, 1 << 30, caller);
        said.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect()
    }

    #[test]
    fn the_least_of_what_is_asked_and_what_encloses() {
        let free = Facts { cpus: 8, quota: None, memory: None };
        assert_eq!(told(&["--pids", "9"], &free, &[]), Vec::<String>::new());
        let said = told(&["--cpu", "150%", "--mem", "25%"], &free, &[]);
        assert_eq!(
            said,
            [
                "GOMAXPROCS=2",
                "OMP_NUM_THREADS=2",
                "RAYON_NUM_THREADS=2",
                "CARGO_BUILD_JOBS=2",
                "PYTHON_CPU_COUNT=2",
                "MAKEFLAGS=-j2",
                "GOMEMLIMIT=241591905",
                "NODE_OPTIONS=--max-old-space-size=192",
                "JAVA_TOOL_OPTIONS=-XX:ActiveProcessorCount=2 -XX:MaxRAM=268435456",
            ]
        );
        let within = Facts { cpus: 8, quota: Some(300_000), memory: Some(1 << 20) };
        let said = told(&["--cpu", "400%", "--mem", "1G"], &within, &[c"GOMAXPROCS=7".to_owned()]);
        assert_eq!(said.first().map(String::as_str), Some("OMP_NUM_THREADS=1"));
        assert!(said.iter().any(|one| one == "NODE_OPTIONS=--max-old-space-size=1"), "{said:?}");
        // More than there are is not had, and a list of CPUs counts.
        assert!(told(&["--cpu", "5000%"], &free, &[]).contains(&"MAKEFLAGS=-j8".to_owned()));
        assert!(told(&["--cpuset", "0-2,5"], &free, &[]).contains(&"MAKEFLAGS=-j4".to_owned()));
    }
}
