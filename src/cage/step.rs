//! What the child does to get into its cage, as data: [`super::plan`] makes the list, [`super::child`] runs it, and
//! the words here are what `--explain` prints and an error names.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::namespaces::Kind;
use super::process;
use crate::error::printable;

/// One step of the cage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CageStep {
    /// Wait until the parent has written the maps of the user namespace; here in words.
    AwaitMaps(String),
    /// Become 0 in the user namespace, where the caller's own number is not mapped.
    BecomeZero,
    /// Enter a namespace that the parent has opened: the kind, its path, its number in the plan.
    Enter(Kind, String, usize),
    /// Make the command's group the root of its view.
    NewCgroup,
    /// Make a time namespace with these lines for /proc/self/timens_offsets, and enter it.
    NewTime(Option<CString>),
    /// Set the host name.
    Hostname(CString),
    /// Bring loopback up.
    Loopback,
    /// Cut all mounts off from where they were copied from.
    PrivateMounts,
    /// Take a copy of a file or tree of the host, before anything is mounted over it.
    Take(Take),
    /// Open a directory of the host as a layer: path, slot, the option that wants it.
    Layer(CString, usize, String),
    /// Decide what the root directory is.
    Root(Root),
    /// Make everything below the root, but for later mounts, read-only.
    ReadOnlyBelow,
    /// A mount.
    Mount(Mount),
    /// Make the root itself read-only, now that all mount points are there.
    ReadOnlyRoot,
    /// Make the root the only one: pivot_root, and let go of the old root.
    EnterRoot,
    /// All mounts are made, below the root that there was.
    KeepRoot,
    /// chroot, without any namespace.
    Chroot,
    /// Be killed when rcon dies.
    DieWithParent,
    /// Leave a tiny init behind as pid 1, and go on as its child. Waits for all processes if true.
    Init(bool),
    /// The working directory.
    Chdir(CString),
    /// Back to where the caller is: the same path, with what is mounted there now.
    Return(CString),
    /// The file mode creation mask.
    Umask(u32),
    /// A resource or scheduling setting.
    Process(process::Setting),
    /// Have all descriptors but 0, 1, 2 and these closed by exec.
    CloseDescriptors(Vec<i32>),
}

/// A source to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// Its path as the caller sees it.
    pub path: CString,
    /// Where the descriptor goes.
    pub slot: usize,
    /// How it may be used.
    pub access: Access,
    /// It may be missing: then the mount of it is left out.
    pub optional: bool,
    /// The option that wants it.
    pub option: String,
}

/// How a tree may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// As it is on the host.
    AsIs,
    /// Read-only, with all mounts below it.
    ReadOnly,
}

/// Where the root directory comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// The host's, in a mount namespace of our own.
    Own,
    /// A directory, as a mount of its own with all mounts below it.
    Tree(CString),
    /// A directory, for chroot.
    Directory(CString),
    /// A directory under an overlay whose writes go to another one, and stay.
    Kept {
        /// The directory.
        lower: CString,
        /// Where writes go.
        upper: CString,
        /// overlayfs's own.
        work: CString,
        /// As below.
        userxattr: bool,
        /// It does not stay, but goes with the run.
        scratch: bool,
    },
    /// A directory under an overlay whose writes stay in memory.
    Ephemeral {
        /// The directory.
        lower: CString,
        /// Extended attributes of ours must be `user.` ones, because of a user namespace.
        userxattr: bool,
    },
}

/// A place below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Each step of the way, relative to the root: `srv`, `srv/app`.
    pub prefixes: Vec<CString>,
}

impl Target {
    /// An absolute path inside the cage. `None`: it holds a NUL, or names the root itself.
    #[must_use]
    pub fn new(path: &Path) -> Option<Self> {
        let mut prefixes = Vec::new();
        let mut so_far = Vec::new();
        for part in path.as_os_str().as_bytes().split(|b| *b == b'/') {
            if part.is_empty() || part == b"." {
                continue;
            }
            if !so_far.is_empty() {
                so_far.push(b'/');
            }
            so_far.extend_from_slice(part);
            prefixes.push(CString::new(so_far.clone()).ok()?);
        }
        (!prefixes.is_empty()).then_some(Self { prefixes })
    }

    fn words(&self) -> String {
        self.prefixes.last().map_or_else(String::new, |path| format!("/{}", shown(path)))
    }
}

/// A mount and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub what: What,
    /// Where.
    pub target: Target,
    /// The option that asked for it.
    pub option: String,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A tree taken from the host.
    Tree(usize),
    /// Memory: size, mode.
    Tmpfs(Option<CString>, CString),
    /// /proc of the pid namespace; guarded: what reaches the whole machine through it is read-only or hidden.
    Proc {
        /// Read-only /proc/sys, sysrq-trigger…; no kcore, keys…
        guarded: bool,
    },
    /// /sys of the network namespace, read-only; where the kernel refuses a new one, the tree in this slot.
    Sys(usize),
    /// The minimal /dev. With the group of terminals, where that group exists inside.
    Dev {
        /// gid 5 is mapped.
        tty_group: bool,
    },
    /// Nothing to see: an empty directory or file.
    Mask,
    /// An overlay: slots of its layers, topmost first; upper layer, if any.
    Overlay {
        /// Directories, topmost first.
        lowers: Vec<usize>,
        /// Where writes go: slots of upper and work directory.
        upper: Option<(usize, usize)>,
        /// As for the ephemeral root.
        userxattr: bool,
    },
}

fn shown(text: &CStr) -> String {
    printable(text.to_bytes())
}

impl CageStep {
    /// As a clause that starts with a verb.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::AwaitMaps(words) => words.clone(),
            Self::BecomeZero => "become user and group 0 of the user namespace".to_owned(),
            Self::Enter(kind, path, _) => format!("enter the {} namespace {path}", kind.name()),
            Self::NewCgroup => "make a cgroup namespace: its root is the command's group".to_owned(),
            Self::NewTime(None) => "make a time namespace".to_owned(),
            Self::NewTime(Some(lines)) => {
                format!("make a time namespace with offsets: {}", shown(lines).replace("\\n", "; "))
            }
            Self::Hostname(name) => format!("set the host name to {}", shown(name)),
            Self::Loopback => "bring the loopback interface up".to_owned(),
            Self::PrivateMounts => "make all mounts private".to_owned(),
            Self::Take(take) => format!(
                "take {}{} for {}",
                shown(&take.path),
                match (take.access, take.optional) {
                    (Access::AsIs, false) => "",
                    (Access::AsIs, true) => ", if it is there,",
                    (Access::ReadOnly, false) => " (read-only, with all below)",
                    (Access::ReadOnly, true) => " (read-only), if it is there,",
                },
                take.option
            ),
            Self::Layer(path, _, option) => format!("open {} for {option}", shown(path)),
            Self::Root(Root::Own) => "keep the root directory".to_owned(),
            Self::Root(Root::Tree(path)) => format!("take {} as the new root", shown(path)),
            Self::Root(Root::Directory(path)) => format!("open {} as the new root", shown(path)),
            Self::Root(Root::Kept { lower, upper, scratch, .. }) => format!(
                "mount overlay over {} as the new root, its writes {} {}",
                shown(lower),
                if *scratch { "until the end in" } else { "kept in" },
                shown(upper)
            ),
            Self::Root(Root::Ephemeral { lower, .. }) => {
                format!("mount overlay over {} as the new root, its writes in memory (tmpfs)", shown(lower))
            }
            Self::ReadOnlyBelow => "make the root and all mounts below it read-only".to_owned(),
            Self::Mount(mount) => mount.words(),
            Self::ReadOnlyRoot => "make the root itself read-only".to_owned(),
            Self::EnterRoot => "pivot_root to the new root, and detach the old one".to_owned(),
            Self::KeepRoot => "leave the root where it is".to_owned(),
            Self::Chroot => "chroot to the new root".to_owned(),
            Self::DieWithParent => "ask to be killed when rcon dies".to_owned(),
            Self::Init(_) => "leave an init as pid 1 that reaps and passes signals on".to_owned(),
            Self::Chdir(path) => format!("change to the directory {}", shown(path)),
            Self::Return(path) => format!("change back to the directory {}", shown(path)),
            Self::Umask(mask) => format!("set the umask to {mask:03o}"),
            Self::Process(setting) => setting.words(),
            Self::CloseDescriptors(kept) => {
                let kept: String = kept.iter().map(|fd| format!(", {fd}")).collect();
                format!("close all descriptors but 0, 1, 2{kept}")
            }
        }
    }

    /// As [`crate::step::Step::is_quick`]: settings of the process alone are, its descriptors among them, of which it
    /// has its own list; the rest waits for the parent, or leads out of where the parent is.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        matches!(
            self,
            Self::Process(_) | Self::Umask(_) | Self::Chdir(_) | Self::Return(_) | Self::CloseDescriptors(_)
        )
    }

    /// The option that asked for it, where one did.
    #[must_use]
    pub fn option(&self) -> Option<&str> {
        match self {
            Self::Take(take) => Some(&take.option),
            Self::Mount(mount) => Some(&mount.option),
            Self::Layer(_, _, option) => Some(option),
            Self::Root(Root::Own) => None,
            Self::Root(Root::Kept { scratch: true, .. }) => Some("--ephemeral"),
            Self::Root(Root::Kept { .. }) => Some("--keep-changes"),
            Self::Root(_) | Self::EnterRoot | Self::Chroot => Some("--root"),
            Self::ReadOnlyBelow | Self::ReadOnlyRoot => Some("--read-only"),
            Self::Chdir(_) => Some("--chdir"),
            Self::Hostname(_) => Some("--hostname"),
            _ => None,
        }
    }
}

impl Mount {
    fn words(&self) -> String {
        let target = self.target.words();
        match &self.what {
            What::Tree(_) => format!("bind at {target} what was taken for {}", self.option),
            What::Tmpfs(size, mode) => format!(
                "mount tmpfs at {target} (nosuid, nodev, mode {}{})",
                shown(mode),
                size.as_ref().map_or_else(String::new, |size| format!(", size {}", shown(size)))
            ),
            What::Proc { guarded: false } => format!("mount proc at {target} (nosuid, nodev, noexec)"),
            What::Proc { guarded: true } => format!(
                "mount proc at {target} (nosuid, nodev, noexec; read-only: {}; hidden: {})",
                names(PROC_READ_ONLY),
                names(PROC_HIDDEN)
            ),
            What::Sys(_) => format!("mount sysfs at {target} (ro, nosuid, nodev, noexec)"),
            What::Dev { .. } => format!(
                "mount tmpfs at {target} (nosuid, noexec) with null, zero, full, random, urandom, tty, pts, shm, fd, stdin, stdout, stderr"
            ),
            What::Mask => format!("hide {target}"),
            What::Overlay { lowers, upper, .. } => format!(
                "mount overlay at {target} ({} lower layers, {})",
                lowers.len(),
                if upper.is_some() { "writes to the upper directory" } else { "read-only" }
            ),
        }
    }
}

fn names(list: &[&CStr]) -> String {
    list.iter().map(|name| shown(name)).collect::<Vec<_>>().join(" ")
}

/// Files of /proc through which uid 0 of the initial user namespace changes the whole machine without any
/// capability: core_pattern and its like, sysrq. As the OCI runtimes have it.
pub const PROC_READ_ONLY: &[&CStr] = &[c"bus", c"fs", c"irq", c"sys", c"sysrq-trigger"];

/// What tells about the whole machine.
pub const PROC_HIDDEN: &[&CStr] =
    &[c"acpi", c"kcore", c"keys", c"latency_stats", c"sched_debug", c"scsi", c"timer_list", c"timer_stats"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_each_step_of_its_way() {
        let target = Target::new(Path::new("//srv/./app/")).unwrap();
        assert_eq!(target.prefixes, [c"srv".to_owned(), c"srv/app".to_owned()]);
        assert_eq!(target.words(), "/srv/app");
        assert!(Target::new(Path::new("/")).is_none());
    }
}
