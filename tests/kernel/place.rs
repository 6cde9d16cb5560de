//! Where, if anywhere, this process may make a group with a given controller: an independent reading of the
//! rules, against which rcon's own choice is tested.

use crate::facts::{Hierarchy, hierarchies, offers};
use nix::unistd::{AccessFlags, access, geteuid};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::OnceLock,
};

/// Some group can be made somewhere.
pub(crate) fn any() -> Result<PathBuf, String> {
    let mut reasons = Vec::new();
    for one in hierarchies() {
        match if one.v2 { below(one, None) } else { own(one) } {
            Ok(group) => return Ok(group),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(if reasons.is_empty() { "no cgroup file system is mounted".to_owned() } else { reasons.join("; ") })
}

/// v1: below the caller's own group.
pub(crate) fn v1(controller: &str) -> Result<PathBuf, String> {
    let found = hierarchies().iter().find(|one| !one.v2 && one.has(controller));
    own(found.ok_or_else(|| format!("no v1 hierarchy has {controller}"))?)
}

/// v2: below the nearest group, from the caller's own upwards, that may have children with the controller.
pub(crate) fn v2(controller: &str) -> Result<PathBuf, String> {
    let found = hierarchies().iter().find(|one| one.v2).ok_or("no v2 hierarchy is mounted")?;
    if !found.has(controller) {
        return Err(format!("the v2 hierarchy has no {controller}"));
    }
    below(found, Some(controller))
}

/// The same, or in a scope that systemd would make for us.
pub(crate) fn v2_or_scope(controller: &str) -> Result<(), String> {
    v2(controller).map(drop).or_else(|why| scope(controller).map_err(|scope| format!("{why}; {scope}")))
}

/// Would systemd make a scope with this controller, and would we thereby leave no limit? Tried with its own tool.
pub(crate) fn scope(controller: &str) -> Result<(), String> {
    static OFFERED: OnceLock<Result<String, String>> = OnceLock::new();
    let offered = OFFERED.get_or_init(|| {
        if !Path::new("/run/systemd/system").is_dir() {
            return Err("init is not systemd".to_owned());
        }
        if let Some(limit) = left_by_a_scope() {
            return Err(format!("a scope would leave {limit}"));
        }
        let mut line = Command::new("systemd-run");
        line.args(users()).args(["--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--", "sh", "-c"]);
        line.arg("cat /sys/fs/cgroup$(cut -d: -f3 </proc/self/cgroup)/cgroup.controllers");
        let out = line.output().map_err(|error| format!("systemd-run: {error}"))?;
        match out.status.success() {
            true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
            false => Err(format!("systemd-run: {}", String::from_utf8_lossy(&out.stderr).trim())),
        }
    });
    match offered {
        Ok(list) if list.split_whitespace().any(|name| name == controller) => Ok(()),
        Ok(list) => Err(format!("a scope has only: {}", list.trim())),
        Err(why) => Err(why.clone()),
    }
}

/// `--user`, for all but root.
pub(crate) fn users() -> Option<&'static str> {
    (!geteuid().is_root()).then_some("--user")
}

/// A limit between our group and the slice around it, but for the one on tasks that every unit has.
fn left_by_a_scope() -> Option<String> {
    let one = hierarchies().iter().find(|one| one.v2)?;
    let default =
        Command::new("systemctl").args(users()).args(["show", "-p", "DefaultTasksMax", "--value"]).output();
    let default =
        default.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    let slice = |group: &&Path| group.extension().is_none_or(|kind| kind != "slice") && *group != one.mount;
    one.own.as_deref()?.ancestors().take_while(slice).find_map(|group| {
        let set = LIMITS.iter().find(|file| {
            fs::read_to_string(group.join(file)).is_ok_and(|text| {
                !(text.starts_with("max") || **file == "pids.max" && text.trim() == default)
            })
        })?;
        Some(format!("{set} of {}", group.display()))
    })
}

/// Is there a `cgroup.kill`? The root group never has one, so a child is looked at, or made for the purpose.
pub(crate) fn has_kill() -> Result<(), String> {
    let one = hierarchies().iter().find(|one| one.v2).ok_or("no v2 hierarchy is mounted")?;
    let own = one.own.clone().unwrap_or_else(|| one.mount.clone());
    if own.join("cgroup.kill").exists() {
        return Ok(());
    }
    let probe = own.join(format!("probe-{}", process::id()));
    fs::create_dir(&probe).map_err(|error| format!("{}: {error}", probe.display()))?;
    let there = probe.join("cgroup.kill").exists();
    fs::remove_dir(&probe).map_err(|error| format!("{}: {error}", probe.display()))?;
    if there { Ok(()) } else { Err("the kernel has no cgroup.kill".to_owned()) }
}

fn own(one: &Hierarchy) -> Result<PathBuf, String> {
    let names = one.controllers.join(",");
    if one.read_only {
        return Err(format!("v1 {names} is mounted read-only"));
    }
    let own = one.own.clone().ok_or_else(|| format!("our v1 {names} group is outside of the mount"))?;
    if writable(&own) { Ok(own) } else { Err(format!("{} is not ours to write", own.display())) }
}

fn below(one: &Hierarchy, controller: Option<&str>) -> Result<PathBuf, String> {
    if one.read_only {
        return Err("cgroup v2 is mounted read-only".to_owned());
    }
    let own = one.own.as_deref().ok_or("our v2 group is outside of the mount")?;
    let mut reason = String::new();
    for group in own.ancestors().take_while(|group| group.starts_with(&one.mount)) {
        match may_have_children(group, controller) {
            Ok(()) => return Ok(group.to_owned()),
            Err(why) => reason = why,
        }
        if let Some(limit) = limit_of(group) {
            return Err(format!("{reason}, and above it we would leave its {limit}"));
        }
    }
    Err(reason)
}

/// The rule of "no internal processes": only the real root may have both processes and controllers below it.
fn may_have_children(group: &Path, controller: Option<&str>) -> Result<(), String> {
    let name = group.display();
    if is_systemds(group) {
        return Err(format!("{name} is systemd's, not delegated"));
    }
    if let Some(controller) = controller.filter(|controller| !offers(group, controller)) {
        return Err(format!("{name} was given no {controller}"));
    }
    if !["", "cgroup.procs", "cgroup.subtree_control"].iter().all(|file| writable(&group.join(file))) {
        return Err(format!("{name} is not ours to write"));
    }
    let is_root = !group.join("cgroup.type").exists();
    let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    if controller.is_none() || is_root || procs.trim().is_empty() {
        return Ok(());
    }
    Err(format!("{name} holds processes"))
}

const LIMITS: [&str; 5] = ["memory.max", "memory.high", "memory.swap.max", "pids.max", "cpu.max"];

/// The first limit that is set on the group itself.
fn limit_of(group: &Path) -> Option<&'static str> {
    LIMITS
        .into_iter()
        .find(|file| fs::read_to_string(group.join(file)).is_ok_and(|text| !text.starts_with("max")))
}

/// The tree has one writer, systemd: only what it has delegated is ours.
fn is_systemds(group: &Path) -> bool {
    if !Path::new("/run/systemd/system").is_dir() {
        return false;
    }
    let name = group.file_name().unwrap_or_default().to_string_lossy();
    if name.ends_with(".slice") || group == Path::new("/sys/fs/cgroup") {
        return true;
    }
    if !(name.ends_with(".service") || name.ends_with(".scope")) {
        return false; // made by whom systemd delegated the group above to
    }
    if name.starts_with("user@") {
        return true; // a systemd of the user's sits there
    }
    let below_user = group.parent().is_some_and(|parent| parent.to_string_lossy().contains("/user@"));
    let mut command = Command::new("systemctl");
    command.args(below_user.then_some("--user")).args(["show", "--property=Delegate", "--value"]).arg(&*name);
    !command.output().is_ok_and(|out| out.stdout.starts_with(b"yes"))
}

fn writable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}
