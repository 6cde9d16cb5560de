//! Where little is there: few descriptors, no /proc.

use crate::{
    case::Case,
    needs::Need,
    support::{Output, RCON, rcon, run, slow},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("bare::few_descriptors", &[], few_descriptors),
        Case::new("bare::ends_without_proc", &[Need::Root], ends_without_proc),
        Case::new("bare::what_is_left_without_proc", &[Need::Root], what_is_left_without_proc),
    ]
}

/// More processes than rcon can open at a time: each of them is told of the end.
fn few_descriptors() {
    const ALL: usize = 60;
    let one = "trap 'echo told; exit' TERM; echo up; while :; do sleep 0.05; done";
    let all = format!("trap exit TERM; for n in $(seq {ALL}); do sh -c \"{one}\" & done; wait");
    let few = run("sh").args(["-c", "ulimit -n 24; exec \"$0\" \"$@\"", RCON, "--kill-after", "10m", "--"]);
    let mut started = few.args(["sh", "-c", &all]).limit(slow(Duration::from_secs(60))).start();
    // A signal that comes while a shell starts may be lost on it.
    crate::cage::eventually("all of them are up", || started.said().matches("up").count() == ALL);
    kill(Pid::from_raw(started.child.id() as i32), Signal::SIGTERM).expect("kill");
    let out = started.finish();
    assert_eq!(out.stdout.matches("told").count(), ALL, "{out}");
}

/// A run where no /proc is mounted, as in a root that somebody has just unpacked.
fn without_proc(words: &[&str]) -> Output {
    let script = "umount -l /proc && exec \"$0\" \"$@\"";
    rcon(["--unshare", "mount", "--", "sh", "-c", script, RCON]).args(words).run()
}

fn ends_without_proc() {
    assert_eq!(without_proc(&["--timeout", "300ms", "--", "sleep", "600"]).status.code(), Some(124));
    let ignores = "trap '' TERM; echo up; sleep 600 & wait";
    let out = without_proc(&["--timeout", "300ms", "--kill-after", "100ms", "--", "sh", "-c", ignores]);
    assert_eq!((out.shell_status(), out.stdout.as_str()), (124, "up\n"), "{out}");
    // The shell is ours to kill, what it has started is not to be found.
    assert!(out.stderr.contains("left behind could not be found"), "{out}");
}

/// It is not to be found there, and that is said; and at once.
fn what_is_left_without_proc() {
    let out = without_proc(&["--", "sh", "-c", "setsid sleep 5 >/dev/null 2>&1 & exit 3"]);
    assert_eq!(out.status.code(), Some(3), "{out}");
    assert!(out.stderr.contains("left behind could not be found") && out.stderr.contains("/proc"), "{out}");
}
