//! Where attached processes came from: an extended attribute on their group, so that `rcon attach --detach` can put
//! them back; and what limits they would leave by being moved.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::limits::Version;
use crate::runs::held::held_in;
use crate::sys::xattr;

/// A group in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub PathBuf);

/// cgroup file systems keep these in memory. `user.` is for everybody, but on v2 only (Linux 5.7).
const NAMES: [&CStr; 2] = [c"trusted.rcon.origin", c"user.rcon.origin"];

impl Origin {
    /// Notes it on the group. `false`: this kernel keeps no such note here.
    #[must_use]
    pub fn note(&self, group: BorrowedFd) -> bool {
        NAMES.iter().any(|name| xattr::set(group, name, self.0.as_os_str().as_bytes()).is_ok())
    }

    /// Reads the note.
    #[must_use]
    pub fn of(group: BorrowedFd) -> Option<Self> {
        let bytes = NAMES.iter().find_map(|name| xattr::get(group, name))?;
        Some(Self(Path::new(OsStr::from_bytes(&bytes)).to_owned()))
    }
}

/// Limits that a process leaves by moving from `from` into a child of `parent`, as sentences.
#[must_use]
pub fn crossed(from: &Path, parent: &Path, mount: &Path, version: Version) -> Vec<String> {
    let mut out = Vec::new();
    for dir in from.ancestors().take_while(|dir| dir.starts_with(mount)) {
        if parent.starts_with(dir) {
            break;
        }
        if let Ok(fd) = crate::cgroup::open_dir(dir) {
            let limits = held_in(fd.as_fd(), version);
            // Weights bind nobody. A v1 cpuset is always filled in, and `crossed` cannot tell whether less was.
            let binds =
                |option: &str| !option.ends_with("weight") && (version == Version::V2 || option != "mems");
            let limits = limits.iter().filter(|held| binds(held.option));
            out.extend(limits.map(|held| format!("{}={} on {}", held.file, held.value, dir.display())));
        }
    }
    out
}
