//! Groups: made, filled in, and removed whatever happens. Version-less but for three things: how a process
//! gets in, how a group is killed, and where out-of-memory kills are counted.

mod claim;
mod group;
pub mod layout;
pub mod place;
pub mod scope;
pub mod sweep;
mod tree;
mod trouble;
pub mod usual;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::error::Error;
use crate::limits::{Controller, Version};
use crate::live::Transaction;
use crate::plan::GroupPlan;
use claim::is_alive;
use group::Group;
pub(crate) use group::{pass_on, take_back};
pub use tree::{children, is_abandoned, kill_tree, processes, processes_of, remove_tree, thaw};
pub(crate) use trouble::write_hint;

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
    /// What the limits of shared groups were: they stay so if the command does not start.
    former: Transaction,
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
        let mut groups = Self::default();
        groups.list.reserve_exact(plans.len());
        groups.planned = plans.len();
        if plans.iter().all(|plan| plan.scope.is_none()) {
            crate::systemd::hang_up();
        }
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
                if plan.shared {
                    groups.former.note(group.dir.as_fd(), write);
                }
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

    /// The command has started: shared groups keep the limits that they have been given.
    pub fn keep(&mut self) {
        std::mem::take(&mut self.former).keep();
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
    pub fn processes(&self) -> Vec<Pid> {
        self.list
            .iter()
            .filter(|group| !group.plan.shared)
            .flat_map(|group| tree::processes_below(group.dir.as_fd()))
            .collect()
    }

    /// Kills everything in the groups that are this run's alone, or that it is the last one in. Asynchronous: the
    /// processes go when they can. `killed` as for [`kill_tree`].
    pub fn kill(&self, mut killed: Option<&mut BTreeSet<Pid>>) {
        for group in self.list.iter().filter(|g| !g.removed && (!g.plan.shared || g.last)) {
            kill_tree(group.dir.as_fd(), group.plan.version, killed.as_deref_mut());
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
            self.kill(None);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
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
