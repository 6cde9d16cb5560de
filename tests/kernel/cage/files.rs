//! What comes from files: of the host, of the root, of an image.

use super::{Busybox, fingerprint};
use crate::support::rcon;
use std::{fs, os::unix::fs::symlink};

pub(super) fn files_of_the_host() {
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

pub(super) fn variables_from_files() {
    let root = Busybox::new();
    fs::write(root.path().join(".drootenv"), "A=root\nB=root=x\nC=root\n").expect("write");
    let file = root.path().join("file");
    fs::write(&file, "# comment\nB=file\nC=file\n").expect("write");
    let file = file.display().to_string();
    let options = ["--env", "C=early", "--env-file", &file, "--env", "A=late"];
    let out = root.sh(&options, "echo $A $B $C").run();
    assert_eq!(out.stdout, "late file early\n", "{out}");
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

pub(super) fn image_config() {
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
    // The root's file can bring what it holds itself, not what the caller has.
    fs::write(root.path().join(".drootenv"), "FROM_CALLER\nFROM_ROOT=1\n").expect("write");
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
        [
            "FROM_ROOT=1",
            "HOME=/srv",
            "LOGNAME=app",
            "MORE=1",
            "PATH=/bin",
            "SHELL=/bin/sh",
            "USER=app",
            "WHO=image"
        ],
        "{given}"
    );
    assert!(ids.stdout.starts_with("uid=4242") && ids.stdout.contains("gid=4343"), "{ids}");
    assert_eq!(started_by_user.stdout, "7\n/tmp\n", "{started_by_user}");
    let out = start(&[]);
    assert!(out.shell_status() == 125 && out.stderr.contains("comes from no image"), "{out}");
}

pub(super) fn user_of_the_root() {
    let root = Busybox::new();
    fs::write(root.path().join("etc/passwd"), "inside:x:1234:1235::/srv:/bin/sh\n").expect("write");
    fs::write(root.path().join("etc/group"), "more:x:99:inside\n").expect("write");
    let out = root.sh(&["--user", "inside"], "id -u; id -G; echo $HOME").run();
    assert_eq!(out.stdout, "1234\n1235 99\n/srv\n", "{out}");
}
