//! Limits of what runs already: `set`, `attach`, `freeze`, proved by what the processes can then do.

use crate::{
    case::Case,
    control::{field, names, on, own, running},
    groups::{command_of, keeper_of},
    needs::Need,
    support::{Started, many, rcon, run, slow, victim_line},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub(crate) fn tests() -> Vec<Case> {
    let pids = &[Need::Controller("pids")];
    let both = &[Need::Controller("pids"), Need::Controller("cpu"), Need::Controller("memory")];
    vec![
        Case::new("set::a_new_limit_bites", pids, a_new_limit_bites),
        Case::new("set::a_controller_that_the_run_had_none_of", pids, a_controller_that_the_run_had_none_of),
        Case::new("set::all_or_nothing", both, all_or_nothing),
        Case::new("set::memory_below_use_is_refused", both, memory_below_use_is_refused),
        Case::new("set::companions_stay", both, companions_stay),
        Case::new("set::frozen_ended_and_unknown", pids, frozen_ended_and_unknown),
        Case::new("set::while_a_run_ends", pids, while_a_run_ends),
        Case::new(
            "set::a_group_that_nobody_is_in",
            &[Need::Root, Need::Controller("pids")],
            a_group_that_nobody_is_in,
        ),
        Case::new("freeze::stops_and_thaws", &[Need::Cgroup], stops_and_thaws),
        Case::new("freeze::ends_at_its_time", &[Need::Cgroup], ends_at_its_time),
        Case::new("freeze::ends_with_rcon", &[Need::Cgroup], ends_with_rcon),
        Case::new("attach::a_limit_bites_and_the_group_goes", pids, a_limit_bites_and_the_group_goes),
        Case::new("attach::a_watcher_is_killed", pids, a_watcher_is_killed),
        Case::new("attach::detach_puts_back", pids, detach_puts_back),
        Case::new("attach::into_a_run", pids, into_a_run),
        Case::new("attach::no_child_is_missed", pids, no_child_is_missed),
        Case::new("attach::another_process_of_the_number_is_refused", pids, another_process_is_refused),
        Case::new(
            "attach::a_reused_number_is_refused",
            &[Need::Lab, Need::Root, Need::Controller("pids"), Need::File("/proc/sys/kernel/ns_last_pid")],
            a_reused_number_is_refused,
        ),
        Case::new("attach::refusals_change_nothing", pids, refusals_change_nothing),
    ]
}

/// A file that a waiting script looks for.
struct Gate(tempfile::TempDir);

impl Gate {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("directory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("go")
    }

    /// Waits for the gate, then plays the role.
    fn script(&self, role: &str) -> String {
        let [program, role] = victim_line(role);
        let words = [program, role].map(|word| word.to_str().expect("text").to_owned());
        format!(
            "echo up; while [ ! -e {} ]; do sleep 0.05; done; exec {}",
            self.path().display(),
            words.join(" ")
        )
    }

    fn open(&self) {
        fs::write(self.path(), "").expect("write");
    }
}

/// A process that nobody wraps.
fn bare(script: &str) -> Started {
    let mut started = run("sh").args(["-c", script]).start();
    started.wait_for("up");
    started
}

fn pid(started: &Started) -> String {
    started.child.id().to_string()
}

/// The lines of `/proc/PID/cgroup` that lie in the group of this name.
fn lines_in(pid: &str, name: &str) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().filter(|line| line.contains(&format!("/rcon-{}", own(name)))).count()
}

/// Watchers take a moment.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + slow(Duration::from_secs(5));
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn a_new_limit_bites() {
    let gate = Gate::new();
    let started = running(&["--pids", "60"], "bites", &gate.script("forks:40"));
    let out = on(&["set", "--pids", "16"], "bites");
    assert_eq!((out.status.code(), out.stderr.as_str()), (Some(0), ""), "{out}");
    gate.open();
    let out = started.finish();
    assert!(out.stdout.contains("ok=15 err=EAGAIN"), "{out}");
}

fn a_controller_that_the_run_had_none_of() {
    let gate = Gate::new();
    let started = running(&[], "grows", &gate.script("forks:40"));
    let out = on(&["set", "--pids", "16"], "grows");
    assert!(out.status.success(), "{out}");
    gate.open();
    let out = started.finish();
    assert!(out.stdout.contains("ok=15 err=EAGAIN"), "{out}");
    until("the group is gone", || !names().contains(&"grows".to_owned()));
}

fn all_or_nothing() {
    let started = running(&["--pids", "60", "--cpu", "70%", "--mem", "80M"], "whole", "exec sleep 60");
    let state = || on(&["show", "--format", "json"], "whole").stdout;
    let limits = |text: String| {
        let from = text.find("\"limits\"").expect("limits");
        text[from..].split(']').next().map(str::to_owned)
    };
    let before = limits(state());
    // No machine has this CPU.
    let out = on(&["set", "--pids", "20", "--cpu", "10%", "--mem", "90M", "--cpuset", "60000"], "whole");
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert!(out.stderr.contains("--cpuset 60000"), "{out}");
    assert_eq!(limits(state()), before);
    assert!(on(&["kill"], "whole").status.success());
    started.finish();
}

fn memory_below_use_is_refused() {
    let [program, role] = victim_line("alloc:64M:60").map(|word| word.to_str().expect("text").to_owned());
    // With swap all of it could be freed.
    let swap = rcon(["--mem", "64M", "--swap", "0", "--", "true"]).run().status.success();
    let options = ["--mem", "200M", "--swap", "0"];
    assert!(swap || Need::Swap.unmet().is_some(), "swap is on, and this kernel cannot limit it");
    let options = if swap { &options[..] } else { &options[..2] };
    let mut started = running(options, "full", &format!("exec {program} {role}"));
    started.wait_for("alloc done");
    let out = on(&["set", "--mem", "16M"], "full");
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert!(out.stderr.contains("--mem 16M"), "{out}");
    assert_eq!(field("full", "mem-limit"), "200M");
    assert_eq!(field("full", "state"), "running");
    let out = on(&["set", "--mem", "150M"], "full");
    assert!(out.status.success(), "{out}");
    assert_eq!(field("full", "mem-limit"), "150M");
    if Need::V2("memory").unmet().is_none() {
        assert!(on(&["set", "--force", "--mem", "16M"], "full").status.success());
        assert_eq!(started.finish().shell_status(), 137, "the kernel kills where it is told to");
    } else {
        assert!(on(&["kill"], "full").status.success());
        started.finish();
    }
}

/// The period of a CPU limit, and on v1 the swap on top of the memory, are not touched by what is not asked.
fn companions_stay() {
    let options = ["--cpu", "50%", "--cpu-period", "20ms", "--mem", "64M", "--swap", "0"];
    let out = rcon(["--mem", "64M", "--swap", "0", "--", "true"]).run();
    let swap = out.status.success();
    let started = running(if swap { &options } else { &options[..6] }, "company", "exec sleep 60");
    let out = on(&["set", "--cpu", "30%", "--mem", "128M"], "company");
    assert!(out.status.success(), "{out}");
    let show = on(&["show"], "company").stdout;
    let has = |words: &[&str]| {
        let found =
            show.lines().any(|line| words.iter().all(|word| line.split_whitespace().any(|w| w == *word)));
        assert!(found, "no {words:?} in {show}");
    };
    if Need::V2("cpu").unmet().is_none() {
        has(&["cpu.max", "6000", "20000"]);
    } else {
        has(&["cpu.cfs_quota_us", "6000"]);
        has(&["cpu.cfs_period_us", "20000"]);
    }
    if swap && show.contains("memory.memsw") {
        has(&["memory.memsw.limit_in_bytes", "134217728"]);
    }
    assert!(on(&["kill"], "company").status.success());
    started.finish();
}

fn frozen_ended_and_unknown() {
    let started = running(&["--pids", "30"], "ice", "exec sleep 60");
    assert!(on(&["freeze"], "ice").status.success());
    let out = on(&["set", "--pids", "20"], "ice");
    assert!(out.status.success(), "{out}");
    assert_eq!((field("ice", "pids-limit"), field("ice", "state")), ("20".to_owned(), "frozen".to_owned()));
    let out = on(&["kill"], "ice");
    assert!(out.status.success(), "{out}");
    started.finish();
    let out = on(&["set", "--pids", "20"], "ice");
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert!(out.stderr.contains("no run called"), "{out}");
}

/// At any moment of its end: either the limit is set or an error says why not, and nothing stays.
fn while_a_run_ends() {
    let mut refused = 0;
    for number in 0..many(40) {
        let mut started = running(&["--pids", "30"], "brief", "read -r _ </dev/null");
        // Later and later: from before its end to long after it.
        thread::sleep(Duration::from_millis(number as u64 / 2));
        let out = on(&["set", "--pids", "20"], "brief");
        match out.status.code() {
            Some(0) => assert_eq!(out.stderr, "", "{out}"),
            Some(125) => {
                refused += 1;
                let known = ["no run called", "has just ended", "nothing runs in", "just been removed"];
                assert!(known.iter().any(|text| out.stderr.contains(text)), "{out}");
            }
            _ => panic!("{out}"),
        }
        started.wait_for("up");
        assert_eq!(started.finish().shell_status(), 1);
        until("the group is gone", || !names().contains(&"brief".to_owned()));
    }
    assert!(refused > 0, "none had ended by then");
}

/// As a run leaves it that was killed together with its wrapper: named, and not touched.
fn a_group_that_nobody_is_in() {
    let started = running(&["--pids", "30"], "model", "exec sleep 60");
    let group = PathBuf::from(field("model", "path")).with_file_name(format!("rcon-{}", own("empty")));
    fs::create_dir(&group).expect("mkdir");
    fs::set_permissions(&group, std::os::unix::fs::PermissionsExt::from_mode(0o1755)).expect("chmod");
    let set = on(&["set", "--pids", "20"], "empty");
    for out in [set, rcon(["exec", &own("empty"), "--", "true"]).run()] {
        assert_ne!(out.status.code(), Some(0), "{out}");
        assert!(out.stderr.starts_with("rcon: ") && group.exists(), "{out}");
    }
    assert!(rcon(["gc"]).run().status.success());
    assert!(!group.exists());
    assert!(on(&["kill"], "model").status.success());
    started.finish();
}

fn stops_and_thaws() {
    let gate = Gate::new();
    let file = gate.path();
    let script = format!("while :; do echo x >>{}; sleep 0.02; done", file.display());
    let started = running(&[], "still", &script);
    let size = || fs::metadata(&file).map_or(0, |meta| meta.len());
    until("it writes", || size() > 2);
    let out = on(&["freeze"], "still");
    assert_eq!((out.status.code(), out.stderr.as_str()), (Some(0), ""), "{out}");
    let before = size();
    thread::sleep(slow(Duration::from_millis(200)));
    assert_eq!(size(), before, "frozen is frozen");
    assert_eq!(field("still", "state"), "frozen");
    assert!(on(&["thaw"], "still").status.success());
    until("it writes again", || size() > before);
    assert!(on(&["freeze"], "still").status.success());
    let out = on(&["kill"], "still");
    assert!(out.status.success(), "a frozen run dies too: {out}");
    assert_eq!(started.finish().shell_status(), 137);
    until("the group is gone", || !names().contains(&"still".to_owned()));
}

fn ends_at_its_time() {
    let time = format!("{}s", slow(Duration::from_secs(3)).as_secs());
    let started = running(&["--timeout", &time, "--kill-after", "100ms"], "late", "exec sleep 12345");
    assert!(on(&["freeze"], "late").status.success());
    let out = started.finish();
    // Of either signal: both wait for it.
    assert!([124, 137].contains(&out.shell_status()), "{out}");
    until("the group is gone", || !names().contains(&"late".to_owned()));
}

fn ends_with_rcon() {
    for keeper in [false, true] {
        let started = running(&[], "cold", "exec sleep 12345");
        let front = started.child.id();
        let command = command_of(front);
        assert!(on(&["freeze"], "cold").status.success());
        let victim = if keeper { keeper_of(front).expect("a keeper") } else { front };
        kill(Pid::from_raw(victim as i32), Signal::SIGKILL).expect("kill");
        started.finish();
        let is_dead = || fs::read_to_string(format!("/proc/{command}/stat")).is_err();
        until("the command is gone", is_dead);
        until("the group is gone", || !names().contains(&"cold".to_owned()));
    }
}

fn a_limit_bites_and_the_group_goes() {
    let gate = Gate::new();
    let started = bare(&gate.script("forks:40"));
    let out = rcon(["attach", &pid(&started), "--pids", "16", "--name", &own("late")]).run();
    assert_eq!((out.status.code(), out.stdout.as_str(), out.stderr.as_str()), (Some(0), "", ""), "{out}");
    assert!(names().contains(&"late".to_owned()));
    gate.open();
    let out = started.finish();
    assert!(out.stdout.contains("ok=15 err=EAGAIN"), "{out}");
    until("the group is gone", || !names().contains(&"late".to_owned()));
}

/// Nobody is left to remove the group: it is seen, and rcon gc does.
fn a_watcher_is_killed() {
    let mut started = bare("echo up; exec sleep 60");
    assert!(rcon(["attach", &pid(&started), "--pids", "16", "--name", &own("left")]).run().status.success());
    let watcher = field("left", "pid").parse().expect("a watcher");
    assert_ne!(watcher, started.child.id() as i32);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(watcher), nix::sys::signal::SIGKILL).expect("kill");
    until("it is orphaned", || field("left", "state") == "orphaned");
    let gc = rcon(["gc"]).run();
    assert!(names().contains(&"left".to_owned()) && gc.stderr.contains("left"), "somebody is in it: {gc}");
    started.child.kill().expect("kill");
    started.finish();
    until("gc removes it", || rcon(["gc"]).run().status.success() && !names().contains(&"left".to_owned()));
}

fn detach_puts_back() {
    let gate = Gate::new();
    let started = bare(&gate.script("forks:40"));
    let path = format!("/proc/{}/cgroup", pid(&started));
    let before = fs::read_to_string(&path).expect("cgroup");
    assert!(rcon(["attach", &pid(&started), "--pids", "16", "--name", &own("guest")]).run().status.success());
    assert_ne!(fs::read_to_string(&path).expect("cgroup"), before);
    let out = rcon(["attach", "--detach", &pid(&started)]).run();
    assert_eq!((out.status.code(), out.stderr.as_str()), (Some(0), ""), "{out}");
    assert_eq!(fs::read_to_string(&path).expect("cgroup"), before);
    until("the group is gone", || !names().contains(&"guest".to_owned()));
    gate.open();
    assert!(started.finish().stdout.contains("ok=40"), "no limit is left");
}

fn into_a_run() {
    let host = running(&["--pids", "30"], "host", "exec sleep 60");
    let guest = bare("echo up; exec sleep 61");
    let out = rcon(["attach", &pid(&guest), "--name", &own("host")]).run();
    assert_eq!((out.status.code(), out.stderr.as_str()), (Some(0), ""), "{out}");
    assert_eq!(field("host", "pids"), "2");
    assert!(on(&["kill"], "host").status.success());
    assert_eq!((host.finish().shell_status(), guest.finish().shell_status()), (137, 137));
}

/// It forks all the time while it is moved, for as long as the limit lets it.
fn no_child_is_missed() {
    let script = "echo up; n=0; while [ $n -lt 250 ]; do (sleep 6000 & sleep 6000) & n=$((n+1)); done 2>/dev/null; echo all; wait";
    let mut started = bare(script);
    let out =
        rcon(["attach", &pid(&started), "--recursive", "--pids", "2000", "--name", &own("storm")]).run();
    assert!(out.status.success(), "{out}");
    let missed = descendants(started.child.id() as i32);
    let missed: Vec<&i32> = missed.iter().filter(|pid| lines_in(&pid.to_string(), "storm") == 0).collect();
    assert_eq!(missed, Vec::<&i32>::new());
    started.wait_for("all");
    let later = descendants(started.child.id() as i32);
    assert!(later.len() > 250, "{}", later.len());
    assert!(later.iter().all(|pid| lines_in(&pid.to_string(), "storm") > 0));
    assert!(on(&["kill"], "storm").status.success());
    started.finish();
}

/// All living descendants, as the kernel lists them now.
fn descendants(top: i32) -> Vec<i32> {
    let mut all = vec![top];
    let mut at = 0;
    while let Some(pid) = all.get(at) {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|word| word.parse::<i32>().ok()));
        at += 1;
    }
    all.retain(|pid| Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok());
    all
}

fn started_at(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let rest = &stat[stat.rfind(')').expect("name") + 2..];
    rest.split(' ').nth(19).and_then(|word| word.parse().ok()).expect("start time")
}

fn another_process_is_refused() {
    let mut started = bare("echo up; exec sleep 60");
    let pid = pid(&started);
    let before = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
    let right = started_at(&pid);
    let wrong = format!("{pid}@{}", right - 1);
    let out = rcon(["attach", &wrong, "--pids", "16", "--name", &own("wrong")]).run();
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert!(out.stderr.contains("has been given to another"), "{out}");
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup"), before);
    let out = rcon(["attach", &format!("{pid}@{right}"), "--pids", "16", "--name", &own("right")]).run();
    assert!(out.status.success(), "{out}");
    started.child.kill().expect("kill");
    started.finish();
    let dead = rcon(["attach", &pid, "--pids", "16", "--name", &own("dead")]).run();
    assert_eq!(dead.status.code(), Some(125), "{dead}");
    until("the group is gone", || !names().contains(&"right".to_owned()));
}

/// The kernel is made to give a number again: who has it now, and what it was for before. None where a kernel
/// thread was born in between, which has it then.
fn reused() -> Option<(Started, String)> {
    let mut first = bare("echo up; exec sleep 60");
    let pid = pid(&first);
    let named = format!("{pid}@{}", started_at(&pid));
    first.child.kill().expect("kill");
    first.finish();
    thread::sleep(Duration::from_millis(50)); // start times are counted in ticks of 10 ms
    let last = pid.parse::<u32>().expect("number") - 1;
    fs::write("/proc/sys/kernel/ns_last_pid", last.to_string()).expect("ns_last_pid");
    let mut second = bare("echo up; exec sleep 60");
    if second.child.id().to_string() == pid {
        return Some((second, named));
    }
    second.child.kill().expect("kill");
    second.finish();
    None
}

fn a_reused_number_is_refused() {
    let (mut second, named) = (0..10).find_map(|_| reused()).expect("the number given again");
    let pid = pid(&second);
    let out = rcon(["attach", &named, "--pids", "16", "--name", &own("reused")]).run();
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert_eq!(lines_in(&pid, "reused"), 0);
    second.child.kill().expect("kill");
    second.finish();
}

fn refusals_change_nothing() {
    let mut started = bare("echo up; exec sleep 60");
    let pid = pid(&started);
    let before = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
    let none = rcon(["attach", &pid]).run();
    assert_eq!(none.status.code(), Some(125), "{none}");
    let detach = rcon(["attach", "--detach", &pid]).run();
    assert_eq!(detach.status.code(), Some(125), "{detach}");
    for words in [&["attach", "0"][..], &["attach", "-5", "--pids", "5"], &["attach", "x"], &["attach", "1@"]]
    {
        assert_eq!(rcon(words).run().status.code(), Some(125), "{words:?}");
    }
    // The second one cannot be moved: neither is.
    let gone = "4194304";
    let out = rcon(["attach", &pid, gone, "--pids", "16", "--name", &own("half")]).run();
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup"), before);
    assert!(!names().contains(&"half".to_owned()));
    started.child.kill().expect("kill");
    started.finish();
}
