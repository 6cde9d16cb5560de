//! All runs that can be seen from here, found in the kernel's own trees: no daemon, no database, so nothing that
//! could be stale. Reads only.
//!
//! A run has one directory in each hierarchy that it uses. What belongs together is told by the processes in
//! them and by who holds the lock on them (`/proc/locks`), because the names alone may be equal in two places.

pub mod counters;
pub mod held;
mod locks;
pub mod name;
pub mod process;
mod select;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstat, fstatat};
use nix::unistd::Pid;

use crate::cgroup::layout::Layout;
use crate::cgroup::{MODE, children, open_child, open_dir, processes, processes_of};
use crate::error::{Error, printable};
use crate::files;
use crate::host::{read_mounts, read_proc};
use crate::limits::{Controller, Version};
use crate::order;
use crate::sys::try_lock;
use locks::Locks;
pub use name::{Asked, Name};
pub use select::{matching, one};
pub use watch::{Watched, until_empty, until_released};

/// What every group's name starts with.
pub const PREFIX: &str = "rcon-";

/// The leaf of a v2 parent that a wrapper itself moves to ends like this: no run of its own.
const ASIDE: &[u8] = b".self";

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its name, without the prefix. Anybody's bytes: show it through [`Run::shown`].
    pub name: OsString,
    /// Its directories, at least one.
    pub dirs: Vec<Dir>,
    /// The processes that hold its lock: wrappers, and watchers of groups without one.
    pub wrappers: Vec<Pid>,
    /// Somebody, perhaps not to be seen from here, holds its lock.
    pub held: bool,
    /// All processes in it and in groups below it, in ascending order.
    pub processes: Vec<Pid>,
}

/// A run's directory in one hierarchy.
#[derive(Clone, Debug)]
pub struct Dir {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below the hierarchy's mount, as `/proc/PID/cgroup` shows it to a process that sees all of it.
    pub place: PathBuf,
    /// Which interface.
    pub version: Version,
    /// v1: what is mounted here. v2: what the group has been given.
    pub controllers: Vec<String>,
    device: u64,
    inode: u64,
}

impl Dir {
    /// Opens the directory that was found, and no other that has come to stand in its place.
    ///
    /// # Errors
    /// ENOENT: it is gone.
    pub fn open(&self) -> Result<OwnedFd, Errno> {
        let dir = open_dir(&self.path)?;
        let stat = fstat(&dir)?;
        if (stat.st_dev, stat.st_ino) == (self.device, self.inode) { Ok(dir) } else { Err(Errno::ENOENT) }
    }

    /// Does this controller act here?
    #[must_use]
    pub fn has(&self, controller: Controller) -> bool {
        let name = match self.version {
            Version::V1 => controller.v1_name(),
            Version::V2 => controller.name(),
        };
        self.controllers.iter().any(|one| one == name)
    }
}

impl Run {
    /// The name, safe for a terminal.
    #[must_use]
    pub fn shown(&self) -> String {
        printable(self.name.as_bytes())
    }

    /// The directory in which this controller acts.
    #[must_use]
    pub fn dir_of(&self, controller: Controller) -> Option<&Dir> {
        self.dirs.iter().find(|dir| dir.has(controller))
    }

    /// The v2 directory.
    #[must_use]
    pub fn v2(&self) -> Option<&Dir> {
        self.dirs.iter().find(|dir| dir.version == Version::V2)
    }

    /// Nobody holds it, and nothing is in it: `rcon gc` removes it.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        !self.held && self.processes.is_empty()
    }
}

/// The machine's hierarchies as seen from here.
///
/// # Errors
/// `/proc` cannot be read.
pub fn layout() -> Result<Layout, Error> {
    read_mounts(Path::new("/"))
}

/// The hierarchies as seen from here, with the groups of another process as the own ones.
///
/// # Errors
/// There is no such process.
pub fn layout_of(pid: Pid) -> Result<Layout, Error> {
    let own = files::read(Path::new(&format!("/proc/{pid}/cgroup")))
        .map_err(|_| Error::new(format!("process {pid} has just ended")))?;
    Ok(Layout::parse(&read_proc(Path::new("/"), "proc/self/mountinfo")?, &own))
}

/// Whose keeper a holder of a run's lock is.
pub type Fronts = BTreeMap<Pid, Pid>;

/// All runs, by name.
///
/// # Errors
/// `/proc` cannot be read.
pub fn find() -> Result<Vec<Run>, Error> {
    find_by(&mut Fronts::new())
}

/// The same, for who looks again and again and remembers for a while who stands before whom.
///
/// # Errors
/// As [`find`].
pub fn find_by(fronts: &mut Fronts) -> Result<Vec<Run>, Error> {
    let layout = layout()?;
    let locks = Locks::read();
    let mut walk = Walk { locks: &locks, fronts, found: Vec::new(), hierarchy: 0 };
    for hierarchy in layout.v1.iter().chain(&layout.v2) {
        let version = if hierarchy.controllers.is_empty() { Version::V2 } else { Version::V1 };
        if let Ok(root) = open_dir(&hierarchy.mount) {
            let place = Place { version, controllers: &hierarchy.controllers, mount: &hierarchy.mount };
            walk.below(root.as_fd(), Path::new("/"), &place);
        }
        walk.hierarchy += 1;
    }
    let mut runs = merge(walk.found);
    for run in &mut runs {
        run.held = run.held || !run.wrappers.is_empty();
    }
    order::sort_by(&mut runs, |a, b| a.name.cmp(&b.name));
    Ok(runs)
}

/// The run as it is now, with groups that it has been given since.
///
/// # Errors
/// It has ended.
pub fn again(run: &Run) -> Result<Run, Error> {
    let same = |other: &Run| {
        other.dirs.iter().any(|a| run.dirs.iter().any(|b| (a.device, a.inode) == (b.device, b.inode)))
    };
    let ended = || Error::new(format!("{} has just ended", run.shown()));
    find()?.into_iter().find(|other| same(other)).ok_or_else(ended)
}

/// The names that are in use.
///
/// # Errors
/// As [`find`].
pub fn taken() -> Result<BTreeSet<OsString>, Error> {
    Ok(order::set(find()?.into_iter().filter(|run| !run.is_stale()).map(|run| run.name)))
}

/// Is the directory, by name and mark, one that rcon has made?
#[must_use]
pub fn is_ours(name: &OsStr, stat: &FileStat) -> bool {
    let mark = MODE.bits() & 0o1000;
    name.as_bytes().starts_with(PREFIX.as_bytes()) && stat.st_mode & mark == mark
}

struct Place<'a> {
    version: Version,
    controllers: &'a [String],
    mount: &'a Path,
}

struct Walk<'a> {
    locks: &'a Locks,
    /// One run has several directories.
    fronts: &'a mut Fronts,
    found: Vec<Found>,
    hierarchy: usize,
}

/// One directory with what tells whose it is.
#[derive(Debug)]
struct Found {
    name: OsString,
    hierarchy: usize,
    dir: Dir,
    wrappers: Vec<Pid>,
    held: bool,
    processes: Vec<Pid>,
}

impl Walk<'_> {
    /// Looks through a group and all below it.
    fn below(&mut self, dir: BorrowedFd, path: &Path, place: &Place) {
        for name in children(dir) {
            // Gone meanwhile, or not ours to look at. What is of no use to us is not opened.
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            let Ok(stat) = fstatat(dir, name.as_os_str(), flags) else { continue };
            let aside = place.version == Version::V2 && name.as_bytes().ends_with(ASIDE);
            let ours = is_ours(&name, &stat) && !aside;
            // On these file systems a directory has one link for each one below it, and two of its own.
            let is_leaf = stat.st_nlink == 2;
            let path = path.join(&name);
            let child = if is_leaf { None } else { open_child(dir, &name).ok() };
            if ours {
                self.take(&name, dir, child.as_ref(), &stat, &path, place);
            }
            if let Some(child) = child {
                self.below(child.as_fd(), &path, place);
            }
        }
    }

    /// Takes a directory by its name in `parent`; open, where others are below it.
    fn take(
        &mut self,
        name: &OsStr,
        parent: BorrowedFd,
        open: Option<&OwnedFd>,
        stat: &FileStat,
        path: &Path,
        place: &Place,
    ) {
        let file = |file: &str| Path::new(name).join(file).into_os_string();
        let controllers = match place.version {
            Version::V1 => place.controllers.to_vec(),
            Version::V2 => {
                let text = crate::files::lines_at(parent, &file("cgroup.controllers")).unwrap_or_default();
                String::from_utf8_lossy(&text).split_whitespace().map(str::to_owned).collect()
            }
        };
        let mut list = BTreeSet::new();
        match open {
            Some(dir) => gather(dir.as_fd(), stat, &mut list),
            None => list.extend(processes_of(parent, &file("cgroup.procs")).into_iter().map(Pid::as_raw)),
        }
        let holders = self.locks.holders(stat.st_dev, stat.st_ino);
        let front = |pid: Pid| *self.fronts.entry(pid).or_insert_with(|| process::front_of(pid));
        let wrappers: Vec<Pid> = holders.into_iter().map(front).collect();
        // A holder in another pid namespace is not listed. Trying the lock hurts nobody who has it; it is tried
        // only here, because whoever is about to get it would have to try again.
        let is_locked = || open_child(parent, name).is_ok_and(|dir| try_lock(dir.as_fd(), true).is_err());
        let held = !wrappers.is_empty() || is_locked();
        let bytes = name.as_bytes().get(PREFIX.len()..).unwrap_or_default();
        self.found.push(Found {
            name: OsString::from_vec(bytes.to_vec()),
            hierarchy: self.hierarchy,
            dir: Dir {
                path: place.mount.join(path.strip_prefix("/").unwrap_or(path)),
                place: path.to_owned(),
                version: place.version,
                controllers,
                device: stat.st_dev,
                inode: stat.st_ino,
            },
            wrappers,
            held,
            processes: list.into_iter().map(Pid::from_raw).collect(),
        });
    }
}

/// All processes of a group and of those below it; none of one that cannot be looked at.
fn gather_from(dir: BorrowedFd, list: &mut BTreeSet<i32>) {
    if let Ok(stat) = fstat(dir) {
        gather(dir, &stat, list);
    }
}

/// The same, of one that has been looked at.
fn gather(dir: BorrowedFd, stat: &FileStat, list: &mut BTreeSet<i32>) {
    list.extend(processes(dir).into_iter().map(Pid::as_raw));
    if stat.st_nlink != 2 {
        for name in children(dir) {
            if let Ok(child) = open_child(dir, &name) {
                gather_from(child.as_fd(), list);
            }
        }
    }
}

/// The processes that are in the run now.
#[must_use]
pub fn processes_now(run: &Run) -> BTreeSet<Pid> {
    let mut list = BTreeSet::new();
    for dir in run.dirs.iter().filter_map(|dir| dir.open().ok()) {
        gather_from(dir.as_fd(), &mut list);
    }
    order::set(list.into_iter().map(Pid::from_raw))
}

/// The command itself: the wrapper's child in the run, or, where the init of a pid namespace stands between them,
/// that one's; without a wrapper, who has been there longest.
#[must_use]
pub fn first_process(run: &Run) -> Option<Pid> {
    let inside = |pid: &Pid| run.processes.binary_search(pid).is_ok();
    for wrapper in &run.wrappers {
        let below = process::children(*wrapper).into_iter();
        // The keeper, whose children they are, stands outside.
        let all = below.flat_map(|pid| [vec![pid], process::children(pid)].concat());
        let Some(child) = { all }.find(inside) else { continue };
        // A copy of the wrapper, which has executed nothing, is that init.
        let line = |pid: Pid| process::read(pid, "cmdline");
        if line(child) == line(*wrapper) {
            return process::children(child).into_iter().find(inside).or(Some(child));
        }
        return Some(child);
    }
    let started = |pid: &Pid| process::stat(*pid).map_or(u64::MAX, |stat| stat.started);
    run.processes.iter().copied().min_by_key(started)
}

/// Puts directories of one name together into runs.
fn merge(found: Vec<Found>) -> Vec<Run> {
    let mut by_name: BTreeMap<OsString, Vec<Found>> = BTreeMap::new();
    for one in found {
        by_name.entry(one.name.clone()).or_default().push(one);
    }
    let mut runs = Vec::new();
    for (_, mut rest) in by_name {
        while let Some(first) = rest.pop() {
            let mut parts = vec![first];
            // What is added may tie in more.
            while let Some(at) =
                rest.iter().position(|one| parts.iter().any(|part| belong_together(part, one)))
            {
                parts.push(rest.swap_remove(at));
            }
            runs.extend(assemble(parts));
        }
    }
    runs
}

/// Directories of one name: of one run?
fn belong_together(a: &Found, b: &Found) -> bool {
    if a.hierarchy == b.hierarchy {
        return false;
    }
    let common = |one: &[Pid], other: &[Pid]| one.iter().any(|pid| other.contains(pid));
    if common(&a.processes, &b.processes) || common(&a.wrappers, &b.wrappers) {
        return true;
    }
    // Nothing speaks for it: an empty directory that nobody visible holds goes with its like, and with the one
    // in the same place.
    let mute = |one: &Found| one.processes.is_empty() && one.wrappers.is_empty();
    (mute(a) && mute(b)) || ((mute(a) || mute(b)) && a.dir.place == b.dir.place)
}

fn assemble(mut parts: Vec<Found>) -> Option<Run> {
    order::sort_by_key(&mut parts, |part| part.hierarchy);
    let name = parts.first()?.name.clone();
    let mut run = Run { name, dirs: Vec::new(), wrappers: Vec::new(), held: false, processes: Vec::new() };
    for part in parts {
        run.held |= part.held;
        run.dirs.push(part.dir);
        run.wrappers.extend(part.wrappers);
        run.processes.extend(part.processes);
    }
    order::unique(&mut run.wrappers);
    order::unique(&mut run.processes);
    Some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(hierarchy: usize, place: &str, wrappers: &[i32], processes: &[i32]) -> Found {
        let pids = |list: &[i32]| list.iter().copied().map(Pid::from_raw).collect::<Vec<_>>();
        Found {
            name: "build".into(),
            hierarchy,
            dir: Dir {
                path: place.into(),
                place: place.into(),
                version: Version::V1,
                controllers: Vec::new(),
                device: 0,
                inode: 0,
            },
            held: !wrappers.is_empty(),
            wrappers: pids(wrappers),
            processes: pids(processes),
        }
    }

    #[test]
    fn one_run_lies_in_different_places_of_its_hierarchies() {
        let runs = merge(vec![
            found(0, "/rcon-build", &[7], &[]),
            found(1, "/job/rcon-build", &[7], &[8]),
            // Made later by somebody who watches it: the processes tell.
            found(2, "/rcon-build", &[9], &[8]),
        ]);
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].dirs.len(), 3);
        assert_eq!(runs[0].wrappers, [Pid::from_raw(7), Pid::from_raw(9)]);
    }

    #[test]
    fn equal_names_in_two_places_are_two_runs() {
        let runs = merge(vec![
            found(0, "/a/rcon-build", &[7], &[8]),
            found(0, "/b/rcon-build", &[17], &[18]),
            found(1, "/a/rcon-build", &[7], &[8]),
            found(1, "/b/rcon-build", &[17], &[18]),
        ]);
        assert_eq!(runs.len(), 2);
        assert!(runs.iter().all(|run| run.dirs.len() == 2 && run.dirs[0].place == run.dirs[1].place));
        // Nothing in common: not even in one place are they one.
        let apart = merge(vec![found(0, "/rcon-build", &[7], &[8]), found(1, "/rcon-build", &[17], &[18])]);
        assert_eq!(apart.len(), 2);
    }
}
