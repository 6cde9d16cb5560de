//! `--best-effort` where no group is to be had: what the kernel has for single processes and for users stands in, acts,
//! and is said to be weaker.

use crate::{
    case::Case,
    needs::Need,
    support::{Output, rcon},
};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Case> {
    const MEMORY: Need = Need::NoPlace("memory");
    vec![
        Case::new("weaker::memory_of_each_process", &[MEMORY], memory_of_each_process),
        Case::new("weaker::tasks_of_the_user", &[MEMORY, Need::NonRoot], tasks_of_the_user),
        Case::new("weaker::tasks_of_root_are_not_held", &[MEMORY, Need::Root], tasks_of_root_are_not_held),
        Case::new("weaker::cpu_weight_is_a_nice_value", &[MEMORY], cpu_weight_is_a_nice_value),
        Case::new("weaker::cpu_time_of_each_process", &[MEMORY, Need::NonRoot], cpu_time_of_each_process),
        Case::new("weaker::cpu_is_not_faked", &[MEMORY], cpu_is_not_faked),
        Case::new("weaker::what_the_user_sets_holds", &[MEMORY], what_the_user_sets_holds),
    ]
}

/// With `--best-effort`, and what is said of it; without it there is no run.
#[track_caller]
fn weaker(options: &[&str], role: &str, words: &[&str]) -> Output {
    let refused = rcon(options).args(["--"]).victim(role).run();
    assert_eq!((refused.status.code(), refused.stdout.as_str()), (Some(125), ""), "{refused}");
    let out = rcon(options).args(["--best-effort", "--"]).victim(role).limit(Duration::from_secs(60)).run();
    assert!(out.stderr.starts_with(&format!("rcon: going on without {}", options.join(" "))), "{out}");
    let explained = rcon(["--explain", "--best-effort"]).args(options).args(["--", "true"]).run();
    assert_eq!(explained.status.code(), Some(0), "{explained}");
    for word in words {
        assert!(out.stderr.contains(word), "{word:?} is missing: {out}");
        assert!(explained.stdout.contains(word), "{word:?} is missing: {explained}");
    }
    out
}

fn memory_of_each_process() {
    let words = ["instead each process by itself may have 64M of memory", "RLIMIT_DATA"];
    let out = weaker(&["--mem", "64M"], "alloc:200M", &words);
    assert!(!out.stdout.contains("done") && !out.status.success(), "{out}");
    // Each by itself: what is within it is had, and by more than one at once.
    let out = weaker(&["--mem", "64M"], "alloc:32M", &words);
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "alloc done\n"), "{out}");
}

fn tasks_of_the_user() {
    let words = ["instead this user may have 12 processes and threads more than now", "RLIMIT_NPROC"];
    let out = weaker(&["--pids", "12"], "forks:40", &words);
    assert_eq!(out.stdout, "forks ok=11 err=EAGAIN\n", "{out}");
}

fn tasks_of_root_are_not_held() {
    let out = weaker(&["--pids", "12"], "forks:40", &["nothing stands in for it", "does not hold for root"]);
    assert_eq!(out.stdout, "forks ok=40 err=none\n", "{out}");
}

/// By the kernel's table a nice value of 10 is about a tenth of the weight that everybody has.
fn cpu_weight_is_a_nice_value() {
    let light: &[&str] = &["--best-effort", "--cpu-weight", "10"];
    weaker(&["--cpu-weight", "10"], "exit:0", &["instead each process by itself has the nice value "]);
    let [light, other] = crate::cpu::on_one_cpu([light, &[]]);
    let ratio = other as f64 / light.max(1) as f64;
    assert!(ratio > 5.0, "{other} and {light} ticks");
}

fn cpu_time_of_each_process() {
    let words = ["instead each process by itself gets SIGXCPU after 1s of CPU time", "RLIMIT_CPU"];
    let out = weaker(&["--cpu-time", "1s"], "spin:30", &words);
    assert_eq!((out.shell_status(), out.stdout.as_str()), (128 + 24, ""), "{out}");
}

fn cpu_is_not_faked() {
    let out = weaker(&["--cpu", "30%"], "exit:3", &["nothing stands in for it", "CPU time per time"]);
    assert_eq!(out.status.code(), Some(3), "{out}");
}

/// An option of its own is the user's word; ours does not stand in its way.
fn what_the_user_sets_holds() {
    let out =
        rcon(["--best-effort", "--mem", "16M", "--rlimit", "data=200M", "--"]).victim("alloc:64M").run();
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "alloc done\n"), "{out}");
    assert!(out.stderr.contains("going on without --mem 16M") && !out.stderr.contains("instead"), "{out}");
    // Nothing to begin at.
    let out = rcon(["--best-effort", "--mem", "64M", "--mem-grow", "1G", "--"]).victim("alloc:16M").run();
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "alloc done\n"), "{out}");
    assert!(out.stderr.contains("going on without --mem-grow"), "{out}");
}
