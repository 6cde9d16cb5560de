//! One group of a run in one hierarchy: made, filled, and taken away again.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::claim::{is_alive, lock, make, taken};
use super::trouble::{way_out, write_hint};
use super::{DIRECTORY, MODE, keyed, read_at, remove_tree, tree, write_at};
use crate::error::Error;
use crate::limits::{Controller, How, Version, Write};
use crate::plan::GroupPlan;

#[derive(Debug)]
pub(super) struct Group {
    pub(super) plan: GroupPlan,
    /// Its place in the plan.
    pub(super) index: usize,
    pub(super) name: String,
    parent: OwnedFd,
    /// Held open and locked (shared) for as long as the group is in use: proof for others that it is.
    pub(super) dir: OwnedFd,
    /// What a process writes `0` to in order to join.
    pub(super) entry: Option<OwnedFd>,
    /// Controllers that we added to the parent's `cgroup.subtree_control`.
    enabled: Vec<Controller>,
    /// The leaf of the parent that we sit in, locked as a group is: for `rcon gc` it would be a dead one else.
    aside: Option<OwnedFd>,
    pub(super) removed: bool,
    /// A shared group that nobody else is in any more; the lock is exclusive now.
    pub(super) last: bool,
    /// Out-of-memory kills before this run, in a group that is shared.
    pub(super) oom_before: u64,
}

impl Group {
    pub(super) fn acquire(plan: &GroupPlan, index: usize) -> Result<Self, Error> {
        let failed = |what: String, errno: Errno| {
            let option = plan.writes.first().map(|write| write.option.clone());
            Error { option, ..Error::new(what).errno(errno) }.try_if(way_out(errno))
        };
        if let Some((scope, unit)) = plan.scope.as_ref().zip(plan.parent.file_name().and_then(OsStr::to_str))
        {
            let processes = [crate::guardian::front(), std::process::id()];
            // One process where there is no keeper.
            let processes = if processes[0] == processes[1] { &processes[1..] } else { &processes[..] };
            scope.start(unit, processes, &plan.controllers).map_err(|error| {
                match (&plan.named, error.errno) {
                    (Some(named), Some(Errno::EEXIST)) => taken(&named.name),
                    _ => error,
                }
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
        // All in one write, for which the kernel walks the tree once; what it refuses is then found one by one.
        let at_once = plan.enable.len() > 1 && self.enable(&plan.enable).is_ok();
        for controller in plan.enable.iter().filter(|_| !at_once) {
            let enabled = self.enable(&[*controller]);
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

    pub(super) fn path(&self) -> String {
        self.plan.parent.join(&self.name).display().to_string()
    }

    pub(super) fn write(&mut self, write: &Write) -> Result<(), Error> {
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
                && (self.is_passed_on(write.controller) || self.enable(&[write.controller]).is_ok())
            {
                // Somebody took the controller back from the parent between our look and our lock, and somebody else
                // may have passed it on again since. From the lock on nobody takes it.
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

    pub(super) fn verify(&self, write: &Write) -> Result<(), Error> {
        let Some((file, wanted)) = &write.verify else { return Ok(()) };
        // What cannot be read back is not what was wanted: an error, below.
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

    /// Does the parent pass it on? What this kernel lacks is no reason to do so, and to take it back from whoever did.
    fn is_passed_on(&self, controller: Controller) -> bool {
        // Where that cannot be read, to pass it on will be refused too, or is right.
        let passed_on = read_at(self.parent.as_fd(), "cgroup.subtree_control").unwrap_or_default();
        // The file says so before it is done; who writes the same waits until it is.
        passed_on.split_whitespace().any(|name| name == controller.name())
            && pass_on(self.parent.as_fd(), &[controller]).is_ok()
    }

    /// Passes controllers on: all of them, or none.
    fn enable(&mut self, controllers: &[Controller]) -> Result<(), Errno> {
        let parent = self.parent.as_fd();
        for controller in controllers {
            // For whoever is the last to use it, and before it is passed on: we may be killed in between. Without the
            // note (kernels before 5.7) it is taken back only where that is us.
            let noted = crate::sys::xattr::set(parent, &mark(*controller), b"1");
            debug_assert!(noted != Err(Errno::EBADF));
        }
        if let Err(errno) = pass_on(parent, controllers) {
            controllers.iter().for_each(|controller| forget(parent, *controller));
            return Err(errno);
        }
        self.enabled.extend(controllers);
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

    pub(super) fn oom_kills(&self) -> Option<u64> {
        let file = match self.plan.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        keyed(&read_at(self.dir.as_fd(), file)?, "oom_kill")
    }

    pub(super) fn try_remove(&mut self) -> bool {
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
        let nothing = !may_be_the_last && self.aside.is_none() && self.enabled.is_empty();
        // A scope of our own goes with us, whatever is in it.
        if nothing || self.plan.scope.is_some() {
            return;
        }
        take_back(self.parent.as_fd(), &mut self.enabled, self.plan.aside.as_deref());
        if let (Some(_), Some(leaf)) = (&self.aside, &self.plan.aside)
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
    let take = |some: &[Controller]| write_at(parent, "cgroup.subtree_control", &signed('-', some)).is_ok();
    let at_once = take(enabled);
    for controller in enabled.drain(..) {
        // Refused where a child has it enabled in turn: then somebody uses it, and it stays.
        if !at_once && !take(&[controller]) {
            break;
        }
        forget(parent, controller);
    }
}

/// Passes controllers on to the groups below.
///
/// # Errors
/// The kernel's answer; none is passed on then.
pub(crate) fn pass_on(parent: BorrowedFd, controllers: &[Controller]) -> Result<(), Errno> {
    write_at(parent, "cgroup.subtree_control", &signed('+', controllers))
}

/// As `cgroup.subtree_control` takes them: `+cpu +memory`.
fn signed(sign: char, controllers: &[Controller]) -> String {
    let words: Vec<String> =
        controllers.iter().map(|controller| format!("{sign}{}", controller.name())).collect();
    words.join(" ")
}

/// Takes the note away.
fn forget(parent: BorrowedFd, controller: Controller) {
    let removed = crate::sys::xattr::remove(parent, &mark(controller));
    debug_assert!(removed != Err(Errno::EBADF));
}

/// The keeper, and the front if that is another process and lives, as cgroup.procs takes them: a dead one's number may be
/// a stranger's.
fn both_of_us() -> Vec<String> {
    let (own, front) = (std::process::id(), crate::guardian::front());
    let mut both = vec!["0".to_owned()];
    if own != front && !crate::guardian::front_is_dead() {
        both.push(front.to_string());
    }
    both
}
