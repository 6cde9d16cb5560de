//! Processes by descriptor: what is done through one reaches this process or nobody, never a later one of the
//! same number (pidfd_open(2), Linux 5.3).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

/// Opens the process that has this number now.
///
/// # Errors
/// ESRCH: there is none; ENOSYS: the kernel is older than 5.3.
pub fn open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes two numbers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel has just made this descriptor for us, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal; 0 only asks whether that would be possible.
///
/// # Errors
/// ESRCH: the process has ended; EPERM.
pub fn signal(process: BorrowedFd, signal: i32) -> Result<(), Errno> {
    // SAFETY: takes numbers and a null siginfo, which means "as kill(2)".
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// The number of this process's user namespace, as stat(2) of /proc/self/ns/user has it: a tenth of that one's cost
/// where nothing else of /proc/self is looked at.
///
/// # Errors
/// ENOTTY or EINVAL: the kernel is older than 6.11.
pub fn own_user_namespace() -> Result<u64, Errno> {
    /// PIDFD_GET_USER_NAMESPACE of linux/pidfd.h: `_IO(0xFF, 9)`.
    const GET_USER_NAMESPACE: u64 = 0xFF09;
    let process = open(Pid::this())?;
    // SAFETY: this request takes no argument and makes a descriptor.
    let fd = Errno::result(unsafe { libc::ioctl(process.as_raw_fd(), GET_USER_NAMESPACE as _, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us, close-on-exec.
    let namespace = unsafe { OwnedFd::from_raw_fd(fd) };
    nix::sys::stat::fstat(&namespace).map(|stat| stat.st_ino)
}
