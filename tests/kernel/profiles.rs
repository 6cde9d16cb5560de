//! Which files root takes options from.

use crate::{case::Case, needs::Need, support::rcon};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

pub(crate) fn tests() -> Vec<Case> {
    vec![Case::new(
        "profiles::root_trusts_no_file_that_others_can_write",
        &[Need::Root],
        root_trusts_no_file_that_others_can_write,
    )]
}

/// A directory of profiles with one in it.
struct Profiles(tempfile::TempDir);

impl Profiles {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        fs::create_dir_all(dir.path().join("rcon/profiles")).expect("mkdir");
        let new = Self(dir);
        fs::write(new.file("p"), "env = \"A=1\"\n").expect("write");
        new
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("rcon/profiles/{name}.toml"))
    }

    fn refused(&self, says: &str) {
        let out = rcon(["--profile", "p", "--", "true"]).env("XDG_CONFIG_HOME", self.0.path()).run();
        assert_eq!(out.status.code(), Some(125), "{says}: {out}");
        assert!(out.stderr.contains(says), "{says}: {out}");
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn root_trusts_no_file_that_others_can_write() {
    let profiles = Profiles::new();
    let out = rcon(["--profile", "p", "--", "true"]).env("XDG_CONFIG_HOME", profiles.0.path()).run();
    assert_eq!(out.status.code(), Some(0), "{out}");
    chmod(&profiles.file("p"), 0o666);
    profiles.refused("others can write");
    let profiles = Profiles::new();
    chmod(&profiles.0.path().join("rcon"), 0o775);
    profiles.refused("others can write");
    let profiles = Profiles::new();
    chown(profiles.file("p"), Some(65534), None).expect("chown");
    profiles.refused("belongs to user 65534");
    let profiles = Profiles::new();
    fs::rename(profiles.file("p"), profiles.file("q")).expect("rename");
    symlink(profiles.file("q"), profiles.file("p")).expect("link");
    profiles.refused("no links");
    let profiles = Profiles::new();
    fs::remove_file(profiles.file("p")).expect("remove");
    nix::unistd::mkfifo(&profiles.file("p"), nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("fifo");
    profiles.refused("no plain file");
}
