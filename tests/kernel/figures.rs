//! The report's figures against commands of which the use is known.

use crate::{
    case::Case,
    facts::hierarchies,
    needs::Need,
    schema,
    support::{Disk, Output, RCON, rcon, slow, sometimes, victim_line},
};
use serde_json::Value;
use std::{path::Path, sync::OnceLock, time::Duration};

pub(crate) fn tests() -> Vec<Case> {
    const CPU: &[Need] = &[Need::Cgroup];
    const MEMORY: &[Need] = &[Need::Controller("memory")];
    const PIDS: &[Need] = &[Need::Controller("pids")];
    vec![
        Case::new("figures::cpu_of_one_process", CPU, cpu_of_one_process),
        Case::new("figures::cpu_of_eight_children", CPU, cpu_of_eight_children),
        Case::new("figures::cpu_of_grandchildren_long_gone", CPU, cpu_of_grandchildren_long_gone),
        Case::new("figures::cpu_of_a_sleeper", CPU, cpu_of_a_sleeper),
        Case::new("figures::cpu_throttled", &[Need::Controller("cpu")], cpu_throttled),
        Case::new("figures::cpu_time_limit", CPU, cpu_time_limit),
        Case::new("figures::memory_of_one_process", MEMORY, memory_of_one_process),
        Case::new("figures::memory_of_ten_children", MEMORY, memory_of_ten_children),
        Case::new("figures::memory_of_a_child_long_gone", MEMORY, memory_of_a_child_long_gone),
        Case::new("figures::a_report_leaves_no_limit", &[Need::V2("memory")], a_report_leaves_no_limit),
        Case::new("figures::oom_in_a_grandchild", MEMORY, oom_in_a_grandchild),
        Case::new("figures::oom_of_the_command", MEMORY, oom_of_the_command),
        Case::new("figures::memory_grows_as_needed", MEMORY, memory_grows_as_needed),
        Case::new("figures::memory_grows_no_further", MEMORY, memory_grows_no_further),
        Case::new("figures::record_of_a_run", MEMORY, record_of_a_run),
        Case::new("figures::tasks_at_once", PIDS, tasks_at_once),
        Case::new("figures::forks_refused", PIDS, forks_refused),
        Case::new("figures::bytes_written", &[Need::Controller("io"), Need::Disk], bytes_written),
        Case::new("figures::bytes_read", &[Need::Controller("io"), Need::Disk], bytes_read),
        Case::new("figures::bytes_on_v1", &[Need::V1("blkio"), Need::Disk], bytes_on_v1),
        Case::new("figures::pressure_is_there", &[Need::Psi, Need::Cgroup, Need::Root], pressure_is_there),
    ]
}

/// The schema that the program prints.
static RULES: OnceLock<Value> = OnceLock::new();

/// Runs it with a report, which is right by its schema.
pub(crate) fn report(options: &[&str], role: &str) -> (Value, Output) {
    let [program, role] = victim_line(role).map(|word| word.to_str().expect("text").to_owned());
    report_of(options, &[&program, &role])
}

/// The same of any command.
pub(crate) fn report_of(options: &[&str], command: &[&str]) -> (Value, Output) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("report.json");
    let mut target = std::ffi::OsString::from("--report=json:");
    target.push(&file);
    let out = rcon([target].into_iter().chain(options.iter().map(Into::into)).chain(["--".into()]))
        .args(command)
        .limit(Duration::from_secs(60))
        .run();
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("no report: {error}: {out}"));
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let rules = RULES.get_or_init(|| {
        serde_json::from_str(&rcon(["report-schema"]).run().stdout).expect("the schema is JSON")
    });
    assert_eq!(schema::violations(&report, rules), Vec::<String>::new(), "{report:#}");
    assert_eq!(report["status"], out.shell_status(), "{report:#}\n{out}");
    (report, out)
}

pub(crate) fn number(report: &Value, pointer: &str) -> f64 {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no {pointer}: {report:#}"))
}

/// From a shell inside of a limit, whose group can have no children: what only counts goes without a group there.
fn a_report_leaves_no_limit() {
    let inner = format!("grep ^0:: /proc/self/cgroup; {RCON} --report -- grep ^0:: /proc/self/cgroup; :");
    let out = rcon(["--mem", "64M", "--pids", "20", "--", "sh", "-c", &inner]).run();
    let places: Vec<&str> = out.stdout.lines().collect();
    let [around, inside] = places[..] else { panic!("two lines: {out}") };
    assert!(around.contains("/rcon-") && inside.starts_with(around), "{out}");
}

/// The sum of all `cpu_ms=` that victims said about themselves.
fn said_ms(out: &Output) -> f64 {
    let words = out.stdout.split_whitespace().filter_map(|word| word.strip_prefix("cpu_ms="));
    words.map(|digits| digits.parse::<f64>().expect("a number")).sum()
}

/// CPU time is right within 2%, and within what starting the processes costs, which they do not see: as much as
/// in a run of the same shape that does nothing, twice to be sure.
#[track_caller]
fn assert_cpu(told: &Value, out: &Output, idle: &str) {
    let start = number(&report(&[], idle).0, "/cpu/used_seconds") * 1e3;
    let (used, said) = (number(told, "/cpu/used_seconds") * 1e3, said_ms(out));
    assert!(
        used >= said * 0.98 && used <= said * 1.02 + 2.0 * start,
        "told {used} ms, said {said} ms, start {start} ms: {told:#}"
    );
    let parts = number(told, "/cpu/user_seconds") + number(told, "/cpu/system_seconds");
    assert!((parts * 1e3 - used).abs() < 2.0, "the parts are the whole: {told:#}");
}

fn cpu_of_one_process() {
    let (report, out) = report(&[], "spin:1");
    assert!(said_ms(&out) >= 1000.0, "{out}");
    assert_cpu(&report, &out, "spin:0");
    assert_eq!((&report["reason"], &report["exit_code"]), (&"exited".into(), &0.into()), "{report:#}");
}

fn cpu_of_eight_children() {
    let (report, out) = report(&[], "spinners:8:0.25");
    assert!(said_ms(&out) >= 2000.0, "{out}");
    assert_cpu(&report, &out, "spinners:8:0");
}

fn cpu_of_grandchildren_long_gone() {
    let (report, out) = report(&[], "deep:spin:1");
    assert!(said_ms(&out) >= 1000.0, "{out}");
    assert_cpu(&report, &out, "deep:spin:0");
}

fn cpu_of_a_sleeper() {
    sometimes(|| {
        let (report, out) = report(&[], "sleep:1");
        let wall = number(&report, "/wall_seconds");
        assert!(wall >= 1.0 && wall <= out.took.as_secs_f64(), "{wall}: {out}");
        // What its start takes, which is more with cold caches.
        let used = number(&report, "/cpu/used_seconds");
        let is_little = used < slow(Duration::from_millis(20)).as_secs_f64();
        is_little.then_some(()).ok_or_else(|| format!("{report:#}"))
    });
}

fn cpu_throttled() {
    // How much CPU it used is not looked at here: a kernel that counts in ticks (User-mode Linux) counts a process
    // that is stopped again and again too high.
    let (report, _) = report(&["--cpu", "20%"], "spin:0.4");
    let (periods, throttled) = (number(&report, "/cpu/periods"), number(&report, "/cpu/throttled_periods"));
    assert!(throttled >= 10.0 && throttled <= periods, "{report:#}");
    assert!(number(&report, "/cpu/throttled_seconds") > 0.8, "{report:#}");
    assert!(report["diagnosis"][0].as_str().is_some_and(|text| text.contains("CPU-limited")), "{report:#}");
}

fn cpu_time_limit() {
    // Who ends them may have to wait for a CPU, and they burn on.
    sometimes(|| {
        let (report, _) = report(&["--cpu-time", "2s", "--kill-after", "0"], "burners:4:600");
        let used = number(&report, "/cpu/used_seconds");
        assert!(used >= 2.0, "{used}: {report:#}");
        assert_eq!(report["reason"], "cpu-time-exceeded", "{report:#}");
        assert_eq!((&report["signal"], &report["status"]), (&"KILL".into(), &124.into()), "{report:#}");
        (used <= 2.3).then_some(()).ok_or_else(|| format!("{used}: {report:#}"))
    });
}

/// What this program takes of itself: the figure is the group's, not the victim's `Vec`.
fn memory_at_rest() -> f64 {
    number(&report(&[], "alloc:0M").0, "/memory/peak_bytes")
}

#[track_caller]
fn assert_memory(report: &Value, megabytes: f64, processes: f64) {
    let rest = memory_at_rest() * processes;
    let told = number(report, "/memory/peak_bytes") / f64::from(1 << 20);
    let wanted = megabytes + rest / f64::from(1 << 20);
    let margin = (megabytes * 0.02).max(1.0);
    assert!((told - wanted).abs() <= margin, "told {told} MiB, wanted {wanted} MiB: {report:#}");
}

fn memory_of_one_process() {
    let (report, _) = report(&[], "alloc:100M");
    assert_memory(&report, 100.0, 1.0);
}

fn memory_of_ten_children() {
    let (report, _) = report(&[], "allocs:10:10M");
    let told = number(&report, "/memory/peak_bytes") / f64::from(1 << 20);
    let rest = memory_at_rest() / f64::from(1 << 20);
    // Each of the eleven has something of its own, and shares the rest of what one has.
    assert!((100.0..=102.0 + 11.0 * rest).contains(&told), "told {told} MiB: {report:#}");
}

fn memory_of_a_child_long_gone() {
    let (report, _) = report(&["--mem", "200M"], "deep:alloc:100M");
    assert_memory(&report, 100.0, 1.0);
    assert_eq!(number(&report, "/memory/limit_bytes"), f64::from(200 << 20), "{report:#}");
    assert_eq!(number(&report, "/memory/oom_kills"), 0.0, "{report:#}");
}

const SMALL: &[&str] = &["--mem", "64M", "--swap", "0"];

fn oom_in_a_grandchild() {
    let (report, out) = report(SMALL, "deep:alloc:200M");
    assert_eq!(out.status.code(), Some(0), "{out}");
    assert_eq!((&report["reason"], &report["exit_code"]), (&"exited".into(), &0.into()), "{report:#}");
    assert_eq!(number(&report, "/memory/oom_kills"), 1.0, "{report:#}");
    assert!(report["diagnosis"].to_string().contains("1 process"), "{report:#}");
}

fn oom_of_the_command() {
    let (report, out) = report(SMALL, "alloc:200M");
    assert_eq!(out.shell_status(), 137, "{out}");
    assert_eq!((&report["reason"], &report["signal"]), (&"oom-killed".into(), &"KILL".into()), "{report:#}");
    match report.pointer("/memory/limit_hits").and_then(Value::as_f64) {
        Some(hits) => assert!(hits >= 1.0, "{report:#}"),
        // Only a kernel that does not tell, and then with the reason.
        None => assert!(report["missing"]["memory.limit_hits"].is_string(), "{report:#}"),
    }
}

const GROW: &[&str] = &["--mem", "32M", "--swap", "0", "--mem-grow"];

fn memory_grows_as_needed() {
    let (report, out) = report(&[GROW, &["512M"]].concat(), "alloc:200M");
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "alloc done\n"), "{out}");
    let to: Vec<u64> = report["memory"]["grown"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| s["to_bytes"].as_u64())
        .collect();
    assert_eq!(to, [64 << 20, 128 << 20, 256 << 20], "{report:#}");
    assert_eq!(
        (number(&report, "/memory/oom_kills"), number(&report, "/memory/limit_bytes")),
        (0.0, f64::from(256 << 20))
    );
    assert_eq!(out.stderr.matches("rcon: memory limit raised from").count(), 3, "{out}");
}

fn memory_grows_no_further() {
    let (report, out) = report(&[GROW, &["64M"]].concat(), "alloc:200M");
    assert_eq!(out.shell_status(), 137, "{out}");
    assert_eq!(
        (report["memory"]["grown"].as_array().map(Vec::len), &report["reason"]),
        (Some(1), &"oom-killed".into())
    );
}

fn record_of_a_run() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("run.json");
    let mut target = file.clone().into_os_string();
    target.push(":50ms");
    let out = rcon(["--mem".into(), "200M".into(), "--record".into(), target, "--".into()])
        .victim("alloc:50M:1")
        .run();
    assert_eq!(out.status.code(), Some(0), "{out}");
    let record: Value =
        serde_json::from_str(&std::fs::read_to_string(&file).expect("a record")).expect("JSON");
    let most = record["memory_bytes"].as_array().into_iter().flatten().filter_map(Value::as_u64).max();
    assert!(most.is_some_and(|most| (50 << 20..56 << 20).contains(&most)), "{record:#}");
    let cpu: Vec<f64> =
        record["cpu_seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    assert!(cpu.len() > 5 && cpu.is_sorted(), "{record:#}");
    assert_eq!(record["limits"]["memory_bytes"], 200 << 20, "{record:#}");
}

fn tasks_at_once() {
    let (report, out) = report(&[], "forks:20");
    if report.pointer("/pids/peak").is_some_and(Value::is_null) {
        let why = report["missing"]["pids.peak"].as_str();
        assert!(why.is_some_and(|why| why.contains("pids.peak")), "null without a reason: {report:#}");
        return;
    }
    assert_eq!(number(&report, "/pids/peak"), 21.0, "{report:#}\n{out}");
}

fn forks_refused() {
    let (report, out) = report(&["--pids", "16"], "forks:40");
    assert_eq!(out.stdout, "forks ok=15 err=EAGAIN\n", "{out}");
    assert_eq!(number(&report, "/pids/refused_forks"), 1.0, "{report:#}");
    assert_eq!(report["diagnosis"][0], "fork refused once by --pids 16", "{report:#}");
}

const MIB: f64 = (1 << 20) as f64;

fn disk_of<'a>(report: &'a Value, disk: &Path) -> &'a Value {
    let meta = std::fs::metadata(disk).expect("disk");
    let number = std::os::unix::fs::MetadataExt::rdev(&meta);
    let device = format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let found = report["io"].as_array().into_iter().flatten().find(|one| one["device"] == device);
    found.unwrap_or_else(|| panic!("{device} is not in it: {report:#}"))
}

fn bytes_written() {
    let disk = Disk::get();
    let (report, _) = report(&[], &format!("write:50M:{}", disk.path.display()));
    let told = disk_of(&report, &disk.path)["written_bytes"].as_f64().expect("a number") / MIB;
    assert!((49.0..=51.0).contains(&told), "{told} MiB: {report:#}");
}

fn bytes_read() {
    let disk = Disk::get();
    let (report, _) = report(&[], &format!("read:50M:{}", disk.path.display()));
    let told = disk_of(&report, &disk.path);
    let bytes = told["read_bytes"].as_f64().expect("a number") / MIB;
    assert!((49.0..=51.0).contains(&bytes), "{bytes} MiB: {report:#}");
    assert!(told["reads"].as_u64().is_some_and(|n| n > 0), "{report:#}");
}

/// Newer kernels count a v1 group's I/O only on disks that have a limit: with one, or with a reason why not.
fn bytes_on_v1() {
    let disk = Disk::get();
    let path = disk.path.display().to_string();
    let role = format!("write:50M:{path}");
    let (free, _) = report(&[], &role);
    if free["io"].is_null() {
        assert!(free["missing"]["io"].as_str().is_some_and(|why| why.contains("only on disks")), "{free:#}");
    }
    let (limited, _) = report(&["--io-write", &format!("{path}:1000M")], &role);
    let told = disk_of(&limited, &disk.path)["written_bytes"].as_f64().expect("a number") / MIB;
    assert!((49.0..=51.0).contains(&told), "{told} MiB: {limited:#}");
}

fn pressure_is_there() {
    // Four that burn on fewer CPUs, or under a quota, wait for one another.
    let (report, _) = report(&[], "burners:4:1");
    let counted = hierarchies().iter().any(|hierarchy| hierarchy.v2 && !hierarchy.read_only);
    if report["pressure"].is_null() && !counted {
        assert!(report["missing"]["pressure"].is_string(), "null without a reason: {report:#}");
        return;
    }
    assert!(number(&report, "/pressure/cpu_some_seconds") > 0.2, "{report:#}");
}
