//! Overlays: where writes go.

use super::{Busybox, eventually, fingerprint};
use crate::{groups::until, support::many};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, os::unix::fs::PermissionsExt, thread, time::Duration};

pub(super) fn ephemeral_changes_nothing() {
    let root = Busybox::new();
    let before = fingerprint(root.path());
    let script = "echo changed >/etc/name; rm -r /srv; mkdir /srv; touch /srv/x /bin/new; chmod 700 /bin/busybox; cat /etc/name";
    let out = root.sh(&["--ephemeral", "--proc", "--dev", "minimal"], script).run();
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("changed\n", 0), "{out}");
    assert!(fingerprint(root.path()) == before, "the root has changed");
    let mut run = root.sh(&["--ephemeral", "--unshare", "pid"], &format!("{script}; sleep 300")).start();
    run.wait_for("changed");
    run.child.kill().expect("SIGKILL");
    drop(run.finish());
    assert!(fingerprint(root.path()) == before, "the root has changed after SIGKILL");
}

/// The writes in a directory rather than in memory: they go with the run, whoever of us is killed.
pub(super) fn ephemeral_in_a_directory() {
    let root = Busybox::new();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
    std::os::unix::fs::chown(root.path().join("tmp"), Some(100_000), Some(100_000)).expect("chown");
    let before = fingerprint(root.path());
    let place = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
    let option = format!("--ephemeral={}", place.path().display());
    let left = || fs::read_dir(place.path()).expect("list").count();
    let script = "echo changed >/etc/name; rm -r /srv; mkdir /srv; touch /srv/x; stat -c %a /; cat /etc/name";
    let out = root.sh(&[&option], script).run();
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("711\nchanged\n", 0), "{out}");
    assert_eq!(left(), 0);
    let out = root.sh(&[&option, "--map-users", "0:100000:65536"], "id -u; echo >/tmp/x").run();
    assert_eq!((out.stdout.as_str(), out.shell_status(), left()), ("0\n", 0, 0), "{out}");
    for who in ["front", "keeper", "both"] {
        let mut run = root.sh(&[&option, "--unshare", "pid"], &format!("{script}; sleep 300")).start();
        run.wait_for("changed");
        assert_eq!(left(), 1);
        let front = run.child.id();
        match who {
            "front" => run.child.kill().expect("SIGKILL"),
            "both" => crate::groups::kill_both(front),
            _ => {
                let keeper = crate::groups::keeper_of(front).expect("a keeper");
                kill(Pid::from_raw(keeper as i32), Signal::SIGKILL).expect("kill");
            }
        }
        drop(run.finish());
        if who == "both" {
            let out = root.sh(&[&option], "true").run();
            assert_eq!(out.shell_status(), 0, "{out}");
        }
        eventually("nothing stays in the directory", || left() == 0);
    }
    assert!(fingerprint(root.path()) == before, "the root has changed");
    let out = root.sh(&["--ephemeral=/nonexistent"], "true").run();
    assert!(out.shell_status() == 125 && out.stderr.contains("--ephemeral=/nonexistent"), "{out}");
}

pub(super) fn overlay_keeps_writes_above() {
    let root = Busybox::new();
    let place = tempfile::tempdir().expect("temporary directory");
    for name in ["one", "two", "a,b\\c", "upper", "upper.work"] {
        fs::create_dir(place.path().join(name)).expect("mkdir");
    }
    fs::write(place.path().join("one/file"), "one\n").expect("write");
    fs::write(place.path().join("two/file"), "two\n").expect("write");
    fs::write(place.path().join("a,b\\c/other"), "other\n").expect("write");
    let path = |name: &str| place.path().join(name).display().to_string();
    let overlay = format!("{}:{}:{}:/srv", path("one"), path("two"), path("a,b\\c"));
    let script = "cat /srv/file /srv/other; echo new >/srv/file";
    let out = root.sh(&["--overlay", &overlay], script).run();
    assert_eq!(out.stdout, "one\nother\n", "{out}");
    assert!(out.stderr.contains("Read-only file system"), "{out}");
    let out = root.sh(&["--overlay", &overlay, "--upper", &path("upper")], script).run();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("one\nother\n", ""), "{out}");
    assert_eq!(fs::read_to_string(place.path().join("upper/file")).expect("upper"), "new\n");
    assert_eq!(fs::read_to_string(place.path().join("one/file")).expect("lower"), "one\n");
    // One layer alone, which overlayfs refuses.
    let out =
        root.sh(&["--overlay", &format!("{}:/srv", path("one"))], "cat /srv/file; echo new >/srv/file").run();
    assert_eq!(out.stdout, "one\n", "{out}");
    assert!(out.stderr.contains("Read-only file system"), "{out}");
}

/// The fixture compares the mount tables; here the moments of death differ.
pub(super) fn nothing_stays_mounted() {
    let root = Busybox::new();
    let table = || {
        fs::read_to_string("/proc/1/mountinfo")
            .or_else(|_| fs::read_to_string("/proc/self/mountinfo"))
            .expect("mounts")
    };
    let before = table();
    let options = [
        "--ephemeral",
        "--proc",
        "--dev",
        "minimal",
        "--sys",
        "ro",
        "--tmpfs",
        "/srv:1M",
        "--bind",
        "/etc:/srv/etc",
        "--ro-bind",
        "/usr:/srv/usr",
        "--mask",
        "/etc/name",
        "--private-tmp",
        "--read-only",
        "--unshare",
        "pid,ipc,uts",
    ];
    let out = root.sh(&options, "ls /srv").run();
    assert_eq!(out.stdout, "etc\nusr\n", "{out}");
    for round in 0..many(200) as u64 {
        let mut run = root.sh(&options, "sleep 0.02").start();
        // From before the first step to after the last: the moments spread over the whole start.
        thread::sleep(Duration::from_micros(round * 37 % 15_000));
        if round % 4 != 0 {
            drop(run.child.kill());
        }
        drop(run.finish());
    }
    assert_eq!(table(), before);
}

pub(super) fn changes_can_be_kept() {
    let root = Busybox::new();
    let before = fingerprint(root.path());
    let place = tempfile::tempdir().expect("temporary directory");
    let changes = place.path().join("changes").display().to_string();
    let options = ["--ephemeral", "--keep-changes", &changes];
    let out = root.sh(&options, "echo changed >/etc/name; touch /srv/new").run();
    assert_eq!((out.shell_status(), out.stderr.as_str()), (0, ""), "{out}");
    assert!(fingerprint(root.path()) == before, "the root has changed");
    assert_eq!(fs::read_to_string(place.path().join("changes/etc/name")).expect("kept"), "changed\n");
    let out = root.sh(&options, "cat /etc/name; ls /srv").run();
    assert_eq!(out.stdout, "changed\nnew\n", "kept changes are there again: {out}");
    // One at a time.
    let mut first = root.sh(&options, "echo up; exec busybox sleep 12345").start();
    first.wait_for("up");
    let out = root.sh(&options, "echo up").run();
    first.child.kill().expect("kill");
    drop(first.finish());
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("", 125), "{out}");
    assert!(out.stderr.contains("another run") && out.stderr.contains("--keep-changes"), "{out}");
    until("the first has gone", || root.sh(&options, "true").run().status.success().then_some(()));
}
