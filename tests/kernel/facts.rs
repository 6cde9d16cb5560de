//! What this machine is, read from /proc and the cgroup file systems: no guess from names or versions.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// A mounted cgroup hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Hierarchy {
    /// v1: its controllers; v2: empty, see [`Hierarchy::offers`].
    pub(crate) controllers: Vec<String>,
    pub(crate) v2: bool,
    pub(crate) mount: PathBuf,
    /// Mounted read-only, as most containers see it.
    pub(crate) read_only: bool,
    /// The group that this process is in, as a path on this machine; `None` if it is not below the mount.
    pub(crate) own: Option<PathBuf>,
}

impl Hierarchy {
    /// Does this hierarchy have the controller at its mount point at all?
    pub(crate) fn has(&self, controller: &str) -> bool {
        match self.v2 {
            true => offers(&self.mount, controller),
            false => self.controllers.iter().any(|name| name == controller),
        }
    }
}

/// Is the controller in the v2 group's `cgroup.controllers`?
pub(crate) fn offers(group: &Path, controller: &str) -> bool {
    fs::read_to_string(group.join("cgroup.controllers"))
        .is_ok_and(|list| list.split_whitespace().any(|name| name == controller))
}

/// The hierarchies as mounted when the tests began, each once even if it is mounted in several places.
pub(crate) fn hierarchies() -> &'static [Hierarchy] {
    static FOUND: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    })
}

/// Crosses mountinfo (proc_pid_mountinfo(5)) with /proc/self/cgroup (cgroups(7)).
fn parse(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let ([_, _, device, root, mount, options, ..], [kind, _, superblock, ..]) = (&left[..], &right[..])
        else {
            continue;
        };
        let v2 = *kind == "cgroup2";
        if !(v2 || *kind == "cgroup") || seen.contains(device) {
            continue;
        }
        seen.push(device);
        let controllers: Vec<String> = match v2 {
            true => Vec::new(),
            // name=systemd counts as a controller that limits nothing
            false => {
                superblock.split(',').filter(|word| !GENERIC.contains(word)).map(str::to_owned).collect()
            }
        };
        let path = cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            let here = match v2 {
                true => names.is_empty(),
                false => names.split(',').any(|name| controllers.iter().any(|own| own == name)),
            };
            here.then_some(path)
        });
        let mount = PathBuf::from(mount.replace("\\040", " "));
        let own = path.and_then(|path| Path::new(path).strip_prefix(root).ok()).map(|rest| mount.join(rest));
        let read_only = [options, superblock].iter().any(|list| list.split(',').any(|word| word == "ro"));
        found.push(Hierarchy { controllers, v2, mount, read_only, own });
    }
    found
}

/// Words in a v1 mount's options that are not controllers.
const GENERIC: &[&str] =
    &["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods", "seclabel"];

/// A word of the kernel's command line, `key=value`.
pub(crate) fn boot_word(key: &str) -> Option<String> {
    let line = fs::read_to_string("/proc/cmdline").ok()?;
    line.split_whitespace().find_map(|word| Some(word.strip_prefix(key)?.strip_prefix('=')?.to_owned()))
}
