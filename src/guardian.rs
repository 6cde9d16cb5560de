//! Two processes stand behind a run, so that the death of one leaves nothing behind.
//!
//! The *front* is the process that the caller started: it waits, passes signals on, and leaves as the command
//! left. The *keeper* is its child and does the work: groups, command, supervision, removal. Both are child
//! subreapers (PR_SET_CHILD_SUBREAPER), and so:
//!
//! - the front dies (SIGKILL, out of memory, `kill -9 -PGRP`): the kernel tells the keeper (PR_SET_PDEATHSIG),
//!   which is still the parent of everything the command started, groups or not, ends all of it and removes the
//!   groups as at any other end;
//! - the keeper dies: its children become the front's, which ends them and removes the groups by their name.
//!
//! The keeper has a process group of its own, out of reach of a terminal's Ctrl-C and of what is sent to the
//! caller's job, and a name of its own, out of reach of `pkill rcon`; and memory of its own, because the
//! out-of-memory killer ends all processes that share it. It is there before the first group is.
//!
//! A command that is in a pid namespace of its own, and has nothing else that would stay behind, needs no keeper
//! ([`alone`]): the kernel ends its init with the front, and everything in there with the init.
//!
//! Where the caller's process group is of another pid namespace (`docker exec`, `unshare --pid`) it has no number
//! here, and who leaves it cannot come back: there the keeper stays in it, for the command to be born in it.

use std::ffi::{CStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, getpgid, getpgrp, getppid, getsid, setpgid};

use crate::cgroup::sweep::{self, Names};
use crate::cgroup::thaw;
use crate::cli::{Args, Request};
use crate::error::Error;
use crate::notify::Mouth;
use crate::supervise::{children, stat};
use crate::sys;
use crate::sys::signals::{
    Arrived, FRONT_DIED, Signals, TELL, Taken, be_stopped_by, die_of, queue, say_resumed, send,
};
use crate::sys::stops::{OF_INIT, Stop};

/// What happens to the command when the front dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDeath {
    /// It is ended, with all that it started.
    #[default]
    Kill,
    /// It runs on, within its limits; groups go when it ends.
    Keep,
}

/// A command line, and under which of our names it was given.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The words after the program's name.
    pub words: &'a [OsString],
    /// We are capcon.
    pub capcon: bool,
}

impl Line<'_> {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, naming the option.
    pub fn parse(&self) -> Result<Request, Error> {
        crate::request(self.words, self.capcon)
    }

    /// Is this a run, as far as one can see without reading it? Then the keeper is made before that is done: the
    /// less memory we have used by then, the less is copied. capcon may become its command, and then has none.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let other = |word: &OsString| {
            let word = word.as_encoded_bytes();
            let starts = |with: &[u8]| word.starts_with(with);
            // `--explain`, `--dry-run`, `--show`, `--help`, `--version`, and any short option; `--unshare` and
            // `--root`, whose plan tells whether there is a keeper at all.
            [&b"--e"[..], b"--d", b"--sh", b"--he", b"--ver", b"--unshare", b"--root"].into_iter().any(starts)
                || (starts(b"-") && !starts(b"--"))
        };
        !self.capcon
            && !self.words.is_empty()
            && !self.words.iter().take_while(|word| *word != "--").any(other)
    }
}

/// There is no keeper.
static ALONE: AtomicBool = AtomicBool::new(false);
static FRONT: AtomicU32 = AtomicU32::new(0);
static JOB: AtomicI32 = AtomicI32::new(0);
static MOUTH: OnceLock<OwnedFd> = OnceLock::new();

/// The process id that the caller knows this run by.
#[must_use]
pub fn front() -> u32 {
    match FRONT.load(Ordering::Relaxed) {
        0 => std::process::id(),
        front => front,
    }
}

/// The process group that the caller put us in, and that the command belongs to; 0 where it has no number here.
#[must_use]
pub fn job() -> Pid {
    match JOB.load(Ordering::Relaxed) {
        0 => getpgrp(),
        group => Pid::from_raw(group),
    }
}

/// Is this process front and keeper in one?
#[must_use]
pub fn is_alone() -> bool {
    ALONE.load(Ordering::Relaxed)
}

/// The keeper's knowledge of the front.
#[derive(Clone, Copy, Debug)]
pub struct Keeper {
    /// The process that the caller started and waits for.
    pub front: Pid,
    /// What to do when the front dies.
    pub on_death: OnDeath,
}

/// The keeper's name: nothing that `pkill rcon` or `killall rcon` would meet.
pub const KEEPER: &CStr = c"keeper";

/// Who has not died by then may be frozen, which takes some reading to see.
const FREE: Duration = Duration::from_millis(20);

/// How long the front tries to end what a dead keeper left.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the keeper of the run that `line` asks for and returns in it. The front does not return.
///
/// # Errors
/// No process can be made; nothing has happened then.
pub fn split(line: &Line) -> Result<(Keeper, Signals), Error> {
    let failed = |what: &str, errno| Error::new(what).errno(errno);
    let taken = Taken::take().map_err(|e| failed("cannot take signals as messages", e))?;
    sys::become_subreaper().map_err(|e| failed("cannot adopt orphaned processes", e))?;
    let (front, group) = (Pid::this(), getpgrp());
    let strangers = if sys::has_children() { children() } else { Vec::new() };
    let (mouth, keepers) = Mouth::pair().map_err(|e| failed("cannot make a pair of sockets", e))?.unzip();
    let born = sys::clone::fork().map_err(|e| {
        failed("cannot create a process", e)
            .try_this("a limit on processes is reached: ulimit -u, or pids.max of an enclosing group")
    })?;
    if let Some(keeper) = born {
        drop(keepers);
        sys::leave(Front { keeper, taken, line, mouth, strangers }.wait());
    }
    drop(mouth);
    if let Some(keepers) = keepers {
        MOUTH.get_or_init(|| keepers);
    }
    FRONT.store(front.as_raw() as u32, Ordering::Relaxed);
    JOB.store(group.as_raw(), Ordering::Relaxed);
    let apart = if group.as_raw() == 0 { Ok(()) } else { setpgid(Pid::from_raw(0), Pid::from_raw(0)) };
    apart
        .and_then(|()| sys::signal_at_parents_death(FRONT_DIED))
        .and_then(|()| sys::name_process(KEEPER))
        .and_then(|()| sys::become_subreaper())
        .map_err(|e| failed("cannot become the keeper of a run", e))?;
    if front_is_dead() {
        sys::leave(125);
    }
    Ok((Keeper { front, on_death: OnDeath::default() }, taken.into_messages()))
}

/// Does the keeper's work in the front. `None`: there are children that are none of the command's, from whom only a
/// process of their own can tell those apart.
///
/// # Errors
/// Signals cannot be taken as messages.
pub fn alone() -> Result<Option<(Keeper, Signals)>, Error> {
    if sys::has_children() {
        return Ok(None);
    }
    let taken = Taken::take().map_err(|e| Error::new("cannot take signals as messages").errno(e))?;
    ALONE.store(true, Ordering::Relaxed);
    Ok(Some((Keeper { front: Pid::this(), on_death: OnDeath::default() }, taken.into_messages())))
}

impl Keeper {
    /// With what the arguments say about the front's death.
    #[must_use]
    pub fn told(self, on_death: OnDeath) -> Self {
        Self { on_death, ..self }
    }
}

/// Does the kernel say that the front is dead?
#[must_use]
pub fn front_is_dead() -> bool {
    !is_alone() && getppid().as_raw() as u32 != front()
}

/// What a keeper tells its front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// This signal ended the command, and the keeper leaves next.
    Died(i32),
    /// The command has been stopped, which had the terminal in a process group of its own, if it did.
    Stopped(Stop, Pid),
    /// There are messages for the service manager.
    Speech,
}

impl News {
    const STOPPED: u64 = 1 << 40;
    const SPEECH: u64 = 1 << 41;

    fn number(self) -> u64 {
        match self {
            Self::Died(signal) => signal as u64,
            Self::Speech => Self::SPEECH,
            Self::Stopped(Stop { signal, number }, heir) => {
                u64::from(number) << 48 | Self::STOPPED | (signal as u64) << 32 | heir.as_raw() as u64
            }
        }
    }

    fn of(number: u64) -> Self {
        if number & Self::SPEECH != 0 {
            return Self::Speech;
        }
        if number & Self::STOPPED == 0 {
            return Self::Died(number as i32);
        }
        let stop = Stop { signal: (number >> 32 & 0xff) as i32, number: (number >> 48) as u16 };
        Self::Stopped(stop, Pid::from_raw(number as i32))
    }
}

fn tell_front(news: News) {
    // Asked once: the parent that comes after a front that has just died would not know the signal.
    let parent = getppid();
    if parent.as_raw() as u32 == front() {
        queue(parent, TELL, news.number());
    }
}

/// `command` has been stopped: so is the front, for the shell that waits for it. Brought back to the foreground, it
/// hands the terminal on to `heir`, who had it. What the command is to be sent now; SIGCONT stands for what
/// [`Stops::resume`](crate::sys::stops::Stops::resume) says that it needs.
#[must_use]
pub fn stop_front(command: Pid, stop: Stop, heir: Option<Pid>) -> &'static [i32] {
    let heir = heir.unwrap_or(Pid::from_raw(0));
    if is_alone() {
        return stop_job(command, stop.signal, heir);
    }
    tell_front(News::Stopped(stop, heir));
    &[]
}

/// Does the terminal, or who reads from it in the background, stop a process group with this signal?
#[must_use]
pub fn is_job_control(signal: i32) -> bool {
    matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)
}

/// This signal has stopped the command: stops this process, whose end `watched` would be, until somebody continues the
/// job. What the command is sent then.
///
/// Where nobody could, the kernel would not have stopped the command had the keeper not been its parent (an orphaned
/// process group, setpgid(2)), and so it goes on; one that reads from the terminal in the background would have got an
/// error, and is hung up on. So is who has lost those who could continue it, as by the kernel.
fn stop_job(watched: Pid, signal: i32, heir: Pid) -> &'static [i32] {
    // Who does not die of that reads once more, and is stopped once more.
    static HUNG_UP: AtomicU32 = AtomicU32::new(0);
    let above = Above::look();
    if above.nobody_continues {
        return match signal {
            libc::SIGTSTP => to_job(&[libc::SIGCONT]),
            // The rest of the job was stopped with it, and goes on when the command has got that (`continue_job`).
            libc::SIGTTIN | libc::SIGTTOU if HUNG_UP.fetch_add(1, Ordering::Relaxed) < 3 => HANG_UP,
            // Somebody who means it, and can wake it as well.
            _ => &[],
        };
    }
    let sentry = post_sentry(watched, &above.processes);
    let woken = be_stopped_by(if is_job_control(signal) { signal } else { libc::SIGTSTP });
    if let Some(sentry) = sentry {
        end(sentry);
    }
    hand_on_terminal(heir);
    if woken && Above::look().nobody_continues {
        return to_job(HANG_UP);
    }
    // One that we cannot be stopped with, and that has stopped itself, waits for somebody else.
    if woken || is_job_control(signal) { &[libc::SIGCONT] } else { &[] }
}

/// What the kernel sends to a process group that is stopped and has lost who could continue it.
const HANG_UP: &[i32] = &[libc::SIGHUP, libc::SIGCONT];

/// By the keeper, when it has handed on the front's SIGHUP: everybody in the job goes on, the command to its end. Not
/// before: it would read once more, and stop the others once more; and not after: with its end they would be
/// stopped in a group that nobody can continue, and the kernel would hang up on them.
pub fn continue_job() {
    // The number is the job's as long as its front is there; and -1 would be everybody.
    let job = job().as_raw();
    if job > 1
        && getppid().as_raw() as u32 == front()
        && let Err(errno) = send(Pid::from_raw(-job), libc::SIGCONT)
    {
        debug_assert!(errno == Errno::EPERM || errno == Errno::ESRCH, "kill: {errno}");
    }
}

/// To all of our process group, who were stopped with the command.
fn to_job(signals: &'static [i32]) -> &'static [i32] {
    for signal in signals {
        // EPERM: of those there none that we may signal, ourselves included, which cannot be.
        if let Err(errno) = send(Pid::from_raw(0), *signal) {
            debug_assert_eq!(errno, Errno::EPERM);
        }
    }
    signals
}

/// Our parents, up to one that could continue our process group.
struct Above {
    processes: Vec<Pid>,
    /// There is none: the first that is not of our group is of another session as well. Where that cannot be seen, it is
    /// taken for one that could.
    nobody_continues: bool,
}

impl Above {
    fn look() -> Self {
        let (session, group) = (getsid(None), getpgrp());
        let mut above = Self { processes: Vec::new(), nobody_continues: false };
        let (mut pid, mut child) = (getppid(), Pid::this());
        if group.as_raw() == 0 || session.is_ok_and(|session| session.as_raw() == 0) {
            return above;
        }
        // A process group is not deep; and the parents of one may change while we look.
        while above.processes.len() < 100 {
            if pid.as_raw() == 0 {
                // Of an outer pid namespace. The parent of a session's leader is not in the session.
                above.nobody_continues = session == Ok(child);
                break;
            }
            above.processes.push(pid);
            match (getsid(Some(pid)), getpgid(Some(pid))) {
                (Ok(its), _) if session != Ok(its) => above.nobody_continues = true,
                (Ok(_), Ok(its)) if its == group => {
                    let Some(stat) = stat(pid) else { break };
                    (pid, child) = (stat.parent, pid);
                    continue;
                }
                _ => {}
            }
            break;
        }
        above
    }
}

/// A stopped process cannot see that whom it waits for has died, or who would continue it: what that leaves, and the job
/// itself, would stay stopped until somebody continues it. This child wakes us then, and ends with us. Without one (no
/// process is to be had) it is as said.
fn post_sentry(watched: Pid, above: &[Pid]) -> Option<Pid> {
    let front = Pid::this();
    if let Some(sentry) = sys::clone::fork().ok()? {
        return Some(sentry);
    }
    let posted = setpgid(Pid::from_raw(0), Pid::from_raw(0))
        .and_then(|()| sys::signal_at_parents_death(libc::SIGKILL))
        .and_then(|()| sys::name_process(KEEPER))
        .and_then(|()| sys::pidfd::open(watched));
    if let Ok(watched) = posted {
        // One that has gone already has changed the parent of whom we would have found there next: seen when we wake.
        let above: Vec<OwnedFd> = above.iter().filter_map(|pid| sys::pidfd::open(*pid).ok()).collect();
        let watched = std::iter::once(&watched).chain(&above);
        let mut set: Vec<PollFd> = watched.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        while getppid() == front && poll(&mut set, PollTimeout::NONE) == Err(Errno::EINTR) {}
        if getppid() == front && send(front, libc::SIGCONT).is_err() {
            sys::leave(1);
        }
    }
    sys::leave(0)
}

/// The status to leave with where this signal ended the command; the front dies of it.
#[must_use]
pub fn leave_by(signal: i32) -> i32 {
    if is_alone() {
        die_of(signal);
    }
    tell_front(News::Died(signal));
    128 + signal
}

/// What the keeper has for the service manager lies in [`mouth`].
pub fn announce_speech() {
    tell_front(News::Speech);
}

/// Where the keeper lays messages for the service manager, which only the front may send.
#[must_use]
pub fn mouth() -> Option<OwnedFd> {
    MOUTH.get()?.try_clone().ok()
}

/// Makes a child that is born in the caller's process group, because it cannot go there itself: it is in a pid
/// namespace where that has no number.
///
/// # Errors
/// The child's.
pub fn in_job<T>(birth: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let own = getpgrp();
    if own.as_raw() == 0 || is_alone() {
        return birth();
    }
    // EPERM: the group is gone, as the front is, and we are about to notice.
    let moved = setpgid(Pid::from_raw(0), job());
    let born = birth();
    if moved.is_ok() {
        setpgid(Pid::from_raw(0), own)?;
    }
    born
}

/// Where the terminal is ours, it becomes this group's. SIGTTOU is blocked.
fn hand_on_terminal(heir: Pid) {
    if heir.as_raw() == 0 {
        return;
    }
    let flags = nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC;
    if let Ok(tty) = nix::fcntl::open(c"/dev/tty", flags, nix::sys::stat::Mode::empty())
        && nix::unistd::tcgetpgrp(&tty).ok() == Some(getpgrp())
        && let Err(errno) = nix::unistd::tcsetpgrp(&tty, heir)
    {
        debug_assert!(errno == Errno::EPERM || errno == Errno::ESRCH, "tcsetpgrp: {errno}");
    }
}

/// SIGKILL to a child: one that has become somebody else's by a change of user is refused.
fn end(child: Pid) {
    if let Err(errno) = send(child, libc::SIGKILL) {
        debug_assert_eq!(errno, Errno::EPERM);
    }
}

struct Front<'a> {
    keeper: Pid,
    taken: Taken,
    line: &'a Line<'a>,
    mouth: Option<Mouth>,
    /// Children that were ours before the keeper was: a shell that had started them became us by exec
    /// (`exec > >(tee log); exec rcon ...`). They are none of the command's, and are left alone.
    strangers: Vec<Pid>,
}

impl Front<'_> {
    /// Waits for the keeper; the exit status.
    fn wait(&self) -> i32 {
        // The signal that ended the command; the last stop that we have stopped for.
        let (mut died, mut followed) = (None, None);
        loop {
            let Some(arrived) = self.taken.wait(None) else { continue };
            match (arrived.signal, self.news(&arrived)) {
                (_, Some(News::Died(signal))) => died = Some(signal),
                // Told twice: see `Resume::Again`.
                (_, Some(News::Stopped(stop, _))) if followed == Some(stop) && stop.number != OF_INIT => {}
                (_, Some(News::Stopped(stop, heir))) => {
                    followed = Some(stop);
                    let then = stop_job(self.keeper, stop.signal, heir);
                    // A stop that was told while we were stopped is over: who woke us has woken the command, or what we
                    // say below does. To stop for it would be to stop a job that goes on.
                    while let Some(told) = self.taken.told() {
                        match self.news(&told) {
                            Some(News::Died(signal)) => died = Some(signal),
                            Some(News::Speech) => self.speak(),
                            Some(News::Stopped(..)) | None => {}
                        }
                    }
                    for signal in then {
                        match *signal {
                            libc::SIGCONT => {
                                say_resumed(self.keeper, stop.number);
                            }
                            signal => self.tell(signal),
                        }
                    }
                }
                (_, Some(News::Speech)) => self.speak(),
                (libc::SIGCHLD, None) => {
                    if let Some(status) = self.reap() {
                        while let Some(last) = self.taken.wait(Some(Duration::ZERO)) {
                            if let Some(News::Died(signal)) = self.news(&last) {
                                died = Some(signal);
                            }
                        }
                        self.speak();
                        return self.leave(status, died);
                    }
                }
                // What we have sent to the whole job, or the keeper has.
                (_, None) if [Pid::this(), self.keeper].contains(&arrived.sender) => {}
                (_, None) => arrived.pass_to(self.keeper),
            }
        }
    }

    fn speak(&self) {
        if let Some(mouth) = &self.mouth {
            mouth.speak();
        }
    }

    /// What the keeper tells with this signal.
    fn news(&self, arrived: &Arrived) -> Option<News> {
        let told = arrived.signal == TELL && arrived.sender == self.keeper;
        arrived.told.filter(|_| told).map(News::of)
    }

    /// A keeper that is gone needs no signal.
    fn tell(&self, signal: i32) {
        if let Err(errno) = send(self.keeper, signal) {
            debug_assert_eq!(errno, Errno::ESRCH);
        }
    }

    /// The keeper's status, if it has ended. Whoever stops it (the command, whose parent it is) does not stop the run
    /// or its limits of time: it goes on.
    fn reap(&self) -> Option<i32> {
        while let Ok(Some((pid, status, _))) = sys::reap() {
            if pid != self.keeper {
                continue;
            }
            if !libc::WIFSTOPPED(status) {
                return Some(status);
            }
            self.tell(libc::SIGCONT);
        }
        None
    }

    fn leave(&self, status: i32, died: Option<i32>) -> i32 {
        if libc::WIFSIGNALED(status) {
            // The keeper leaves by itself, always: somebody has killed it, or it has crashed.
            crate::say("rcon: the process that kept this run was killed: its command is ended");
            let args = match self.line.parse() {
                Ok(Request::Run(args)) => Some(args),
                _ => None,
            };
            self.end_what_is_left(args.as_deref());
            if let Some(args) = args {
                if args.privileges.learn.is_some() {
                    crate::learn::sweep(false);
                }
                if let Some(Ok(dir)) = args.cage.ephemeral_in.as_deref().map(crate::cgroup::open_dir) {
                    crate::scratch::sweep(dir.as_fd(), crate::cage::SCRATCH, true).ok();
                }
            }
            die_of(libc::WTERMSIG(status));
        }
        match died {
            Some(signal) => die_of(signal),
            None => libc::WEXITSTATUS(status),
        }
    }

    /// What the keeper had started is ours now: one generation after the other, until nobody is left.
    fn end_what_is_left(&self, args: Option<&Args>) {
        let start = Instant::now();
        let names = args.map_or_else(Names::default, |args| {
            Names::of_run(std::process::id(), args.group.as_deref(), args.control.name.clone())
        });
        loop {
            let swept = sweep::end(&names);
            let mut left = children();
            left.retain(|pid| !self.strangers.contains(pid));
            for pid in &left {
                end(*pid);
                if start.elapsed() > FREE {
                    thaw(*pid);
                }
            }
            while let Ok(Some(_)) = sys::reap() {}
            if left.is_empty() && swept {
                return;
            }
            if start.elapsed() > PATIENCE {
                crate::say(
                    "rcon: some of what the killed keeper of this run left does not end (rcon gc --kill tries again)",
                );
                return;
            }
            // The end of a child wakes us; the time is for what is no child of ours.
            self.taken.wait(Some(Duration::from_millis(2)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_arrive_as_they_were_sent() {
        for news in [
            News::Speech,
            News::Died(9),
            News::Stopped(Stop { signal: 20, number: 1 }, Pid::from_raw(0)),
            News::Stopped(Stop { signal: 22, number: u16::MAX }, Pid::from_raw(4_194_303)),
        ] {
            assert_eq!(News::of(news.number()), news);
        }
    }
}
