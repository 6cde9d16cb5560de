//! The hierarchies where every system has them, found without the table of mounts: a plain run needs two or three of
//! them, and that table is the dearest thing it would read (the kernel writes it anew for each reader, a line for
//! each mount of the machine, half of what the rest of the start costs).
//!
//! Believed is only what leaves no doubt; with any, the caller reads the table:
//! - this process sees the paths of `/proc/self/cgroup` as they are: it is in the first cgroup namespace;
//! - what is mounted in the usual place is a cgroup file system of the version that is expected;
//! - its directory is the root of the whole hierarchy (inode 1), so that those paths lie below it.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use nix::sys::statvfs::FsFlags;

use super::layout::{Hierarchy, Layout};
use crate::limits::Controller;

/// PROC_CGROUP_INIT_INO of linux/proc_ns.h.
const FIRST_NAMESPACE: u64 = 0xefff_fffb;

/// The hierarchies of these controllers, all in v1 or all in v2. `None`: look at the table of mounts.
#[must_use]
pub fn layout(wanted: &[Controller]) -> Option<Layout> {
    if nix::sys::stat::stat("/proc/self/ns/cgroup").ok()?.st_ino != FIRST_NAMESPACE {
        return None;
    }
    let cgroup = crate::files::read(Path::new("/proc/self/cgroup")).ok()?;
    let mut layout = Layout::default();
    for controller in wanted {
        if layout.v1_of(*controller).is_none() {
            let Some((controllers, own)) = line(&cgroup, controller.v1_name()) else { continue };
            layout.v1.push(v1(controllers, own)?);
        }
    }
    if layout.v1.is_empty() {
        // Mounted nowhere else: no hierarchy of v1 has a controller.
        let only = cgroup.strip_prefix(b"0::")?.strip_suffix(b"\n")?;
        if only.contains(&b'\n') {
            return None;
        }
        let mount = Path::new("/sys/fs/cgroup");
        layout.v2 = Some(hierarchy(mount.to_owned(), CGROUP2_SUPER_MAGIC, only, Vec::new())?);
        return Some(layout);
    }
    wanted.iter().all(|controller| layout.v1_of(*controller).is_some()).then_some(layout)
}

/// Controllers and path of the line in `/proc/self/cgroup` that has this one.
fn line<'a>(cgroup: &'a [u8], name: &str) -> Option<(&'a str, &'a [u8])> {
    cgroup.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |b| *b == b':').skip(1);
        let (controllers, path) = (std::str::from_utf8(fields.next()?).ok()?, fields.next()?);
        controllers.split(',').any(|one| one == name).then_some((controllers, path))
    })
}

fn v1(controllers: &str, own: &[u8]) -> Option<Hierarchy> {
    let known = |name: &&str| Controller::ALL.iter().any(|controller| controller.v1_name() == *name);
    let names = controllers.split(',').filter(known).map(str::to_owned).collect();
    hierarchy(Path::new("/sys/fs/cgroup").join(controllers), CGROUP_SUPER_MAGIC, own, names)
}

fn hierarchy(mount: PathBuf, kind: FsType, own: &[u8], controllers: Vec<String>) -> Option<Hierarchy> {
    let own = own.strip_prefix(b"/")?;
    // A group whose name could be misread: the table's reader has the rules for those.
    if own.split(|b| *b == b'/').any(|part| part == b"..") || own.ends_with(b" (deleted)") {
        return None;
    }
    let found = statfs(&mount).ok()?;
    if found.filesystem_type() != kind || nix::sys::stat::lstat(&mount).ok()?.st_ino != 1 {
        return None;
    }
    let path = if own.is_empty() { mount.clone() } else { mount.join(std::ffi::OsStr::from_bytes(own)) };
    Some(Hierarchy {
        controllers,
        own_is_mount_root: own.is_empty(),
        own: Ok(path),
        read_only: found.flags().contains(FsFlags::ST_RDONLY),
        mount,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On whatever machine this runs.
    #[test]
    fn it_says_what_the_table_says() {
        let read = |path: &str| std::fs::read(path).unwrap();
        let table = Layout::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        for controller in Controller::ALL {
            let Some(found) = layout(&[controller]) else { continue };
            for hierarchy in &found.v1 {
                let mut told = table.v1_of(controller).unwrap().clone();
                // The order of options is the file system's, there.
                let mut names = hierarchy.clone();
                told.controllers.sort();
                names.controllers.sort();
                assert_eq!(names, told);
            }
            assert!(found.v2.is_none() || found.v2 == table.v2, "{found:?}");
        }
    }

    #[test]
    fn a_line_is_found_by_its_controller() {
        let text = b"12:cpu,cpuacct:/a:b\n3:name=systemd:/x\n0::/y\n";
        assert_eq!(line(text, "cpuacct"), Some(("cpu,cpuacct", &b"/a:b"[..])));
        assert_eq!(line(text, "memory"), None);
    }
}
