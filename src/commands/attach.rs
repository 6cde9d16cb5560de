//! `rcon attach`: moves running processes into a group with limits, and `--detach` back out of it.
//!
//! The group lies below the one that the processes are in, so nothing that binds them now is left. A watcher
//! stays behind and removes the group when its last process has ended.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};
use nix::errno::Errno;
use nix::sys::stat::{fchmod, fstat};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use super::set::{is_limit, targets, watch};
use crate::cgroup::layout::{Hierarchy, Layout};
use crate::cgroup::{Groups, open_dir};
use crate::cli::{self, options::Opt};
use crate::error::Error;
use crate::host::Host;
use crate::limits::Version;
use crate::live::{self, Family, Member, Origin, Target};
use crate::runs::{self, Name, Run};

pub(super) fn takes(option: &Opt) -> bool {
    is_limit(option) || ["name", "cgroup-parent", "allow-escape", "best-effort"].contains(&option.name)
}

pub(super) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("attach")
        .about("Put running processes under limits: in a new group, or in that of a run (--name)")
        .arg(
            Arg::new("PID").required(true).num_args(1..).value_parser(process).help(
                "A process: PID, or PID@START with field 22 of /proc/PID/stat, which no later process has",
            ),
        )
        .args(cli::some_options(takes))
        .arg(flag("recursive", "All their descendants too"))
        .arg(flag("detach", "Put them back where they were before").conflicts_with("name"))
}

/// `4711` or `4711@123456`.
fn process(text: &str) -> Result<(i32, Option<u64>), String> {
    let (pid, started) = match text.split_once('@') {
        Some((pid, started)) => (pid, Some(started.parse().map_err(|_| "give PID@START, two numbers")?)),
        None => (text, None),
    };
    match pid.parse::<i32>() {
        Ok(pid @ 1..) => Ok((pid, started)),
        _ => Err("give the number of a process".to_owned()),
    }
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    let args = cli::options_of(matches, takes)?;
    let pids = matches.get_many::<(i32, Option<u64>)>("PID").into_iter().flatten();
    let heads = pids
        .map(|(pid, started)| Member::open(Pid::from_raw(*pid), *started))
        .collect::<Result<Vec<_>, _>>()?;
    let family = Family { heads, recursive: matches.get_flag("recursive") };
    if matches.get_flag("detach") {
        return detach(&family);
    }
    let layouts = family.heads.iter().map(|head| runs::layout_of(head.pid)).collect::<Result<Vec<_>, _>>()?;
    if let Some(Name::Exact(name)) = &args.control.name
        && let Ok(run) = runs::one(name.as_ref())
        && !run.is_stale()
    {
        if !args.limits.is_empty() {
            return Err(Error::new(format!("{} lives and has its limits", run.shown()))
                .try_this(format!("attach without limits; rcon set {} changes them", run.shown())));
        }
        return join(&family, &layouts, &run, args.allow_escape);
    }
    if !args.needs_group() {
        return Err(
            Error::new("neither limits nor a name given").try_this("rcon attach PID --mem 1G --name NAME")
        );
    }
    let Some(layout) = layouts.first() else { return Ok(0) };
    let host = Host::around(Path::new("/"), &args, |_| Ok(layout.clone()))?;
    let plan = crate::plan::plan(&args, &host)?;
    for one in &plan.waived {
        crate::say(&format!("rcon: going on without {one}"));
    }
    let origins: Vec<PathBuf> = plan
        .groups
        .iter()
        .map(|group| common_origin(&family, &layouts, &group.parent))
        .collect::<Result<_, _>>()?;
    live::in_background(|| {
        let mut waived = Vec::new();
        let mut groups = Groups::acquire(&plan.groups, args.best_effort, &mut waived)?;
        for one in waived {
            crate::say(&format!("rcon: going on without {one}"));
        }
        for ((dir, path, _), origin) in groups.dirs().zip(&origins) {
            // Where no note can be kept, the parent is the origin, or --detach says that it does not know.
            if !Origin(origin.clone()).note(dir) && path.parent() != Some(origin) {
                crate::say(
                    "rcon: this kernel keeps no note of where they came from: rcon attach --detach will not work",
                );
            }
        }
        let targets = targets(&groups, origins.iter().cloned())?;
        match live::move_all(&family, &targets) {
            Ok(_) => {
                groups.keep();
                Ok(move || watch(groups))
            }
            Err(error) => {
                live::give_up(groups, &targets);
                Err(error)
            }
        }
    })
}

fn hierarchies(layout: &Layout) -> impl Iterator<Item = (&Hierarchy, Version)> {
    let v1 = layout.v1.iter().map(|hierarchy| (hierarchy, Version::V1));
    v1.chain(layout.v2.iter().map(|hierarchy| (hierarchy, Version::V2)))
}

/// The group that the process is in, in the hierarchy that `dir` lies in.
fn own_in(layout: &Layout, dir: &Path) -> Result<(PathBuf, PathBuf, Version), Error> {
    hierarchies(layout)
        .find(|(hierarchy, _)| dir.starts_with(&hierarchy.mount))
        .and_then(|(hierarchy, version)| {
            Some((hierarchy.own.clone().ok()?, hierarchy.mount.clone(), version))
        })
        .ok_or_else(|| {
            Error::new(format!("the process' own group beside {} cannot be seen from here", dir.display()))
        })
}

/// All come from one group, so that one note says where all belong.
fn common_origin(family: &Family, layouts: &[Layout], parent: &Path) -> Result<PathBuf, Error> {
    let mut common: Option<(PathBuf, Pid)> = None;
    for (head, layout) in family.heads.iter().zip(layouts) {
        let (own, ..) = own_in(layout, parent)?;
        match &common {
            None => common = Some((own, head.pid)),
            Some((first, _)) if *first == own => {}
            Some((first, pid)) => {
                return Err(Error::new(format!(
                    "processes {pid} and {} are in different groups ({} and {})",
                    head.pid,
                    first.display(),
                    own.display()
                ))
                .try_this("attach them one by one, under different names"));
            }
        }
    }
    common.map(|(own, _)| own).ok_or_else(|| Error::new("no process given"))
}

/// Into the groups of a run that lives, in all hierarchies that it uses.
fn join(family: &Family, layouts: &[Layout], run: &Run, allow_escape: bool) -> Result<i32, Error> {
    let mut places = Vec::new();
    for dir in &run.dirs {
        let parent = dir.path.parent().unwrap_or(&dir.path);
        let origin = common_origin(family, layouts, parent)?;
        for layout in layouts {
            let (own, mount, version) = own_in(layout, parent)?;
            let crossed = live::crossed(&own, parent, &mount, version);
            if let (Some(limit), false) = (crossed.first(), allow_escape) {
                return Err(Error::new(format!("it would leave a limit that it is under: {limit}"))
                    .try_this("--allow-escape accepts that"));
            }
        }
        let fd = dir.open().map_err(|errno| super::gone(run, errno))?;
        if Origin::of(fd.as_fd()).is_none() && !Origin(origin.clone()).note(fd.as_fd()) {
            crate::say(
                "rcon: this kernel keeps no note of where they came from: rcon attach --detach will not work",
            );
        }
        let origin = open_dir(&origin)
            .map_err(|e| Error::new(format!("cannot open {}", origin.display())).errno(e))?;
        places.push(Target { dir: fd, path: dir.path.clone(), origin });
    }
    live::move_all(family, &places)?;
    Ok(0)
}

/// Back to where the note on the group says that its processes came from.
fn detach(family: &Family) -> Result<i32, Error> {
    for head in &family.heads {
        let run = runs::one(head.pid.to_string().as_ref())?;
        let mut back = Vec::new();
        for dir in &run.dirs {
            let fd = dir.open().map_err(|errno| super::gone(&run, errno))?;
            let origin = origin_of(&run, dir, &fd)?;
            let place = open_dir(&origin).map_err(|e| {
                Error::new(format!(
                    "the group that process {} came from is gone: {}",
                    head.pid,
                    origin.display()
                ))
                .errno(e)
            })?;
            back.push(Target { dir: place, path: origin, origin: fd });
        }
        let one =
            Family { heads: vec![Member::open(head.pid, Some(head.started))?], recursive: family.recursive };
        live::move_all(&one, &back)?;
        // Empty now, perhaps: removed at once, which also tells the watcher; if not, it is to look who is left.
        for dir in run.dirs.iter().rev() {
            if let (Some(parent), Some(name)) =
                (dir.path.parent().and_then(|p| open_dir(p).ok()), dir.path.file_name())
                && let Ok(fd) = dir.open()
            {
                let told = fchmod(&fd, crate::cgroup::MODE);
                debug_assert!(told != Err(Errno::EBADF));
                // Somebody is in it still, or a wrapper that lives has the same in mind.
                let removed = unlinkat(&parent, name, UnlinkatFlags::RemoveDir);
                debug_assert!(removed != Err(Errno::EBADF));
            }
        }
    }
    Ok(0)
}

fn origin_of(run: &Run, dir: &runs::Dir, fd: &std::os::fd::OwnedFd) -> Result<PathBuf, Error> {
    let not_attached = || {
        Error::new(format!(
            "nobody has been attached to {}: a run that a wrapper started ends with it",
            run.shown()
        ))
    };
    let Some(Origin(origin)) = Origin::of(fd.as_fd()) else { return Err(not_attached()) };
    // A user's note must not tell root where to put processes.
    let owner = fstat(fd).map_err(|errno| super::gone(run, errno))?.st_uid;
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(Error::new(format!("{} is user {owner}'s", run.shown())).try_this("detach as that user"));
    }
    let layout = runs::layout()?;
    let inside = |(hierarchy, _): (&Hierarchy, Version)| {
        dir.path.starts_with(&hierarchy.mount) && origin.starts_with(&hierarchy.mount)
    };
    if hierarchies(&layout).any(inside) { Ok(origin) } else { Err(not_attached()) }
}
