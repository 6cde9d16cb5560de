//! Runs are seen, held, waited for and ended from outside.

use crate::{
    case::Case,
    needs::Need,
    support::{Ordinary, Output, Started, many, rcon, run},
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::{fs, time::Duration};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("control::ls_finds_a_run_and_forgets_it", &[Need::Controller("pids")], ls_finds_a_run),
        Case::new("control::ls_of_nothing", &[Need::Lab], ls_of_nothing),
        Case::new("control::ls_of_many", &[Need::Controller("pids")], ls_of_many),
        Case::new("control::a_name_is_for_one_run", &[Need::Cgroup], a_name_is_for_one_run),
        Case::new("control::numbers_are_given_once", &[Need::Cgroup], numbers_are_given_once),
        Case::new("control::kill_ends_a_run", &[Need::Cgroup], kill_ends_a_run),
        Case::new("control::kill_needs_the_right", &[Need::Root, Need::Cgroup], kill_needs_the_right),
        Case::new("control::kill_sends_any_signal", &[Need::Cgroup], kill_sends_any_signal),
        Case::new("control::an_orphan_is_seen_and_ended", &[Need::Cgroup], an_orphan_is_seen_and_ended),
        Case::new("control::wait_returns_at_the_end", &[Need::Cgroup], wait_returns_at_the_end),
        Case::new("control::hostile_names_are_shown_safely", &[Need::Root, Need::Cgroup], hostile_names),
        Case::new("control::show_tells_what_the_kernel_holds", &[Need::Controller("pids")], show_tells),
    ]
}

/// A name that no other test run on this machine has.
pub(crate) fn own(name: &str) -> String {
    format!("t{}.{name}", std::process::id())
}

/// A run of this name that has started.
pub(crate) fn running(options: &[&str], name: &str, script: &str) -> Started {
    let (script, name) = (format!("echo up; {script}"), own(name));
    let words = [options, &["--name", &name, "--", "sh", "-c", &script]].concat();
    // Counted from its start on: what is done with it meanwhile may take long (a shell's completions do).
    let mut started = rcon(words).limit(Duration::from_secs(300)).start();
    started.wait_for("up");
    started
}

/// The runs of this test, by the names that it knows them by.
pub(crate) fn names() -> Vec<String> {
    let out = rcon(["ls", "-q"]).run();
    assert!(out.status.success(), "{out}");
    out.stdout.lines().filter_map(|line| line.strip_prefix(&own(""))).map(str::to_owned).collect()
}

/// `rcon WORD... NAME` of a run of this test.
pub(crate) fn on(words: &[&str], name: &str) -> Output {
    rcon(words.iter().copied().chain([own(name).as_str()])).run()
}

pub(crate) fn field(name: &str, field: &str) -> String {
    let out = rcon(["ls", "--format", &format!("{{name}} {{{field}}}")]).run();
    assert!(out.status.success(), "{out}");
    let line = out
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix(&own(name))?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {out}"))
}

fn ls_finds_a_run() {
    let started = running(&["--pids", "16"], "seen", "exec sleep 60");
    assert_eq!(field("seen", "pid"), started.child.id().to_string());
    crate::cage::eventually("the shell becomes it", || field("seen", "command") == "sleep 60");
    assert_eq!((field("seen", "pids"), field("seen", "pids-limit")), ("1".to_owned(), "16".to_owned()));
    assert_eq!(field("seen", "state"), "running");
    let out = on(&["kill"], "seen");
    assert!(out.status.success(), "{out}");
    assert_eq!(started.finish().shell_status(), 137);
    assert!(!names().contains(&"seen".to_owned()));
}

/// Elsewhere others may have runs.
fn ls_of_nothing() {
    let out = rcon(["ls"]).run();
    assert_eq!((out.status.code(), out.stdout.lines().count()), (Some(0), 1), "a head and no line: {out}");
}

fn ls_of_many() {
    assert_eq!(names(), [""; 0]);
    let count = many(200);
    let mut all: Vec<Started> = (0..count)
        .map(|_| {
            // To end one of many by name is to look at all of them: the last has to wait for long.
            rcon(["--pids", "4", "--name", &own("many%n"), "--", "sh", "-c", "echo up; exec sleep 6000"])
                .limit(Duration::from_secs(300))
                .start()
        })
        .collect();
    for one in &mut all {
        one.wait_for("up");
    }
    let listed = names();
    assert_eq!(listed.len(), count, "{listed:?}");
    // The shell that has said so is about to become it.
    crate::cage::eventually("all of them sleep", || {
        let out = rcon(["ls", "--format", "json"]).run();
        out.stdout.matches("\"command\": \"sleep 6000\"").count() == count
    });
    let words = ["kill".to_owned()].into_iter().chain(listed.iter().map(|name| own(name)));
    let out = rcon(words).limit(Duration::from_secs(300)).run();
    assert!(out.status.success(), "{out}");
    for one in all {
        assert_eq!(one.finish().shell_status(), 137);
    }
    assert_eq!(names(), [""; 0]);
}

fn a_name_is_for_one_run() {
    let first = running(&[], "only", "exec sleep 60");
    let second = rcon(["--name", &own("only"), "--", "echo", "ran"]).run();
    assert_eq!((second.status.code(), second.stdout.as_str()), (Some(125), ""), "{second}");
    assert!(second.stderr.contains(&format!("--name {}", own("only"))), "{second}");
    let shared = rcon(["--group", &own("only"), "--", "echo", "ran"]).run();
    assert_eq!((shared.status.code(), shared.stdout.as_str()), (Some(125), ""), "{shared}");
    assert!(on(&["kill"], "only").status.success());
    first.finish();
    let again = rcon(["--name", &own("only"), "--", "echo", "ran"]).run();
    assert_eq!(again.stdout, "ran\n", "{again}");
}

/// However many start at once, no two get one number.
fn numbers_are_given_once() {
    let mut all: Vec<Started> = (0..8)
        .map(|_| rcon(["--name", &own("n%n"), "--", "sh", "-c", "echo up; exec sleep 100"]).start())
        .collect();
    for one in &mut all {
        one.wait_for("up");
    }
    let mut listed = names();
    listed.sort();
    assert_eq!(listed, (1..=8).map(|n| format!("n{n}")).collect::<Vec<_>>());
    let words = ["kill".to_owned()].into_iter().chain(listed.iter().map(|name| own(name)));
    assert!(rcon(words).run().status.success());
    all.into_iter().for_each(|one| drop(one.finish()));
}

fn kill_ends_a_run() {
    let started = running(&[], "victims", "sleep 60 & sleep 60 & trap '' TERM; while :; do sleep 1; done");
    let out = on(&["kill"], "victims");
    assert_eq!((out.status.code(), out.stderr.as_str()), (Some(0), ""), "{out}");
    assert_eq!(started.finish().shell_status(), 137);
    let none = on(&["kill"], "victims");
    assert_eq!(none.status.code(), Some(1), "{none}");
    assert!(none.stderr.contains("there is no run called"), "{none}");
}

fn kill_needs_the_right() {
    let started = running(&[], "theirs", "exec sleep 12345");
    let out = Ordinary::new().rcon(["kill", &own("theirs")]).run();
    assert_eq!(out.status.code(), Some(1), "{out}");
    assert!(out.stderr.contains("not ours to signal") && out.stderr.contains("as root"), "{out}");
    assert!(on(&["kill"], "theirs").status.success());
    assert_eq!(started.finish().shell_status(), 137);
}

fn kill_sends_any_signal() {
    for signal in ["USR1", "sigusr1", "10"] {
        let script = "trap 'echo got; exit 7' USR1; echo armed; while :; do sleep 0.1; done";
        let mut started = running(&[], "told", script);
        started.wait_for("armed");
        let out = on(&["kill", "--signal", signal], "told");
        assert!(out.status.success(), "{out}");
        started.wait_for("got");
        assert_eq!(started.finish().status.code(), Some(7));
    }
    let out = on(&["kill", "--signal", "NOSUCH"], "told");
    assert_eq!(out.status.code(), Some(125), "{out}");
}

/// Its wrapper killed, a run is still seen, and ended and removed by name.
fn an_orphan_is_seen_and_ended() {
    let started = running(&[], "orphan", "exec setsid sleep 61");
    kill(Pid::from_raw(started.child.id() as i32), Signal::SIGKILL).expect("kill");
    started.finish();
    if !names().contains(&"orphan".to_owned()) {
        // Something has ended the command with its wrapper: nothing is left, which is better still.
        return;
    }
    let out = on(&["kill"], "orphan");
    // Or it has ended since then.
    assert!(out.status.success() || out.stderr.contains("there is no run called"), "{out}");
    assert!(!names().contains(&"orphan".to_owned()));
}

fn wait_returns_at_the_end() {
    let started = running(&[], "awaited", "exec sleep 60");
    let early = on(&["wait", "--timeout", "50ms"], "awaited");
    assert_eq!(early.status.code(), Some(124), "{early}");
    let waiting = rcon(["wait", &own("awaited")]).start();
    // It has found the run when it holds one of its processes.
    crate::cage::eventually("it waits for a process", || {
        let files = fs::read_dir(format!("/proc/{}/fd", waiting.child.id())).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| link.to_string_lossy().contains("pidfd"))
    });
    assert!(on(&["kill", "-s", "TERM"], "awaited").status.success());
    let out = waiting.finish();
    assert_eq!((out.status.code(), out.stderr.as_str()), (Some(0), ""), "{out}");
    assert_eq!(started.finish().shell_status(), 143);
}

/// Whatever a group or a command is called, no control character reaches the terminal.
fn hostile_names() {
    let words = ["--name", &own("hostile"), "--", "sh", "-c", "echo up; sleep 60; :", "a\u{1b}[31m\nb"];
    // Counted from its start on: what is done with it meanwhile may take long (a shell's completions do).
    let mut started = rcon(words).limit(Duration::from_secs(300)).start();
    started.wait_for("up");
    let show = field("hostile", "path");
    let parent = std::path::Path::new(&show).parent().expect("parent").to_owned();
    let group = parent.join(format!("rcon-{}", own("a \u{1b}[31m ü ..x")));
    fs::create_dir(&group).expect("mkdir");
    let set = std::os::unix::fs::PermissionsExt::from_mode(0o1755);
    fs::set_permissions(&group, set).expect("chmod");
    for words in
        [&["ls"][..], &["ls", "-q"], &["ls", "--format", "{name} {path}"], &["show", &own("hostile")]]
    {
        let out = rcon(words).run();
        let bad = out.stdout.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(bad, None, "{words:?}: {:?}", out.stdout);
    }
    assert!(names().iter().any(|name| name == "a \\u{1b}[31m ü ..x"), "{:?}", names());
    assert!(rcon(["gc"]).run().status.success());
    assert!(!group.exists());
    assert!(on(&["kill"], "hostile").status.success());
    started.finish();
}

fn show_tells() {
    let started = running(&["--pids", "33"], "shown", "sleep 60 & wait");
    let out = on(&["show"], "shown");
    for part in ["--pids 33", "pids.max", "(--pids)", "sleep 60"] {
        assert!(out.stdout.contains(part), "no {part}: {out}");
    }
    let by_pid = rcon(["show", &started.child.id().to_string()]).run();
    assert!(by_pid.stdout.starts_with(&format!("name       {}\n", own("shown"))), "{by_pid}");
    assert!(run("kill").args([started.child.id().to_string()]).run().status.success());
    started.finish();
}
