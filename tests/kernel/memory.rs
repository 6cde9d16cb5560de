//! Memory limits, by who lives.

use crate::{
    case::Case,
    cpu::end,
    groups::{by_another, command_of, group_of, keyed},
    needs::Need,
    support::{rcon, run, victim_line},
};
use cgroups_rs::fs::memory::MemController;
use std::fs;

pub(crate) fn tests() -> Vec<Case> {
    const MEMORY: Need = Need::Controller("memory");
    vec![
        Case::new("memory::only_the_greedy_one_is_killed", &[MEMORY], only_the_greedy_one_is_killed),
        Case::new("memory::swap_is_limited_too", &[MEMORY, Need::Swap], swap_is_limited_too),
        Case::new("memory::swap_of_none_is_none", &[MEMORY, Need::Swap], swap_of_none_is_none),
        Case::new("memory::high_throttles", &[Need::V2("memory")], high_throttles),
        Case::new("memory::high_is_refused_on_v1", &[Need::V1("memory")], high_is_refused_on_v1),
        Case::new("memory::swap_alone_is_refused_on_v1", &[Need::V1("memory")], swap_alone_is_refused_on_v1),
        Case::new("memory::percent_is_of_what_there_is", &[MEMORY], percent_is_of_what_there_is),
        Case::new("memory::a_word_is_too_little", &[MEMORY, Need::PoorExec], a_word_is_too_little),
    ]
}

fn only_the_greedy_one_is_killed() {
    let [program, role] = victim_line("alloc:200M");
    let line = "\"$0\" \"$1\"; echo status=$?";
    let shell = |options: &[&str]| {
        let args = ["--mem", "64M", "--swap", "0"];
        rcon(args).args(options).args(["--", "sh", "-c", line]).args([&program, &role]).run()
    };
    let out = shell(&[]);
    assert_eq!((out.status.code(), out.number("status")), (Some(0), 137), "{out}");
    let words = "rcon: out of memory: the kernel killed 1 process; limit 64M, peak 6";
    assert!(out.stderr.contains(words), "{out}");
    let out = shell(&["--quiet"]);
    assert_eq!(out.number("status"), 137, "{out}");
    assert!(!out.stderr.contains("rcon:"), "{out}");
}

fn swap_is_limited_too() {
    let alloc =
        |size: &str| rcon(["--mem", "64M", "--swap", "32M", "--"]).victim(&format!("alloc:{size}")).run();
    let lives = alloc("80M");
    assert_eq!(lives.status.code(), Some(0), "80M in 64M and 32M of swap: {lives}");
    let dies = alloc("200M");
    assert_eq!(dies.shell_status(), 137, "200M in 64M and 32M of swap: {dies}");
}

fn swap_of_none_is_none() {
    let alloc = |swap: &str| rcon(["--mem", "64M", "--swap", swap, "--"]).victim("alloc:80M").run();
    assert_eq!(alloc("max").status.code(), Some(0), "with swap it fits");
    assert_eq!(alloc("0").shell_status(), 137, "without it does not");
}

fn high_throttles() {
    let mut run = rcon(["--mem-high", "16M", "--"]).victim("alloc:40M:600").start();
    let group = group_of(command_of(run.child.id()), "memory");
    crate::groups::until("never above memory.high", || {
        Some(keyed(&group, "memory.events", "high")).filter(|times| *times > 0)
    });
    end(&mut run.child);
    drop(run.finish());
}

fn high_is_refused_on_v1() {
    let out = rcon(["--mem-high", "16M", "--", "true"]).run();
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert!(out.stderr.starts_with("rcon: --mem-high 16M: cgroup v1 has no throttling limit"), "{out}");
    // On request only this one is left out.
    let out = rcon(["--best-effort", "--mem-high", "16M", "--mem", "64M", "--swap", "0", "--"]);
    let out = out.victim("alloc:200M").run();
    assert_eq!(out.shell_status(), 137, "{out}");
    assert!(
        out.stderr.contains("rcon: going on without --mem-high 16M: cgroup v1 has no throttling"),
        "{out}"
    );
}

fn swap_alone_is_refused_on_v1() {
    let out = rcon(["--swap", "0", "--", "true"]).run();
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert!(out.stderr.contains("give --mem too"), "{out}");
}

fn percent_is_of_what_there_is() {
    let meminfo = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let total: i64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
        .expect("MemTotal");
    let set_by = |limit: &str| {
        let mut run = rcon(["--mem", limit, "--"]).victim("sleep:600").start();
        let groups = by_another(command_of(run.child.id()));
        let memory: &MemController = groups.controller_of().expect("cgroups-rs finds the controller");
        let told = memory.memory_stat().limit_in_bytes;
        end(&mut run.child);
        drop(run.finish());
        told
    };
    let half = set_by("50%");
    // Of the machine's, or of the lowest limit that we are under.
    assert!(half > 0 && half <= total * 1024 / 2, "{half} of {total} KiB");
    assert!((set_by("25%") - half / 2).abs() <= 4096, "a quarter is half of a half");
    // Rounded to pages as the kernel does, and told so.
    assert_eq!(set_by("10000001"), 10_000_001 / 4096 * 4096);
    // Below a limit, the percentage is of the limit.
    let line = format!("{} --explain --mem 50% -- true", crate::support::RCON);
    let out = rcon(["--mem", "64M", "--allow-escape", "--", "sh", "-c", &line]).run();
    let all_v1 = out.stdout.contains("memory.limit_in_bytes");
    if all_v1 {
        assert!(out.stdout.contains(&(32 << 20).to_string()), "{out}");
    }
}

fn a_word_is_too_little() {
    // So little that exec itself fails: an error of ours or an end by the kernel, but never success or a hang.
    for size in ["4K", "8K", "16K"] {
        let out = rcon(["--mem", size, "--swap", "0", "--"]).args(victim_line("exit:0")).run();
        assert!([125, 126, 137].contains(&out.shell_status()), "{out}");
    }
    assert_eq!(run("true").run().status.code(), Some(0));
}
