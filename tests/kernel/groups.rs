//! Looking into the groups of a running rcon from outside, by what the kernel says of its child.

use crate::facts::hierarchies;
use cgroups_rs::fs::{Cgroup, cgroup::get_cgroups_relative_paths_by_pid, hierarchies::auto};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

/// The children of a process with one thread.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// All below a process.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    children(pid).into_iter().flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

/// The process behind a running rcon that has started its command.
pub(crate) fn keeper_of(rcon: u32) -> Option<u32> {
    children(rcon).first().copied()
}

/// The init of the pid namespace that a running rcon has made: the first below it that has another number inside.
pub(crate) fn init_of(rcon: u32) -> u32 {
    let has_two = |pid: &u32| {
        // Who has gone meanwhile has no number.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let own = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        // In a container there is one number more for each of us.
        let depth = |line: &str| line.split_whitespace().count();
        let mine = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mine = mine.lines().find_map(|line| line.strip_prefix("NSpid:")).map_or(1, depth);
        own.map_or(0, depth) > mine
    };
    until("there is no init", || {
        let below: Vec<u32> = children(rcon);
        let further = below.iter().flat_map(|pid| children(*pid));
        below.iter().copied().chain(further).find(has_two)
    })
}

/// Kills both processes behind a run at once: stopped first, so that the one that dies last does not clean up
/// after the other.
pub(crate) fn kill_both(rcon: u32) {
    let keeper = keeper_of(rcon).expect("a keeper");
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for pid in [rcon, keeper] {
            kill(Pid::from_raw(pid as i32), signal).expect("kill");
        }
    }
    // What it held is free when it is gone, and not before.
    until("the keeper does not die", || {
        matches!(crate::jobs::state(Pid::from_raw(keeper as i32)), 'X' | 'Z').then_some(())
    });
}

/// The command that a running rcon has started.
pub(crate) fn command_of(rcon: u32) -> u32 {
    until("rcon has no child", || {
        let own = fs::read_link(format!("/proc/{rcon}/exe")).ok();
        let children = children(keeper_of(rcon)?);
        children.into_iter().find(|child| fs::read_link(format!("/proc/{child}/exe")).ok() != own)
    })
}

/// Looks again and again until there is an answer.
pub(crate) fn until<T>(complaint: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + crate::support::slow(Duration::from_secs(10));
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{complaint}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// The group of a process in the hierarchy that has the controller on v1, else in v2.
pub(crate) fn group_of(pid: u32, controller: &str) -> PathBuf {
    let v1 = hierarchies().iter().find(|one| !one.v2 && one.has(controller));
    let one = v1.or_else(|| hierarchies().iter().find(|one| one.v2)).expect("a hierarchy");
    let path = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process is there");
        let lines =
            text.lines().filter_map(|line| line.splitn(3, ':').skip(1).collect::<Vec<_>>().try_into().ok());
        let mut lines = lines.map(|[names, path]: [&str; 2]| (names.to_owned(), path.to_owned()));
        let here = |names: &str| match one.v2 {
            true => names.is_empty(),
            false => names.split(',').any(|name| name == controller),
        };
        lines.find(|(names, _)| here(names)).expect("a line of the hierarchy").1
    };
    let (path, own) = (path(&pid.to_string()), path("self"));
    // Below our own group, whatever part of the tree the mount shows; or beside it, in the whole tree.
    match (Path::new(&path).strip_prefix(&own), &one.own) {
        (Ok(rest), Some(dir)) => dir.join(rest),
        _ => one.mount.join(path.trim_start_matches('/')),
    }
}

/// A number of a file of `key number` lines.
pub(crate) fn keyed(group: &Path, file: &str, key: &str) -> u64 {
    let path = group.join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("no {key} in {}: {text}", path.display()))
}

/// A process's groups read by cgroups-rs, which shares no code with rcon.
pub(crate) fn by_another(pid: u32) -> Cgroup {
    let paths = get_cgroups_relative_paths_by_pid(pid).expect("/proc/PID/cgroup");
    let hierarchy = auto();
    match hierarchy.v2() {
        true => Cgroup::load(hierarchy, paths.get("").map_or("", |path| path.trim_start_matches('/'))),
        false => Cgroup::load_with_relative_paths(hierarchy, ".", paths),
    }
}

/// A name for a shared group that no other run of the tests has.
pub(crate) fn own_name(word: &str) -> String {
    format!("{word}.{}", process::id())
}
