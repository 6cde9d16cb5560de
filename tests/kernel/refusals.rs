//! What cannot be had is refused before the command starts, in words: option, what we did, on what, the kernel's
//! answer, the way out. Status 125, and nothing is left (the fixture looks).

use crate::{
    case::Case,
    needs::Need,
    support::{Ordinary, Output, RCON, rcon, run, victim_line},
};
use std::fs;

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("refusals::read_only", &[Need::ReadOnlyCgroupfs], read_only),
        Case::new("refusals::no_cgroupfs", &[Need::NoCgroupfs], no_cgroupfs),
        Case::new("refusals::no_memory_controller", &[Need::NoController("memory")], no_memory_controller),
        Case::new("refusals::no_cpuset_controller", &[Need::NoController("cpuset")], no_cpuset_controller),
        Case::new("refusals::not_to_be_enabled", &[Need::NoPlace("memory")], not_to_be_enabled),
        Case::new(
            "refusals::a_busy_container",
            &[Need::Root, Need::NoPlace("memory"), Need::Lab],
            a_busy_container,
        ),
        Case::new(
            "refusals::a_mount_of_another_group",
            &[Need::Root, Need::Lab, Need::V2("pids"), Need::Tool("unshare")],
            a_mount_of_another_group,
        ),
        Case::new(
            "refusals::an_empty_directory_for_groups",
            &[Need::Root, Need::Lab, Need::V2("pids"), Need::Tool("unshare")],
            an_empty_directory_for_groups,
        ),
        Case::new("refusals::not_ours_to_write", &[Need::Root, Need::Controller("pids")], not_ours_to_write),
        Case::new(
            "refusals::made_read_only",
            &[Need::Root, Need::Controller("pids"), Need::Tool("unshare")],
            made_read_only,
        ),
        Case::new(
            "refusals::made_to_go",
            &[Need::Root, Need::Controller("pids"), Need::Tool("unshare")],
            made_to_go,
        ),
        Case::new(
            "refusals::one_hierarchy_gone",
            &[Need::Root, Need::V1("pids"), Need::V1("memory"), Need::Tool("unshare")],
            one_hierarchy_gone,
        ),
        Case::new(
            "refusals::a_value_that_the_kernel_refuses",
            &[Need::Controller("pids")],
            a_value_that_the_kernel_refuses,
        ),
        Case::new(
            "refusals::clone3_is_not_needed",
            &[Need::Controller("pids"), Need::Tool("strace")],
            clone3_is_not_needed,
        ),
        Case::new(
            "refusals::a_parent_that_is_not_there",
            &[Need::Controller("pids")],
            a_parent_that_is_not_there,
        ),
    ]
}

#[track_caller]
fn refused(out: &Output, words: &[&str]) {
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert_eq!(out.stdout, "", "the command ran: {out}");
    assert!(out.stderr.starts_with("rcon: --"), "no option is named: {out}");
    assert!(out.stderr.contains("\ntry: "), "no way out: {out}");
    for word in words {
        assert!(out.stderr.contains(word), "{word:?} is missing: {out}");
    }
}

fn pids() -> Output {
    rcon(["--pids", "64", "--", "echo", "ran"]).run()
}

fn read_only() {
    refused(&pids(), &["--pids 64", "mounted read-only", "remount,rw"]);
    waived("--pids 64");
}

/// `--best-effort` alone goes on, and says without what.
#[track_caller]
fn waived(option: &str) {
    let (name, value) = option.split_once(' ').expect("an option with its value");
    let out = rcon(["--best-effort", name, value, "--", "echo", "ran"]).run();
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "ran\n"), "{out}");
    assert!(out.stderr.contains(&format!("rcon: going on without {option}: ")), "{out}");
}

fn no_cgroupfs() {
    refused(&pids(), &["--pids 64", "no cgroup file system is mounted", "mount -t cgroup2"]);
    waived("--pids 64");
    // What needs no group needs no cgroup file system.
    assert_eq!(rcon(["--", "echo", "ran"]).run().stdout, "ran\n");
}

fn no_memory_controller() {
    let out = rcon(["--mem", "64M", "--", "echo", "ran"]).run();
    refused(&out, &["--mem 64M", "memory controller"]);
    waived("--mem 64M");
}

fn no_cpuset_controller() {
    let out = rcon(["--cpuset", "0", "--", "echo", "ran"]).run();
    refused(&out, &["--cpuset 0", "cpuset controller"]);
}

fn not_to_be_enabled() {
    let out = rcon(["--mem", "64M", "--", "echo", "ran"]).run();
    refused(&out, &["--mem 64M"]);
    let reasons = ["no place for a group", "mounted read-only"];
    assert!(reasons.iter().any(|words| out.stderr.contains(words)), "{out}");
}

/// In a container its processes are in the only group that it sees, which for that may not pass controllers on (EBUSY
/// in other tools): two lines, of which the second is a way out that works.
fn a_busy_container() {
    let out = rcon(["--mem", "64M", "--", "echo", "ran"]).run();
    let Some(hint) = out.stderr.split("\ntry: first move its processes to a leaf: ").nth(1) else {
        // Elsewhere it is not for its processes that there is no place.
        assert!(!out.stderr.contains("holds processes, so it cannot pass on"), "{out}");
        return;
    };
    let first = "rcon: --mem 64M: no place for a group: /sys/fs/cgroup holds processes, so it cannot pass on: memory \
        (the kernel allows that only for groups without processes)\n";
    assert!(out.stderr.starts_with(first) && out.stderr.lines().count() == 2, "{out}");
    let moved = run("sh").args(["-c", hint.trim()]).run();
    assert!(moved.status.success(), "{moved}");
    let limited = rcon(["--mem", "64M", "--swap", "0", "--"]).args(victim_line("alloc:200M")).run();
    // Back, for the cases to come: nobody passes anything on, and all are at the top.
    let back = "cd /sys/fs/cgroup && for c in $(cat cgroup.subtree_control); do echo -$c >cgroup.subtree_control; done; \
        while read -r p; do echo $p >cgroup.procs; done <init/cgroup.procs; rmdir init";
    let back = run("sh").args(["-c", back]).run();
    assert_eq!(limited.shell_status(), 137, "{limited}");
    assert!(back.status.success(), "{back}");
}

/// In a container with the host's cgroup namespace and a mount that shows somebody else's group: what
/// /proc/self/cgroup says is not there below the mount (ENOENT of cgroup.controllers in other tools).
fn a_mount_of_another_group() {
    let change = "cd / && t=$(awk '$0 ~ / - cgroup2 / {print $5; exit}' /proc/self/mountinfo) && mkdir -p $t/other /tmp/o && \
        mount --bind $t/other /tmp/o && umount -l $t && mount --bind /tmp/o $t && umount /tmp/o";
    let out = apart(change, "--pids 64");
    refused(&out, &["--pids 64", "the mount shows /", "other, the caller's group is /", "--cgroup-parent /"]);
    assert_eq!(out.stderr.lines().count(), 2, "{out}");
    // As it says, where the tree is not systemd's.
    if Need::Systemd.unmet().is_some() {
        let line = format!("{change} || exit 99; exec {RCON} --cgroup-parent / -- cat /proc/self/cgroup");
        let out = run("unshare").args(["-m", "sh", "-c", &line]).run();
        assert!(out.status.success() && out.stdout.contains("/other/rcon-"), "{out}");
    }
    let top = crate::facts::hierarchies().iter().find(|one| one.v2).expect("v2").mount.join("other");
    fs::remove_dir(top).expect("rmdir");
}

/// Something else mounted over the hierarchies, as in kernels that have none: /proc/self/mountinfo still lists them.
fn an_empty_directory_for_groups() {
    let change = "mount -t tmpfs none /sys/fs/cgroup";
    let out = apart(change, "--pids 64");
    refused(&out, &["--pids 64", "no cgroup file system is mounted", "mount -t cgroup2"]);
    assert_eq!(out.stderr.lines().count(), 2, "{out}");
}

fn not_ours_to_write() {
    let user = Ordinary::new();
    let by_nobody = |args: &[&str]| user.rcon(args).run();
    let out = by_nobody(&["--pids", "64", "--", "echo", "ran"]);
    refused(&out, &["--pids 64"]);
    assert!(
        ["Permission denied", "not ours to write"].iter().any(|words| out.stderr.contains(words)),
        "{out}"
    );
    // What it would do, it may say, and that it could not.
    let out = by_nobody(&["--explain", "--", "true"]);
    assert_eq!(out.status.code(), Some(0), "{out}");
    let out = by_nobody(&["--explain", "--pids", "64", "--", "true"]);
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert!(out.stdout.contains("not honoured: --pids 64: "), "{out}");
    // With less only if that is asked for, and said.
    let out = by_nobody(&["--best-effort", "--pids", "64", "--", "echo", "ran"]);
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "ran\n"), "{out}");
    assert!(out.stderr.starts_with("rcon: going on without --pids 64: "), "{out}");
}

/// In a mount namespace that ends with the shell.
fn apart(change: &str, args: &str) -> Output {
    let line = format!("{change} || exit 99; exec {RCON} {args} -- echo ran");
    run("unshare").args(["-m", "sh", "-c", &line]).run()
}

/// Every cgroup mount made read-only for this namespace, as containers see them.
fn made_read_only() {
    let change = "awk '$0 ~ / - cgroup2? / {print $5}' /proc/self/mountinfo | \
        while read -r m; do mount -o remount,bind,ro \"$m\" || exit 1; done";
    refused(&apart(change, "--pids 64"), &["--pids 64", "mounted read-only", "remount,rw"]);
    let out = apart(change, "--pids 64 --best-effort");
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "ran\n"), "{out}");
}

fn made_to_go() {
    let change = "awk '$0 ~ / - cgroup2? / {print $5}' /proc/self/mountinfo | \
        while read -r m; do umount -l \"$m\" || exit 1; done";
    refused(
        &apart(change, "--pids 64"),
        &["--pids 64", "no cgroup file system is mounted", "mount -t cgroup2"],
    );
    let out = apart(change, "");
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "ran\n"), "{out}");
}

fn one_hierarchy_gone() {
    let change =
        "m=$(awk '$0 ~ / - cgroup .*[ ,]pids/ {print $5; exit}' /proc/self/mountinfo); umount -l \"$m\"";
    refused(&apart(change, "--mem 64M --pids 64"), &["--pids 64", "pids controller"]);
    // The other limit needs another hierarchy; what it left out is said.
    let out = apart(change, "--mem 64M --pids 64 --best-effort");
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "ran\n"), "{out}");
    assert!(out.stderr.contains("going on without --pids 64") && !out.stderr.contains("--mem"), "{out}");
}

fn a_value_that_the_kernel_refuses() {
    let out = rcon(["--pids", "99999999999", "--", "echo", "ran"]).run();
    refused(&out, &["--pids 99999999999", "pids.max", "Invalid argument", "4194304"]);
    let out = rcon(["--best-effort", "--pids", "99999999999", "--", "echo", "ran"]).run();
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "ran\n"), "{out}");
    assert!(out.stderr.contains("going on without --pids 99999999999"), "{out}");
}

fn a_parent_that_is_not_there() {
    let out = rcon(["--cgroup-parent", "/nonexistent", "--pids", "5", "--", "echo", "ran"]).run();
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(125), ""), "{out}");
    assert!(out.stderr.contains("/nonexistent"), "{out}");
}

/// Containers forbid clone3: the runtime's filter answers ENOSYS (older ones EPERM), so that libraries use clone.
fn clone3_is_not_needed() {
    for errno in ["ENOSYS", "EPERM"] {
        let traced = |args: &[&str]| {
            let inject = format!("inject=clone3:error={errno}");
            let strace =
                run("strace").args(["-qq", "-o", "/dev/null", "-e", "trace=clone3", "-e", &inject, RCON]);
            strace.args(args)
        };
        let out = traced(&["--pids", "16", "--"]).args(victim_line("forks:40")).run();
        assert_eq!(out.stdout, "forks ok=15 err=EAGAIN\n", "{errno}: {out}");
        let out = traced(&["--pids", "16", "--", "/nonexistent"]).run();
        assert_eq!(out.status.code(), Some(127), "{errno}: {out}");
        // The way of the cage, which has a child that does not share our memory.
        let out = traced(&["--hostname", "inside", "--", "uname", "-n"]).run();
        assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "inside\n"), "{errno}: {out}");
    }
}
