//! A container runtime around us, and one inside of us: crun, which docker and podman use as well. As in its containers
//! everywhere the cgroup namespace is private and its root holds the container's processes.

use crate::{
    case::Case,
    needs::Need,
    support::{Output, RCON, Run, rcon, run, victim_line},
};
use std::{ffi::OsString, fs};

pub(crate) fn tests() -> Vec<Case> {
    const NEEDS: &[Need] = &[
        Need::Root,
        Need::Lab,
        Need::Systemd,
        Need::V2("pids"),
        Need::V2("memory"),
        Need::Tool("crun"),
        Need::Tool("unshare"),
    ];
    vec![
        Case::new("containers::rcon_inside_crun", NEEDS, rcon_inside_crun),
        Case::new("containers::half_of_the_containers_memory", NEEDS, half_of_the_containers_memory),
        Case::new("containers::a_shell_beside_rcon", NEEDS, a_shell_beside_rcon),
        Case::new("containers::crun_inside_rcon", NEEDS, crun_inside_rcon),
    ]
}

/// A container whose root is this machine's, with 40 tasks and 200 MiB. `around`: what crun is run by.
fn container(around: Run, crun: &[&str], args: &[OsString]) -> Output {
    let bundle = tempfile::tempdir().expect("temporary directory");
    fs::create_dir(bundle.path().join("root")).expect("mkdir");
    let args: Vec<String> = args.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let all = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETPCAP", "CAP_SYS_PTRACE"];
    let mount = |kind: &str, at: &str, options: &[&str]| serde_json::json!({"type": kind, "source": kind, "destination": at, "options": options});
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": all, "permitted": all, "effective": all},
        },
        "root": {"path": "root"},
        "mounts": [
            mount("proc", "/proc", &[]),
            mount("sysfs", "/sys", &["nosuid", "noexec", "nodev"]),
            mount("cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "rw"]),
        ],
        "linux": {
            "namespaces": (["pid", "mount", "ipc", "uts", "cgroup"].map(|kind| serde_json::json!({"type": kind}))),
            "cgroupsPath": format!("system.slice:lab:{}", std::process::id()),
            "resources": {
                "pids": {"limit": 40},
                "memory": {"limit": 200 << 20, "swap": 200 << 20},
            },
        },
    });
    fs::write(bundle.path().join("config.json"), config.to_string()).expect("write");
    // A mount namespace that ends with it.
    let script = "mount --bind / \"$0/root\" && cd \"$0\" && exec \"$@\"";
    let name = format!("lab-{}", std::process::id());
    around
        .args(["unshare", "-m", "sh", "-c", script])
        .args([bundle.path()])
        .args(["crun"])
        .args(crun)
        .args(["run", &name])
        .run()
}

/// In a scope of systemd's, as with docker and podman.
fn by_systemd(args: &[OsString]) -> Output {
    container(run("env"), &["--systemd-cgroup"], args)
}

fn line(words: &[&str], role: &str) -> Vec<OsString> {
    words.iter().map(OsString::from).chain(victim_line(role)).collect()
}

/// The only process of the container, and process 1 of it.
fn rcon_inside_crun() {
    let out = by_systemd(&line(&[RCON, "--pids", "12", "--"], "forks:60"));
    assert_eq!(out.stdout, "forks ok=11 err=EAGAIN\n", "{out}");
    // The container's own limit holds around it: the front, the keeper and the victim are in it.
    let out = by_systemd(&line(&[RCON, "--pids", "1000", "--"], "forks:60"));
    assert_eq!(out.stdout, "forks ok=37 err=EAGAIN\n", "{out}");
    let out = by_systemd(&[RCON, "--mem", "64M", "--", "sh", "-c", "exit 7"].map(OsString::from));
    assert_eq!((out.status.code(), out.stderr.as_str()), (Some(7), ""), "{out}");
}

fn half_of_the_containers_memory() {
    let out = by_systemd(&line(&[RCON, "--mem", "50%", "--"], "alloc:150M"));
    assert!(!out.stdout.contains("done") && out.stderr.contains("limit 100M"), "{out}");
    let out = by_systemd(&line(&[RCON, "--mem", "50%", "--"], "alloc:60M"));
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "alloc done\n"), "{out}");
}

/// `docker exec` or an entry point in sh: then there is another process in the only group. Two lines, and what the second
/// says works.
fn a_shell_beside_rcon() {
    let script = format!(
        "{RCON} --pids 12 -- echo ran; echo st=$?; try=$({RCON} --pids 12 -- echo ran 2>&1 | sed -n 's/^try: [^:]*: //p'); \
         eval \"$try\"; {RCON} --pids 12 -- \"$0\" \"$1\""
    );
    let words = ["sh", "-c", &script].map(OsString::from);
    let out = by_systemd(&words.into_iter().chain(victim_line("forks:60")).collect::<Vec<_>>());
    assert_eq!(out.stdout, "st=125\nforks ok=11 err=EAGAIN\n", "{out}");
    let said: Vec<&str> = out.stderr.lines().collect();
    assert!(
        said[0].starts_with("rcon: --pids 12: no place for a group: /sys/fs/cgroup holds processes"),
        "{out}"
    );
    assert!(
        said[1].starts_with("try: first move its processes to a leaf: mkdir /sys/fs/cgroup/init"),
        "{out}"
    );
}

/// The container stays in the group that we made, and has what it left.
fn crun_inside_rcon() {
    let around = || rcon(["--pids", "24", "--mem", "100M", "--swap", "0", "--"]);
    let crun = ["--cgroup-manager=disabled"];
    let out = container(around(), &crun, &line(&[], "forks:60"));
    assert!((5..24).contains(&forked(&out)), "{out}");
    assert!(out.stdout.ends_with("err=EAGAIN\n"), "{out}");
    let out = container(around(), &crun, &line(&[], "alloc:150M"));
    assert!(!out.stdout.contains("done") && out.stderr.contains("out of memory"), "{out}");
    let out = container(around(), &crun, &["sh", "-c", "echo in; exit 9"].map(OsString::from));
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(9), "in\n"), "{out}");
}

fn forked(out: &Output) -> u64 {
    out.number("ok")
}
