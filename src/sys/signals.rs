//! Signals: taken as messages instead of interruptions while the command runs, and given back as they were.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

/// Signals as messages; remembers how the caller had them set.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
    child_ignored: bool,
}

/// One signal that came.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// Which.
    pub signal: i32,
    /// The kernel sent it: the terminal's driver, which signals a whole process group.
    pub from_terminal: bool,
    /// The process that sent it, if one did.
    pub sender: Pid,
}

impl Signals {
    /// Blocks the signals and opens the descriptor that they are read from.
    ///
    /// All of them: any that killed us would leave the command without its wrapper. A real fault of ours kills
    /// us in spite of the mask (signal(7)), SIGKILL and SIGSTOP cannot be blocked, and SIGPIPE is one that a
    /// message of ours to a reader who has gone must not die of.
    ///
    /// # Errors
    /// EMFILE and its like.
    pub fn take() -> Result<Self, Errno> {
        let set = SigSet::all();
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // Where SIGCHLD is ignored (some supervisors do that) the kernel reaps for us and the status is lost.
        // SAFETY: SIG_DFL installs no handler, so there is no code to be safe.
        let old = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        Ok(Self { fd, before, child_ignored: old == libc::SIG_IGN })
    }

    /// The descriptor to wait on.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next signal that came, if any.
    ///
    /// # Errors
    /// None that is known.
    pub fn next(&self) -> Result<Option<Arrived>, Errno> {
        Ok(self.fd.read_signal()?.map(|info| Arrived {
            signal: info.ssi_signo as i32,
            from_terminal: info.ssi_code == libc::SI_KERNEL,
            sender: Pid::from_raw(info.ssi_pid as i32),
        }))
    }

    /// What the child needs to give its signals back; plain data.
    #[must_use]
    pub fn inherited(&self) -> Inherited {
        Inherited { mask: *self.before.as_ref(), child_ignored: self.child_ignored }
    }
}

/// The caller's signal state, for the command.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)] // libc::sigset_t has none.
pub struct Inherited {
    mask: libc::sigset_t,
    child_ignored: bool,
}

impl Inherited {
    /// Puts the mask and SIGCHLD back. Async-signal-safe.
    ///
    /// # Errors
    /// None that is known.
    pub fn restore(&self) -> Result<(), Errno> {
        if self.child_ignored {
            // SAFETY: SIG_IGN installs no handler.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        }
        // SAFETY: the mask is a set that the kernel gave us.
        Errno::result(unsafe {
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut())
        })
        .map(drop)
    }
}

/// kill(2), with any number: nix's type has no real-time signals.
///
/// # Errors
/// ESRCH and EPERM.
pub fn send(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill takes two numbers.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}

/// A set with one signal in it, real-time signals included.
fn only(signal: i32) -> libc::sigset_t {
    // SAFETY: all-zero is a valid (and on Linux empty) set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid to write; a number that is no signal is refused and leaves it as it was.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    set
}

/// Lets this process be stopped by `signal` (one of SIGTSTP, SIGTTIN, SIGTTOU) and comes back when it is
/// continued. The kernel does not stop a process group that nobody could continue (an orphaned one), nor one
/// that ignores the signal: then this comes back at once.
pub fn be_stopped_by(signal: i32) {
    let (stop, resume) = (only(signal), only(libc::SIGCONT));
    // SAFETY: sending ourselves a signal; it stays pending until it is unblocked below.
    unsafe { libc::raise(signal) };
    // SAFETY: a valid set; the signal's action is the default one or to be ignored, no handler of ours.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const stop, std::ptr::null_mut()) };
    // Stopped here.
    // SAFETY: as above.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const stop, std::ptr::null_mut()) };
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The message that woke us has been understood.
    // SAFETY: set and time are valid, and no information is asked for.
    unsafe { libc::sigtimedwait(&raw const resume, std::ptr::null_mut(), &raw const none) };
}

/// Dies of `signal` as the command did, without a core file of ours (the command has left its own).
pub fn die_of(signal: i32) -> ! {
    let set = only(signal);
    // SAFETY: PR_SET_DUMPABLE takes a number.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    // SAFETY: SIG_DFL installs no handler; SIGKILL and SIGSTOP are refused, which does not matter.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: sending ourselves a signal; it stays pending until it is unblocked below.
    unsafe { libc::raise(signal) };
    // SAFETY: a valid set. A failure leaves the signal blocked; the exit below then says the same by number.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    // Still here: the init of a container does not die of signals without a handler (pid_namespaces(7)).
    super::leave(128 + signal)
}
