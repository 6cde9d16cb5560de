//! Each sentence of a report's diagnosis, from a run in which that limit was what hurt.

use crate::{
    case::Case,
    figures::{number, report},
    needs::Need,
    support::{Disk, rcon, sometimes, victim_line},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

pub(crate) fn tests() -> Vec<Case> {
    const MEMORY: &[Need] = &[Need::Controller("memory")];
    const PIDS: &[Need] = &[Need::Controller("pids")];
    vec![
        Case::new("diagnosis::cpu_that_would_have_sufficed", &[Need::Controller("cpu")], cpu_that_suffices),
        Case::new("diagnosis::nothing_where_nothing_hurt", MEMORY, nothing_where_nothing_hurt),
        Case::new(
            "diagnosis::memory_limit_met_by_cache",
            &[Need::Controller("memory"), Need::Disk, Need::Root],
            met_by_cache,
        ),
        Case::new("diagnosis::memory_of_an_enclosing_group", MEMORY, memory_of_an_enclosing_group),
        Case::new("diagnosis::memory_that_grew", MEMORY, memory_that_grew),
        Case::new("diagnosis::memory_waited_for", &[Need::V2("memory"), Need::Psi], memory_waited_for),
        Case::new("diagnosis::forks_of_an_enclosing_group", PIDS, forks_of_an_enclosing_group),
        Case::new(
            "diagnosis::disks_waited_for",
            &[Need::Controller("io"), Need::Disk, Need::Root, Need::Psi],
            disks_waited_for,
        ),
        Case::new(
            "diagnosis::disks_waited_for_on_v1",
            &[Need::V1("blkio"), Need::Disk, Need::Root, Need::Psi],
            disks_waited_for,
        ),
        Case::new("diagnosis::who_did_not_obey", &[], who_did_not_obey),
    ]
}

/// The sentences of a report.
fn told(report: &Value) -> String {
    let lines = report["diagnosis"].as_array().expect("a list").iter();
    lines.map(|line| line.as_str().expect("text").to_owned() + "\n").collect()
}

/// A report of a run inside another, and what the inner one said.
fn inner(outer: &[&str], role: &str) -> Value {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("report.json");
    let target = format!("--report=json:{}", file.display());
    let out = rcon(outer.iter().copied().chain(["--", crate::support::RCON, "--quiet", &target, "--"]))
        .args(victim_line(role))
        .run();
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("no report: {error}: {out}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// With what it advises the same work is hardly stopped. (How much a process wants depends on who else is there.)
///
/// The time for which it was stopped is looked at, as that is what hurts: a kernel that counts in ticks (User-mode
/// Linux) calls a period throttled when its last tick uses the quota up, and stops nobody.
fn cpu_that_suffices() {
    let throttled = |percent: u64| {
        let (report, _) = report(&["--cpu", &format!("{percent}%")], "spin:1");
        (number(&report, "/cpu/throttled_seconds"), report)
    };
    // A machine that is busy otherwise stops it in the limit's place, and looks late whether it is to go on.
    sometimes(|| {
        let (before, first) = throttled(30);
        let told = told(&first);
        let advised = told
            .split_once("was CPU-limited: throttled in ")
            .and_then(|(_, rest)| rest.split_once("--cpu ")?.1.split_once("% would have sufficed"))
            .and_then(|(number, _)| number.parse::<u64>().ok())
            .filter(|advised| (35..=120).contains(advised))
            .ok_or_else(|| format!("{told}{first:#}"))?;
        let (after, second) = throttled(advised);
        // 1 s of work at 30% of a CPU.
        (before > 1.0 && after < before / 2.0)
            .then_some(())
            .ok_or_else(|| format!("{before} s with 30%, {after} s with {advised}%: {second:#}"))
    });
}

fn nothing_where_nothing_hurt() {
    let (report, _) = report(&["--mem", "64M", "--timeout", "10m"], "exit:3");
    assert_eq!(told(&report), "", "{report:#}");
}

/// What is read from a disk stays in memory until it is needed: at a limit, and nobody is killed.
fn met_by_cache() {
    let disk = Disk::get();
    let path = disk.path.display().to_string();
    let (report, out) = crate::figures::report_of(
        // Without --swap: on v1 new kernels do not count what meets the limit on both.
        &["--mem", "24M"],
        &["sh", "-c", &format!("head -c 52000000 {path} >/dev/null")],
    );
    assert_eq!(out.status.code(), Some(0), "{out}");
    let hits = number(&report, "/memory/limit_hits");
    assert!(hits >= 1.0, "{report:#}");
    let times = if hits == 1.0 { "once".to_owned() } else { format!("{hits} times") };
    let said = format!("memory limit 24M reached {times} without a kill (page cache or swap gave way)\n");
    assert!(told(&report).contains(&said), "no {said}: {report:#}");
    // Cache is no need: the limit does not grow for it.
    let (grown, out) = crate::figures::report_of(
        &["--mem", "24M", "--swap", "0", "--mem-grow", "512M"],
        &["sh", "-c", &format!("head -c 52000000 {path} >/dev/null")],
    );
    assert_eq!((out.status.code(), out.stderr.as_str()), (Some(0), ""), "{out}");
    assert_eq!(grown["memory"]["grown"].as_array().map(Vec::len), Some(0), "{grown:#}");
}

fn memory_of_an_enclosing_group() {
    let report = inner(&["--mem", "64M", "--swap", "0", "--quiet"], "alloc:200M");
    if !is_uncounted(&report, "memory.oom_kills") {
        assert_eq!(number(&report, "/memory/oom_kills"), 1.0, "{report:#}");
        assert_eq!(
            told(&report),
            "the kernel killed 1 process for want of memory: an enclosing group or the machine was short of it\n"
        );
    }
}

/// On v2 a run inside another cannot have groups of its own, as ours is not free of processes: then the figure is
/// not there, for that reason.
fn is_uncounted(report: &Value, figure: &str) -> bool {
    let why = report["missing"][figure].as_str();
    if let Some(why) = why {
        assert!(why.contains("does not pass on"), "{why}: {report:#}");
        let controller = if figure.starts_with("memory") { "memory" } else { "pids" };
        assert!(Need::V2(controller).unmet().is_none(), "v1 has groups for everybody: {report:#}");
    }
    why.is_some()
}

fn memory_that_grew() {
    // Small: an emulated processor needs seconds for each 10 MiB of new pages.
    let (report, _) = report(&["--mem", "12M", "--swap", "0", "--mem-grow", "96M"], "alloc:20M");
    let told = told(&report);
    let enough = told
        .strip_prefix("needed more than --mem 12M, which was raised: --mem ")
        .and_then(|rest| rest.strip_suffix("M would have sufficed\n"))
        .and_then(|number| number.parse::<u64>().ok())
        .unwrap_or_else(|| panic!("{told}"));
    let (again, out) = crate::figures::report(&["--mem", &format!("{enough}M"), "--swap", "0"], "alloc:20M");
    assert_eq!(out.status.code(), Some(0), "{enough}M was not enough: {again:#}");
}

/// Above memory.high a process is made to wait.
fn memory_waited_for() {
    let (report, _) = report(&["--mem-high", "16M", "--swap", "0"], "alloc:17M");
    assert!(told(&report).contains("waited for memory "), "{report:#}");
    assert!(number(&report, "/pressure/memory_full_seconds") > 0.05, "{report:#}");
}

/// Whose limit it was is told where the kernel counts it in the group that was refused; newer ones (6.11) count it
/// on v2 in the group that has the limit.
fn forks_of_an_enclosing_group() {
    let report = inner(&["--pids", "12"], "forks:40");
    if is_uncounted(&report, "pids.refused_forks") {
        return;
    }
    if number(&report, "/pids/refused_forks") > 0.0 {
        assert_eq!(told(&report), "fork refused once by a limit of an enclosing group\n", "{report:#}");
    } else {
        assert_eq!(told(&report), "", "{report:#}");
        assert!(Need::V2("pids").unmet().is_none(), "v1 counts it: {report:#}");
    }
}

fn disks_waited_for() {
    let disk = Disk::get();
    let path = disk.path.display();
    let (report, _) = report(&["--io-write", &format!("{path}:2M")], &format!("write:3M:{path}"));
    if report["pressure"].is_null() {
        assert!(report["missing"]["pressure"].is_string(), "{report:#}");
        return;
    }
    let told = told(&report);
    assert!(
        told.starts_with("waited for disks ") && told.contains("(its I/O limit is part of that)"),
        "{report:#}"
    );
}

fn who_did_not_obey() {
    // As short as the machine lets it be: who was not ready in it may have obeyed.
    let (soon, killed) = ["300ms", "1s", "4s", "16s"]
        .into_iter()
        .find_map(|soon| {
            let (killed, out) = report(&["--timeout", soon, "--kill-after", "300ms"], "ignore-term:600");
            out.stdout.contains("ready").then_some((soon, killed))
        })
        .expect("it is ready in time");
    assert_eq!(told(&killed), format!("ended by --timeout {soon} (SIGKILL, as it did not end by itself)\n"));
    let (obeyed, _) = report(&["--timeout", soon, "--signal", "INT"], "sleep:600");
    assert_eq!(told(&obeyed), format!("ended by --timeout {soon} (SIGINT)\n"));
    let mut run = rcon(["--report", "--kill-after", "300ms", "--"]).victim("ignore-term:600").start();
    run.wait_for("ready");
    kill(Pid::from_raw(run.child.id() as i32), Signal::SIGTERM).expect("kill");
    let out = run.finish();
    assert!(out.stderr.contains("  -> SIGTERM to rcon was not obeyed in time: ended by SIGKILL\n"), "{out}");
}
