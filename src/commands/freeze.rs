//! `rcon freeze` and `rcon thaw`: stop all processes of a run where they are, and let them go on.
//!
//! v2: `cgroup.freeze`, of which every group has one. v1: the freezer hierarchy. There a frozen process cannot even
//! be killed before it is thawed, so `rcon kill` thaws.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use clap::{ArgMatches, Command};
use nix::errno::Errno;

use super::set::{add_groups, layout_around};
use crate::cgroup::{keyed, read_at, write_at};
use crate::cli::Args;
use crate::error::Error;
use crate::host::Host;
use crate::limits::{Controller, Version};
use crate::runs::{self, Run};
use std::path::Path;

/// How long the kernel may take to freeze: a process in an uninterruptible wait freezes when that ends.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn freeze_command() -> Command {
    Command::new("freeze").about("Stop all processes of runs where they are").arg(super::names())
}

pub(super) fn thaw_command() -> Command {
    Command::new("thaw").about("Let frozen runs go on").arg(super::names())
}

pub(super) fn freeze(matches: &ArgMatches) -> Result<i32, Error> {
    Ok(super::for_each(matches, |run| {
        let freezer = Freezer::of(run).or_else(|_| Freezer::make(run))?;
        freezer.write(true).map_err(|errno| freezer.failed(run, "freeze", errno))?;
        if freezer.wait(true) {
            return Ok(());
        }
        Err(Error::new(format!(
            "{} is not frozen after {} s: a process in it waits for a device",
            run.shown(),
            PATIENCE.as_secs()
        ))
        .try_this("it freezes when that wait ends; rcon thaw takes the request back"))
    }))
}

pub(super) fn thaw(matches: &ArgMatches) -> Result<i32, Error> {
    Ok(super::for_each(matches, |run| {
        let freezer = Freezer::of(run)?;
        freezer.write(false).map_err(|errno| freezer.failed(run, "thaw", errno))
    }))
}

/// What freezes a run.
struct Freezer {
    dir: OwnedFd,
    version: Version,
}

impl Freezer {
    fn of(run: &Run) -> Result<Self, Error> {
        let dir = run
            .v2()
            .or_else(|| run.dir_of(Controller::Freezer))
            .ok_or_else(|| Error::new(format!("{} is not frozen", run.shown())))?;
        match dir.open() {
            Ok(fd) => Ok(Self { dir: fd, version: dir.version }),
            Err(errno) => Err(super::gone(run, errno)),
        }
    }

    /// Makes the group that a run on v1 does without until it is to be frozen.
    fn make(run: &Run) -> Result<Self, Error> {
        // A shared group may lie in any hierarchy: all are looked at.
        let args = Args { group: Some(run.name.to_string_lossy().into_owned()), ..Args::default() };
        let host = Host::around(Path::new("/"), &args, |_| layout_around(run))?;
        match add_groups(run, vec![crate::plan::freezer(&host)?])? {
            0 => Self::of(&runs::again(run)?),
            _ => Err(Error::new(format!("{} cannot be frozen", run.shown()))),
        }
    }

    fn write(&self, freeze: bool) -> Result<(), Errno> {
        match self.version {
            Version::V1 => {
                write_at(self.dir.as_fd(), "freezer.state", if freeze { "FROZEN" } else { "THAWED" })
            }
            Version::V2 => write_at(self.dir.as_fd(), "cgroup.freeze", if freeze { "1" } else { "0" }),
        }
    }

    fn is_frozen(&self) -> bool {
        match self.version {
            Version::V1 => {
                read_at(self.dir.as_fd(), "freezer.state").is_some_and(|text| text.trim() == "FROZEN")
            }
            Version::V2 => read_at(self.dir.as_fd(), "cgroup.events")
                .is_some_and(|text| keyed(&text, "frozen") == Some(1)),
        }
    }

    fn wait(&self, frozen: bool) -> bool {
        let start = Instant::now();
        let mut pause = Duration::from_micros(200);
        while self.is_frozen() != frozen {
            if start.elapsed() > PATIENCE {
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
            if self.version == Version::V1 && frozen && self.write(true).is_err() {
                // v1 freezes whoever is there at each write: children of a fork in flight need another.
                return false;
            }
        }
        true
    }

    fn failed(&self, run: &Run, verb: &str, errno: Errno) -> Error {
        match errno {
            Errno::ENOENT | Errno::ENODEV => super::gone(run, errno),
            _ => Error::new(format!("cannot {verb} {}", run.shown())).errno(errno),
        }
    }
}

/// A run held still for a moment; let go when dropped, unless it was frozen before.
pub(super) struct Frozen(Option<Freezer>);

impl Frozen {
    /// Freezes it if that can be done.
    pub(super) fn hold(run: &Run) -> Self {
        let freezer = Freezer::of(run).ok().filter(|freezer| !freezer.is_frozen());
        Self(freezer.filter(|freezer| freezer.write(true).is_ok()).inspect(|freezer| {
            // Not in time: the caller's own loop has to do.
            freezer.wait(true);
        }))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(freezer) = &self.0 {
            // The group is gone, or it thaws: both are well.
            let thawed = freezer.write(false);
            debug_assert!(thawed != Err(Errno::EBADF));
        }
    }
}
