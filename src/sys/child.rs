//! Small async-signal-safe calls of the child: namespaces, names, limits, descriptors, and its own children.

use std::ffi::CStr;

use nix::errno::Errno;
use nix::unistd::getppid;

use super::signals::Taken;
use super::stops::{Resume, Stops, message};

/// unshare(2).
///
/// # Errors
/// The kernel's answer.
pub fn unshare(flags: i32) -> Result<(), Errno> {
    // SAFETY: a number.
    Errno::result(unsafe { libc::unshare(flags) }).map(drop)
}

/// setns(2).
///
/// # Errors
/// The kernel's answer.
pub fn enter_namespace(fd: i32, kind: i32) -> Result<(), Errno> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::setns(fd, kind) }).map(drop)
}

/// sethostname(2).
///
/// # Errors
/// The kernel's answer.
pub fn set_hostname(name: &CStr) -> Result<(), Errno> {
    // SAFETY: pointer and length are of one string.
    Errno::result(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }).map(drop)
}

/// Brings the loopback interface of this network namespace up (netdevice(7)).
///
/// # Errors
/// The kernel's answer.
pub fn loopback_up() -> Result<(), Errno> {
    // SAFETY: numbers.
    let socket =
        Errno::result(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // Only IFF_UP can be set on loopback; what else it has is not touched by leaving it out.
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is valid and of the type that this ioctl takes.
    let done = Errno::result(unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request) });
    super::mount::close(socket);
    done.map(drop)
}

/// Writes a whole small file at once.
///
/// # Errors
/// The kernel's answer.
pub fn write_file(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    // SAFETY: the path ends with NUL.
    let fd = Errno::result(unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) })?;
    let written = super::write_number(fd, text);
    super::mount::close(fd);
    written
}

/// Waits for one byte. `Ok(false)`: the writer is gone.
///
/// # Errors
/// The kernel's answer.
pub fn await_byte(fd: i32) -> Result<bool, Errno> {
    let mut byte = 0_u8;
    loop {
        // SAFETY: one byte to write to.
        match Errno::result(unsafe { libc::read(fd, (&raw mut byte).cast(), 1) }) {
            Err(Errno::EINTR) => {}
            other => return other.map(|n| n == 1),
        }
    }
}

/// Gives up all supplementary groups, and becomes user and group 0 of this user namespace.
///
/// # Errors
/// The kernel's answer; EINVAL: 0 is not mapped.
pub fn become_zero() -> Result<(), Errno> {
    // SAFETY: no list for a length of 0. Refused (EPERM) where the map was written by an ordinary user.
    let dropped = Errno::result(unsafe { libc::setgroups(0, std::ptr::null()) });
    if let Err(errno) = dropped
        && errno != Errno::EPERM
    {
        return Err(errno);
    }
    // SAFETY: numbers.
    Errno::result(unsafe { libc::setresgid(0, 0, 0) })?;
    // SAFETY: numbers.
    Errno::result(unsafe { libc::setresuid(0, 0, 0) }).map(drop)
}

/// Asks to be killed when the parent dies, and makes sure that it has not already: `report` is a pipe that only
/// the parent reads.
///
/// # Errors
/// ESRCH: the parent is gone.
pub fn die_with_parent(report: i32) -> Result<(), Errno> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    let mut set = [libc::pollfd { fd: report, events: 0, revents: 0 }];
    // SAFETY: an array of one pollfd.
    unsafe { libc::poll(set.as_mut_ptr(), 1, 0) };
    if set.iter().any(|one| one.revents & (libc::POLLERR | libc::POLLHUP) != 0) {
        return Err(Errno::ESRCH);
    }
    Ok(())
}

/// chdir(2).
///
/// # Errors
/// The kernel's answer.
pub fn change_directory(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path ends with NUL.
    Errno::result(unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

/// umask(2); returns the mask before.
pub fn set_umask(mask: u32) -> u32 {
    // SAFETY: a number.
    unsafe { libc::umask(mask) }
}

/// Marks all descriptors from `first` on to be closed by exec (close_range(2), Linux 5.11).
///
/// # Errors
/// The kernel's answer.
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: numbers.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(done).map(drop)
}

/// Keeps a descriptor open over exec.
///
/// # Errors
/// EBADF: it is not open.
pub fn keep_over_exec(fd: i32) -> Result<(), Errno> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop)
}

/// Closes all descriptors but one. What an old kernel (before 5.9) refuses is closed one by one.
pub fn close_all_but(kept: i32) {
    let closed = |first: u32, last: u32| {
        // SAFETY: numbers; nothing in this process uses them any more.
        first > last || unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0
    };
    if let Ok(number) = u32::try_from(kept)
        && number > 0
        && closed(0, number - 1)
        && closed(number + 1, u32::MAX)
    {
        return;
    }
    for fd in (0..4096).filter(|fd| *fd != kept) {
        super::mount::close(fd);
    }
}

/// May others see this process's memory and descriptors, as far as they are its user's (PR_SET_DUMPABLE)? Exec has
/// them see the command's.
pub fn let_see(visible: bool) {
    // SAFETY: numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(visible)) };
}

/// The tiny init's part, pid 1 of a pid namespace: passes signals on to `lead`, reaps whatever ends, and leaves when the
/// lead has ended; with `wait_all`, when no process is left. Wait statuses of the lead go to `status`, each with the
/// number of its stop, but for an exit that is its own as well.
///
/// The kernel kills all that is left in the namespace when pid 1 ends.
pub fn serve_as_init(lead: i32, status: i32, wait_all: bool) -> ! {
    close_all_but(status);
    // SAFETY: all-zero is a valid set, which is filled next.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a valid set.
    unsafe { libc::sigfillset(&raw mut all) };
    // Blocked signals wait to be taken; unblocked and without a handler they would be dropped (pid_namespaces(7)).
    // SAFETY: a valid set, and no interest in the old one.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) };
    // SAFETY: no arguments. A keeper outside of a joined namespace is not pid 1, and must never signal all.
    let wait_all = wait_all && unsafe { libc::getpid() } == 1;
    let mut lead_lives = true;
    let mut stops = Stops::default();
    let tell = |answer: i32, stop: u16| super::write_number(status, &message(answer, stop));
    loop {
        loop {
            let mut answer = 0;
            let flags = libc::WNOHANG | libc::WUNTRACED;
            // SAFETY: a variable of the right type, and no interest in usage.
            let pid = unsafe { libc::wait4(-1, &raw mut answer, flags, std::ptr::null_mut()) };
            if pid == lead {
                if libc::WIFEXITED(answer) && !wait_all {
                    super::leave(libc::WEXITSTATUS(answer));
                }
                let stopped = libc::WIFSTOPPED(answer);
                let stop = if stopped { stops.another(libc::WSTOPSIG(answer)).number } else { 0 };
                // The supervisor may be gone: then this process is about to be killed.
                let told = tell(answer, stop);
                if stopped {
                    continue;
                }
                lead_lives = false;
                if told.is_err() || !wait_all {
                    // Where the end could not be told (the pipe is full of stops that nobody has read), our own
                    // status is all there is.
                    super::leave(if libc::WIFSIGNALED(answer) {
                        128 + libc::WTERMSIG(answer)
                    } else {
                        libc::WEXITSTATUS(answer)
                    });
                }
            } else if pid == 0 {
                break;
            } else if pid < 0 {
                super::leave(0);
            }
        }
        let Some(arrived) = Taken::wait_for(&all, None) else { continue };
        // What the kernel's terminal driver sends reaches the whole foreground group, the lead included; and the
        // lead knows what it has sent itself. (The number of who sent it is the one here, 0 for who is outside.)
        if arrived.signal == libc::SIGCHLD || arrived.from_terminal || arrived.sender.as_raw() == lead {
            continue;
        }
        let signal = match (arrived.signal, arrived.resumed(getppid())) {
            (_, Some(stop)) if lead_lives => match stops.resume(lead, stop) {
                Resume::Wake => libc::SIGCONT,
                Resume::Again(stop) => {
                    // Who does not hear it is gone, or has a pipe full of stops to read.
                    tell(libc::W_STOPCODE(stop.signal), stop.number).ok();
                    continue;
                }
                Resume::Runs => continue,
            },
            (_, Some(_)) => libc::SIGCONT,
            // To our process group, which the lead belongs to: it has got that. What the supervisor passes on is queued.
            (libc::SIGCONT, None) if arrived.told.is_none() && lead_lives && !stops.is_stopped(lead) => {
                continue;
            }
            (signal, None) => signal,
        };
        // SAFETY: numbers; the lead is our child and not reaped yet. -1: all in the namespace but us.
        unsafe { libc::kill(if lead_lives { lead } else { -1 }, signal) };
    }
}

/// setrlimit(2), by number: the names' type differs between C libraries.
///
/// # Errors
/// The kernel's answer.
pub fn set_rlimit(number: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let none = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: a valid limit, and no interest in the old one.
    Errno::result(unsafe { libc::syscall(libc::SYS_prlimit64, 0, number, &raw const limit, none) }).map(drop)
}

/// setpriority(2) of this process.
///
/// # Errors
/// The kernel's answer.
pub fn set_nice(value: i32) -> Result<(), Errno> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, value) }).map(drop)
}

/// ioprio_set(2) of this process.
///
/// # Errors
/// The kernel's answer.
pub fn set_ionice(class: u16, level: u16) -> Result<(), Errno> {
    const WHO_PROCESS: i32 = 1;
    let value = (i32::from(class) << 13) | i32::from(level);
    // SAFETY: numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) }).map(drop)
}

/// sched_setscheduler(2) of this process.
///
/// # Errors
/// The kernel's answer.
pub fn set_scheduler(policy: i32, priority: i32) -> Result<(), Errno> {
    let parameter: i32 = priority;
    // The kernel's sched_param is one int.
    // SAFETY: a valid parameter.
    let done = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameter) };
    Errno::result(done).map(drop)
}

/// sched_setattr(2) of this process with SCHED_DEADLINE: runtime, deadline, period in nanoseconds. Without
/// SCHED_FLAG_RESET_ON_FORK it could make no child (sched(7)).
///
/// # Errors
/// The kernel's answer.
pub fn set_deadline(times: [u64; 3]) -> Result<(), Errno> {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        times: [u64; 3],
    }
    const RESET_ON_FORK: u64 = 1;
    let size = std::mem::size_of::<Attributes>() as u32;
    let attributes = Attributes { size, policy: 6, flags: RESET_ON_FORK, nice: 0, priority: 0, times };
    // SAFETY: attributes of the size that they say, in the kernel's layout (linux/sched/types.h).
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// Is this descriptor open?
#[must_use]
pub fn is_open(fd: i32) -> bool {
    // SAFETY: numbers.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Makes a datagram socket with this abstract name (`\0` and more bytes) and sends it over `channel`.
///
/// # Errors
/// The kernel's answer.
pub fn open_relay(name: &[u8], channel: i32) -> Result<(), Errno> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: numbers.
    let fd = Errno::result(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    let yes: libc::c_int = 1;
    let size = std::mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option is an int, and is one.
    Errno::result(unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_PASSCRED, (&raw const yes).cast(), size)
    })?;
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    let length = std::mem::offset_of!(libc::sockaddr_un, sun_path) + name.len();
    // SAFETY: the address is valid for this length: the caller's names are shorter than its room.
    Errno::result(unsafe { libc::bind(fd, (&raw const address).cast(), length as libc::socklen_t) })?;
    let sent = send_descriptor(channel, fd);
    super::mount::close(fd);
    sent
}

/// Sends one descriptor with one byte (unix(7), SCM_RIGHTS).
fn send_descriptor(channel: i32, fd: i32) -> Result<(), Errno> {
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // Room for one header and one number, aligned as a header.
    let mut control = [0_u64; 4];
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: computes a size from a number.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
    // SAFETY: the message has room for a header.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return Err(Errno::EINVAL);
    }
    // SAFETY: computes a size from a number.
    let length = unsafe { libc::CMSG_LEN(4) };
    // SAFETY: the header is within `control`, which is aligned and large enough.
    let header = unsafe { &mut *header };
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    header.cmsg_len = length as _;
    // SAFETY: the place behind the header has room for one number.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: as above; unaligned on purpose.
    unsafe { data.cast::<i32>().write_unaligned(fd) };
    // SAFETY: the message and all that it points to live until the call is over.
    Errno::result(unsafe { libc::sendmsg(channel, &raw const message, libc::MSG_NOSIGNAL) }).map(drop)
}
