//! Everything unsafe, behind safe functions; and the few system calls that no crate wraps well.

mod allocator;
mod arguments;
pub mod caps;
pub mod child;
pub mod clone;
mod machine;
#[cfg(light_start)]
mod memory;
pub mod message;
pub mod mount;
pub mod pidfd;
pub mod signals;
#[cfg(light_start)]
mod start;
pub mod stops;
pub mod xattr;

pub use arguments::{Vector, arguments, environment};
pub use machine::{can_make_user_namespace, kernel_name, kernel_release, landlock_version, raised_at_exec};
pub use start::finish_start;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

/// Elsewhere the C library has always started as a whole.
#[cfg(not(light_start))]
mod start {
    pub(super) fn is_light() -> bool {
        false
    }
    pub(super) fn come_back() {}
    /// Nothing is left to do.
    pub fn finish_start() {}
}

/// Makes sure that descriptors 0, 1 and 2 are taken, so that nothing we open lands there and is mistaken for
/// the command's standard streams. Closed ones are filled with close-on-exec placeholders: the command finds
/// them closed, as without us.
pub fn plug_standard_descriptors() {
    let mut set = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: `set` is a valid array of three pollfd for the duration of the call.
    let ready = unsafe { libc::poll(set.as_mut_ptr(), 3, 0) };
    if ready <= 0 {
        return;
    }
    for entry in set {
        if entry.revents & libc::POLLNVAL != 0 {
            // The lowest free descriptor is taken, and 0 to 2 are looked at in order.
            // `/`, because it is there in every root; O_PATH can be neither read nor written.
            // SAFETY: the path is a C string literal. The descriptor stays open until exec on purpose.
            unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
        }
    }
}

/// Leaves at once with `status`; nothing is buffered anywhere and nothing is registered to run at exit.
pub fn leave(status: i32) -> ! {
    // SAFETY: _exit takes any status and has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Marks a descriptor's open file as locked, shared or exclusively, for as long as it stays open anywhere
/// (flock(2)). Never blocks.
///
/// # Errors
/// EWOULDBLOCK when another open file holds a lock that conflicts.
pub fn try_lock(fd: BorrowedFd, exclusive: bool) -> Result<(), Errno> {
    let kind = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: flock takes a descriptor, which is borrowed and so open, and no memory.
    Errno::result(unsafe { libc::flock(fd.as_raw_fd(), kind | libc::LOCK_NB) }).map(drop)
}

/// Says of a directory that it is for one alone, by a second lock (fcntl(2), F_OFD_SETLK): the first, flock(2)'s, also
/// those hold exclusively who only look or remove. As that one it goes with the last descriptor.
///
/// # Errors
/// The kernel's answer.
pub fn claim(fd: BorrowedFd) -> Result<(), Errno> {
    let lock = whole(libc::F_RDLCK);
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).map(drop)
}

/// Has somebody said so, and lives?
#[must_use]
pub fn is_claimed(fd: BorrowedFd) -> bool {
    let mut lock = whole(libc::F_WRLCK);
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_OFD_GETLK(&mut lock)).is_ok()
        && i32::from(lock.l_type) != libc::F_UNLCK
}

fn whole(kind: i32) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Makes orphaned descendants ours, so that they can be found, killed and reaped (PR_SET_CHILD_SUBREAPER).
///
/// # Errors
/// None that a kernel since 3.4 is known to give.
pub fn become_subreaper() -> Result<(), Errno> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Microseconds-grade noise from the monotonic clock, to tell two runs of one process id apart.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// Gives back to the kernel the pages of this process's stack that no call is using now. They come back, empty, when
/// they are touched.
pub fn give_back_stack() {
    const REACH: usize = 192 * 1024;
    const MARGIN: usize = 8 * 1024;
    let here = 0_u8;
    let page = page_size() as usize;
    let end = (&raw const here as usize).saturating_sub(MARGIN) & !(page - 1);
    let start = end.saturating_sub(REACH) as *mut libc::c_void;
    // SAFETY: below the stack pointer and the 8 KB that we leave is nothing that lives: one thread, no signal
    // handlers. The kernel keeps other mappings further away from the stack than this reaches (mmap_base); what of the
    // range is not mapped yet is skipped (ENOMEM).
    unsafe { libc::madvise(start, REACH, libc::MADV_DONTNEED) };
}

/// Bytes per page of memory.
#[must_use]
pub fn page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// Clock ticks per second, the unit of times in `/proc/PID/stat`.
#[must_use]
pub fn ticks_per_second() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100).max(1)
}

/// Columns and lines of the terminal that standard output is; `None`: it is none.
#[must_use]
pub fn terminal_size() -> Option<(u16, u16)> {
    // SAFETY: all-zero is a valid winsize.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one winsize, which is there to be written to.
    let answer = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0 && size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// Makes a copy of this process that runs `child` and leaves with its status.
///
/// # Errors
/// EAGAIN: a limit on processes is reached.
pub fn fork(child: impl FnOnce() -> i32) -> Result<nix::unistd::Pid, Errno> {
    // SAFETY: this program has one thread, so no lock is held by another that the copy would lack.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => leave(child()),
        nix::unistd::ForkResult::Parent { child } => Ok(child),
    }
}

/// Closes a descriptor that was inherited: one of our own is close-on-exec, and stays.
pub fn close_inherited(fd: i32) {
    // SAFETY: F_GETFD takes a number and no memory.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
        // SAFETY: nothing in this program owns a descriptor without FD_CLOEXEC.
        unsafe { libc::close(fd) };
    }
}

/// Makes standard input, output and error this file.
pub fn replace_standard_descriptors(file: BorrowedFd) {
    for fd in 0..3 {
        // SAFETY: takes two numbers. What stood there is the caller's, and is let go of on purpose.
        unsafe { libc::dup2(file.as_raw_fd(), fd) };
    }
}

/// A descriptor that was just made, or handed to us over a socket, and that nobody else owns.
#[must_use]
pub fn own(fd: i32) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: callers pass on what the kernel has just given them, and nobody else knows the number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The owned descriptor's number, for the child side, which has only numbers.
#[must_use]
pub fn number(fd: &OwnedFd) -> i32 {
    fd.as_raw_fd()
}

/// Reports a failed step to the parent through a close-on-exec pipe. Async-signal-safe.
pub fn report_failure(pipe: i32, step: u32, errno: Errno) {
    let mut message = [0_u8; 8];
    let (first, second) = message.split_at_mut(4);
    first.copy_from_slice(&step.to_ne_bytes());
    second.copy_from_slice(&(errno as i32).to_ne_bytes());
    // SAFETY: the buffer is 8 bytes long. If the parent is gone nobody wants to know.
    unsafe { libc::write(pipe, message.as_ptr().cast(), message.len()) };
}

/// Writes a few bytes to a descriptor by its number. Async-signal-safe.
///
/// # Errors
/// The kernel's answer.
pub fn write_number(fd: i32, text: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length are of one slice.
    let written = Errno::result(unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) })?;
    if usize::try_from(written) == Ok(text.len()) { Ok(()) } else { Err(Errno::EIO) }
}

/// A number in decimal digits, without allocation.
pub fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut start = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start = at;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

/// Makes sure that a descriptor is open for writing, and that the command does not get it.
///
/// # Errors
/// EBADF: it is not.
pub fn keep_for_writing(fd: i32) -> Result<(), Errno> {
    // SAFETY: F_GETFL takes no argument.
    let mode = Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFL) })? & libc::O_ACCMODE;
    if mode == libc::O_RDONLY {
        return Err(Errno::EBADF);
    }
    // SAFETY: F_SETFD takes flags.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// write(2) to a descriptor by its number; how many bytes it took.
///
/// # Errors
/// The kernel's answer; EBADF: it is not open, or not for writing.
pub fn write_some(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: pointer and length are of one slice.
    let written = Errno::result(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })?;
    Ok(usize::try_from(written).unwrap_or(0))
}

/// execve(2); comes back only with the reason why not. Async-signal-safe.
#[must_use]
pub fn execute(path: &std::ffi::CStr, argv: &Vector, envp: &Vector) -> Errno {
    // SAFETY: `path` ends with NUL, both vectors end with null, and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Errno::last()
}

/// Has this process a child, in any state? A program that was executed in place of a shell inherits the
/// children that the shell had.
#[must_use]
pub fn has_children() -> bool {
    let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: all-zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is valid to write to; nothing is reaped (WNOWAIT) and nothing is waited for (WNOHANG).
    Errno::result(unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) }).is_ok()
}

/// Reaps one child, any; with what it used. `None`: there are children, but none has changed.
///
/// # Errors
/// ECHILD: there is no child.
pub fn reap() -> Result<Option<(nix::unistd::Pid, i32, libc::rusage)>, Errno> {
    let mut status = 0;
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to variables of the right type.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED, &raw mut usage) };
    match Errno::result(pid)? {
        0 => Ok(None),
        pid => Ok(Some((nix::unistd::Pid::from_raw(pid), status, usage))),
    }
}

/// The signal that this process gets when its parent dies; 0: none. Async-signal-safe.
///
/// # Errors
/// None that is known.
pub fn signal_at_parents_death(signal: i32) -> Result<(), Errno> {
    // SAFETY: PR_SET_PDEATHSIG takes a number.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }).map(drop)
}

/// What `ps` and `pkill` know this process by, up to 15 bytes.
///
/// # Errors
/// None that is known.
pub fn name_process(name: &std::ffi::CStr) -> Result<(), Errno> {
    // SAFETY: PR_SET_NAME reads a string that ends with NUL, and cuts it.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(drop)
}

/// Puts this process into a process group of the same session. Async-signal-safe.
///
/// # Errors
/// EPERM: the group is not there.
pub fn join_process_group(group: i32) -> Result<(), Errno> {
    // SAFETY: setpgid takes numbers.
    Errno::result(unsafe { libc::setpgid(0, group) }).map(drop)
}
