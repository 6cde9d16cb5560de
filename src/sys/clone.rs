//! Making the child. clone3(2) where it is needed for the cgroup, without threads anywhere, so that a copied
//! address space is sound.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

/// linux/sched.h; the crate's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What the child is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneFlags {
    /// `CLONE_NEW*` bits of namespaces(7).
    pub namespaces: u64,
}

/// Makes a child that runs `child`, which is not expected to return, born inside the v2 group `cgroup` if there is one.
///
/// The caller has one thread: the child gets a copy of its memory alone.
///
/// # Errors
/// clone3(2)'s; EACCES, EBUSY and EOPNOTSUPP speak of the cgroup.
pub fn spawn(flags: CloneFlags, cgroup: Option<BorrowedFd>, child: impl FnOnce()) -> Result<Pid, Errno> {
    // SAFETY: all-zero is the documented default of every field (clone3(2)).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags.namespaces;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and without a stack the child goes on here on a copy of this stack, as after
    // fork(2). There is one thread, so no lock is held by another. `child` only makes async-signal-safe calls.
    let pid = Errno::result(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, std::mem::size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        child();
        super::leave(125);
    }
    Ok(Pid::from_raw(pid as i32))
}
