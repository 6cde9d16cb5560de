//! `rcon set`: changes the limits of a run that lives.
//!
//! A limit of a controller that the run has no group for gets one: on v1 a group of the same name in that
//! hierarchy, to which the run's processes move, and which a watcher removes when they have gone; on v2 the
//! controller is enabled for the group that is there.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command};
use nix::errno::Errno;

use crate::cgroup::layout::Layout;
use crate::cgroup::{Groups, open_dir, pass_on, read_at, take_back, write_at};
use crate::cli::{self, Args, options::Apply};
use crate::error::Error;
use crate::host::Host;
use crate::limits::{self, Asked, Controller, Version, Write};
use crate::live::{self, Target, Transaction};
use crate::plan::GroupPlan;
use crate::runs::{self, Dir, Run};
use crate::systemd;
use crate::value::show_bytes;

pub(super) fn command() -> Command {
    Command::new("set")
        .about("Change the limits of a run that lives")
        .arg(super::name())
        .args(cli::some_options(is_limit))
        .arg(
            Arg::new("force")
                .long("force")
                .action(ArgAction::SetTrue)
                .help("Lower --mem below what is in use although the kernel may kill for it (cgroup v2)"),
        )
}

pub(super) fn is_limit(option: &cli::options::Opt) -> bool {
    matches!(option.apply, Apply::Limit(_))
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    let args = cli::options_of(matches, is_limit)?;
    if args.limits.is_empty() {
        return Err(Error::new("no limit given").try_this("rcon set NAME --mem 1G --cpu 50%"));
    }
    let run = runs::one(&matches.get_one::<OsString>("NAME").cloned().unwrap_or_default())?;
    if run.is_stale() {
        return Err(
            Error::new(format!("nothing runs in {} any more", run.shown())).try_this("rcon gc removes it")
        );
    }
    let host = Host::around(Path::new("/"), &args, |_| layout_around(&run))?;
    let open: Vec<(&Dir, OwnedFd)> = run
        .dirs
        .iter()
        .map(|dir| Ok((dir, dir.open().map_err(|errno| super::gone(&run, errno))?)))
        .collect::<Result<_, Error>>()?;
    let dir_of = |controller: Controller| {
        open.iter().find(|(dir, _)| dir.has(controller)).map(|(dir, fd)| (fd.as_fd(), dir.version))
    };
    let (here, missing): (Vec<Asked>, Vec<Asked>) =
        args.limits.iter().cloned().partition(|asked| dir_of(asked.limit.controller).is_some());
    let here = live::completed(&here, dir_of(Controller::Cpu), dir_of(Controller::Memory));
    let version_of = |controller| dir_of(controller).map(|(_, version)| version);
    let writes = limits::writes(&here, &host.facts, version_of)?;
    let mut transaction = Transaction::default();
    for write in &writes {
        if let ("memory.max", Some((dir, _))) = (first_file(write), dir_of(Controller::Memory)) {
            make_room(dir, write, matches.get_flag("force"))?;
        }
    }
    transaction.write(&writes, |write| dir_of(write.controller).map(|(dir, _)| dir))?;
    let status = if missing.is_empty() { 0 } else { extend(&run, &host, &args, missing)? };
    if status == 0 {
        transaction.keep();
    }
    Ok(status)
}

fn first_file(write: &Write) -> &'static str {
    write.alternatives.first().map_or("", |(file, _)| file)
}

/// v2 kills where less is allowed than is used: first whatever can be freed is freed.
fn make_room(dir: BorrowedFd, write: &Write, force: bool) -> Result<(), Error> {
    let used = || read_at(dir, "memory.current").and_then(|text| text.trim().parse::<u64>().ok());
    let Some(limit) = write.alternatives.first().and_then(|(_, value)| value.parse::<u64>().ok()) else {
        return Ok(());
    };
    let Some(before) = used().filter(|used| *used > limit && !force) else { return Ok(()) };
    // It frees less than asked (EAGAIN), or does not exist before Linux 5.19: what counts is what is left.
    let freed = write_at(dir, "memory.reclaim", &(before - limit).to_string());
    debug_assert!(freed != Err(Errno::EBADF));
    match used().filter(|used| *used > limit) {
        None => Ok(()),
        Some(left) => Err(Error::new(format!(
            "it uses {}, of which the kernel could free {}: at that limit it would kill processes",
            show_bytes(before),
            show_bytes(before.saturating_sub(left))
        ))
        .option(&write.option)
        .try_this("--force lowers it all the same")),
    }
}

/// The hierarchies, with the run's parent in each as the place to look from; where the run has no group, with
/// the group that its processes are in.
pub(super) fn layout_around(run: &Run) -> Result<Layout, Error> {
    let mut layout = layout_of(run)?;
    for hierarchy in layout.v1.iter_mut().chain(&mut layout.v2) {
        if let Some(dir) = run.dirs.iter().find(|dir| dir.path.starts_with(&hierarchy.mount))
            && let Some(parent) = dir.path.parent()
        {
            hierarchy.own = Ok(parent.to_owned());
        }
    }
    Ok(layout)
}

fn layout_of(run: &Run) -> Result<Layout, Error> {
    match run.processes.first() {
        Some(pid) => runs::layout_of(*pid),
        None => runs::layout(),
    }
}

/// Gives the run groups for limits of controllers that it has none for.
fn extend(run: &Run, host: &Host, args: &Args, missing: Vec<Asked>) -> Result<i32, Error> {
    let on_v2 = |asked: &Asked| host.layout.v1_of(asked.limit.controller).is_none();
    let (v2, v1): (Vec<Asked>, Vec<Asked>) = missing.into_iter().partition(on_v2);
    if let (Some(dir), false) = (run.v2(), v2.is_empty()) {
        if !v1.is_empty() {
            return Err(Error::new(
                "limits that need new groups on both cgroup versions: set them one by one",
            ));
        }
        return live::in_background_even_so(|| match enable(run, dir, host, &v2) {
            Ok((result, watch)) => (result, Some(watch)),
            Err(error) => (Err(error), None),
        });
    }
    let limits: Vec<Asked> = v1.into_iter().chain(v2).collect();
    let args = Args { limits, control: runs::Asked::default(), ..args.clone() };
    let mut plans = crate::plan::plan(&args, host)?.groups;
    plans.retain(|plan| !plan.controllers.is_empty());
    add_groups(run, plans)
}

/// Gives the run more groups, by its name, and a watcher that removes them.
pub(super) fn add_groups(run: &Run, mut plans: Vec<GroupPlan>) -> Result<i32, Error> {
    for plan in &mut plans {
        plan.name = format!("{}{}", runs::PREFIX, run.name.to_string_lossy());
        plan.shared = true;
    }
    live::in_background(|| {
        let mut groups = Groups::acquire(&plans, false, &mut Vec::new())?;
        for ((dir, ..), plan) in groups.dirs().zip(&plans) {
            // Asked for by --detach of processes that were attached; the parent serves as well.
            let noted = live::Origin(plan.parent.clone()).note(dir);
            debug_assert!(noted || plan.version == Version::V1);
        }
        let targets = targets(&groups, plans.iter().map(|plan| plan.parent.clone()))?;
        match live::move_run(run, &targets) {
            Ok(()) => {
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

/// The groups as places to move to, each with the place to put back to.
pub(super) fn targets(
    groups: &Groups,
    origins: impl Iterator<Item = std::path::PathBuf>,
) -> Result<Vec<Target>, Error> {
    groups
        .dirs()
        .zip(origins)
        .map(|((dir, path, _), origin)| {
            let cannot =
                |what: &Path, errno| Error::new(format!("cannot open {}", what.display())).errno(errno);
            Ok(Target {
                dir: crate::cgroup::open_child(dir, ".".as_ref()).map_err(|errno| cannot(&path, errno))?,
                path: path.clone(),
                origin: open_dir(&origin).map_err(|errno| cannot(&origin, errno))?,
            })
        })
        .collect()
}

/// Removes the groups when their last process has gone; what comes in at that moment lives on in them.
pub(super) fn watch(mut groups: Groups) {
    loop {
        let dirs: Vec<OwnedFd> =
            groups.dirs().filter_map(|(dir, ..)| dir.try_clone_to_owned().ok()).collect();
        let borrowed: Vec<BorrowedFd> = dirs.iter().map(AsFd::as_fd).collect();
        let ended = runs::until_empty(&borrowed, None);
        debug_assert_eq!(ended, runs::Watched::Ended);
        drop(borrowed);
        drop(dirs);
        if groups.try_remove() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// v2: enables controllers for a group that is there, until the run has ended.
fn enable(
    run: &Run,
    dir: &Dir,
    host: &Host,
    asked: &[Asked],
) -> Result<(Result<(), Error>, impl FnOnce()), Error> {
    let fd = dir.open().map_err(|errno| super::gone(run, errno))?;
    let path = dir.path.parent().unwrap_or(&dir.path);
    let parent =
        open_dir(path).map_err(|e| Error::new(format!("cannot open {}", path.display())).errno(e))?;
    // Whoever takes controllers back from the parent first makes sure that nobody holds this lock.
    let locked = crate::sys::try_lock(parent.as_fd(), false);
    debug_assert!(locked != Err(Errno::EBADF));
    let mut enabled = Vec::new();
    let result = asked
        .iter()
        .try_for_each(|one| {
            let controller = one.limit.controller;
            if enabled.contains(&controller) {
                return Ok(());
            }
            enable_below(parent.as_fd(), path, controller).map_err(|error| error.option(&one.spelled))?;
            enabled.push(controller);
            Ok(())
        })
        .and_then(|()| {
            let writes = limits::writes(asked, &host.facts, |_| Some(Version::V2))?;
            let mut transaction = Transaction::default();
            transaction.write(&writes, |_| Some(fd.as_fd()))?;
            transaction.keep();
            Ok(())
        });
    let (run, dir) = (run.clone(), dir.clone());
    // Also after a refusal: the run's own wrapper uses the parent, and until then nobody may take from it.
    let undo = move || {
        let ended = runs::until_released(&run, None);
        debug_assert_eq!(ended, runs::Watched::Ended);
        take_back_from(&parent, &mut enabled, &dir);
    };
    Ok((result, undo))
}

/// Passes a controller on to the groups below; where that is a scope of systemd's, systemd is asked for it first.
fn enable_below(parent: BorrowedFd, path: &Path, controller: Controller) -> Result<(), Error> {
    let name = controller.name();
    let write = || pass_on(parent, &[controller]);
    let mut result = write();
    if result == Err(Errno::ENOENT) && path.extension().is_some_and(|kind| kind == "scope") {
        systemd::give(path, controller)?;
        // It answers before it has done it.
        let start = Instant::now();
        while result == Err(Errno::ENOENT) && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
            result = write();
        }
    }
    let cannot = format!("cannot enable the {name} controller below {}", path.display());
    result.map_err(|errno| Error::new(cannot).errno(errno))
}

fn take_back_from(parent: &OwnedFd, enabled: &mut Vec<Controller>, dir: &Dir) {
    let name = dir.path.file_name().and_then(|name| name.to_str());
    take_back(parent.as_fd(), enabled, name);
}
