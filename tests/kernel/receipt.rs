//! Time limits and what is told about a run.

use crate::{
    case::Case,
    needs::Need,
    support::{Output, rcon},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Case> {
    const COUNTED: &[Need] = &[Need::Cgroup];
    vec![
        Case::new("receipt::timeout_is_124", &[], timeout_is_124),
        Case::new("receipt::timeout_with_a_group_is_124", COUNTED, timeout_with_a_group_is_124),
        Case::new("receipt::who_ignores_term_is_killed", &[], who_ignores_term_is_killed),
        Case::new("receipt::who_catches_term_has_its_time", &[], who_catches_term_has_its_time),
        Case::new("receipt::a_child_that_ignores_term_is_killed", &[], a_child_that_ignores_term_is_killed),
        Case::new("receipt::an_orphan_has_its_time_too", &[], an_orphan_has_its_time_too),
        Case::new("receipt::who_is_stopped_ends", &[], who_is_stopped_ends),
        Case::new("receipt::kill_after_0_kills_at_once", &[], kill_after_0_kills_at_once),
        Case::new("receipt::term_to_rcon_ends_the_run", &[], term_to_rcon_ends_the_run),
        Case::new("receipt::term_to_rcon_ends_who_ignores_it", &[], term_to_rcon_ends_who_ignores_it),
        Case::new("receipt::statuses_as_asked", &[], statuses_as_asked),
        Case::new("receipt::cpu_time_of_four_burners", COUNTED, cpu_time_of_four_burners),
        Case::new("receipt::cpu_time_counts_the_dead", COUNTED, cpu_time_counts_the_dead),
        Case::new("receipt::cpu_time_is_not_wall_time", COUNTED, cpu_time_is_not_wall_time),
        Case::new("receipt::oom_statuses", &[Need::Controller("memory")], oom_statuses),
    ]
}

/// With a time limit that is as short as the machine lets it be: one that the victim was not ready in says nothing.
fn limited(more: &[&str], role: &str) -> Output {
    for time in ["300ms", "1s", "4s", "16s"] {
        let out = rcon(["--timeout", time].iter().chain(more).chain(&["--"])).victim(role).run();
        if role == "sleep:600" || out.stdout.contains("ready") {
            return out;
        }
    }
    panic!("{role} is never ready");
}

fn timeout_is_124() {
    let out = limited(&[], "sleep:600");
    assert_eq!((out.status.code(), out.stderr.as_str()), (Some(124), ""), "{out}");
    let out = rcon(["--timeout-boottime", "300ms", "--"]).victim("sleep:600").run();
    assert_eq!(out.status.code(), Some(124), "{out}");
    // One that ends in time is not touched.
    let out = rcon(["--timeout", "10m", "--timeout-boottime", "10m", "--"]).victim("exit:3").run();
    assert_eq!(out.status.code(), Some(3), "{out}");
}

fn timeout_with_a_group_is_124() {
    let out = limited(&["--cpu-time", "10m", "--kill-after", "300ms"], "with:ignore-term:600");
    assert_eq!(out.status.code(), Some(124), "{out}");
}

fn who_ignores_term_is_killed() {
    let out = limited(&["--kill-after", "300ms"], "ignore-term:600");
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(124), "ready\n"), "{out}");
}

fn who_catches_term_has_its_time() {
    let out = limited(&[], "catch-term:3:7");
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(124), "ready\ncaught\n"), "{out}");
    assert!(out.took >= Duration::from_secs(3), "{out}");
    let out = limited(&["--preserve-status"], "catch-term:1:7");
    assert_eq!(out.status.code(), Some(7), "it was let finish: {out}");
}

fn a_child_that_ignores_term_is_killed() {
    let out = limited(&["--kill-after", "300ms"], "with:ignore-term:600");
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(124), "ready\n"), "{out}");
}

fn an_orphan_has_its_time_too() {
    // The command ends on TERM at once, its child needs a second and says so.
    let out = limited(&[], "with:catch-term:1:0");
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(124), "ready\ncaught\n"), "{out}");
    assert!(out.took >= Duration::from_secs(1), "{out}");
}

fn who_is_stopped_ends() {
    let out = limited(&["--kill-after", "10m"], "stop");
    assert_eq!(out.status.code(), Some(124), "TERM alone must have done it: {out}");
    let out = limited(&["--kill-after", "10m", "--preserve-status"], "with:stop");
    assert_eq!(out.shell_status(), 128 + libc::SIGTERM, "{out}");
}

fn kill_after_0_kills_at_once() {
    let out = limited(&["--kill-after", "0", "--preserve-status"], "catch-term:600:0");
    assert_eq!((out.shell_status(), out.stdout.as_str()), (128 + libc::SIGKILL, "ready\n"), "{out}");
}

fn term_to_rcon_ends_the_run() {
    let mut run = rcon(["--"]).victim("catch-term:1:7").start();
    run.wait_for("ready");
    kill(Pid::from_raw(run.child.id() as i32), Signal::SIGTERM).expect("kill");
    let out = run.finish();
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(7), "ready\ncaught\n"), "{out}");
}

fn term_to_rcon_ends_who_ignores_it() {
    for (role, status) in [("ignore-term:600", libc::SIGKILL), ("with:ignore-term:600", libc::SIGTERM)] {
        let mut run = rcon(["--kill-after", "300ms", "--"]).victim(role).start();
        run.wait_for("ready");
        kill(Pid::from_raw(run.child.id() as i32), Signal::SIGTERM).expect("kill");
        let out = run.finish();
        assert_eq!(out.shell_status(), 128 + status, "{role}: {out}");
    }
}

fn statuses_as_asked() {
    let out = limited(&["--timeout-status", "77"], "sleep:600");
    assert_eq!(out.status.code(), Some(77), "{out}");
    let out = limited(&["--preserve-status"], "sleep:600");
    assert_eq!(out.shell_status(), 128 + libc::SIGTERM, "{out}");
    let out = limited(&["--preserve-status", "--signal", "INT"], "sleep:600");
    assert_eq!(out.shell_status(), 128 + libc::SIGINT, "{out}");
}

fn cpu_time_of_four_burners() {
    let out = rcon(["--cpu-time", "2s", "--kill-after", "0", "--"]).victim("burners:4:600").run();
    assert_eq!(out.status.code(), Some(124), "{out}");
}

fn cpu_time_counts_the_dead() {
    // Each burns a second, one after the other: no living process has ever used more than one.
    let line = r#"while :; do "$0" "$1"; done"#;
    let [program, role] = crate::support::victim_line("burn:1");
    let out = rcon(["--cpu-time", "2500ms", "--", "sh", "-c", line])
        .args([program, role])
        .limit(Duration::from_secs(60))
        .run();
    assert_eq!(out.status.code(), Some(124), "{out}");
    // How many do is up to what it takes to start them.
    assert!(out.stdout.contains("cpu_ms"), "none has ended: {out}");
}

fn cpu_time_is_not_wall_time() {
    // So much that the start of the victim is nothing to it.
    let out = rcon(["--cpu-time", "2s", "--"]).victim("sleep:3").run();
    assert_eq!(out.status.code(), Some(0), "{out}");
}

fn oom_statuses() {
    let small = ["--mem", "64M", "--swap", "0", "--quiet"];
    let out = rcon(small.iter().chain(&["--oom-status", "99", "--"])).victim("alloc:200M").run();
    assert_eq!(out.status.code(), Some(99), "{out}");
    // The grandchild is killed, the command itself reports success.
    let out = rcon(small.iter().chain(&["--"])).victim("deep:alloc:200M").run();
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), ""), "{out}");
    let out = rcon(small.iter().chain(&["--oom-fail", "--"])).victim("deep:alloc:200M").run();
    assert_eq!(out.status.code(), Some(137), "{out}");
    let out = rcon(small.iter().chain(&["--oom-fail", "--"])).victim("alloc:1M").run();
    assert_eq!(out.status.code(), Some(0), "{out}");
}
