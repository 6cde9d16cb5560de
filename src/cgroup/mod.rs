//! Groups: made, filled in, and removed whatever happens. Version-less but for three things: how a process
//! gets in, how a group is killed, and where out-of-memory kills are counted.

pub mod layout;
pub mod place;
pub mod scope;
pub mod sweep;
mod tree;
pub mod usual;

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::Error;
use crate::limits::{Controller, How, Version, Write};
use crate::plan::GroupPlan;
pub use tree::{children, is_abandoned, kill_tree, processes, processes_of, remove_tree};

/// The sticky bit marks a group as made by rcon: it means nothing on a cgroup directory, costs nothing to set
/// at creation, and keeps `rcon gc` from groups of others that happen to be called rcon-something.
pub const MODE: Mode = Mode::from_bits_truncate(0o1755);

/// The groups of a run. Dropping them kills and removes what is left: the net below every early return.
#[derive(Debug, Default)]
pub struct Groups {
    list: Vec<Group>,
    /// Controllers that only count, and could not be had.
    missing: Vec<(Controller, String)>,
    /// How many the plan has.
    planned: usize,
}

#[derive(Debug)]
struct Group {
    plan: GroupPlan,
    /// Its place in the plan.
    index: usize,
    name: String,
    parent: OwnedFd,
    /// Held open and locked (shared) for as long as the group is in use: proof for others that it is.
    dir: OwnedFd,
    /// What a process writes `0` to in order to join.
    entry: Option<OwnedFd>,
    /// Controllers that we added to the parent's `cgroup.subtree_control`.
    enabled: Vec<Controller>,
    /// The leaf of the parent that we sit in, locked as a group is: for `rcon gc` it would be a dead one else.
    aside: Option<OwnedFd>,
    removed: bool,
    /// A shared group that nobody else is in any more; the lock is exclusive now.
    last: bool,
    /// Out-of-memory kills before this run, in a group that is shared.
    oom_before: u64,
}

/// Reads a small file of a group: `None` where the kernel has no such file, or it does not answer.
#[must_use]
pub fn read_at(dir: BorrowedFd, file: &str) -> Option<String> {
    String::from_utf8(crate::files::read_at(dir, file).ok()?).ok()
}

/// Writes a value to a group's file in one write, as the kernel wants it.
///
/// # Errors
/// The kernel's answer.
pub fn write_at(dir: BorrowedFd, file: &str, value: &str) -> Result<(), Errno> {
    let fd = openat(dir, file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    match nix::unistd::write(&fd, value.as_bytes())? {
        n if n == value.len() => Ok(()),
        _ => Err(Errno::EIO),
    }
}

/// The number behind `key` in a file of `key number` lines.
#[must_use]
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

impl Groups {
    /// Makes all groups of the plan and writes their limits. With `best_effort`, limits that the kernel refuses
    /// become sentences in `waived`.
    ///
    /// # Errors
    /// The first refusal; what was made by then is gone again.
    pub fn acquire(plans: &[GroupPlan], best_effort: bool, waived: &mut Vec<String>) -> Result<Self, Error> {
        let mut groups =
            Self { list: Vec::with_capacity(plans.len()), missing: Vec::new(), planned: plans.len() };
        for (index, plan) in plans.iter().enumerate() {
            match Group::acquire(plan, index) {
                Ok(group) => groups.list.push(group),
                Err(error) if plan.spare => {
                    groups.go_without(plan, &error);
                    continue;
                }
                Err(error) => return Err(error),
            }
            let Some(group) = groups.list.last_mut() else { continue };
            let mut refused = Vec::new();
            for write in &plan.writes {
                if let Err(error) = group.write(write) {
                    refused.push((write, error));
                }
            }
            for (write, error) in refused {
                // In a shared group the old values may be in the way of the new ones until all are written (v1:
                // memory.memsw.limit_in_bytes below the new memory.limit_in_bytes).
                match if plan.shared { group.write(write) } else { Err(error) } {
                    Err(error) if best_effort => {
                        waived.push(format!("{}: {}", write.option, error.what));
                    }
                    result => result?,
                }
            }
        }
        Ok(groups)
    }

    /// The directories, open, with where they are and by which interface.
    pub fn dirs(&self) -> impl Iterator<Item = (BorrowedFd<'_>, std::path::PathBuf, Version)> {
        self.list.iter().map(|g| (g.dir.as_fd(), g.plan.parent.join(&g.name), g.plan.version))
    }

    /// The v2 group that the child is born in.
    #[must_use]
    pub fn born_in(&self) -> Option<BorrowedFd<'_>> {
        self.list.iter().find(|g| g.plan.version == Version::V2).map(|g| g.dir.as_fd())
    }

    /// For each group, the descriptor that joining writes to; `-1` for one that the child is born in.
    #[must_use]
    pub fn entries(&self) -> Vec<i32> {
        let mut entries = vec![-1; self.planned];
        for group in &self.list {
            if let (Some(slot), Some(entry)) = (entries.get_mut(group.index), &group.entry) {
                *slot = crate::sys::number(entry);
            }
        }
        entries
    }

    /// A group that only counts could not be had.
    fn go_without(&mut self, plan: &GroupPlan, error: &Error) {
        let why = match error.errno {
            Some(errno) => format!("{}: {}", error.what, errno.desc()),
            None => error.what.clone(),
        };
        self.missing.extend(plan.controllers.iter().map(|controller| (*controller, why.clone())));
        if plan.version == Version::V2 {
            self.missing.push((Controller::Cpuacct, why));
        }
    }

    /// Controllers that only count and could not be had, and why.
    #[must_use]
    pub fn missing(&self) -> &[(Controller, String)] {
        &self.missing
    }

    /// The groups may be others' too.
    #[must_use]
    pub fn shared(&self) -> bool {
        self.list.iter().any(|group| group.plan.shared)
    }

    /// Opens the v2 group for joining, where the kernel could not create the child inside.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open_v2_entry(&mut self) -> Result<(), Errno> {
        for group in self.list.iter_mut().filter(|g| g.plan.version == Version::V2) {
            group.entry =
                Some(openat(&group.dir, "cgroup.procs", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?);
        }
        Ok(())
    }

    /// How many processes of these groups the kernel killed for want of memory, and the memory peak in bytes
    /// where it tells that.
    #[must_use]
    pub fn out_of_memory(&self) -> Option<(u64, Option<u64>)> {
        let group = self.list.iter().find(|g| g.plan.controllers.contains(&Controller::Memory))?;
        let killed = group.oom_kills()?.saturating_sub(group.oom_before);
        if killed == 0 {
            return None;
        }
        let file = match group.plan.version {
            Version::V1 => "memory.max_usage_in_bytes",
            Version::V2 => "memory.peak",
        };
        Some((killed, read_at(group.dir.as_fd(), file).and_then(|text| text.trim().parse().ok())))
    }

    /// The run's v2 group.
    #[must_use]
    pub fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.born_in()
    }

    /// The group in which a controller counts and limits.
    #[must_use]
    pub fn of(&self, controller: Controller) -> Option<(BorrowedFd<'_>, Version)> {
        let has = |group: &&Group| group.plan.controllers.contains(&controller);
        self.list.iter().find(has).map(|group| (group.dir.as_fd(), group.plan.version))
    }

    /// The processes in the groups that are this run's alone.
    #[must_use]
    pub fn processes(&self) -> Vec<nix::unistd::Pid> {
        self.list
            .iter()
            .filter(|group| !group.plan.shared)
            .flat_map(|group| tree::processes_below(group.dir.as_fd()))
            .collect()
    }

    /// Kills everything in the groups that are this run's alone, or that it is the last one in. Asynchronous: the
    /// processes go when they can.
    pub fn kill(&self) {
        for group in self.list.iter().filter(|g| !g.removed && (!g.plan.shared || g.last)) {
            kill_tree(group.dir.as_fd(), group.plan.version);
        }
    }

    /// Tries to remove all groups. `true`: all are gone (or are shared and still used by others).
    pub fn try_remove(&mut self) -> bool {
        // Last made, first removed; one that stays must not keep the others.
        let mut gone = true;
        for group in self.list.iter_mut().rev() {
            gone &= group.try_remove();
        }
        gone
    }

    /// The run is over and so is, next, this process: the kernel closes the descriptors of what has been removed with
    /// it, without a call for each.
    pub fn forget(&mut self) {
        if self.list.iter().all(|group| group.removed && !group.plan.shared) {
            std::mem::forget(std::mem::take(&mut self.list));
        }
    }

    /// The directories that could not be removed.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        self.list
            .iter()
            .filter(|g| !g.removed)
            .map(|g| g.plan.parent.join(&g.name).display().to_string())
            .collect()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for _ in 0..200 {
            if self.try_remove() {
                return;
            }
            self.kill();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Group {
    fn acquire(plan: &GroupPlan, index: usize) -> Result<Self, Error> {
        let failed = |what: String, errno: Errno| {
            let option = plan.writes.first().map(|write| write.option.clone());
            Error { option, ..Error::new(what).errno(errno) }.try_if(way_out(errno))
        };
        if let Some((scope, unit)) = plan.scope.as_ref().zip(plan.parent.file_name().and_then(OsStr::to_str))
        {
            let processes = [crate::guardian::front(), std::process::id()];
            // One process where there is no keeper.
            let processes = if processes[0] == processes[1] { &processes[1..] } else { &processes[..] };
            scope.start(unit, processes).map_err(|error| match (&plan.named, error.errno) {
                (Some(named), Some(Errno::EEXIST)) => taken(&named.name),
                _ => error,
            })?;
        }
        let parent = open(&plan.parent, DIRECTORY, Mode::empty())
            .map_err(|e| failed(format!("cannot open {}", plan.parent.display()), e))?;
        let v2 = plan.version == Version::V2;
        if v2 && (plan.shared || !plan.controllers.is_empty()) {
            // Whoever takes a controller back from the parent first makes sure that nobody holds this lock.
            lock(parent.as_fd(), false);
        }
        let (name, dir) = make(plan, parent.as_fd()).map_err(|e| {
            if let (Errno::EEXIST, Some(named)) = (e, &plan.named) {
                return taken(&named.name);
            }
            let error =
                failed(format!("cannot make the group {} in {}", plan.name, plan.parent.display()), e);
            match e {
                Errno::EBUSY if plan.shared => error
                    .try_this("a run that was started with --name has this name for itself: choose another"),
                _ => error,
            }
        })?;
        let mut group = Self {
            name,
            plan: plan.clone(),
            index,
            parent,
            dir,
            entry: None,
            enabled: Vec::new(),
            aside: None,
            removed: false,
            last: false,
            oom_before: 0,
        };
        if let Err(error) = group.fill(plan, &failed) {
            // Nobody else knows of it yet. What cannot be removed now is found by `rcon gc`.
            group.try_remove();
            return Err(error);
        }
        if plan.shared {
            group.oom_before = group.oom_kills().unwrap_or(0);
        }
        Ok(group)
    }

    /// Makes the group ready to be joined.
    fn fill(&mut self, plan: &GroupPlan, failed: &dyn Fn(String, Errno) -> Error) -> Result<(), Error> {
        if plan.aside.is_some() {
            self.step_aside()
                .map_err(|e| failed(format!("cannot leave {} for a leaf of it", plan.parent.display()), e))?;
        }
        for controller in &plan.enable {
            let enabled = self.enable(*controller);
            if enabled.is_err() && plan.optional.contains(controller) {
                // It only counts; the report says that it is not there.
                self.plan.controllers.retain(|c| c != controller);
                continue;
            }
            enabled.map_err(|e| {
                failed(
                    format!(
                        "cannot enable the {} controller below {}",
                        controller.name(),
                        plan.parent.display()
                    ),
                    e,
                )
            })?;
        }
        if plan.version == Version::V1 {
            // `tasks`, not `cself.procs`: a single-threaded process that moves itself through it takes no
            // global lock; the other way costs a grace period of 10 ms.
            let entry = openat(&self.dir, "tasks", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|e| failed(format!("cannot open tasks in {}", self.path()), e))?;
            self.entry = Some(entry);
        }
        Ok(())
    }

    fn path(&self) -> String {
        self.plan.parent.join(&self.name).display().to_string()
    }

    fn write(&mut self, write: &Write) -> Result<(), Error> {
        let mut written = false;
        for (file, value) in &write.alternatives {
            if write.how == How::IfEmpty
                && read_at(self.dir.as_fd(), file).is_some_and(|text| !text.trim().is_empty())
            {
                return Ok(());
            }
            let mut result = write_at(self.dir.as_fd(), file, value);
            if result == Err(Errno::ENOENT)
                && self.plan.version == Version::V2
                && !self.plan.controllers.is_empty()
                && self.enable(write.controller).is_ok()
            {
                // Somebody took the controller back from the parent between our look and our lock.
                result = write_at(self.dir.as_fd(), file, value);
            }
            match result {
                Ok(()) if write.how == How::Every => written = true,
                Ok(()) => return self.verify(write),
                Err(Errno::ENOENT) => {}
                Err(errno) => {
                    let error = Error::new(format!("cannot write {value:?} to {file} in {}", self.path()))
                        .errno(errno)
                        .option(&write.option);
                    return Err(error.try_if(write_hint(file, errno)));
                }
            }
        }
        if written {
            return Ok(());
        }
        let names: Vec<&str> = write.alternatives.iter().map(|(file, _)| *file).collect();
        let error = Error::new(format!("this kernel has no {} in {}", names.join(" or "), self.path()))
            .option(&write.option);
        Err(error.try_if(names.first().and_then(|file| write_hint(file, Errno::ENOENT))))
    }

    fn verify(&self, write: &Write) -> Result<(), Error> {
        let Some((file, wanted)) = &write.verify else { return Ok(()) };
        let found = read_at(self.dir.as_fd(), file).unwrap_or_default();
        if found.trim() == wanted {
            return Ok(());
        }
        Err(Error::new(format!("the kernel gives {:?} of it ({file} in {})", found.trim(), self.path()))
            .option(&write.option)
            .try_this(
                "ask only for what the enclosing group has (rcon --explain shows where the group goes)",
            ))
    }

    fn enable(&mut self, controller: Controller) -> Result<(), Errno> {
        // For whoever is the last to use it, and before it is passed on: we may be killed in between. Without the
        // note (kernels before 5.7) it is taken back only where that is us.
        let noted = crate::sys::xattr::set(self.parent.as_fd(), &mark(controller), b"1");
        debug_assert!(noted != Err(Errno::EBADF));
        let passed_on =
            write_at(self.parent.as_fd(), "cgroup.subtree_control", &format!("+{}", controller.name()));
        if passed_on.is_err() && noted.is_ok() {
            let removed = crate::sys::xattr::remove(self.parent.as_fd(), &mark(controller));
            debug_assert!(removed != Err(Errno::EBADF));
        }
        passed_on?;
        self.enabled.push(controller);
        Ok(())
    }

    fn step_aside(&mut self) -> Result<(), Errno> {
        let Some(leaf) = &self.plan.aside else { return Ok(()) };
        let dir = loop {
            mkdirat(&self.parent, leaf.as_str(), MODE)?;
            let dir = openat(&self.parent, leaf.as_str(), DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty());
            // `rcon gc` may have taken it for a dead one before it was locked.
            match dir.and_then(|dir| crate::sys::try_lock(dir.as_fd(), false).map(|()| dir)) {
                Ok(dir) if is_alive(dir.as_fd()) => break dir,
                Ok(_) | Err(Errno::ENOENT | Errno::EWOULDBLOCK) => {}
                Err(errno) => return Err(errno),
            }
        };
        let moved = both_of_us().iter().try_for_each(|pid| write_at(dir.as_fd(), "cgroup.procs", pid));
        self.aside = Some(dir);
        moved
    }

    fn oom_kills(&self) -> Option<u64> {
        let file = match self.plan.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        keyed(&read_at(self.dir.as_fd(), file)?, "oom_kill")
    }

    fn try_remove(&mut self) -> bool {
        if self.removed {
            return true;
        }
        if self.plan.shared && !self.last {
            if crate::sys::try_lock(self.dir.as_fd(), true).is_err() {
                // Others are in it: the last one removes it.
                self.removed = true;
                return true;
            }
            if !is_alive(self.dir.as_fd()) {
                // The last one has removed it between the shared lock and the exclusive one, which flock(2) does not
                // exchange in one step: the name may be that of a new group by now.
                self.removed = true;
                return true;
            }
            self.last = true;
        }
        match unlinkat(&self.parent, self.name.as_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(_) if remove_tree(self.parent.as_fd(), OsStr::new(&self.name)) => {}
            Err(_) => return false,
        }
        self.removed = true;
        self.undo_parent();
        true
    }

    /// Takes back what was changed in the parent, unless somebody has come to use it.
    fn undo_parent(&mut self) {
        // Who has joined a shared group without a limit of his own may be its last user all the same.
        let may_be_the_last =
            self.plan.version == Version::V2 && (self.plan.shared || !self.plan.controllers.is_empty());
        if !may_be_the_last && self.aside.is_none() && self.enabled.is_empty() {
            return;
        }
        take_back(self.parent.as_fd(), &mut self.enabled, self.plan.aside.as_deref());
        if let (Some(_), Some(leaf)) = (&self.aside, &self.plan.aside)
            // The front may be gone.
            && both_of_us().iter().all(|pid| {
                matches!(write_at(self.parent.as_fd(), "cgroup.procs", pid), Ok(()) | Err(Errno::ESRCH))
            })
            && unlinkat(&self.parent, leaf.as_str(), UnlinkatFlags::RemoveDir).is_ok()
        {
            self.aside = None;
        }
    }
}

/// The note on a parent that we, not its owner, passed this controller on.
fn mark(controller: Controller) -> std::ffi::CString {
    // No controller's name has a NUL in it.
    std::ffi::CString::new(format!("user.rcon.{}", controller.name())).unwrap_or_default()
}

/// Takes controllers back from a parent, those that runs before us have added among them, unless somebody else has
/// come to use them: another run has the parent locked, others have set limits in child groups or pass the
/// controller on (which makes the kernel refuse).
pub(crate) fn take_back(parent: BorrowedFd, enabled: &mut Vec<Controller>, except: Option<&str>) {
    // Where there are no attributes (v1 before 5.7, say), nobody could leave a note.
    let notes = crate::sys::xattr::list(parent).unwrap_or_default();
    enabled.extend(Controller::ALL.into_iter().filter(|controller| notes.contains(&mark(*controller))));
    crate::order::unique(enabled);
    if enabled.is_empty()
        || crate::sys::try_lock(parent, true).is_err()
        || tree::has_limited_children(parent, except)
    {
        return;
    }
    for controller in enabled.drain(..) {
        // Refused where a child has it enabled in turn: then somebody uses it, and it stays.
        if write_at(parent, "cgroup.subtree_control", &format!("-{}", controller.name())).is_err() {
            break;
        }
        let removed = crate::sys::xattr::remove(parent, &mark(controller));
        debug_assert!(removed != Err(Errno::EBADF));
    }
}

/// The keeper, and the front if that is another process, as cgroup.procs takes them.
fn both_of_us() -> Vec<String> {
    let (own, front) = (std::process::id(), crate::guardian::front());
    if own == front { vec!["0".to_owned()] } else { vec!["0".to_owned(), front.to_string()] }
}

/// Makes the group's directory, or joins it where it is shared; returns its name, opened and locked.
fn make(plan: &GroupPlan, parent: BorrowedFd) -> Result<(String, OwnedFd), Errno> {
    let mut name = plan.name.clone();
    let exclusive = plan.named.is_some();
    // A generated name that is taken gets a suffix; a shared one that vanishes under us is made again. Its last
    // user may take a moment to end what was left in it.
    for attempt in 1..=5000 {
        let made = mkdirat(parent, name.as_str(), MODE);
        match made {
            Ok(()) => {}
            Err(Errno::EEXIST) if plan.shared => {}
            // What a dead run of the name has left is taken away.
            Err(Errno::EEXIST) if exclusive && remove_stale(parent, OsStr::new(&name)) => continue,
            Err(Errno::EEXIST) if exclusive => return Err(Errno::EEXIST),
            Err(Errno::EEXIST) => {
                name = format!("{}.{attempt}", plan.name);
                continue;
            }
            Err(errno) => return Err(errno),
        }
        match openat(parent, name.as_str(), DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()) {
            // One that we have just made is nobody's to remove: rcon gc leaves young ones alone.
            Ok(dir) if made.is_ok() => {
                // Others who want this name for themselves may have taken our group for a stale one, or have come
                // to share it and gone again, before it was locked.
                let locked = lock(dir.as_fd(), exclusive);
                if !(exclusive || plan.shared) || (locked && is_alive(dir.as_fd())) {
                    if exclusive {
                        let claimed = crate::sys::claim(dir.as_fd());
                        debug_assert!(claimed != Err(Errno::EBADF));
                    }
                    return Ok((name, dir));
                }
            }
            Ok(dir) => {
                // Fails while the last user of a shared group is removing it: it is gone in a moment. A name for
                // one run is locked against everybody, and that may last.
                if crate::sys::try_lock(dir.as_fd(), exclusive).is_ok() {
                    if is_alive(dir.as_fd()) {
                        return Ok((name, dir));
                    }
                } else if crate::sys::is_claimed(dir.as_fd()) {
                    return Err(Errno::EBUSY);
                }
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err(Errno::EBUSY)
}

/// Removes a group that nobody holds and nobody is in.
fn remove_stale(parent: BorrowedFd, name: &OsStr) -> bool {
    open_child(parent, name).is_ok_and(|dir| {
        is_abandoned(dir.as_fd()) && processes(dir.as_fd()).is_empty() && remove_tree(parent, name)
    })
}

/// A group that was removed keeps its directory for those who have it open, but has no files.
fn is_alive(dir: BorrowedFd) -> bool {
    nix::unistd::faccessat(dir, "cgroup.procs", nix::unistd::AccessFlags::F_OK, nix::fcntl::AtFlags::empty())
        .is_ok()
}

/// The name was free when we looked, or is another's group, or processes of a dead run go on in it.
fn taken(name: &str) -> Error {
    Error::new("a run of this name lives, or processes that one has left")
        .option(format!("--name {name}"))
        .errno(Errno::EEXIST)
        .try_this(format!("rcon show {name}, rcon kill {name}; or --name {name}%n, which numbers runs"))
}

/// Somebody who holds the lock exclusively is looking whether it is used, which takes a moment; a stranger who
/// holds it for ever must not stop us.
fn lock(dir: BorrowedFd, exclusive: bool) -> bool {
    for _ in 0..50 {
        if crate::sys::try_lock(dir, exclusive).is_ok() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    false
}

/// What to do about a refusal to make or fill a group.
pub(crate) fn way_out(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EACCES | Errno::EPERM => Some(
            "as root, or where a subtree is delegated: systemd-run --user --scope -p Delegate=yes rcon ...",
        ),
        Errno::EROFS => {
            Some("mount -o remount,rw the cgroup file system (in a container: let it have a writable one)")
        }
        Errno::EAGAIN => {
            Some("cgroup.max.descendants or cgroup.max.depth of an enclosing group is reached: raise it")
        }
        Errno::ENOSPC => Some("the kernel has no room for another group: rcon gc removes stale ones"),
        _ => None,
    }
}

pub(crate) fn write_hint(file: &str, errno: Errno) -> Option<&'static str> {
    match (file, errno) {
        ("cpu.cfs_quota_us", Errno::EINVAL) => {
            Some("on cgroup v1 a group cannot have more CPU time than the one around it: ask for less")
        }
        ("memory.memsw.limit_in_bytes", Errno::ENOENT) => {
            Some("boot with swapaccount=1 on the kernel's command line")
        }
        ("io.weight" | "blkio.bfq.weight", Errno::ENOENT) => {
            Some("weights need the bfq scheduler: modprobe bfq; echo bfq > /sys/block/DISK/queue/scheduler")
        }
        ("pids.max", Errno::EINVAL) => Some("the kernel counts up to 4194304 tasks: ask for less, or max"),
        (_, Errno::ENODEV) => Some("name a disk that takes limits (lsblk lists disks)"),
        ("cpuset.cpus" | "cpuset.mems", Errno::EACCES | Errno::EINVAL | Errno::ERANGE) => {
            Some("ask only for what the enclosing group has")
        }
        (_, Errno::EACCES | Errno::EPERM) => way_out(Errno::EACCES),
        _ => None,
    }
}

/// A hierarchy's directory opened for looking through it.
///
/// # Errors
/// The kernel's answer.
pub fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, DIRECTORY, Mode::empty())
}

/// A group below an open one, not through a link.
///
/// # Errors
/// The kernel's answer.
pub fn open_child(dir: BorrowedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(dir, name.as_bytes(), DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())
}
