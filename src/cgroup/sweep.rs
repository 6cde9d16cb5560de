//! Removes the groups of one run by their name, where the process that knew them is dead.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::layout::Layout;
use super::{is_alive, kill_tree, open_child, open_dir, read_at, remove_tree, take_back, tree, write_at};
use crate::files;
use crate::limits::Version;
use crate::runs::Name;

/// What the groups of a run are called.
#[derive(Debug, Default)]
pub struct Names {
    prefix: Option<String>,
    /// May be used by other runs as well: then it stays.
    shared: Option<String>,
    /// `--name`.
    named: Option<Name>,
}

impl Names {
    /// Those of the run whose front is `pid`, with `--group` and `--name`.
    #[must_use]
    pub fn of_run(pid: u32, shared: Option<&str>, name: Option<Name>) -> Self {
        Self {
            prefix: Some(format!("rcon-{pid}-")),
            shared: shared.map(|name| format!("rcon-{name}")),
            named: name,
        }
    }

    fn is_own(&self, name: &str) -> bool {
        let named =
            self.named.as_ref().zip(name.strip_prefix("rcon-")).is_some_and(|(own, name)| own.is(name));
        self.prefix.as_ref().is_some_and(|prefix| name.starts_with(prefix.as_str())) || named
    }
}

/// Kills and removes these groups, where nobody holds their lock. `false`: something is still there.
#[must_use]
pub fn end(names: &Names) -> bool {
    // Without /proc there is no layout, and nothing to be found.
    let read = |path: &str| files::read(Path::new(path)).unwrap_or_default();
    let layout = Layout::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    let v1 = layout.v1.iter().map(|hierarchy| (hierarchy, Version::V1));
    v1.chain(layout.v2.iter().map(|hierarchy| (hierarchy, Version::V2)))
        .map(|(hierarchy, version)| open_dir(&hierarchy.mount).map(|root| names.below(root.as_fd(), version)))
        .fold(true, |clean, one| clean & one.unwrap_or(true))
}

impl Names {
    fn below(&self, dir: BorrowedFd, version: Version) -> bool {
        let mut clean = true;
        for name in tree::children(dir) {
            let Ok(child) = open_child(dir, &name) else { continue };
            let text = name.to_string_lossy();
            // A living owner holds the lock: another pid namespace may have our number. The name of a group that its
            // owner has just removed may be another's by now.
            let free = || crate::sys::try_lock(child.as_fd(), true).is_ok() && is_alive(child.as_fd());
            // A scope of systemd's has us in it, and ends by itself when it is empty.
            let scope = text.ends_with(".scope");
            if !scope && self.is_own(&text) && free() {
                clean &= if text.ends_with(".self") {
                    leave_leaf(dir, &name)
                } else {
                    kill_tree(child.as_fd(), version, None);
                    remove_tree(dir, &name)
                };
            } else if self.shared.as_deref() == Some(&*text) && free() {
                clean &= remove_tree(dir, &name);
            } else {
                clean &= self.below(child.as_fd(), version);
            }
        }
        if version == Version::V2 {
            // What was passed on for a group, also for one that the keeper had just removed.
            take_back(dir, &mut Vec::new(), None);
        }
        clean
    }
}

/// We sit in the leaf that the keeper moved us to: back to its parent, which passed nothing on before.
fn leave_leaf(parent: BorrowedFd, leaf: &OsStr) -> bool {
    if tree::has_limited_children(parent, leaf.to_str()) {
        return false;
    }
    for controller in read_at(parent, "cgroup.subtree_control").unwrap_or_default().split_whitespace() {
        if write_at(parent, "cgroup.subtree_control", &format!("-{controller}")).is_err() {
            return false;
        }
    }
    write_at(parent, "cgroup.procs", "0").is_ok() && remove_tree(parent, leaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_knows_its_own_groups() {
        let own = |name: Name, text| Names::of_run(7, None, Some(name)).is_own(text);
        let exact = || Name::Exact("build".to_owned());
        let numbered = || Name::Numbered("build-".to_owned(), String::new());
        assert!(own(exact(), "rcon-build") && own(exact(), "rcon-7-abc"));
        assert!(!own(exact(), "rcon-build2") && !own(exact(), "build") && !own(exact(), "rcon-77-abc"));
        assert!(own(numbered(), "rcon-build-12") && !own(numbered(), "rcon-build-"));
        assert!(!own(numbered(), "rcon-build-1x"));
    }
}
