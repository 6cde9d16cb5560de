//! What to do where the kernel refuses a group, or a value.

use nix::errno::Errno;

/// What to do about a refusal to make or fill a group.
pub(crate) fn way_out(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EACCES | Errno::EPERM => Some(
            "as root, or where a subtree is delegated: systemd-run --user --scope -p Delegate=yes rcon ...",
        ),
        Errno::EROFS => {
            Some("mount -o remount,rw the cgroup file system (in a container: let it have a writable one)")
        }
        Errno::EAGAIN => {
            Some("cgroup.max.descendants or cgroup.max.depth of an enclosing group is reached: raise it")
        }
        Errno::ENOSPC => Some("the kernel has no room for another group: rcon gc removes stale ones"),
        _ => None,
    }
}

pub(crate) fn write_hint(file: &str, errno: Errno) -> Option<&'static str> {
    match (file, errno) {
        ("cpu.cfs_quota_us", Errno::EINVAL) => {
            Some("on cgroup v1 a group cannot have more CPU time than the one around it: ask for less")
        }
        ("memory.memsw.limit_in_bytes", Errno::ENOENT) => {
            Some("boot with swapaccount=1 on the kernel's command line")
        }
        ("io.weight" | "blkio.bfq.weight", Errno::ENOENT) => {
            Some("weights need the bfq scheduler: modprobe bfq; echo bfq > /sys/block/DISK/queue/scheduler")
        }
        ("pids.max", Errno::EINVAL) => Some("the kernel counts up to 4194304 tasks: ask for less, or max"),
        (_, Errno::ENODEV) => Some("name a disk that takes limits (lsblk lists disks)"),
        ("cpuset.cpus" | "cpuset.mems", Errno::EACCES | Errno::EINVAL | Errno::ERANGE) => {
            Some("ask only for what the enclosing group has")
        }
        (_, Errno::EACCES | Errno::EPERM) => way_out(Errno::EACCES),
        _ => None,
    }
}
