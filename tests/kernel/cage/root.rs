//! A root directory and what is mounted in it.

use super::{Busybox, fingerprint};
use crate::support::{rcon, run};
use std::{fs, os::unix::fs::symlink, path::Path};

pub(super) fn root_is_all_there_is() {
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
    // What the host has is not what the root has.
    for (command, place) in [("/usr/bin/env", ""), ("env", "in PATH, ")] {
        let out = rcon(["--root"]).args([root.path()]).args(["--", command]).run();
        let said = format!("{command:?} was not found {place}in the root");
        assert!(out.shell_status() == 127 && out.stderr.contains(&said), "{out}");
        assert!(!out.stderr.contains("names is not there"), "{out}");
    }
    // A root whose name is a link elsewhere is that elsewhere.
    let link = tempfile::tempdir().expect("temporary directory");
    symlink(root.path(), link.path().join("to")).expect("link");
    let out = rcon(["--root"])
        .args([link.path().join("to")])
        .args(["--", "/bin/busybox", "cat", "/etc/name"])
        .run();
    assert_eq!(out.stdout, "the cage\n", "{out}");
}

pub(super) fn root_closes_descriptors() {
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

pub(super) fn binds_in_order() {
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

pub(super) fn read_only_is_recursive() {
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

pub(super) fn hostile_links_stay_inside() {
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

pub(super) fn minimal_dev_works() {
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

pub(super) fn proc_of_a_root_is_guarded() {
    let root = Busybox::new();
    let script = "echo x >/proc/sys/kernel/core_pattern; cat /proc/keys /proc/timer_list | wc -c";
    let out = root.sh(&["--proc"], script).run();
    assert!(out.stderr.contains("Read-only file system"), "{out}");
    assert_eq!(out.stdout, "0\n", "{out}");
    let out = root.sh(&["--proc=full"], "cat /proc/timer_list | head -c 5 | wc -c").run();
    assert_eq!(out.stdout, "5\n", "{out}");
}

pub(super) fn masks_hide() {
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

pub(super) fn private_tmp() {
    let name = format!("rcon-private-{}", std::process::id());
    let script = format!("ls -A /tmp /var/tmp | grep -v '^/\\|^$'; touch /tmp/{name} /var/tmp/{name}");
    let start = |directory: &Path, args: &[&str]| {
        let mut run = rcon(args);
        run.command.current_dir(directory);
        run.run()
    };
    // from elsewhere: this project may itself be below /tmp
    let out = start(Path::new("/"), &["--private-tmp", "--", "sh", "-c", &script]);
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("", 0), "{out}");
    assert!(!Path::new("/tmp").join(&name).exists() && !Path::new("/var/tmp").join(&name).exists());

    // Who is below /tmp is told, and not put elsewhere.
    let hidden = tempfile::tempdir_in("/tmp").expect("a directory below /tmp");
    let out = start(hidden.path(), &["--private-tmp", "--", "pwd"]);
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("", 125), "{out}");
    let told = format!("change back to the directory {}", hidden.path().display());
    assert!(out.stderr.contains(&told) && out.stderr.contains("--chdir"), "{out}");
    let out = start(hidden.path(), &["--private-tmp", "--chdir", "/", "--", "pwd"]);
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("/\n", 0), "{out}");
}
