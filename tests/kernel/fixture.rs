//! What a case leaves behind: groups, mounts, processes, changed parents. A case that leaves something failed.

use crate::{case::keep_panics, facts::hierarchies, support};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, geteuid},
};
use std::{
    collections::BTreeSet,
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

/// Once, before the first case.
pub(crate) fn prepare() {
    keep_panics();
    // Whatever a case orphans becomes our child, so that it can be seen.
    prctl::set_child_subreaper(true).expect("PR_SET_CHILD_SUBREAPER");
    if geteuid().is_root() {
        // Mounts of our own: nobody else's appear in the table, and ours go when we do. This is refused where
        // seccomp or a missing capability says so; then the table is the shared one, still right when alone.
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(None::<&str>, "/", None::<&str>, flags, None::<&str>))
            .ok();
    }
}

/// The state of things before a case.
#[derive(Debug)]
pub(crate) struct Fixture {
    before: State,
    /// Two runs of the tests at a time would see each other's groups: cases take turns.
    _turn: File,
}

impl Fixture {
    pub(crate) fn before() -> Self {
        let turn = File::open(env::temp_dir()).expect("open the temporary directory");
        turn.lock().expect("lock the temporary directory");
        Self { before: State::now(), _turn: turn }
    }

    /// What is there now that was not before, as a message. Things may take a moment to go; leftover processes
    /// are ended and groups removed, so that the next case starts clean.
    pub(crate) fn leaked(self) -> Option<String> {
        let deadline = Instant::now() + support::slow(Duration::from_secs(5));
        let leak = loop {
            let leak = State::now().since(&self.before);
            if leak.is_none() || Instant::now() > deadline {
                break leak;
            }
            thread::sleep(Duration::from_millis(20));
        };
        if leak.is_some() {
            clear(&self.before);
        }
        leak
    }
}

/// What the machine holds that a case could leave behind.
#[derive(Debug)]
pub(crate) struct State {
    groups: BTreeSet<PathBuf>,
    /// (file, content) of each `cgroup.subtree_control` from our own group up.
    parents: BTreeSet<(PathBuf, String)>,
    mounts: BTreeSet<String>,
    children: BTreeSet<i32>,
}

impl State {
    pub(crate) fn now() -> Self {
        let mut groups = BTreeSet::new();
        let mut parents = BTreeSet::new();
        for one in hierarchies() {
            let own = one.own.as_deref().unwrap_or(&one.mount);
            // v2 groups may have to stand beside ours (cgroups(7), "no internal processes"): look from the top.
            collect_groups(if one.v2 { &one.mount } else { own }, &mut groups);
            for group in own.ancestors().take_while(|group| one.v2 && group.starts_with(&one.mount)) {
                if is_systemds_to_change(group, &one.mount) {
                    continue;
                }
                let file = group.join("cgroup.subtree_control");
                parents.extend(fs::read_to_string(&file).ok().map(|text| (file, text.trim().to_owned())));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let children = children().into_iter().map(Pid::as_raw).collect();
        Self { groups, parents, mounts: mounts.lines().map(str::to_owned).collect(), children }
    }

    /// What is in `self` and was not before.
    pub(crate) fn since(&self, before: &Self) -> Option<String> {
        let mut found = Vec::new();
        found.extend(self.groups.difference(&before.groups).map(|path| format!("group {}", path.display())));
        let changed = self.parents.difference(&before.parents);
        found.extend(changed.map(|(path, now)| format!("change of {}: now \"{now}\"", path.display())));
        found.extend(self.mounts.difference(&before.mounts).map(|line| format!("mount {line}")));
        found.extend(before.mounts.difference(&self.mounts).map(|line| format!("loss of the mount {line}")));
        found.extend(
            self.children.difference(&before.children).map(|pid| format!("process {}", describe(*pid))),
        );
        (!found.is_empty()).then(|| format!("left behind: {}", found.join(", ")))
    }
}

/// systemd passes controllers on as its units need them, a moment before or after a scope is there.
fn is_systemds_to_change(group: &Path, mount: &Path) -> bool {
    let name = group.file_name().unwrap_or_default().to_string_lossy();
    Path::new("/run/systemd/system").is_dir()
        && (group == mount || name.ends_with(".slice") || name.starts_with("user@"))
}

/// Directories named `rcon-*` below `top`, but for those of a living process that is not of this test run.
fn collect_groups(top: &Path, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(top) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let name = entry.file_name();
        match name.to_str().and_then(|name| name.strip_prefix("rcon-")) {
            Some(rest) if !is_of_others(rest) => {
                found.insert(entry.path());
            }
            _ => {}
        }
        collect_groups(&entry.path(), found);
    }
}

/// `PID-…` of a process that lives and does not descend from us.
fn is_of_others(rest: &str) -> bool {
    let Some(mut pid) = rest.split('-').next().and_then(|pid| pid.parse::<i32>().ok()) else { return false };
    let me = process::id() as i32;
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return false;
    }
    while pid > 1 {
        if pid == me {
            return false;
        }
        pid = parent_of(pid).unwrap_or(0);
    }
    true
}

fn parent_of(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// Our children, dead ones reaped: the kernel lists them by thread (proc_pid_task(5)).
fn children() -> Vec<Pid> {
    while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
        waitpid(None, Some(WaitPidFlag::WNOHANG))
    {}
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .map(Pid::from_raw)
        .collect()
}

fn describe(pid: i32) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} ({})", line.trim_end_matches('\0').replace('\0', " "))
}

fn end(pid: Pid) {
    // It may have gone by itself; what counts is that none is left.
    kill(pid, Signal::SIGKILL).ok();
    waitpid(pid, None).ok();
}

/// Ends what is left of a case, and removes its groups: what is killed orphans the next generation to us.
pub(crate) fn clear(before: &State) {
    for _ in 0..200 {
        let now = State::now();
        let groups: Vec<_> = now.groups.difference(&before.groups).collect();
        let processes = children();
        if groups.is_empty() && processes.is_empty() {
            return;
        }
        processes.into_iter().for_each(end);
        // deepest first; one that still holds somebody is tried again
        groups.into_iter().rev().for_each(|group| drop(fs::remove_dir(group)));
        thread::sleep(Duration::from_millis(5));
    }
}
