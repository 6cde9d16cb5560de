//! The cgroup layouts: what is mounted, and where in the tree and as whom the tests start.

use super::{Job, USER_ID};
use crate::{
    Result,
    guests::{Guest, Layout},
};
use nix::{
    mount::{MsFlags, mount, umount},
    sched::{CloneFlags, unshare},
    unistd::{Gid, Uid, chown, setgid, setgroups, setuid},
};
use std::{fs, os::unix::fs::symlink, path::Path};

const TOP: &str = "/sys/fs/cgroup";
const V1: &str = "cpu cpuacct cpuset memory devices freezer blkio pids hugetlb perf_event net_cls net_prio";
const V1_JOINED: &str =
    "cpu,cpuacct cpuset memory devices freezer blkio pids hugetlb perf_event net_cls,net_prio";

/// Mounts the layout and makes the groups that the tests are to be in. Run by init, in the root group.
pub(super) fn mount_all(layout: Layout) -> Result<()> {
    match layout {
        Layout::Given | Layout::Systemd(_) | Layout::Nothing => Ok(()),
        Layout::V2 => v2(TOP),
        Layout::V2Leaf | Layout::Undelegated => v2(TOP).and_then(|()| make("lab")),
        Layout::ReadOnly => {
            v2(TOP)?;
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mounted(mount(None::<&str>, TOP, None::<&str>, flags, None::<&str>), "read-only")
        }
        Layout::V1Separate => v1(V1),
        Layout::V1Joined => {
            v1(V1_JOINED)?;
            for (link, target) in [
                ("cpu", "cpu,cpuacct"),
                ("cpuacct", "cpu,cpuacct"),
                ("net_cls", "net_cls,net_prio"),
                ("net_prio", "net_cls,net_prio"),
            ] {
                symlink(target, format!("{TOP}/{link}")).map_err(|error| format!("{link}: {error}"))?;
            }
            named("systemd")
        }
        Layout::Hybrid => {
            v1(V1)?;
            named("systemd")?;
            directory(&format!("{TOP}/unified"))?;
            v2(&format!("{TOP}/unified"))
        }
        Layout::Mixed => {
            v1("memory")?;
            directory(&format!("{TOP}/unified"))?;
            v2(&format!("{TOP}/unified"))
        }
        Layout::Container | Layout::ContainerBusy => {
            v2(TOP)?;
            give_all("")?;
            make("lab")?;
            for (file, limit) in [("memory.max", "400M"), ("pids.max", "512"), ("cpu.max", "150000 100000")] {
                write(&format!("{TOP}/lab/{file}"), limit)?;
            }
            give_all("lab")?;
            make("lab/container")
        }
        Layout::Delegated => {
            v2(TOP)?;
            give_all("")?;
            make("user")?;
            give_all("user")?;
            make("user/lab.service")?;
            make("user/lab.service/main")?;
            // what cgroups(7), "Cgroups delegation", says is to be given away
            for group in ["user/lab.service", "user/lab.service/main"] {
                for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
                    let path = format!("{TOP}/{group}/{file}");
                    let owner = (Some(Uid::from_raw(USER_ID)), Some(Gid::from_raw(USER_ID)));
                    chown(path.as_str(), owner.0, owner.1)
                        .map_err(|error| format!("chown {path}: {error}"))?;
                }
            }
            Ok(())
        }
    }
}

/// Puts this process where the tests start and makes it who they run as: done in the process that becomes the
/// test binary.
pub(super) fn enter() -> Result<()> {
    let job = Job::read()?;
    let guest = Guest::named(&job.guest).ok_or("no such guest")?;
    match guest.layout {
        Layout::V2Leaf | Layout::Undelegated => join("lab")?,
        Layout::Delegated => join("user/lab.service/main")?,
        Layout::Container | Layout::ContainerBusy => {
            join("lab/container")?;
            unshare(CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWNS)
                .map_err(|error| format!("unshare: {error}"))?;
            let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mounted(mount(None::<&str>, "/", None::<&str>, flags, None::<&str>), "private mounts")?;
            umount(TOP).map_err(|error| format!("umount {TOP}: {error}"))?;
            v2(TOP)?;
            if guest.layout == Layout::Container {
                make("init")?;
                join("init")?;
            }
        }
        _ => {}
    }
    if guest.is_ordinary_user() {
        let (user, group) = (Uid::from_raw(USER_ID), Gid::from_raw(USER_ID));
        setgroups(&[group])
            .and_then(|()| setgid(group))
            .and_then(|()| setuid(user))
            .map_err(|error| format!("setuid: {error}"))?;
    }
    Ok(())
}

fn v2(place: &str) -> Result<()> {
    let options = "nsdelegate,memory_recursiveprot";
    mounted(mount(Some("cgroup2"), place, Some("cgroup2"), safe(), Some(options)), place)
}

/// A tmpfs with a directory for each hierarchy. What the kernel does not have on v1 is left out, as by systemd.
fn v1(hierarchies: &str) -> Result<()> {
    mounted(mount(Some("tmpfs"), TOP, Some("tmpfs"), safe(), Some("mode=755")), TOP)?;
    for controllers in hierarchies.split(' ') {
        let place = format!("{TOP}/{controllers}");
        directory(&place)?;
        if mount(Some("cgroup"), place.as_str(), Some("cgroup"), safe(), Some(controllers)).is_err() {
            fs::remove_dir(&place).map_err(|error| format!("{place}: {error}"))?;
        }
    }
    Ok(())
}

fn named(name: &str) -> Result<()> {
    let place = format!("{TOP}/{name}");
    directory(&place)?;
    let options = format!("none,name={name}");
    mounted(mount(Some("cgroup"), place.as_str(), Some("cgroup"), safe(), Some(options.as_str())), &place)
}

fn safe() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

fn mounted(result: nix::Result<()>, what: &str) -> Result<()> {
    result.map_err(|error| format!("mount {what}: {error}"))
}

fn directory(path: &str) -> Result<()> {
    fs::create_dir(path).map_err(|error| format!("mkdir {path}: {error}"))
}

fn make(group: &str) -> Result<()> {
    directory(&format!("{TOP}/{group}"))
}

/// Gives every controller that the group has to its children.
fn give_all(group: &str) -> Result<()> {
    let group = Path::new(TOP).join(group);
    let list = fs::read_to_string(group.join("cgroup.controllers")).map_err(|error| error.to_string())?;
    let file = group.join("cgroup.subtree_control");
    list.split_whitespace().try_for_each(|name| write(&file.to_string_lossy(), &format!("+{name}")))
}

fn join(group: &str) -> Result<()> {
    write(&format!("{TOP}/{group}/cgroup.procs"), "0")
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| format!("{text:?} to {path}: {error}"))
}
