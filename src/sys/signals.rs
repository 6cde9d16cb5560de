//! Signals: taken as messages instead of interruptions while the command runs, and given back as they were.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that reach the command through us, and SIGCHLD, which tells that it changed.
const TAKEN: [Signal; 8] = [
    Signal::SIGCHLD,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

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
    /// The terminal sent it, and so has sent it to the command too.
    pub from_terminal: bool,
}

impl Signals {
    /// Blocks the signals and opens the descriptor that they are read from.
    ///
    /// # Errors
    /// EMFILE and its like.
    pub fn take() -> Result<Self, Errno> {
        let set: SigSet = TAKEN.into_iter().collect();
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
            // SI_KERNEL: from the terminal's driver, which signals the whole foreground process group.
            from_terminal: info.ssi_code == 0x80,
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

/// Dies of `signal` as the command did, without a core file of ours (the command has left its own).
pub fn die_of(signal: i32) -> ! {
    // SAFETY: PR_SET_DUMPABLE takes a number.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    // SAFETY: SIG_DFL installs no handler; SIGKILL and SIGSTOP are refused, which does not matter.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let mut set = SigSet::empty();
    if let Ok(known) = Signal::try_from(signal) {
        set.add(known);
    }
    // SAFETY: sending ourselves a signal; it stays pending until it is unblocked below.
    unsafe { libc::raise(signal) };
    // A failure leaves the signal blocked; the exit below then says the same by number.
    let unblocked = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None);
    debug_assert!(unblocked.is_ok());
    // A real-time signal is not in nix's table, and a signal may be ignored in a container's init.
    super::leave(128 + signal)
}
