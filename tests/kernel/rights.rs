//! Rights that are not the caller's are not lent to a command, and what lies where root happens to stand is not run.

use crate::{
    case::Case,
    needs::Need,
    support::{Output, RCON, Run, rcon, run},
};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::{
    env, fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("rights::set_user_id_is_refused", &[Need::Root], set_user_id_is_refused),
        Case::new("rights::set_group_id_is_refused", &[Need::Root], set_group_id_is_refused),
        Case::new(
            "rights::file_capabilities_are_refused",
            &[Need::Root, Need::Tool("setcap")],
            file_capabilities_are_refused,
        ),
        Case::new("rights::sudos_variables_mean_nothing", &[Need::Root], sudos_variables_mean_nothing),
        Case::new("rights::roots_path_has_no_dot", &[Need::Root], roots_path_has_no_dot),
        Case::new("rights::a_users_path_is_as_with_env", &[Need::NonRoot], a_users_path_is_as_with_env),
    ]
}

/// A copy of a program that everybody can reach, where the kernel heeds such bits.
pub(crate) fn copy_of(program: &Path) -> (tempfile::TempDir, PathBuf) {
    let heeds = |dir: &PathBuf| {
        statvfs(dir).is_ok_and(|found| !found.flags().intersects(FsFlags::ST_NOSUID | FsFlags::ST_NOEXEC))
    };
    let places = [env::temp_dir(), "/var/tmp".into(), "/".into()];
    let place = places.into_iter().find(heeds).expect("a file system with set-user-ID programs");
    let dir = tempfile::Builder::new().prefix(".rights-").tempdir_in(place).expect("temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let copy = dir.path().join("copy");
    fs::copy(program, &copy).expect("copy");
    (dir, copy)
}

fn copy() -> (tempfile::TempDir, PathBuf) {
    copy_of(Path::new(RCON))
}

fn as_nobody(program: &Path, args: &[&str]) -> Run {
    let mut run = run(program).args(args);
    run.command.uid(65_534).gid(65_534).current_dir("/");
    run
}

#[track_caller]
fn refuses(program: &Path) {
    let lines: [&[&str]; 6] = [
        &["--", "id", "-u"],
        &["id", "-u"],
        &["capcon", "--", "id", "-u"],
        &["--user", "0", "--", "id", "-u"],
        &["--env-file", "/etc/shadow", "--help"],
        &["ls"],
    ];
    for line in lines {
        let out: Output = as_nobody(program, line).run();
        assert_eq!((out.status.code(), out.stdout.as_str()), (Some(125), ""), "{out}");
        assert!(out.stderr.contains("refuses\ntry: ") && out.stderr.contains("sudo"), "{out}");
        assert_eq!(out.stderr.lines().count(), 2, "{out}");
    }
    for word in ["--help", "--version"] {
        let out = as_nobody(program, &[word]).run();
        assert_eq!((out.status.code(), out.stderr.as_str()), (Some(0), ""), "{out}");
    }
}

fn set_user_id_is_refused() {
    let (_dir, program) = copy();
    let out = as_nobody(&program, &["--", "id", "-u"]).run();
    assert_eq!(out.stdout, "65534\n", "without the bit it runs: {out}");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("chmod");
    refuses(&program);
}

fn set_group_id_is_refused() {
    let (_dir, program) = copy();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o2755)).expect("chmod");
    refuses(&program);
}

fn file_capabilities_are_refused() {
    let (_dir, program) = copy();
    let out = run("setcap").args(["cap_net_admin+ep".as_ref(), program.as_os_str()]).run();
    assert!(out.status.success(), "{out}");
    refuses(&program);
}

/// Anybody can set them, and nothing depends on them: they reach the command as they are, and what we write is root's.
fn sudos_variables_mean_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("report");
    let with = |line: Run| {
        let names = [("UID", "1000"), ("GID", "1000"), ("USER", "lab"), ("COMMAND", "/bin/sh")];
        names.into_iter().fold(line, |line, (name, value)| line.env(&format!("SUDO_{name}"), value)).run()
    };
    let words = ["sh", "-c", "id -u; id -g; env"];
    let bare = with(run(words[0]).args(&words[1..]));
    let report = format!("--report=json:{}", file.display());
    let out = with(rcon([&report, "--"]).args(words));
    assert_eq!((out.status.code(), &out.stdout, out.stderr.as_str()), (Some(0), &bare.stdout, ""), "{out}");
    assert!(out.stdout.starts_with("0\n0\n") && out.stdout.contains("SUDO_UID=1000\n"), "{out}");
    assert_eq!(fs::metadata(&file).expect("the report").uid(), 0);
}

/// A directory with a program of a name that no other has.
fn with_program() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let program = dir.path().join("rcon-test-program");
    fs::write(&program, "#!/bin/sh\necho ran\n").expect("write");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

const RELATIVE: [&str; 5] = ["", ":/bin:/usr/bin", "/bin::/usr/bin", "/bin:/usr/bin:", ".:/bin"];

fn roots_path_has_no_dot() {
    let dir = with_program();
    for path in RELATIVE {
        let mut line = rcon(["--", "rcon-test-program"]).env("PATH", path);
        line.command.current_dir(dir.path());
        let out = line.run();
        assert_eq!((out.status.code(), out.stdout.as_str()), (Some(127), ""), "PATH={path:?}: {out}");
        assert!(out.stderr.contains("try: name it by its path: ./rcon-test-program"), "{out}");
    }
    let mut line = rcon(["--", "./rcon-test-program"]).env("PATH", "/bin");
    line.command.current_dir(dir.path());
    assert_eq!(line.run().stdout, "ran\n");
}

fn a_users_path_is_as_with_env() {
    let dir = with_program();
    let path = env::var_os("PATH").expect("PATH");
    let other = env::split_paths(&path).map(|dir| dir.join("env")).find(|path| path.exists()).expect("env");
    for path in RELATIVE {
        for program in [Path::new(RCON), &other] {
            let mut line = run(program).args(["--", "rcon-test-program"]).env("PATH", path);
            line.command.current_dir(dir.path());
            let out = line.run();
            assert_eq!((out.status.code(), out.stdout.as_str()), (Some(0), "ran\n"), "PATH={path:?}: {out}");
        }
    }
}
