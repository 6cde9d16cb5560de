//! What an ordinary user has of it, without any help: run where the tests themselves are not root.

use crate::{
    cage::{Busybox, fingerprint},
    case::Case,
    needs::Need,
    support::{RCON, Run, rcon, run},
};
use nix::unistd::{getegid, geteuid};
use std::fs;

pub(crate) fn tests() -> Vec<Case> {
    use Need::{NonRoot, Overlay, Userns};
    vec![
        Case::new("ordinary::capabilities_are_not_to_be_had", &[NonRoot], capabilities_are_not_to_be_had),
        Case::new("ordinary::capabilities_of_a_namespace", &[NonRoot, Userns], capabilities_of_a_namespace),
        Case::new("ordinary::a_cage_of_everything", &[NonRoot, Userns, Overlay], a_cage_of_everything),
        Case::new("ordinary::the_cage_dies_with_rcon", &[NonRoot, Userns], the_cage_dies_with_rcon),
    ]
}

/// `capcon ARGS -- victim DEED`.
fn capcon(args: &str, deed: &str) -> Run {
    run(RCON).args(["capcon"]).args(args.split_whitespace()).args(["--"]).victim(&format!("may:{deed}"))
}

/// Permitted, effective, inheritable, ambient set, and no_new_privs.
fn sets(args: &str) -> Vec<String> {
    let out = capcon(args, "status").run();
    assert!(out.status.success(), "{out}");
    let get = |key: &str| out.stdout.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let keys = ["CapPrm", "CapEff", "CapInh", "CapAmb", "NoNewPrivs"];
    keys.map(|key| get(key).unwrap_or_else(|| panic!("no {key}: {out}")).trim_start_matches('0').to_owned())
        .to_vec()
}

fn capabilities_are_not_to_be_had() {
    assert_eq!(sets("--allow none"), ["", "", "", "", "1"]);
    assert_eq!(sets("--drop all"), ["", "", "", "", "1"]);
    let started = capcon("--allow none", "status").start();
    let pid = started.child.id();
    let out = started.finish();
    assert!(out.stdout.contains(&format!("Pid={pid}\n")), "it becomes the command: {out}");
    for (args, words) in [
        ("--allow net_raw", &["net_raw is not in the caller's permitted set", "--unshare user"][..]),
        ("--allow none --no-new-privs=no", &["bounding set cannot be narrowed", "setpcap"]),
        ("--ambient chown", &["chown"]),
        ("--user 0", &["is not in the caller's effective set", "--unshare user"]),
        ("--groups 7", &["setgid is not in the caller's effective set"]),
        ("--securebits noroot", &["setpcap is not in the caller's effective set"]),
        ("--learn", &["--learn", "root"]),
    ] {
        let out = capcon(args, "status").run();
        assert!(out.shell_status() == 125 && out.stdout.is_empty(), "{out}");
        for word in words {
            assert!(out.stderr.contains(word), "no {word:?}: {out}");
        }
    }
    assert_eq!(capcon("--allow none", "bind:80").run().stdout, "EACCES\n");
}

fn capabilities_of_a_namespace() {
    let raw = ["2000", "2000", "2000", "2000", "1"];
    assert_eq!(sets("--unshare user --allow net_raw"), raw);
    assert_eq!(sets("--unshare user --map-root --allow net_raw"), ["2000", "2000", "", "", "1"]);
    // A port of its own network, and only with the capability.
    for (args, answer) in [
        ("--unshare user,net --allow net_bind_service", "done\n"),
        ("--unshare user,net --allow chown", "EACCES\n"),
        ("--unshare user,net --map-root --allow net_bind_service", "done\n"),
        ("--unshare user,net --map-root --drop net_bind_service", "EACCES\n"),
    ] {
        let out = capcon(args, "bind:80").run();
        assert_eq!(out.stdout, answer, "{out}");
    }
    // Root of a namespace is nobody to the machine.
    assert_eq!(capcon("--unshare user --map-root", "clock").run().stdout, "EPERM\n");
    // A number that no file lends anybody.
    let out = rcon(["--map-users", "0:4000000000:10", "--", "true"]).run();
    assert!(out.shell_status() == 125 && out.stderr.contains("/etc/subuid lends it"), "{out}");
}

fn a_cage_of_everything() {
    let root = Busybox::new();
    let place = tempfile::tempdir().expect("temporary directory");
    for name in ["lower", "upper", "upper.work"] {
        fs::create_dir(place.path().join(name)).expect("mkdir");
    }
    fs::write(place.path().join("lower/file"), "below\n").expect("write");
    let path = |name: &str| place.path().join(name).display().to_string();
    let overlay = format!("{}:/srv", path("lower"));
    let upper = path("upper");
    let options =
        "--unshare all --map-root --dev minimal --tmpfs /tmp --hostname caged --private-tmp --overlay";
    let options: Vec<&str> =
        options.split(' ').chain([overlay.as_str(), "--upper", upper.as_str()]).collect();
    let script = "id -u; cat /srv/file; echo new >/srv/new; touch /tmp/x; echo x >/dev/null; \
                  set -- /proc/[0-9]*; echo $#; cat /proc/sys/kernel/hostname; ls /sys";
    let out = root.sh(&options, script).run();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("0\nbelow\n2\ncaged\n", ""), "{out}");
    assert_eq!(fs::read_to_string(place.path().join("upper/new")).expect("upper"), "new\n");
    // Without a word of a user namespace: it is made because nothing else goes.
    let before = fingerprint(root.path());
    let away = format!("--ephemeral={}", path("lower"));
    for ephemeral in ["--ephemeral", &away] {
        let out = root.sh(&[ephemeral, "--unshare", "pid"], "id -u; id -g; touch /srv/x; ls /srv").run();
        let own = format!("{}\n{}\nx\n", geteuid(), getegid());
        assert_eq!((out.stdout, out.stderr.as_str()), (own, ""), "{ephemeral}");
        assert_eq!(fs::read_dir(place.path().join("lower")).expect("list").count(), 1);
    }
    let out = root.sh(&["--ro-bind", "/etc:/srv", "--read-only"], "touch /srv/x; touch /x").run();
    assert_eq!(out.stderr.matches("Read-only file system").count(), 2, "{out}");
    assert!(fingerprint(root.path()) == before, "the root has changed");
}

fn the_cage_dies_with_rcon() {
    let mark = format!("ordinary-mark-{}", std::process::id());
    let script = format!("setsid sh -c 'sleep 300 # {mark}' & echo ready; wait");
    for both in [false, true] {
        let mut run = rcon(["--unshare", "all", "--", "sh", "-c", &script]).start();
        run.wait_for("ready");
        if both {
            crate::groups::kill_both(run.child.id());
        } else {
            run.child.kill().expect("SIGKILL");
        }
        drop(run.finish());
        crate::cage::eventually("all of it dies with rcon", || crate::cage::holding(&mark).is_empty());
    }
}
