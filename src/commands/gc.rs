//! `rcon gc`: removes groups and tracing instances that dead wrappers left.
//!
//! A group is ours if it is called rcon-something and bears the mark that every group of ours is made with. It
//! is in use as long as anybody holds the lock on its directory, which the kernel releases when the holder dies,
//! however it dies.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use nix::sys::stat::fstat;

use crate::cgroup::{is_abandoned, kill_tree, open_child, open_dir, processes, remove_tree};
use crate::error::{Error, printable};
use crate::limits::Version;
use crate::runs::{is_ours, layout};

pub(super) fn command() -> Command {
    Command::new("gc")
        .about("Remove groups and tracing instances that dead wrappers left")
        .arg(
            Arg::new("kill")
                .long("kill")
                .action(ArgAction::SetTrue)
                .help("Kill processes that run on in such groups; without it these are only listed"),
        )
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Only list what would be removed"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    let sweep = Sweep { kill: matches.get_flag("kill"), dry: matches.get_flag("dry-run") };
    let mut told = true;
    for name in crate::learn::sweep(sweep.dry) {
        let done = if sweep.dry { "would remove" } else { "removed" };
        told &= tell(&format!("{done} tracing instance {name}\n"));
    }
    let layout = layout()?;
    let mut status = i32::from(!told);
    let v1 = layout.v1.iter().map(|hierarchy| (hierarchy, Version::V1));
    for (hierarchy, version) in v1.chain(layout.v2.iter().map(|hierarchy| (hierarchy, Version::V2))) {
        if let Ok(root) = open_dir(&hierarchy.mount)
            && !sweep.below(root.as_fd(), &hierarchy.mount, version)
        {
            status = 1;
        }
    }
    Ok(status)
}

#[derive(Clone, Copy)]
struct Sweep {
    kill: bool,
    dry: bool,
}

impl Sweep {
    /// Looks through a group and all below it. `false`: something stale could not be removed, or not be told.
    fn below(self, dir: BorrowedFd, path: &Path, version: Version) -> bool {
        let mut clean = true;
        for name in crate::cgroup::children(dir) {
            let Ok(child) = open_child(dir, &name) else { continue };
            let path = path.join(&name);
            if fstat(&child).is_ok_and(|stat| is_ours(&name, &stat)) && is_abandoned(child.as_fd()) {
                clean &= self.stale(dir, &name, child.as_fd(), &path, version);
            } else {
                clean &= self.below(child.as_fd(), &path, version);
            }
        }
        if version == Version::V2 && !self.dry {
            // Controllers that a dead run passed on to its group.
            crate::cgroup::take_back(dir, &mut Vec::new(), None);
        }
        clean
    }

    fn stale(
        self,
        parent: BorrowedFd,
        name: &std::ffi::OsStr,
        dir: BorrowedFd,
        path: &Path,
        version: Version,
    ) -> bool {
        let shown = printable(path.as_os_str().as_encoded_bytes());
        let held = holds_processes(dir);
        if held && !self.kill {
            crate::say(&format!(
                "rcon: {shown}: its wrapper is dead, processes run on in it (rcon gc --kill ends them)"
            ));
            return false;
        }
        if self.dry {
            return tell(&format!("would remove {shown}\n"));
        }
        for _ in 0..200 {
            if held {
                kill_tree(dir, version, None);
            }
            if remove_tree(parent, name) {
                return tell(&format!("removed {shown}\n"));
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        crate::say(&format!("rcon: {shown} could not be removed"));
        false
    }
}

/// Says what was done. That it cannot be heard is no reason to leave the rest undone. `false`: it cannot.
fn tell(line: &str) -> bool {
    crate::print(line).map_err(|error| crate::say(&error.to_string())).is_ok()
}

fn holds_processes(dir: BorrowedFd) -> bool {
    !processes(dir).is_empty()
        || crate::cgroup::children(dir)
            .iter()
            .any(|name| open_child(dir, name).is_ok_and(|child| holds_processes(child.as_fd())))
}
