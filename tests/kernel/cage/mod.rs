//! Namespaces, root and mounts, proved by what the command inside can see and do.

mod files;
mod namespaces;
mod overlays;
mod pids;
mod root;
mod users;

use crate::{
    case::Case,
    needs::Need,
    support::{Run, rcon, slow},
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub(crate) fn tests() -> Vec<Case> {
    use Need::{Overlay, Root, Userns};
    vec![
        Case::new("cage::pid_statuses_are_exact", &[Root], pids::pid_statuses_are_exact),
        Case::new("cage::pid_shows_its_own_proc", &[Root], pids::pid_shows_its_own_proc),
        Case::new("cage::init_reaps", &[Root], pids::init_reaps),
        Case::new("cage::init_passes_signals_on", &[Root], pids::init_passes_signals_on),
        Case::new("cage::as_init_is_pid_one", &[Root], pids::as_init_is_pid_one),
        Case::new("cage::dies_with_the_wrapper", &[Root], pids::dies_with_the_wrapper),
        Case::new(
            "cage::an_init_is_keeper_enough",
            &[Root, Need::Tool("busybox")],
            pids::an_init_is_keeper_enough,
        ),
        Case::new(
            "cage::an_init_hides_before_it_has_a_command",
            &[Root, Need::Tool("strace")],
            pids::an_init_hides_before_it_has_a_command,
        ),
        Case::new("cage::wait_all_waits_inside", &[Root], pids::wait_all_waits_inside),
        Case::new("cage::stops_and_goes_on", &[Root], pids::stops_and_goes_on),
        Case::new("cage::root_is_all_there_is", &[Root], root::root_is_all_there_is),
        Case::new("cage::root_closes_descriptors", &[Root], root::root_closes_descriptors),
        Case::new("cage::binds_in_order", &[Root], root::binds_in_order),
        Case::new("cage::read_only_is_recursive", &[Root], root::read_only_is_recursive),
        Case::new("cage::hostile_links_stay_inside", &[Root], root::hostile_links_stay_inside),
        Case::new("cage::minimal_dev_works", &[Root], root::minimal_dev_works),
        Case::new("cage::proc_of_a_root_is_guarded", &[Root], root::proc_of_a_root_is_guarded),
        Case::new("cage::masks_hide", &[Root], root::masks_hide),
        Case::new("cage::private_tmp", &[Root], root::private_tmp),
        Case::new("cage::ephemeral_changes_nothing", &[Root, Overlay], overlays::ephemeral_changes_nothing),
        Case::new(
            "cage::ephemeral_in_a_directory",
            &[Root, Overlay, Userns],
            overlays::ephemeral_in_a_directory,
        ),
        Case::new("cage::overlay_keeps_writes_above", &[Root, Overlay], overlays::overlay_keeps_writes_above),
        Case::new("cage::changes_can_be_kept", &[Root, Overlay], overlays::changes_can_be_kept),
        Case::new("cage::files_of_the_host", &[Root], files::files_of_the_host),
        Case::new("cage::variables_from_files", &[Root], files::variables_from_files),
        Case::new("cage::image_config", &[Root], files::image_config),
        Case::new("cage::user_of_the_root", &[Root], files::user_of_the_root),
        Case::new("cage::an_ordinary_user", &[Root, Userns, Overlay], users::an_ordinary_user),
        Case::new("cage::where_user_namespaces_are_forbidden", &[Root, Need::Lab], users::forbidden),
        Case::new(
            "cage::kernels_without_the_mount_calls",
            &[Root],
            namespaces::kernels_without_the_mount_calls,
        ),
        Case::new(
            "cage::ranges_lent_to_a_user",
            &[Root, Userns, Need::Tool("newuidmap")],
            users::ranges_lent_to_a_user,
        ),
        Case::new("cage::names", &[Root], namespaces::names),
        Case::new("cage::clocks", &[Root, Need::TimeNamespace], namespaces::clocks),
        Case::new("cage::loopback_is_up", &[Root], namespaces::loopback_is_up),
        Case::new("cage::joins", &[Root], namespaces::joins),
        Case::new("cage::cgroup_root_is_the_commands_group", &[Root, Need::Cgroup], namespaces::cgroup_root),
        Case::new("cage::user_namespace_of_root", &[Root, Userns], users::user_namespace_of_root),
        Case::new(
            "cage::joins_before_a_new_user_namespace",
            &[Root, Userns],
            users::joins_before_a_new_user_namespace,
        ),
        Case::new(
            "cage::joins_all_before_a_new_user_namespace",
            &[Root, Userns],
            users::joins_all_before_a_new_user_namespace,
        ),
        Case::new("cage::settings_hold", &[Root], namespaces::settings_hold),
        Case::new("cage::nothing_stays_mounted", &[Root, Overlay], overlays::nothing_stays_mounted),
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
