//! `rcon exec`: inside, and confined as what runs there.

use crate::{
    case::Case,
    control::{on, own, running},
    needs::Need,
    support::rcon,
};
use std::fs;

pub(crate) fn tests() -> Vec<Case> {
    let root = &[Need::Root, Need::Controller("pids")];
    vec![
        Case::new(
            "exec::is_in_the_groups_and_counts",
            &[Need::Controller("pids")],
            is_in_the_groups_and_counts,
        ),
        Case::new("exec::is_confined_alike", root, is_confined_alike),
        Case::new("exec::sees_what_the_run_sees", root, sees_what_the_run_sees),
        Case::new("exec::ends_with_the_run", &[Need::Controller("pids")], ends_with_the_run),
    ]
}

fn is_in_the_groups_and_counts() {
    let started = running(&["--pids", "8"], "inside", "exec sleep 60");
    let group = format!("rcon-{}", own("inside"));
    let out = rcon(["exec", &own("inside"), "--", "cat", "/proc/self/cgroup"]).run();
    assert!(out.stdout.contains(&group), "{out}");
    let out = rcon(["exec", &own("inside"), "sh", "-c", "exit 7"]).run();
    assert_eq!(out.status.code(), Some(7), "{out}");
    let out = rcon(["exec", &own("inside")]).victim("forks:40").run();
    assert!(out.stdout.contains("err=EAGAIN"), "the run's limit holds for it: {out}");
    let out = rcon(["exec", &own("inside"), "--", "/nonexistent"]).run();
    assert_eq!(out.status.code(), Some(127), "{out}");
    let out = rcon(["exec", &own("nobody"), "--", "true"]).run();
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert!(on(&["kill"], "inside").status.success());
    started.finish();
}

/// Identity and capabilities are the same to the last bit, whatever the run was given.
fn is_confined_alike() {
    let fields = |text: &str| {
        let is = |line: &&str| {
            ["Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:"].iter().any(|f| line.starts_with(f))
        };
        text.lines().filter(is).map(str::trim_end).map(str::to_owned).collect::<Vec<_>>()
    };
    let ways: &[&[&str]] = &[
        &[],
        &["--drop", "all"],
        &["--bounding", "chown,kill"],
        &["--user", "1000:1000", "--groups", "5,6", "--drop", "all", "--no-new-privs"],
        &["--user", "1000:1000", "--groups", "none", "--allow", "net_raw"],
        &["--unshare", "pid", "--drop", "net_raw"],
    ];
    for (at, way) in ways.iter().enumerate() {
        let name = format!("alike{at}");
        let mut started = running(way, &name, "cat /proc/self/status; echo end; exec sleep 60");
        started.wait_for("end");
        let run = fields(&started.said());
        let out = rcon(["exec", &own(&name), "--", "cat", "/proc/self/status"]).run();
        assert_eq!(fields(&out.stdout), run, "{way:?}: {out}");
        assert!(on(&["kill"], &name).status.success());
        started.finish();
    }
}

fn sees_what_the_run_sees() {
    let way = ["--unshare", "mount,pid,net,uts,ipc", "--hostname", "inside"];
    let started = running(&way, "view", "exec sleep 60");
    let out = rcon([
        "exec",
        &own("view"),
        "--",
        "sh",
        "-c",
        "hostname; echo /proc/[0-9]*/stat; ls -l /proc/self/ns",
    ])
    .run();
    assert!(out.stdout.starts_with("inside\n"), "{out}");
    assert!(out.stdout.contains("/proc/2/stat"), "its own pids: {out}");
    for kind in ["mnt", "pid", "net", "uts", "ipc"] {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).expect("namespace");
        assert!(!out.stdout.contains(ours.to_str().expect("text")), "{kind} is ours: {out}");
    }
    assert!(on(&["kill"], "view").status.success());
    started.finish();
}

fn ends_with_the_run() {
    let started = running(&["--pids", "20"], "both", "exec sleep 60");
    let mut guest = rcon(["exec", &own("both"), "--", "sh", "-c", "echo up; exec sleep 61"]).start();
    guest.wait_for("up");
    assert!(on(&["kill"], "both").status.success());
    assert_eq!(started.finish().shell_status(), 137);
    assert_eq!(guest.finish().shell_status(), 137);
}
