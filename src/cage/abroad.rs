//! Being elsewhere for the moment in which the child is born.
//!
//! A process in a user namespace of its own has no power over the namespaces outside it, and the kernel makes that
//! one first of all that a child is born with (clone(2), CLONE_NEWUSER). So whoever has the power goes there before,
//! and the child is born into the namespaces that are joined. We come back before anything else is done.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{chroot, fchdir};

use super::Birth;
use super::namespaces::Kind;
use super::step::CageStep;
use super::{facts, trouble};
use crate::error::Error;
use crate::sys::child::enter_namespace;

/// Calls `birth` in the namespaces that the child is to be born in; `joins` are the descriptors of all that are joined.
///
/// # Errors
/// The kernel lets us not go there, or not back.
pub(super) fn born_there<T>(plan: &Birth, joins: &[OwnedFd], birth: impl FnOnce() -> T) -> Result<T, Error> {
    if plan.abroad.is_empty() {
        return Ok(birth());
    }
    let failed = |errno| Error::new("cannot remember the own namespaces").errno(errno).option("--join");
    let home = Home::of(plan).map_err(failed)?;
    let gone = plan.abroad.iter().try_for_each(|step| go(step, joins).map_err(|errno| (step, errno)));
    let born = gone.map(|()| birth());
    let back = home.back();
    let born = born.map_err(|(step, errno)| trouble::of_step(step, plan.new, errno))?;
    back.map_err(|errno| Error::new("cannot come back from the namespaces that are joined").errno(errno))?;
    Ok(born)
}

fn go(step: &CageStep, joins: &[OwnedFd]) -> Result<(), Errno> {
    match step {
        CageStep::Enter(kind, _, index) => {
            enter_namespace(joins.get(*index).map_or(-1, AsRawFd::as_raw_fd), kind.flag())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Where we are.
struct Home {
    namespaces: Vec<(Kind, OwnedFd)>,
    /// Root and working directory, which become those of a mount namespace that is entered (setns(2)).
    directories: Option<(OwnedFd, OwnedFd)>,
}

impl Home {
    fn of(plan: &Birth) -> Result<Self, Errno> {
        let mut home = Self { namespaces: Vec::new(), directories: None };
        for join in &plan.joins {
            let path = PathBuf::from(format!("/proc/self/ns/{}", join.kind.file()));
            home.namespaces.push((join.kind, facts::open_namespace(&path)?));
            if join.kind == Kind::Mount {
                let open = |path: &str| crate::cgroup::open_dir(Path::new(path));
                home.directories = Some((open("/")?, open(".")?));
            }
        }
        Ok(home)
    }

    fn back(self) -> Result<(), Errno> {
        for (kind, namespace) in &self.namespaces {
            enter_namespace(namespace.as_raw_fd(), kind.flag())?;
        }
        if let Some((root, cwd)) = &self.directories {
            fchdir(root).and_then(|()| chroot(".")).and_then(|()| fchdir(cwd))?;
        }
        Ok(())
    }
}
