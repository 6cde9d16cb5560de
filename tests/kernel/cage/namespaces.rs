//! The other kinds of namespaces, joining, and settings of the process.

use super::Busybox;
use crate::support::{rcon, run};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::fs;

pub(super) fn names() {
    let before = fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname");
    let out = rcon(["--hostname", "inside", "--", "cat", "/proc/sys/kernel/hostname"]).run();
    assert_eq!(out.stdout, "inside\n", "{out}");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname"), before);
}

pub(super) fn clocks() {
    let uptime = |text: &str| text.split('.').next().and_then(|n| n.parse::<u64>().ok()).expect("uptime");
    let here = uptime(&fs::read_to_string("/proc/uptime").expect("uptime"));
    for options in
        [&["--boottime-offset", "100days"][..], &["--boottime-offset", "100days", "--unshare", "pid"][..]]
    {
        let out = rcon(options).args(["--", "cat", "/proc/uptime"]).run();
        let there = uptime(&out.stdout);
        assert!((8_640_000..8_641_000).contains(&(there - here)), "{here} and {out}");
    }
}

pub(super) fn loopback_is_up() {
    let script = "cat /proc/net/dev | grep -c :; grep -c 00000001 /proc/net/if_inet6; ip -o addr show lo 2>/dev/null | grep -c 127.0.0.1/8";
    let out = rcon(["--unshare", "net", "--", "sh", "-c", script]).run();
    let mut lines = out.stdout.lines();
    let devices: u32 = lines.next().and_then(|n| n.parse().ok()).expect("devices");
    assert!(devices < 10, "{out}");
    // An address appears on an interface that is up.
    assert!(out.stdout.lines().skip(1).any(|line| line == "1"), "{out}");
}

pub(super) fn joins() {
    let mut other = rcon([
        "--unshare",
        "uts,net,ipc",
        "--hostname",
        "joined",
        "--",
        "sh",
        "-c",
        "echo pid=$$; exec sleep 300",
    ])
    .start();
    other.wait_for("pid=");
    let pid = other.said().trim().trim_start_matches("pid=").to_owned();
    let out = rcon(["--join", &format!("uts={pid}"), "--", "cat", "/proc/sys/kernel/hostname"]).run();
    assert_eq!(out.stdout, "joined\n", "{out}");
    let path = format!("net=/proc/{pid}/ns/net");
    let out = rcon([
        "--join",
        &path,
        "--",
        "sh",
        "-c",
        &format!("readlink /proc/self/ns/net; readlink /proc/{pid}/ns/net"),
    ])
    .run();
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1], "{out}");
    // Without a pid namespace only the command's own end ends it.
    kill(Pid::from_raw(other.child.id() as i32), Signal::SIGTERM).expect("kill");
    drop(other.finish());

    let mut other = rcon(["--unshare", "pid", "--", "sh", "-c", "echo ready; exec sleep 300"]).start();
    other.wait_for("ready");
    let init = crate::groups::init_of(other.child.id());
    let options = [format!("pid={init}"), format!("mount={init}")];
    let out = rcon([
        "--join",
        &options[0],
        "--join",
        &options[1],
        "--",
        "sh",
        "-c",
        "ls -d /proc/[0-9]*; kill -9 $$",
    ])
    .run();
    assert!(out.stdout.starts_with("/proc/1\n/proc/2\n") && out.stdout.lines().count() < 6, "{out}");
    assert_eq!(out.shell_status(), 137, "{out}");
    other.child.kill().expect("kill");
    drop(other.finish());
    let out = rcon(["--join", "net=/etc/passwd", "--", "true"]).run();
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(out.stderr.contains("of another kind"), "{out}");
}

pub(super) fn cgroup_root() {
    let out = rcon(["--pids", "20", "--unshare", "cgroup,pid", "--", "cat", "/proc/self/cgroup"]).run();
    assert!(out.stdout.lines().any(|line| line.ends_with(":/")), "{out}");
    assert!(!out.stdout.contains("rcon-"), "{out}");
}

pub(super) fn settings_hold() {
    let script = "ulimit -n; ulimit -Hn; cut -d' ' -f19 /proc/self/stat; cat /proc/self/oom_score_adj; umask; cut -d' ' -f41 /proc/self/stat";
    let options = [
        "--rlimit",
        "nofile=100:200",
        "--nice",
        "5",
        "--oom-score-adj",
        "300",
        "--umask",
        "027",
        "--sched",
        "batch",
        "--ionice",
        "idle",
    ];
    let out = rcon(options).args(["--", "sh", "-c", script]).run();
    assert_eq!(out.stdout, "100\n200\n5\n300\n0027\n3\n", "{out}");
    let out =
        rcon(["--unshare", "pid", "--rlimit", "fsize=1K", "--", "sh", "-c", "echo >/dev/null; ulimit -f"])
            .run();
    assert!(out.stdout == "2\n" || out.stdout == "1\n", "{out}"); // blocks of 512 bytes or of 1 KiB
    // The policy is field 41 of its own line; what it forks has another.
    let script = "cut -d' ' -f41 /proc/$$/stat; cut -d' ' -f41 /proc/self/stat; :";
    let out = rcon(["--sched", "deadline:5ms:50ms:100ms", "--", "sh", "-c", script]).run();
    if out.stderr.contains("only where the command may run on all processors") {
        // Root without CAP_SYS_NICE over them, or in a cpuset: refused, and not run without it.
        assert_eq!((out.shell_status(), out.stdout.as_str()), (125, ""), "{out}");
    } else {
        assert_eq!(out.stdout, "6\n0\n", "{out}");
    }
    let out = rcon(["--nice", "20", "--", "true"]).run();
    assert_eq!(out.shell_status(), 125, "{out}");
}

/// What is missing on kernels before 5.12, as a seccomp filter can have it: an error that says so.
pub(super) fn kernels_without_the_mount_calls() {
    let root = Busybox::new();
    let root = root.path().display().to_string();
    let lacking = |calls: &[i64], options: &[&str]| {
        let calls: Vec<String> = calls.iter().map(i64::to_string).collect();
        let mut run =
            run(crate::victim::program()).env("RCON_VICTIM", format!("lacking:{}", calls.join(":")));
        run.command.arg(crate::support::RCON).args(options).args(["--", "/bin/busybox", "true"]);
        run.run()
    };
    let (openat2, open_tree, setattr) = (libc::SYS_openat2, libc::SYS_open_tree, libc::SYS_mount_setattr);
    for call in [openat2, open_tree, setattr] {
        let out = lacking(&[call], &["--root", &root, "--tmpfs", "/tmp"]);
        assert!(out.shell_status() == 125 && out.stderr.contains("Linux 5.12"), "without {call}: {out}");
    }
    // What needs none of them works there.
    let out = lacking(&[openat2], &["--root", &root, "--chroot-only", "--user", "root"]);
    assert!(out.shell_status() == 125 && out.stderr.contains("Linux 5."), "{out}");
    let user = &["--user", "65534:65534", "--groups", "none", "--allow", "chown"];
    for options in [&[][..], &["--unshare", "net,uts", "--hostname", "old"], &["--nice", "5"], user] {
        let out = lacking(&[openat2, open_tree, setattr], options);
        assert_eq!((out.shell_status(), out.stderr.as_str()), (0, ""), "{options:?}: {out}");
    }
}
