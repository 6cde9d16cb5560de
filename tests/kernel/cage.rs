//! Namespaces, root and mounts, proved by what the command inside can see and do.

use crate::{
    case::Case,
    needs::Need,
    support::{Run, many, rcon, run, slow},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub(crate) fn tests() -> Vec<Case> {
    use Need::{Overlay, Root, Userns};
    vec![
        Case::new("cage::pid_statuses_are_exact", &[Root], pid_statuses_are_exact),
        Case::new("cage::pid_shows_its_own_proc", &[Root], pid_shows_its_own_proc),
        Case::new("cage::init_reaps", &[Root], init_reaps),
        Case::new("cage::init_passes_signals_on", &[Root], init_passes_signals_on),
        Case::new("cage::as_init_is_pid_one", &[Root], as_init_is_pid_one),
        Case::new("cage::dies_with_the_wrapper", &[Root], dies_with_the_wrapper),
        Case::new("cage::wait_all_waits_inside", &[Root], wait_all_waits_inside),
        Case::new("cage::stops_and_goes_on", &[Root], stops_and_goes_on),
        Case::new("cage::root_is_all_there_is", &[Root], root_is_all_there_is),
        Case::new("cage::root_closes_descriptors", &[Root], root_closes_descriptors),
        Case::new("cage::binds_in_order", &[Root], binds_in_order),
        Case::new("cage::read_only_is_recursive", &[Root], read_only_is_recursive),
        Case::new("cage::hostile_links_stay_inside", &[Root], hostile_links_stay_inside),
        Case::new("cage::minimal_dev_works", &[Root], minimal_dev_works),
        Case::new("cage::proc_of_a_root_is_guarded", &[Root], proc_of_a_root_is_guarded),
        Case::new("cage::masks_hide", &[Root], masks_hide),
        Case::new("cage::private_tmp", &[Root], private_tmp),
        Case::new("cage::ephemeral_changes_nothing", &[Root, Overlay], ephemeral_changes_nothing),
        Case::new("cage::ephemeral_in_a_directory", &[Root, Overlay, Userns], ephemeral_in_a_directory),
        Case::new("cage::overlay_keeps_writes_above", &[Root, Overlay], overlay_keeps_writes_above),
        Case::new("cage::changes_can_be_kept", &[Root, Overlay], changes_can_be_kept),
        Case::new("cage::files_of_the_host", &[Root], files_of_the_host),
        Case::new("cage::variables_from_files", &[Root], variables_from_files),
        Case::new("cage::image_config", &[Root], image_config),
        Case::new("cage::user_of_the_root", &[Root], user_of_the_root),
        Case::new("cage::an_ordinary_user", &[Root, Userns, Overlay], an_ordinary_user),
        Case::new("cage::where_user_namespaces_are_forbidden", &[Root, Need::Lab], forbidden),
        Case::new("cage::kernels_without_the_mount_calls", &[Root], kernels_without_the_mount_calls),
        Case::new(
            "cage::ranges_lent_to_a_user",
            &[Root, Userns, Need::Tool("newuidmap")],
            ranges_lent_to_a_user,
        ),
        Case::new("cage::names", &[Root], names),
        Case::new("cage::clocks", &[Root, Need::TimeNamespace], clocks),
        Case::new("cage::loopback_is_up", &[Root], loopback_is_up),
        Case::new("cage::joins", &[Root], joins),
        Case::new("cage::cgroup_root_is_the_commands_group", &[Root, Need::Cgroup], cgroup_root),
        Case::new("cage::user_namespace_of_root", &[Root, Userns], user_namespace_of_root),
        Case::new("cage::settings_hold", &[Root], settings_hold),
        Case::new("cage::nothing_stays_mounted", &[Root, Overlay], nothing_stays_mounted),
    ]
}

/// A root directory made of busybox.
pub(crate) struct Busybox {
    dir: tempfile::TempDir,
}

impl Busybox {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        for name in ["bin", "etc", "proc", "tmp", "srv", "var/tmp", "dev", "sys"] {
            fs::create_dir_all(dir.path().join(name)).expect("mkdir");
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        fs::copy(busybox.expect("busybox is installed"), dir.path().join("bin/busybox")).expect("copy");
        symlink("busybox", dir.path().join("bin/sh")).expect("link");
        fs::write(dir.path().join("etc/name"), "the cage\n").expect("write");
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `rcon --root … OPTIONS -- sh -c SCRIPT`, with busybox's programs as the shell's own.
    pub(crate) fn sh(&self, options: &[&str], script: &str) -> Run {
        let run = rcon(["--root"]).args([self.path()]).args(options);
        run.args(["--env", "PATH=/bin", "--", "/bin/sh", "-c"]).args([prefixed(script)])
    }
}

/// Debian's busybox runs its programs from the shell only by name: a function each.
fn prefixed(script: &str) -> String {
    let names = [
        "cat", "ls", "touch", "mkdir", "sleep", "grep", "head", "hostname", "id", "ps", "pwd", "readlink",
        "rm", "stat", "wc", "dd", "sort", "true", "ln", "mount", "chmod", "cut", "ip", "env",
    ];
    let functions: String =
        names.iter().map(|name| format!("{name}() {{ busybox {name} \"$@\"; }}; ")).collect();
    functions + script
}

/// For `--unshare`: every kind that this kernel has. `all` is an error where one is missing.
pub(crate) fn all_kinds() -> &'static str {
    if Need::TimeNamespace.unmet().is_none() { "all" } else { "mount,pid,net,ipc,uts,user,cgroup" }
}

/// Every file's name, mode, owner, time and content.
pub(crate) fn fingerprint(dir: &Path) -> BTreeMap<PathBuf, (u32, u32, u64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("stat");
        let content = if meta.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path()));
        }
        found.insert(path, (meta.mode(), meta.uid(), meta.size(), meta.mtime_nsec(), content));
    }
    found
}

fn pid_statuses_are_exact() {
    for (script, status) in
        [("exit 0", 0), ("exit 42", 42), ("exit 125", 125), ("kill -9 $$", 137), ("kill -15 $$", 143)]
    {
        for options in
            [&["--unshare", "pid"][..], &["--unshare", "pid", "--unshare", "mount,uts,ipc,net"][..]]
        {
            let out = rcon(options).args(["--", "sh", "-c", script]).run();
            assert_eq!(out.shell_status(), status, "{out}");
            assert_eq!(out.stderr, "", "{out}");
        }
    }
    let out = rcon(["--unshare", "pid", "--", "/nonexistent"]).run();
    assert_eq!(out.shell_status(), 127, "{out}");
}

fn pid_shows_its_own_proc() {
    let out = rcon(["--unshare", "pid", "--", "sh", "-c", "echo $$; ls -d /proc/[0-9]*"]).run();
    // the init and the shell, which has not started ls yet when it lists
    assert_eq!(out.stdout, "2\n/proc/1\n/proc/2\n", "{out}");
}

fn init_reaps() {
    // A grandchild whose parent is gone ends: nobody but the init can reap it.
    let script = "(sleep 0.1 & exec true) & (sleep 0.1 & exec true) & wait; sleep 0.5; \
                  grep -c '^State:.Z' /proc/[0-9]*/status | grep -v ':0$'; echo end";
    let out = rcon(["--unshare", "pid", "--", "sh", "-c", script]).run();
    assert_eq!(out.stdout, "end\n", "zombies: {out}");
}

fn init_passes_signals_on() {
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGHUP, "HUP"), (Signal::SIGUSR1, "USR1")] {
        let script =
            format!("trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.05; done");
        let mut run = rcon(["--unshare", "pid", "--", "sh", "-c", &script]).start();
        run.wait_for("ready");
        kill(Pid::from_raw(run.child.id() as i32), signal).expect("kill");
        let out = run.finish();
        assert_eq!(
            (out.shell_status(), out.stdout.as_str()),
            (7, format!("ready\ngot {name}\n").as_str()),
            "{out}"
        );
    }
    // What it sends to its own process group it gets once, though we are in that group, too.
    for options in [&[][..], &["--unshare", "pid"]] {
        let mut run = rcon(options);
        run.command.process_group(0);
        let out = run.args(["--"]).victim("kill-group").run();
        assert_eq!(out.stdout, "got 1\n", "{options:?}: {out}");
    }
    let mut run = rcon(["--unshare", "pid", "--", "sh", "-c", "echo ready; exec sleep 100"]).start();
    run.wait_for("ready");
    kill(Pid::from_raw(run.child.id() as i32), Signal::SIGTERM).expect("kill");
    assert_eq!(run.finish().shell_status(), 128 + 15);
}

fn as_init_is_pid_one() {
    let out = rcon(["--unshare", "pid", "--as-init", "--", "sh", "-c", "echo $$; exit 9"]).run();
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("1\n", 9), "{out}");
    let out = rcon(["--as-init", "--", "true"]).run();
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(out.stderr.contains("--as-init") && out.stderr.contains("--unshare pid"), "{out}");
}

/// Processes whose command line holds this word.
pub(crate) fn holding(word: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let own = std::process::id().to_string();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && *name != own)
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(word)
        })
        .collect()
}

pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + slow(Duration::from_secs(5));
    while !check() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn dies_with_the_wrapper() {
    let mark = format!("cage-mark-{}", std::process::id());
    // A change of user takes the wish to die with the parent away (prctl(2)).
    for extra in [
        &["--unshare", "pid"][..],
        &["--unshare", "pid", "--as-init"],
        &["--unshare", "pid", "--as-init", "--user", "65534:65534", "--allow", "kill"],
    ] {
        for both in [false, true] {
            // One that left its session and its parents: only the namespace's end reaches it.
            let script = format!(
                "setsid sh -c 'sleep 300 # {mark}' & setsid sh -c 'trap : TERM HUP; sleep 300; : {mark}' & echo ready; wait"
            );
            let mut run = rcon(extra).args(["--", "sh", "-c", &script]).start();
            run.wait_for("ready");
            eventually("they run", || holding(&mark).len() >= 3);
            if both {
                crate::groups::kill_both(run.child.id());
            } else {
                run.child.kill().expect("SIGKILL");
            }
            drop(run.finish());
            eventually("the whole namespace dies with rcon", || holding(&mark).is_empty());
        }
    }
}

fn wait_all_waits_inside() {
    let out =
        rcon(["--wait-all", "--unshare", "pid", "--", "sh", "-c", "(sleep 0.3; echo late) & exit 3"]).run();
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("late\n", 3), "{out}");
    let out = rcon(["--unshare", "pid", "--", "sh", "-c", "(sleep 1; echo late) & exit 3"]).run();
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("", 3), "{out}");
}

fn stops_and_goes_on() {
    // Without a terminal nobody would wake rcon: the command alone is stopped, and woken from outside.
    let mut run = rcon(["--unshare", "pid", "--", "sh", "-c", "echo ready; kill -STOP $$; echo on"]).start();
    run.wait_for("ready");
    thread::sleep(slow(Duration::from_millis(100)));
    assert_eq!(run.said(), "ready\n", "it is stopped");
    kill(Pid::from_raw(run.child.id() as i32), Signal::SIGCONT).expect("kill");
    let out = run.finish();
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("ready\non\n", 0), "{out}");
}

fn root_is_all_there_is() {
    let root = Busybox::new();
    let out = root.sh(&[], "ls /; cat /etc/name; pwd; cd ..; pwd; ls ../../..").run();
    let listing = "bin\ndev\netc\nproc\nsrv\nsys\ntmp\nvar\n";
    assert_eq!(out.stdout, format!("{listing}the cage\n/\n/\n{listing}"), "{out}");
    let out = root.sh(&["--chdir", "/srv"], "pwd").run();
    assert_eq!(out.stdout, "/srv\n", "{out}");
    let out = root.sh(&["--chroot-only"], "cat /etc/name; pwd").run();
    assert_eq!(out.stdout, "the cage\n/\n", "{out}");
    let out = rcon(["--root", "/nonexistent", "--", "true"]).run();
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(out.stderr.starts_with("rcon: --root: cannot take /nonexistent as the new root"), "{out}");
    // A root whose name is a link elsewhere is that elsewhere.
    let link = tempfile::tempdir().expect("temporary directory");
    symlink(root.path(), link.path().join("to")).expect("link");
    let out = rcon(["--root"])
        .args([link.path().join("to")])
        .args(["--", "/bin/busybox", "cat", "/etc/name"])
        .run();
    assert_eq!(out.stdout, "the cage\n", "{out}");
}

fn root_closes_descriptors() {
    let root = Busybox::new();
    let leak = |options: &str| {
        let path = root.path().display();
        let line = format!(
            "exec 7</ 8</etc; exec \"$0\" --root {path} {options} --proc -- /bin/busybox ls /proc/self/fd"
        );
        run("sh").args(["-c", &line, crate::support::RCON]).run()
    };
    // 3 is the listing itself
    assert_eq!(leak("").stdout, "0\n1\n2\n3\n");
    assert_eq!(leak("--keep-fd 8").stdout, "0\n1\n2\n3\n8\n");
    let out = rcon(["--root"]).args([root.path()]).args(["--keep-fd", "99", "--", "/bin/busybox"]).run();
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(out.stderr.contains("--keep-fd 99: this descriptor is not open"), "{out}");
}

fn binds_in_order() {
    let root = Busybox::new();
    let data = tempfile::tempdir().expect("temporary directory");
    fs::write(data.path().join("file"), "from outside\n").expect("write");
    let bind = format!("{}:/srv/data", data.path().display());
    let single = format!("{}/file:/etc/new/file", data.path().display());
    let options = ["--tmpfs", "/srv:1M", "--bind", &bind, "--tmpfs", "/etc", "--ro-bind", &single];
    let script = "cat /srv/data/file /etc/new/file; ls /etc; echo more >/srv/data/more; echo no >/etc/new/file; \
                  dd if=/dev/zero of=/srv/big bs=1M count=2 2>/dev/null || echo full";
    let out = root.sh(&[&options[..], &["--dev", "minimal"]].concat(), script).run();
    assert_eq!(out.stdout, "from outside\nfrom outside\nnew\nfull\n", "{out}");
    assert!(out.stderr.contains("Read-only file system"), "{out}");
    assert_eq!(fs::read_to_string(data.path().join("more")).expect("written outside"), "more\n");
    // Mounts made inside mounts do not appear in the root itself.
    assert_eq!(fs::read_dir(root.path().join("srv")).expect("list").count(), 0);
    let out = root.sh(&["--bind", "/nonexistent:/srv"], "true").run();
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(out.stderr.contains("--bind /nonexistent:/srv") && out.stderr.contains("No such file"), "{out}");
}

fn read_only_is_recursive() {
    let root = Busybox::new();
    // A tree with a mount in it, all inside of a namespace of its own.
    let script = "mount -t tmpfs t /mnt && mkdir -p /mnt/sub && mount -t tmpfs t /mnt/sub && \
                  for o in '--ro-bind /mnt:/srv' '--bind /mnt:/srv'; do \
                  \"$0\" --root \"$1\" $o -- /bin/busybox touch /srv/x /srv/sub/x; done; ls /mnt/x /mnt/sub/x";
    let out = rcon(["--unshare", "mount", "--", "sh", "-c", script, crate::support::RCON])
        .args([root.path()])
        .run();
    assert_eq!(out.stderr.matches("Read-only file system").count(), 2, "{out}");
    assert_eq!(out.stdout, "/mnt/sub/x\n/mnt/x\n", "{out}");
    let out = root.sh(&["--read-only", "--tmpfs", "/tmp"], "touch /x; touch /tmp/x && echo tmp").run();
    assert_eq!(out.stdout, "tmp\n", "{out}");
    assert!(out.stderr.contains("Read-only file system"), "{out}");
    // Without a root: all of the host is read-only, but for one place.
    let place = tempfile::tempdir().expect("temporary directory");
    let script =
        "touch here && ! touch /etc/rcon-was-here 2>/dev/null && ! touch /dev/shm/rcon-was-here 2>/dev/null";
    let mut run = rcon(["--ro", "/", "--rw", ".", "--", "sh", "-c", script]);
    run.command.current_dir(place.path());
    let out = run.run();
    assert_eq!(out.shell_status(), 0, "{out}");
    assert!(place.path().join("here").exists() && !Path::new("/etc/rcon-was-here").exists());
}

fn hostile_links_stay_inside() {
    let root = Busybox::new();
    let outside = tempfile::tempdir().expect("temporary directory");
    let before = fingerprint(outside.path());
    symlink(outside.path(), root.path().join("absolute")).expect("link");
    let up =
        format!("../../../../../../../../{}", outside.path().strip_prefix("/").expect("absolute").display());
    symlink(&up, root.path().join("upwards")).expect("link");
    symlink(outside.path().join("made"), root.path().join("dangling")).expect("link");
    symlink("/proc/self/root", root.path().join("magic")).expect("link");
    for target in ["/absolute", "/upwards", "/absolute/below", "/upwards/below", "/dangling", "/magic/tmp/x"]
    {
        let mount = format!("{target}:1M");
        // Whether it is refused or lands inside does not matter; where it may not land does.
        drop(root.sh(&["--tmpfs", &mount], "true").run());
        let bind = format!("/etc/passwd:{target}/f");
        drop(root.sh(&["--bind", &bind], "true").run());
        assert_eq!(fingerprint(outside.path()), before, "{target} was followed out of the root");
    }
    // Inside, a link means what it means to the command.
    symlink("/srv", root.path().join("inner")).expect("link");
    let out = root.sh(&["--tmpfs", "/inner/deep"], "touch /srv/deep/x && ls /inner/deep").run();
    assert_eq!(out.stdout, "x\n", "{out}");
}

fn minimal_dev_works() {
    let root = Busybox::new();
    let script = "echo x >/dev/null && head -c 4 /dev/zero | wc -c && head -c 3 /dev/urandom | wc -c; \
                  echo x >/dev/full || echo full; ls /dev; stat -c %t:%T /dev/null; touch /dev/shm/x && echo shm; \
                  echo err >/dev/stderr; ls /dev/pts";
    for options in [&["--dev", "minimal", "--proc"][..], &["--unshare", "user,pid", "--dev", "minimal"][..]] {
        let out = root.sh(options, script).run();
        let names = "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
        assert_eq!(out.stdout, format!("4\n3\nfull\n{names}1:3\nshm\nptmx\n"), "{out}");
        assert!(out.stderr.ends_with("err\n"), "{out}");
    }
}

fn proc_of_a_root_is_guarded() {
    let root = Busybox::new();
    let script = "echo x >/proc/sys/kernel/core_pattern; cat /proc/keys /proc/timer_list | wc -c";
    let out = root.sh(&["--proc"], script).run();
    assert!(out.stderr.contains("Read-only file system"), "{out}");
    assert_eq!(out.stdout, "0\n", "{out}");
    let out = root.sh(&["--proc=full"], "cat /proc/timer_list | head -c 5 | wc -c").run();
    assert_eq!(out.stdout, "5\n", "{out}");
}

fn masks_hide() {
    let root = Busybox::new();
    fs::create_dir(root.path().join("etc/secret")).expect("mkdir");
    fs::write(root.path().join("etc/secret/key"), "k").expect("write");
    let options = ["--mask", "/etc/secret", "--mask", "/etc/name", "--mask", "/etc/nonexistent"];
    let out =
        root.sh(&options, "ls /etc/secret; cat /etc/name; echo x >/etc/name; touch /etc/secret/x").run();
    assert_eq!(out.stdout, "", "{out}");
    assert_eq!(out.stderr.matches("Read-only file system").count(), 1, "{out}");
    assert_eq!(fs::read_to_string(root.path().join("etc/name")).expect("not written to"), "the cage\n");
}

fn private_tmp() {
    let name = format!("rcon-private-{}", std::process::id());
    let script = format!("ls -A /tmp /var/tmp | grep -v '^/\\|^$'; touch /tmp/{name} /var/tmp/{name}");
    let out = rcon(["--private-tmp", "--", "sh", "-c", &script]).run();
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("", 0), "{out}");
    assert!(!Path::new("/tmp").join(&name).exists() && !Path::new("/var/tmp").join(&name).exists());
}

fn ephemeral_changes_nothing() {
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
fn ephemeral_in_a_directory() {
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

fn overlay_keeps_writes_above() {
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
}

fn names() {
    let before = fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname");
    let out = rcon(["--hostname", "inside", "--", "cat", "/proc/sys/kernel/hostname"]).run();
    assert_eq!(out.stdout, "inside\n", "{out}");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname"), before);
}

fn clocks() {
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

fn loopback_is_up() {
    let script = "cat /proc/net/dev | grep -c :; grep -c 00000001 /proc/net/if_inet6; ip -o addr show lo 2>/dev/null | grep -c 127.0.0.1/8";
    let out = rcon(["--unshare", "net", "--", "sh", "-c", script]).run();
    let mut lines = out.stdout.lines();
    let devices: u32 = lines.next().and_then(|n| n.parse().ok()).expect("devices");
    assert!(devices < 10, "{out}");
    // An address appears on an interface that is up.
    assert!(out.stdout.lines().skip(1).any(|line| line == "1"), "{out}");
}

fn joins() {
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
    let keeper = crate::groups::keeper_of(other.child.id()).expect("a keeper");
    let init = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).expect("children");
    let options = [format!("pid={}", init.trim()), format!("mount={}", init.trim())];
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

fn cgroup_root() {
    let out = rcon(["--pids", "20", "--unshare", "cgroup,pid", "--", "cat", "/proc/self/cgroup"]).run();
    assert!(out.stdout.lines().any(|line| line.ends_with(":/")), "{out}");
    assert!(!out.stdout.contains("rcon-"), "{out}");
}

fn user_namespace_of_root() {
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

fn settings_hold() {
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

/// The fixture compares the mount tables; here the moments of death differ.
fn nothing_stays_mounted() {
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

fn changes_can_be_kept() {
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
}

fn files_of_the_host() {
    let root = Busybox::new();
    let hosts = fs::read_to_string("/etc/passwd").expect("passwd");
    let before = fingerprint(&root.path().join("etc"));
    fs::write(root.path().join("etc/passwd"), "").expect("write");
    let out = root.sh(&["--copy-files"], "cat /etc/passwd; echo x >>/etc/passwd").run();
    assert_eq!(out.stdout, hosts, "{out}");
    assert!(out.stderr.contains("Read-only file system"), "{out}");
    assert_eq!(fs::read_to_string(root.path().join("etc/passwd")).expect("passwd"), "");
    let out = root.sh(&["--copy-files=/nonexistent"], "true").run();
    assert_eq!(out.shell_status(), 125, "{out}");

    let root = Busybox::new();
    drop(before);
    let outside = tempfile::tempdir().expect("temporary directory");
    fs::write(outside.path().join("victim"), "mine").expect("write");
    // Links that lead out: one in place of the file, one in place of its directory.
    symlink(outside.path().join("victim"), root.path().join("etc/group")).expect("link");
    let out = root.sh(&["--copy-files=write"], "cat /etc/passwd; echo x >>/etc/passwd").run();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), (hosts.as_str(), ""), "{out}");
    assert_eq!(fs::read_to_string(outside.path().join("victim")).expect("outside"), "mine");
    assert!(fs::symlink_metadata(root.path().join("etc/group")).expect("stat").is_file());
    fs::rename(root.path().join("etc"), root.path().join("old")).expect("rename");
    symlink(outside.path(), root.path().join("etc")).expect("link");
    drop(root.sh(&["--copy-files=write"], "true").run());
    assert_eq!(fs::read_dir(outside.path()).expect("list").count(), 1, "written outside of the root");
    let out = root.sh(&["--ephemeral", "--copy-files=write"], "true").run();
    assert!(out.shell_status() == 125 && out.stderr.contains("--ephemeral is to leave as it is"), "{out}");
}

fn variables_from_files() {
    let root = Busybox::new();
    fs::write(root.path().join(".drootenv"), "A=root\nB=root=x\nC=root\n").expect("write");
    let file = root.path().join("file");
    fs::write(&file, "# comment\nB=file\nC=file\n").expect("write");
    let file = file.display().to_string();
    let options = ["--env", "C=early", "--env-file", &file, "--env", "A=late"];
    let out = root.sh(&options, "echo $A $B $C").run();
    assert_eq!(out.stdout, "late file file\n", "{out}");
    let out = root.sh(&[], "echo $A $B $C").run();
    assert_eq!(out.stdout, "root root=x root\n", "{out}");
    let out = rcon(["--env-file", "/nonexistent", "--", "true"]).run();
    assert!(out.shell_status() == 125 && out.stderr.contains("--env-file /nonexistent"), "{out}");
    // It is the root's own file, not one that a link there names outside.
    fs::remove_file(root.path().join(".drootenv")).expect("remove");
    let outside = tempfile::NamedTempFile::new().expect("temporary file");
    fs::write(outside.path(), "A=outside").expect("write");
    symlink(outside.path(), root.path().join(".drootenv")).expect("link");
    let out = root.sh(&[], "echo A$A").run();
    assert_eq!(out.stdout, "A\n", "{out}");
}

fn image_config() {
    let root = Busybox::new();
    fs::write(root.path().join("etc/passwd"), "app:x:4242:4343::/srv:/bin/sh\n").expect("write");
    let name = root.path().file_name().expect("name").to_string_lossy().into_owned();
    let beside = root.path().with_file_name(format!("{name}.image.json"));
    let config = r#"{"Env":["PATH=/bin","WHO=image"],"Entrypoint":["/bin/busybox"],"Cmd":["pwd"],"User":"app","WorkingDir":"/srv"}"#;
    fs::write(&beside, config).expect("write");
    let start = |words: &[&str]| {
        let run = rcon(["--root"]).args([root.path()]).args(["--image-config"]).env("FROM_CALLER", "x");
        run.args(words).run()
    };
    let (own, given) = (start(&[]), start(&["--env", "MORE=1", "--", "env"]));
    let ids = start(&["--", "id"]);
    let started_by_user =
        start(&["--user", "7:8", "--chdir", "/tmp", "--", "sh", "-c", "busybox id -u; busybox pwd"]);
    fs::remove_file(&beside).expect("remove");
    assert_eq!(own.stdout, "/srv\n", "{own}");
    let mut lines: Vec<&str> = given.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["HOME=/srv", "LOGNAME=app", "MORE=1", "PATH=/bin", "SHELL=/bin/sh", "USER=app", "WHO=image"],
        "{given}"
    );
    assert!(ids.stdout.starts_with("uid=4242") && ids.stdout.contains("gid=4343"), "{ids}");
    assert_eq!(started_by_user.stdout, "7\n/tmp\n", "{started_by_user}");
    let out = start(&[]);
    assert!(out.shell_status() == 125 && out.stderr.contains("comes from no image"), "{out}");
}

fn user_of_the_root() {
    let root = Busybox::new();
    fs::write(root.path().join("etc/passwd"), "inside:x:1234:1235::/srv:/bin/sh\n").expect("write");
    fs::write(root.path().join("etc/group"), "more:x:99:inside\n").expect("write");
    let out = root.sh(&["--user", "inside"], "id -u; id -G; echo $HOME").run();
    assert_eq!(out.stdout, "1234\n1235 99\n/srv\n", "{out}");
}

/// A copy of rcon that everybody may run, and a run of it as an ordinary user.
struct Ordinary {
    dir: tempfile::TempDir,
}

impl Ordinary {
    const UID: u32 = 54_321;

    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::copy(crate::support::RCON, dir.path().join("rcon")).expect("copy");
        fs::set_permissions(dir.path().join("rcon"), fs::Permissions::from_mode(0o755)).expect("chmod");
        Self { dir }
    }

    fn rcon<'a>(&self, options: impl IntoIterator<Item = &'a str>) -> Run {
        let mut run = run(self.dir.path().join("rcon")).args(options);
        run.command.uid(Self::UID).gid(Self::UID).current_dir("/");
        run
    }
}

fn give(path: &Path) {
    std::os::unix::fs::chown(path, Some(Ordinary::UID), Some(Ordinary::UID)).expect("chown");
}

fn an_ordinary_user() {
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

/// What is missing on kernels before 5.12, as a seccomp filter can have it: an error that says so.
fn kernels_without_the_mount_calls() {
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

/// With the set-user-ID helpers of the distribution, and the files that they read.
fn ranges_lent_to_a_user() {
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
fn forbidden() {
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
