//! Ordinary users, and user namespaces.

use super::{Busybox, all_kinds, fingerprint, prefixed};
use crate::{
    needs::Need,
    support::{Ordinary, rcon},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

pub(super) fn user_namespace_of_root() {
    let out = rcon(["--unshare", "user", "--", "cat", "/proc/self/uid_map"]).run();
    assert_eq!(out.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"], "{out}");
    let out =
        rcon(["--map-users", "0:100000:65536", "--", "sh", "-c", "id -u; id -G; cat /proc/self/uid_map"])
            .run();
    assert_eq!(
        out.stdout.split_whitespace().collect::<Vec<_>>(),
        ["0", "0", "0", "100000", "65536"],
        "{out}"
    );
    let out = rcon(["--map-user", "42", "--map-group", "43", "--", "sh", "-c", "id -u; id -g"]).run();
    assert_eq!(out.stdout, "42\n43\n", "{out}");
    // It is no root of the host.
    let root = Busybox::new();
    let options = ["--map-users", "0:100000:65536", "--unshare", all_kinds(), "--dev", "minimal"];
    let out = root.sh(&options, "id -u; touch /x; ls -d /proc/[0-9]* | wc -l").run();
    assert!(out.stdout.starts_with("0\n") && out.stderr.contains("Permission denied"), "{out}");
}

fn give(path: &Path) {
    std::os::unix::fs::chown(path, Some(Ordinary::UID), Some(Ordinary::UID)).expect("chown");
}

pub(super) fn an_ordinary_user() {
    let user = Ordinary::new();
    let root = Busybox::new();
    let place = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    give(place.path());
    for name in ["lower", "upper", "upper.work"] {
        fs::create_dir(place.path().join(name)).expect("mkdir");
        give(&place.path().join(name));
    }
    fs::write(place.path().join("lower/file"), "below\n").expect("write");
    let path = |name: &str| place.path().join(name).display().to_string();
    let rooted = |options: &[&str], script: &str| {
        let root = root.path().display().to_string();
        let script = prefixed(script);
        let words = [
            &["--root", root.as_str()][..],
            options,
            &["--env", "PATH=/bin", "--", "/bin/sh", "-c", &script],
        ];
        user.rcon(words.concat()).run()
    };
    let overlay = format!("{}:/srv", path("lower"));
    let options = [
        "--unshare",
        "all",
        "--map-root",
        "--overlay",
        &overlay,
        "--upper",
        &path("upper"),
        "--dev",
        "minimal",
        "--tmpfs",
        "/tmp",
    ];
    let script = "id -u; cat /srv/file; echo new >/srv/new; touch /tmp/x; echo x >/dev/null; set -- /proc/[0-9]*; echo $#; touch /no; ls /sys";
    let out = rooted(&options, script);
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("0\nbelow\n2\n", 0), "{out}");
    assert!(out.stderr.contains("/no: Permission denied"), "{out}");
    assert_eq!(fs::read_to_string(place.path().join("upper/new")).expect("upper"), "new\n");
    // Nothing said of a user namespace: it is made because nothing else goes.
    let before = fingerprint(root.path());
    let out = rooted(
        &["--ephemeral", "--unshare", "pid"],
        "id -u; set -- /proc/[0-9]*; echo $#; touch /tmp/x && ls /tmp",
    );
    assert!(out.stdout.starts_with(&format!("{}\n2\n", Ordinary::UID)), "{out}");
    assert!(fingerprint(root.path()) == before, "the root has changed");
    let out = rooted(&["--ro-bind", "/etc:/srv", "--read-only"], "touch /srv/x; touch /x");
    assert_eq!(out.stderr.matches("Read-only file system").count(), 2, "{out}");
    let out = user.rcon(["--hostname", "mine", "--", "cat", "/proc/sys/kernel/hostname"]).run();
    assert_eq!(out.stdout, "mine\n", "{out}");
    let out = user.rcon(["--unshare", "pid", "--", "sh", "-c", "kill -9 $$"]).run();
    assert_eq!(out.shell_status(), 137, "{out}");
    let out = user.rcon(["--map-users", "0:100000:10", "--", "true"]).run();
    assert!(out.shell_status() == 125 && out.stderr.contains("/etc/subuid lends it nothing"), "{out}");
    let out = user.rcon(["--nice", "-5", "--", "true"]).run();
    assert!(out.shell_status() == 125 && out.stderr.contains("set the nice value to -5"), "{out}");
}

/// With the set-user-ID helpers of the distribution, and the files that they read.
pub(super) fn ranges_lent_to_a_user() {
    let user = Ordinary::new();
    let place = tempfile::tempdir().expect("temporary directory");
    let uid = Ordinary::UID;
    let lent = "tester:200000:1000\n".to_owned();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let passwd = format!("{passwd}tester:x:{uid}:{uid}::/:/bin/sh\n");
    // In the tests' own mount namespace: nobody else sees it.
    let over: Vec<_> = [("/etc/subuid", &lent), ("/etc/subgid", &lent), ("/etc/passwd", &passwd)]
        .into_iter()
        .map(|(file, text)| Covered::new(&place.path().join(file.trim_start_matches("/etc/")), file, text))
        .collect();
    let script =
        "id -u; cat /proc/self/uid_map; cat /proc/self/gid_map; touch /proc/self/x 2>/dev/null; true";
    let out = user.rcon(["--map-root", "--map-users", "1:200000:1000", "--", "sh", "-c", script]).run();
    let words: Vec<&str> = out.stdout.split_whitespace().collect();
    let own = uid.to_string();
    let map = ["0", &own, "1", "1", "200000", "1000"];
    assert_eq!(words, [&["0"][..], &map, &map].concat(), "{out}");
    // A number of the range is somebody there, with groups of its own.
    let options = ["--map-root", "--map-users", "1:200000:1000", "--user", "7:8", "--groups", "9"];
    let out = user.rcon([&options[..], &["--", "sh", "-c", "id -u; id -G"]].concat()).run();
    assert_eq!(out.stdout, "7\n8 9\n", "{out}");
    let out = user.rcon(["--map-users", "0:200000:1001", "--", "true"]).run();
    assert!(out.shell_status() == 125 && out.stderr.contains("lends it 200000:1000"), "{out}");
    drop(over);
}

/// A file of the machine with another bound over it.
struct Covered(PathBuf);

impl Covered {
    fn new(with: &Path, file: &str, text: &str) -> Self {
        fs::write(with, text).expect("write");
        let none = None::<&str>;
        nix::mount::mount(Some(with), file, none, nix::mount::MsFlags::MS_BIND, none).expect("bind");
        Self(file.into())
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        // The fixture sees one that stays.
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).ok();
    }
}

/// The message names what forbids it.
pub(super) fn forbidden() {
    let user = Ordinary::new();
    let file = "/proc/sys/user/max_user_namespaces";
    let before = fs::read_to_string(file).expect("sysctl");
    fs::write(file, "0").expect("sysctl");
    let out = user.rcon(["--unshare", "user", "--", "true"]).run();
    fs::write(file, before).expect("sysctl");
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(
        out.stderr.contains("user.max_user_namespaces is 0") && out.stderr.contains("sysctl -w"),
        "{out}"
    );
}

/// Root joins first, and has no power over what it has joined afterwards.
pub(super) fn joins_before_a_new_user_namespace() {
    let line = "echo pid=$$; exec sleep 300";
    let mut other =
        rcon(["--unshare", "uts,net,ipc", "--hostname", "joined", "--", "sh", "-c", line]).start();
    other.wait_for("pid=");
    let pid = other.said().trim().trim_start_matches("pid=").to_owned();
    let joins = ["uts", "net", "ipc"].map(|kind| format!("--join={kind}={pid}"));
    let script = "for kind in uts net ipc; do readlink /proc/self/ns/$kind; done; cat /proc/sys/kernel/hostname; \
                  id -u; cat /proc/self/uid_map; mount -t tmpfs tmpfs /mnt 2>/dev/null || echo no power";
    let theirs =
        |kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace").display().to_string();
    let out = rcon(&joins).args(["--unshare", "user", "--map-root", "--", "sh", "-c", script]).run();
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(
        lines.get(..3),
        Some(&["uts", "net", "ipc"].map(theirs).each_ref().map(String::as_str)[..]),
        "{out}"
    );
    assert_eq!(lines.get(3..5), Some(&["joined", "0"][..]), "{out}");
    assert_eq!(lines[5].split_whitespace().collect::<Vec<_>>(), ["0", "0", "1"], "{out}");
    assert_eq!(lines.get(6..), Some(&["no power"][..]), "{out}");
    let explained = rcon(&joins).args(["--map-root", "--explain", "--", "true"]).run().stdout;
    let at = |words: &str| explained.find(words).unwrap_or_else(|| panic!("no {words:?}: {explained}"));
    assert!(at("enter the net namespace") < at("create the child in new namespaces: user"), "{explained}");
    // A number of a range is nobody outside; what is made new besides belongs to the new one.
    let options = ["--map-users", "0:100000:65536", "--unshare", "mount,pid"];
    let script = "cat /proc/sys/kernel/hostname; mount -t tmpfs tmpfs /mnt && echo $$";
    let out = rcon([&joins[0]]).args(options).args(["--", "sh", "-c", script]).run();
    assert_eq!(out.stdout, "joined\n2\n", "{out}");
    kill(Pid::from_raw(other.child.id() as i32), Signal::SIGTERM).expect("kill");
    drop(other.finish());
    // An ordinary user has no such power; the namespace that it may open is that of its own processes.
    let user = Ordinary::new();
    let out = user.rcon(["--join", "uts=/proc/self/ns/uts", "--unshare", "user", "--", "true"]).run();
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(out.stderr.contains("enter the uts namespace /proc/self/ns/uts"), "{out}");
    assert!(out.stderr.contains("only who has power over it joins it"), "{out}");
}

/// Mounts, processes and clocks are joined in the same way, and rcon itself is where it was afterwards.
pub(super) fn joins_all_before_a_new_user_namespace() {
    let time = Need::TimeNamespace.unmet().is_none();
    let made = if time { "pid,time" } else { "pid" };
    let line = "mount -t tmpfs tmpfs /mnt && echo theirs >/mnt/file && echo ready; exec sleep 300";
    let mut other =
        rcon(["--unshare", made, "--boottime-offset", "100days"][..if time { 4 } else { 2 }].iter())
            .args(["--", "sh", "-c", line])
            .start();
    other.wait_for("ready");
    let init = crate::groups::init_of(other.child.id());
    let kinds: &[&str] = if time { &["pid", "mount", "time"] } else { &["pid", "mount"] };
    let joins: Vec<String> = kinds.iter().map(|kind| format!("--join={kind}={init}")).collect();
    let place = tempfile::tempdir().expect("temporary directory");
    let mut run = rcon(["--report=json:report"]).args(&joins).args(["--map-root", "--", "sh", "-c"]);
    run.command.current_dir(place.path());
    let out = run.args(["cat /mnt/file; ls -d /proc/1 /proc/2; cut -d. -f1 /proc/uptime; kill -9 $$"]).run();
    other.child.kill().expect("kill");
    drop(other.finish());
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines.get(..3), Some(&["theirs", "/proc/1", "/proc/2"][..]), "{out}");
    let uptime: u64 = lines.get(3).and_then(|line| line.parse().ok()).unwrap_or(0);
    assert!(!time || uptime > 8_640_000, "{out}");
    assert_eq!(out.shell_status(), 137, "{out}");
    // By a name relative to where it was started.
    let report = fs::read_to_string(place.path().join("report")).expect("a report");
    assert!(report.contains("\"KILL\""), "{report}");
}
