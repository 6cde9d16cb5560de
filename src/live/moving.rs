//! Moving running processes: by descriptor, so that a number that has been given to somebody else is noticed, and
//! again and again until no child has been missed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::cgroup::{processes, write_at};
use crate::error::Error;
use crate::order;
use crate::runs::process;

/// How long a family may go on to bring forth members that are not in the group yet.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that is to be moved.
#[derive(Debug)]
pub struct Member {
    /// Its number.
    pub pid: Pid,
    /// When it started, in ticks since boot.
    pub started: u64,
    handle: OwnedFd,
}

impl Member {
    /// The process that has this number; with `started` only if it is that one.
    ///
    /// # Errors
    /// There is none, or it is another one.
    pub fn open(pid: Pid, started: Option<u64>) -> Result<Self, Error> {
        let handle = crate::sys::pidfd::open(pid)
            .map_err(|e| Error::new(format!("there is no process {pid}")).errno(e))?;
        // The descriptor is open: from here on the number is this process's for as long as it lives.
        let stat = process::stat(pid).ok_or_else(|| Error::new(format!("there is no process {pid}")))?;
        if started.is_some_and(|started| started != stat.started) {
            return Err(Error::new(format!(
                "process {pid} is not the one that started at tick {}: its number has been given to another, that started at {}",
                started.unwrap_or(0),
                stat.started
            )));
        }
        let member = Self { pid, started: stat.started, handle };
        if !member.lives() {
            return Err(Error::new(format!("process {pid} has just ended")));
        }
        Ok(member)
    }

    /// Has it not ended?
    #[must_use]
    pub fn lives(&self) -> bool {
        crate::sys::pidfd::signal(self.handle.as_fd(), 0) != Err(Errno::ESRCH)
    }
}

/// The groups that processes are moved to, one in each hierarchy.
#[derive(Debug)]
pub struct Target {
    /// `cgroup.procs` is in there.
    pub dir: OwnedFd,
    /// For messages, and to tell where a process was before.
    pub path: PathBuf,
    /// Where processes of this hierarchy are put back to.
    pub origin: OwnedFd,
}

/// Processes to be moved, and whether their descendants are meant too.
#[derive(Debug)]
pub struct Family {
    /// Named by the user.
    pub heads: Vec<Member>,
    /// With all who descend from them.
    pub recursive: bool,
}

/// Moves the family into all targets; on any refusal everybody is put back.
///
/// # Errors
/// What could not be moved, and why. A process that ends meanwhile is none, unless it is one of the heads.
pub fn move_all(family: &Family, targets: &[Target]) -> Result<usize, Error> {
    let mut moved: BTreeMap<i32, u64> = BTreeMap::new();
    let result = settle(family, targets, &mut moved);
    if result.is_err() {
        put_back(&moved, targets);
    }
    result.map(|()| moved.len())
}

fn settle(family: &Family, targets: &[Target], moved: &mut BTreeMap<i32, u64>) -> Result<(), Error> {
    let start = Instant::now();
    // First the heads: what they bring forth from here on is born inside.
    for head in &family.heads {
        enter(head, targets, true)?;
        moved.insert(head.pid.as_raw(), head.started);
    }
    let mut known = order::set(moved.iter().map(|(pid, started)| (*pid, *started)));
    if !family.recursive {
        return Ok(());
    }
    loop {
        let outside = outsiders(&mut known, targets);
        if outside.is_empty() {
            return Ok(());
        }
        for (pid, started) in outside {
            // Ended meanwhile, or its number is another's: none of ours any more.
            if let Ok(member) = Member::open(Pid::from_raw(pid), Some(started)) {
                enter(&member, targets, false)?;
                moved.insert(pid, started);
            }
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::new("new processes come faster than they can be moved")
                .try_this("give --pids too: in the group it stops them from forking"));
        }
    }
}

/// Writes the number to each target. A number could be given away at any moment; that ours was not is sure if
/// its process still lives afterwards.
fn enter(member: &Member, targets: &[Target], must: bool) -> Result<(), Error> {
    for target in targets {
        match write_at(target.dir.as_fd(), "cgroup.procs", &member.pid.to_string()) {
            Ok(()) => {}
            Err(Errno::ESRCH) => break,
            Err(errno) => return Err(refused(member.pid, &target.path, errno)),
        }
    }
    if member.lives() {
        return Ok(());
    }
    // Whoever has the number now was not meant.
    if let Some(stat) = process::stat(member.pid).filter(|stat| stat.started != member.started) {
        put_back(&order::map([(member.pid.as_raw(), stat.started)]), targets);
    }
    if must { Err(Error::new(format!("process {} has just ended", member.pid))) } else { Ok(()) }
}

fn refused(pid: Pid, path: &std::path::Path, errno: Errno) -> Error {
    let error = Error::new(format!("cannot move process {pid} to {}", path.display())).errno(errno);
    match errno {
        Errno::EINVAL => {
            error.try_this("a kernel thread, or one with real-time scheduling, stays where it is")
        }
        Errno::EACCES | Errno::EPERM => {
            error.try_this("as root: it is another user's, or the common group is not yours")
        }
        Errno::ENODEV | Errno::ENOENT => {
            error.try_this("the group has just been removed: its last process has ended")
        }
        _ => error,
    }
}

/// Descendants of the known that are not in every target. Adds all that it sees to the known: a parent that ends
/// must not hide its children.
fn outsiders(known: &mut BTreeSet<(i32, u64)>, targets: &[Target]) -> Vec<(i32, u64)> {
    // First who is inside, then who there is: a fork in between shows outside and is looked at again.
    let mut inside: Option<BTreeSet<i32>> = None;
    for target in targets {
        let here = order::set(processes(target.dir.as_fd()).into_iter().map(Pid::as_raw));
        inside = Some(match inside {
            Some(before) => order::set(before.intersection(&here).copied()),
            None => here,
        });
    }
    let inside = inside.unwrap_or_default();
    let mut all: BTreeMap<i32, (i32, u64)> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(stat) = process::stat(Pid::from_raw(pid)).filter(|stat| stat.state != 'Z') {
            all.insert(pid, (stat.parent.as_raw(), stat.started));
        }
    }
    let mut grown = true;
    while grown {
        grown = false;
        for (pid, (parent, started)) in &all {
            let of_known = known.iter().any(|(one, _)| one == parent) || inside.contains(parent);
            if of_known && known.insert((*pid, *started)) {
                grown = true;
            }
        }
    }
    let still = |(pid, started): &&(i32, u64)| all.get(pid).is_some_and(|(_, now)| now == started);
    known.iter().filter(still).filter(|(pid, _)| !inside.contains(pid)).copied().collect()
}

/// Puts these processes, and the children that they have had in the groups, back where they came from.
fn put_back(moved: &BTreeMap<i32, u64>, targets: &[Target]) {
    for target in targets {
        for (pid, started) in moved {
            if process::stat(Pid::from_raw(*pid)).is_some_and(|stat| stat.started == *started) {
                // One that ends meanwhile needs no place.
                let back = write_at(target.origin.as_fd(), "cgroup.procs", &pid.to_string());
                debug_assert!(back != Err(Errno::EBADF));
            }
        }
    }
}

/// Puts everybody who is in the groups back. `false`: somebody would not go.
#[must_use]
fn evacuate(targets: &[Target]) -> bool {
    let start = Instant::now();
    loop {
        let mut left = false;
        for target in targets {
            for pid in processes(target.dir.as_fd()) {
                left = true;
                let back = write_at(target.origin.as_fd(), "cgroup.procs", &pid.to_string());
                debug_assert!(back != Err(Errno::EBADF));
            }
        }
        if !left || start.elapsed() > PATIENCE {
            return !left;
        }
    }
}

/// Gives up groups that were made for processes which could not all be moved. Never by ending them.
pub fn give_up(groups: crate::cgroup::Groups, targets: &[Target]) {
    if !evacuate(targets) {
        crate::say("rcon: some processes could not be put back and stay in the new group");
        std::mem::forget(groups);
    }
}

/// Moves all processes of a run, and whoever they bring forth meanwhile.
///
/// # Errors
/// What could not be moved; some have been.
pub fn move_run(run: &crate::runs::Run, targets: &[Target]) -> Result<(), Error> {
    let start = Instant::now();
    loop {
        let mut inside = order::set(targets.first().into_iter().flat_map(|t| processes(t.dir.as_fd())));
        for target in targets {
            let here = order::set(processes(target.dir.as_fd()));
            inside.retain(|pid| here.contains(pid));
        }
        let outside: Vec<Pid> =
            crate::runs::processes_now(run).into_iter().filter(|pid| !inside.contains(pid)).collect();
        if outside.is_empty() {
            return Ok(());
        }
        for pid in outside {
            let Ok(member) = Member::open(pid, None) else { continue };
            // The number was listed in the group before the descriptor was open: is it still there?
            if crate::runs::processes_now(run).contains(&pid)
                && let Err(error) = enter(&member, targets, false)
            {
                return Err(error);
            }
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::new("new processes come faster than they can be moved"));
        }
    }
}
