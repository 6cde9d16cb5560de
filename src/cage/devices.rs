//! The minimal /dev. The child's side: async-signal-safe.

use std::ffi::CStr;

use nix::errno::Errno;

use crate::sys::mount::{self, CWD, attr};

/// Name, place on the host, numbers (Linux allocated devices, admin-guide/devices.txt).
const NODES: [(&CStr, &CStr, u32, u32); 6] = [
    (c"null", c"/dev/null", 1, 3),
    (c"zero", c"/dev/zero", 1, 5),
    (c"full", c"/dev/full", 1, 7),
    (c"random", c"/dev/random", 1, 8),
    (c"urandom", c"/dev/urandom", 1, 9),
    (c"tty", c"/dev/tty", 5, 0),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

/// Mounts it at `target`.
pub(super) fn mount(target: i32, tty_group: bool) -> Result<(), Errno> {
    let context = mount::fs_open(c"tmpfs")?;
    mount::fs_set(context, c"mode", Some(c"0755"))?;
    mount::fs_set(context, c"size", Some(c"1m"))?;
    let dev = mount::fs_mount(context, attr::NOSUID | attr::NOEXEC)?;
    mount::close(context);
    let mut host = [-1; NODES.len()];
    for ((name, path, major, minor), slot) in NODES.iter().zip(&mut host) {
        match mount::make_device(dev, name, *major, *minor) {
            // Not in a user namespace, nor where a devices cgroup forbids it: the host's own is bound instead.
            // Its copy is taken before this /dev may cover the host's.
            Err(Errno::EPERM) => {
                *slot = mount::clone_tree(CWD, path)?;
                let create = libc::O_CREAT | libc::O_WRONLY | libc::O_EXCL;
                mount::close(mount::openat2(dev, name, create, 0o666, 0)?);
            }
            other => other?,
        }
    }
    for (name, to) in LINKS {
        mount::make_link(to, dev, name)?;
    }
    mount::make_directory(dev, c"pts", 0o755)?;
    mount::make_directory(dev, c"shm", 0o1777)?;
    mount::attach(dev, target)?;
    mount::close(target);
    for ((name, ..), tree) in NODES.iter().zip(host) {
        if tree >= 0 {
            put(tree, dev, name)?;
        }
    }
    put(terminals(tty_group)?, dev, c"pts")?;
    put(shared_memory()?, dev, c"shm")?;
    mount::close(dev);
    Ok(())
}

fn put(tree: i32, dir: i32, name: &CStr) -> Result<(), Errno> {
    let place = mount::openat2(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0, 0)?;
    mount::attach(tree, place)?;
    mount::close(place);
    mount::close(tree);
    Ok(())
}

fn terminals(tty_group: bool) -> Result<i32, Errno> {
    let context = mount::fs_open(c"devpts")?;
    mount::fs_set(context, c"newinstance", None)?;
    mount::fs_set(context, c"ptmxmode", Some(c"0666"))?;
    mount::fs_set(context, c"mode", Some(c"0620"))?;
    if tty_group {
        mount::fs_set(context, c"gid", Some(c"5"))?;
    }
    let mounted = mount::fs_mount(context, attr::NOSUID | attr::NOEXEC);
    mount::close(context);
    mounted
}

fn shared_memory() -> Result<i32, Errno> {
    let context = mount::fs_open(c"tmpfs")?;
    mount::fs_set(context, c"mode", Some(c"1777"))?;
    let mounted = mount::fs_mount(context, attr::NOSUID | attr::NODEV | attr::NOEXEC);
    mount::close(context);
    mounted
}
