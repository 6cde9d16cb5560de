//! What a run costs, where that can be counted: time is for `cargo bench`, system calls are exact.

use std::{fs, path::Path, process::Command};

use crate::{
    case::Case,
    needs::Need,
    place,
    support::{RCON, run},
};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new(
            "cost::calls_with_limits",
            &[
                Need::Controller("cpu"),
                Need::Controller("memory"),
                Need::Controller("pids"),
                Need::Tool("strace"),
                Need::Tool("cc"),
            ],
            calls_with_limits,
        ),
        Case::new(
            "cost::calls_without_a_group",
            &[Need::Tool("strace"), Need::Tool("cc")],
            calls_without_a_group,
        ),
        Case::new("cost::light_start", &[Need::Tool("strace")], light_start),
        Case::new(
            "cost::no_short_cut_out_of_a_namespace",
            // the guests' unshare(1) is busybox's, which has no -C
            &[Need::Root, Need::V1("pids"), Need::Tool("unshare"), Need::Host],
            no_short_cut_out_of_a_namespace,
        ),
    ]
}

/// How many more system calls than the floor a run may make; half of them are the second process that stands behind
/// a run, for the case that one of them dies.
const ALLOWANCE: usize = 40;

fn calls_with_limits() {
    let mut words = vec!["v1".to_owned()];
    for name in ["cpu", "memory", "pids"] {
        match place::v1(name) {
            Ok(dir) => words.push(format!("{name}={}", dir.display())),
            // Where one is on v2, the floor for v2 is the yardstick, which needs all three there.
            Err(_) => words = vec!["v2".to_owned(), place::v2(name).expect("needed").display().to_string()],
        }
    }
    let floor = floor_calls(&words);
    let own = calls(&[RCON, "--cpu", "30%", "--mem", "256M", "--pids", "64", "--", "/bin/true"]);
    assert!(own <= floor + ALLOWANCE, "{own} system calls, the floor makes {floor}");
}

fn calls_without_a_group() {
    let floor = floor_calls(&["run".to_owned()]);
    let own = calls(&[RCON, "--", "/bin/true"]);
    assert!(own <= floor + ALLOWANCE, "{own} system calls, the floor makes {floor}");
}

/// A run begins without the C library's start-up, whose first call for a thread is set_tid_address(2) and which no run
/// needs; what is larger begins with it.
fn light_start() {
    let starts = |line: &[&str]| {
        let words = ["-f", "-qq", "-e", "trace=set_tid_address"].iter().chain(line);
        let out = run("strace").args(words).run();
        assert_eq!(out.status.code(), Some(0), "{out}");
        out.stderr.matches("set_tid_address(").count()
    };
    // The command is linked as most are, and begins as always.
    let command = starts(&["true"]);
    assert_eq!(command, 1);
    let light = cfg!(all(target_arch = "x86_64", target_env = "gnu", target_feature = "crt-static"));
    let own = usize::from(!light);
    assert_eq!(starts(&[RCON, "--timeout", "1m", "--", "true"]), own + command);
    // To ask systemd for a scope is more than a run takes elsewhere.
    if !Path::new("/run/systemd/system").exists() && Need::Controller("pids").unmet().is_none() {
        assert_eq!(starts(&[RCON, "--pids", "100", "--", "true"]), own + command);
    }
    assert_eq!(starts(&[RCON, "--unshare", "pid", "--", "true"]), own + command);
    assert_eq!(starts(&[RCON, "--help"]), 1);
    assert_eq!(starts(&[RCON, "ls", "-q"]), 1);
}

/// The usual places are believed only where they mean what they say: in a new cgroup namespace `/` is our own group,
/// and the mounts are still the machine's. The group would be made at its root, outside of the limit that we are under.
fn no_short_cut_out_of_a_namespace() {
    let outer = place::v1("pids").expect("needed").join(format!("outer-{}", std::process::id()));
    fs::create_dir(&outer).expect("a group");
    let line = format!("echo 0 >{}/tasks && exec unshare -C \"$@\"", outer.display());
    let command = ["--pids", "1000", "--", "cat", "/proc/self/cgroup"];
    let out = run("sh").args(["-c", &line, "sh", RCON]).args(command).run();
    fs::remove_dir(&outer).expect("empty");
    // Where the kernel tells the way from there to here, it is found; else that is refused.
    let pids = out.stdout.lines().find(|line| line.contains(":pids:"));
    match out.status.code() {
        Some(0) => assert!(pids.is_some_and(|line| line.contains(":/rcon-")), "{out}"),
        code => assert!(code == Some(125) && out.stderr.contains("the mount shows"), "{out}"),
    }
}

fn floor_calls(words: &[String]) -> usize {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cost-floor");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor.c");
    let built = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(&source).status();
    assert!(built.is_ok_and(|status| status.success()), "benches/floor.c does not build");
    let program = program.display().to_string();
    let mut line = vec![program.as_str()];
    line.extend(words.iter().map(String::as_str));
    line.extend(["--", "/bin/true"]);
    calls(&line)
}

/// All system calls of the wrapper, and those of its children up to the command's execve.
fn calls(line: &[&str]) -> usize {
    // Each process's calls go into a file of its own, unmixed.
    let dir = tempfile::tempdir().expect("temporary directory");
    let prefix = dir.path().join("log").display().to_string();
    let out = run("strace").args(["-ff", "-qq", "-o", &prefix]).args(line).run();
    assert_eq!(out.status.code(), Some(0), "{out}");
    let mut logs: Vec<Vec<String>> = Vec::new();
    for entry in std::fs::read_dir(dir.path()).expect("logs") {
        let text = std::fs::read_to_string(entry.expect("entry").path()).expect("log");
        logs.push(text.lines().filter(|line| is_call(line)).map(str::to_owned).collect());
    }
    let command =
        |line: &String| line.starts_with("execve(") && line.contains("true\"") && !line.contains("\"--\"");
    let before_exec = |log: &Vec<String>| log.iter().position(command).map_or(log.len(), |at| at + 1);
    logs.iter().map(before_exec).sum()
}

/// Signals and ends are no calls; a debug build's standard library looks at each descriptor before it closes it.
fn is_call(line: &str) -> bool {
    let debug = line.starts_with("fcntl(") && line.contains("F_GETFD");
    !line.starts_with(['+', '-']) && !debug
}
