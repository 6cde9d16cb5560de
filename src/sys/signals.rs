//! Signals: taken as messages instead of interruptions while the command runs, and given back as they were.

use std::cell::{Cell, OnceCell, UnsafeCell};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

/// What the keeper of a run gets when its front dies.
pub const FRONT_DIED: i32 = libc::SIGPWR;

/// What the keeper tells its front with. A real-time signal: each one arrives, with its number, and in order.
pub const TELL: i32 = 64;

/// Set in what [`say_resumed`] tells. The lowest bits are the number of the stop.
const RESUMED: u64 = 1 << 41;

/// Signals taken out of their usual way; remembers how the caller had them set.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)] // signal sets say nothing to a reader
pub struct Taken {
    before: SigSet,
    child_ignored: bool,
}

/// Signals as messages.
#[allow(missing_debug_implementations)]
pub struct Signals {
    /// Where there is something else to wait for as well.
    fd: OnceCell<SignalFd>,
    /// What a sleep has ended with.
    came: Cell<Option<Arrived>>,
    taken: Taken,
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
    /// The number that was queued with it.
    pub told: Option<u64>,
}

impl Arrived {
    /// From the two numbers and the value that the kernel tells of a signal. One that our front passes on has its
    /// true origin in the value.
    fn new(signal: i32, code: i32, sender: i32, value: u64) -> Self {
        let from_terminal = code == libc::SI_KERNEL;
        let told = (code == libc::SI_QUEUE).then_some(value);
        Self { signal, from_terminal, sender: Pid::from_raw(sender), told }
    }

    /// As it was when it came to the front, if the front has passed it on.
    #[must_use]
    pub fn before(self, front: Pid) -> Self {
        match self.told {
            Some(value) if self.sender == front => Self {
                from_terminal: value & TERMINAL != 0,
                sender: Pid::from_raw((value & !TERMINAL) as i32),
                ..self
            },
            _ => self,
        }
    }

    /// The number of the stop, if `parent` says that who was stopped for it goes on ([`say_resumed`]).
    #[must_use]
    pub fn resumed(&self, parent: Pid) -> Option<u16> {
        let said = self.told.filter(|value| value & RESUMED != 0)?;
        (self.signal == TELL && self.sender == parent).then_some(said as u16)
    }

    /// Passes it on to the keeper. A keeper that is gone needs no signal.
    pub fn pass_to(self, keeper: Pid) {
        let origin = self.sender.as_raw() as u64 | if self.from_terminal { TERMINAL } else { 0 };
        queue(keeper, self.signal, origin);
    }
}

/// Set in what is told with a signal that came from the kernel.
const TERMINAL: u64 = 1 << 40;

/// Sends a signal with a number; a receiver that is gone needs none. `false`: it is gone, or nothing can be queued
/// (RLIMIT_SIGPENDING).
pub fn queue(pid: Pid, signal: i32, number: u64) -> bool {
    let value = libc::sigval { sival_ptr: number as usize as *mut libc::c_void };
    // SAFETY: sigqueue takes numbers; the pointer is one in disguise and is never followed.
    unsafe { libc::sigqueue(pid.as_raw(), signal, value) == 0 }
}

/// By the front to the keeper, and from there to an init: who stopped with the command for the stop of this number goes
/// on. `false`: as [`queue`].
pub fn say_resumed(pid: Pid, stop: u16) -> bool {
    queue(pid, TELL, RESUMED | u64::from(stop))
}

impl Taken {
    /// Blocks the signals.
    ///
    /// All of them: any that killed us would leave the command without its wrapper. A real fault of ours kills
    /// us in spite of the mask (signal(7)), SIGKILL and SIGSTOP cannot be blocked, and SIGPIPE is one that a
    /// message of ours to a reader who has gone must not die of.
    ///
    /// # Errors
    /// None that is known.
    pub fn take() -> Result<Self, Errno> {
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))?;
        // Where SIGCHLD is ignored (some supervisors do that) the kernel reaps for us and the status is lost.
        // Not by signal(3), whose memory of siginterrupt(3) is a page more.
        // SAFETY: SIG_DFL installs no handler, so there is no code to be safe.
        let old = unsafe { set_action(libc::SIGCHLD, &default_action()) };
        Ok(Self { before, child_ignored: old == libc::SIG_IGN })
    }

    /// Waits for the next signal, or until `limit` has passed: `None`, as after an interruption.
    pub fn wait(&self, limit: Option<Duration>) -> Option<Arrived> {
        Self::wait_for(SigSet::all().as_ref(), limit)
    }

    /// What has been told ([`TELL`]) and not been heard yet.
    pub fn told(&self) -> Option<Arrived> {
        Self::wait_for(&only(TELL), Some(Duration::ZERO))
    }

    /// Waits for one of these, which are blocked. Async-signal-safe.
    pub(super) fn wait_for(signals: &libc::sigset_t, limit: Option<Duration>) -> Option<Arrived> {
        // SAFETY: all-zero is a valid siginfo to be written over.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs() as _,
            tv_nsec: i64::from(limit.subsec_nanos()) as _,
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the set, the siginfo and the time (or null: no limit) are valid for the duration of the call.
        let signal = unsafe { libc::sigtimedwait(signals, &raw mut info, limit) };
        if signal < 0 {
            return None;
        }
        // SAFETY: where no process sent the signal, the bytes are others', or zero, and are not looked at.
        let sender = unsafe { info.si_pid() };
        // SAFETY: as above.
        let value = unsafe { info.si_value() };
        Some(Arrived::new(signal, info.si_code, sender, value.sival_ptr as usize as u64))
    }

    /// The keeper's way: one message after the other.
    #[must_use]
    pub fn into_messages(self) -> Signals {
        Signals { fd: OnceCell::new(), came: Cell::new(None), taken: self }
    }
}

impl Signals {
    /// Makes the descriptor to wait on together with others; without others it is not needed, and costs.
    ///
    /// # Errors
    /// EMFILE and its like.
    pub fn open(&self) -> Result<(), Errno> {
        if self.fd.get().is_none() {
            let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
            let fd = SignalFd::with_flags(&SigSet::all(), flags)?;
            self.fd.get_or_init(|| fd);
        }
        Ok(())
    }

    /// That descriptor, where it was made.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.get().map(AsFd::as_fd)
    }

    /// Sleeps until a signal comes, or until `limit` has passed.
    pub fn sleep(&self, limit: Option<Duration>) {
        if let Some(arrived) = self.taken.wait(limit) {
            self.came.set(Some(arrived));
        }
    }

    /// The next signal that came, if any.
    pub fn next(&self) -> Option<Arrived> {
        self.came.take().or_else(|| self.taken.wait(Some(Duration::ZERO)))
    }

    /// The same signals, for messages to another run of this process.
    #[must_use]
    pub fn taken(&self) -> Taken {
        self.taken
    }

    /// What the child needs to give its signals back; plain data.
    #[must_use]
    pub fn inherited(&self) -> Inherited {
        Inherited { mask: *self.taken.before.as_ref(), child_ignored: self.taken.child_ignored }
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
    /// Puts the mask and SIGCHLD back, right before execve(2). Async-signal-safe.
    ///
    /// # Errors
    /// None that is known.
    pub fn restore(&self) -> Result<(), Errno> {
        if self.child_ignored {
            // SAFETY: SIG_IGN installs no handler.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        }
        Self::catch_stops();
        // SAFETY: the mask is a set that the kernel gave us.
        Errno::result(unsafe {
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut())
        })
        .map(drop)
    }

    /// A Ctrl-Z from when we joined the job until there is a command would stop us, while the keeper waits for there to be
    /// one and hears nothing. So it is caught until then: execve(2) gives a signal that has a handler its default
    /// action. The keeper, which hears of it from the front, stops the command.
    fn catch_stops() {
        extern "C" fn nothing(_: i32) {}
        // What the kernel saves for a handler (all registers, 11 KiB with AMX) is more than the stack of a child in its
        // parent's memory has left. execve(2) forgets this one; it costs nothing as long as nothing comes.
        let aside = libc::stack_t { ss_sp: ASIDE.0.get().cast(), ss_flags: 0, ss_size: size_of::<Aside>() };
        // SAFETY: a valid description of memory that nothing else uses.
        if unsafe { libc::sigaltstack(&raw const aside, std::ptr::null_mut()) } != 0 {
            // ENOMEM: a processor that has still more. Then it is as it would be without us.
            return;
        }
        let mut caught = default_action();
        caught.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        caught.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        // SAFETY: a set to be written over; one handler after the other.
        unsafe { libc::sigfillset(&raw mut caught.sa_mask) };
        for stop in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            // SAFETY: a handler that does nothing is safe to run anywhere.
            if unsafe { set_action(stop, &caught) } == libc::SIG_IGN {
                // SAFETY: SIG_IGN installs no handler.
                unsafe { libc::signal(stop, libc::SIG_IGN) };
            }
        }
    }
}

fn default_action() -> libc::sigaction {
    // SAFETY: all-zero is a valid action, the default one, and an empty set.
    unsafe { std::mem::zeroed() }
}

/// sigaction(2), with a number that it knows; the handler before.
///
/// # Safety
/// A handler may run whenever the signal comes.
unsafe fn set_action(signal: i32, action: &libc::sigaction) -> libc::sighandler_t {
    let mut before = default_action();
    // SAFETY: both actions are valid; of the handler the caller promises it.
    unsafe { libc::sigaction(signal, action, &raw mut before) };
    before.sa_sigaction
}

/// For the handler of a child that has no command yet.
struct Aside(UnsafeCell<[u8; 16 * 1024]>);

// SAFETY: only the kernel uses it, for one child at a time: a process makes one after the other, and has a copy.
unsafe impl Sync for Aside {}

static ASIDE: Aside = Aside(UnsafeCell::new([0; 16 * 1024]));

/// kill(2), with any number: nix's type has no real-time signals.
///
/// # Errors
/// ESRCH and EPERM.
pub fn send(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill takes two numbers.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}

/// Sends ourselves a signal that is blocked. Not by raise(3), which goes by what the C library knows of this thread
/// (`start.rs`).
fn raise(signal: i32) {
    if let Err(errno) = send(Pid::this(), signal) {
        debug_assert!(false, "kill({signal}): {errno}");
    }
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
/// that ignores the signal: then this comes back at once, with `false`.
pub fn be_stopped_by(signal: i32) -> bool {
    let (stop, resume) = (only(signal), only(libc::SIGCONT));
    raise(signal);
    // SAFETY: a valid set; the signal's action is the default one or to be ignored, no handler of ours.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const stop, std::ptr::null_mut()) };
    // Stopped here.
    // SAFETY: as above.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const stop, std::ptr::null_mut()) };
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The message that woke us has been understood.
    // SAFETY: set and time are valid, and no information is asked for.
    unsafe { libc::sigtimedwait(&raw const resume, std::ptr::null_mut(), &raw const none) == libc::SIGCONT }
}

/// Dies of `signal` as the command did, without a core file of ours (the command has left its own).
pub fn die_of(signal: i32) -> ! {
    let set = only(signal);
    super::child::let_see(false);
    // SAFETY: SIG_DFL installs no handler; SIGKILL and SIGSTOP are refused, which does not matter.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    raise(signal);
    // SAFETY: a valid set. A failure leaves the signal blocked; the exit below then says the same by number.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    // Still here: the init of a container does not die of signals without a handler (pid_namespaces(7)).
    super::leave(128 + signal)
}
