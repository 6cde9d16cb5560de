//! While the command runs: one wait, signals passed on, what was asked for watched; when it ends, everything
//! that it left behind is ended too.
//!
//! How a run ends. A time limit sends `--signal` to every process of the run, as timeout(1) does to its process
//! group: a script acts on a signal only when its foreground child has ended. SIGTERM to us goes to the command
//! alone, as it would without us; what the command leaves behind then gets it as well. In both cases what is
//! left after `--kill-after` is killed. Without either, the end of the command is the end of the run.

mod grow;
mod processes;
mod watch;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::cage::namespaces::Kind;
use crate::cgroup;
use crate::guardian::{self, Keeper, OnDeath};
use crate::outcome::{Ended, Left, Outcome};
use crate::plan::{Ending, Plan};
use crate::spawn::Running;
use crate::sys;
use crate::sys::signals::{Arrived, FRONT_DIED, queue};
use crate::sys::stops::{OF_INIT, Resume, Stop, Stops};
use crate::usage::Usage;
pub use grow::Growth;
use processes::{can_see, family, signal_all, together};
pub(crate) use processes::{children, children_of, resume_init, signal_child, stat};
pub use watch::{Cause, Watch};

/// How long the end of what the command left behind is waited for, after SIGKILL.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the same is waited for where it can be neither seen nor killed.
const UNSEEN: Duration = Duration::from_millis(100);

/// What runs for less is not worth the call.
const SETTLED: Duration = Duration::from_millis(100);

/// How often SIGKILL is repeated: on v1 a process may have been born between the look and the kill.
const AGAIN: Duration = Duration::from_millis(20);

/// So many dying ones are seen every [`SHORT`], not one by one.
const CROWD: usize = 100;

/// How long those who have been killed are left to die before others are looked for. It is longer each time, so that
/// looking takes no time from dying.
const SHORT: Duration = Duration::from_millis(1);

/// Who has not died for so long does not die of the signal that it has had.
const LONG: Duration = Duration::from_millis(50);

/// Waits for the command, and for the end of its group.
pub fn wait(running: Running, plan: &Plan, keeper: &Keeper) -> Outcome {
    let mut run = Run { running, plan, keeper, ended: None, stop: None, stops: Stops::default() };
    run.running.watch.start(run.running.started);
    // Who is there for longer gives back what it took to get here: a third of this process's memory.
    let mut settles = run.running.started.checked_add(SETTLED);
    run.take_signals(true);
    while !run.is_over() {
        run.sleep(earliest(run.next(), settles));
        if settles.is_some_and(|at| at <= Instant::now()) {
            settles = None;
            sys::give_back_stack();
        }
        run.take_signals(false);
        run.look();
    }
    run.finish()
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A descriptor that another part of the program wants watched while the command runs.
pub struct Other {
    /// Readable when there is something to do.
    pub fd: OwnedFd,
    /// Does it, without blocking. `false`: there will be nothing more.
    pub ready: Box<dyn FnMut(&OwnedFd) -> bool>,
}

impl std::fmt::Debug for Other {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.fd.fmt(f)
    }
}

/// A run until everything in it has ended.
struct Run<'a> {
    running: Running,
    plan: &'a Plan,
    keeper: &'a Keeper,
    ended: Option<Ended>,
    stop: Option<Stopping>,
    /// The command's, where there is no init before it.
    stops: Stops,
}

/// A run that is being ended.
struct Stopping {
    cause: Cause,
    signal: i32,
    /// When what is left is killed, for the first time or again.
    kill_at: Option<Instant>,
    /// Everybody has had the signal, not only the command.
    told_all: bool,
    killed: bool,
}

impl Run<'_> {
    fn is_over(&mut self) -> bool {
        if self.ended.is_none() {
            return false;
        }
        if self.plan.ending != Ending::WaitAll && self.stop.is_none() {
            return true;
        }
        // As a subreaper we are, sooner or later, the parent of every descendant.
        if !reap_all(None) {
            return true;
        }
        // Who has been killed as far as could be, and is still there without being seen, will not be seen later.
        if self.stop.as_ref().is_some_and(|stop| stop.killed)
            && !can_see()
            && self.running.groups.processes().is_empty()
        {
            return true;
        }
        let command = self.command();
        if let Some(stop) = &mut self.stop
            && !stop.told_all
        {
            stop.told_all = true;
            signal_all(&self.running, command, stop.signal);
        }
        false
    }

    /// The command, as long as its number is its own.
    fn command(&self) -> Option<Pid> {
        self.ended.is_none().then_some(self.running.pid)
    }

    /// When to wake at the latest.
    fn next(&self) -> Option<Instant> {
        earliest(self.running.watch.next(), self.stop.as_ref().and_then(|stop| stop.kill_at))
    }

    /// Sleeps until something comes, or until `latest`.
    fn sleep(&mut self, latest: Option<Instant>) {
        let left = latest.map(|latest| latest.saturating_duration_since(Instant::now()));
        let Some(signals) = self.running.signals.fd() else {
            return self.running.signals.sleep(left);
        };
        // Up to the next millisecond, or poll would return before the moment and spin.
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            let left = left + Duration::from_micros(999);
            PollTimeout::from(u16::try_from(left.as_millis()).unwrap_or(u16::MAX))
        });
        let input = PollFlags::POLLIN;
        let own = std::iter::once((signals, input)).chain(self.running.watch.fds());
        let others = self.running.others.iter().map(|other| (other.fd.as_fd(), input));
        let mut set: Vec<PollFd> = own.chain(others).map(|(fd, what)| PollFd::new(fd, what)).collect();
        match poll(&mut set, timeout) {
            // An interruption is as good as a signal: the caller looks again.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => debug_assert!(false, "poll: {errno}"),
        }
        let others = set.len() - self.running.others.len();
        let ready: Vec<bool> = set.iter().skip(others).map(|fd| fd.any() == Some(true)).collect();
        drop(set);
        let mut ready = ready.into_iter();
        self.running.others.retain_mut(|other| !ready.next().unwrap_or(false) || (other.ready)(&other.fd));
    }

    /// Handles all signals that have come. `early`: before the command can have been in the group that a terminal
    /// signals, or so shortly after that a second one does no harm.
    fn take_signals(&mut self, early: bool) {
        let (mut changed, mut resumed) = (false, None);
        while let Some(arrived) = self.running.signals.next() {
            let own = !guardian::is_alone() && arrived.sender == self.keeper.front && arrived.told.is_none();
            if let Some(stop) = arrived.resumed(self.keeper.front) {
                resumed = Some(stop);
                continue;
            }
            let arrived = arrived.before(self.keeper.front);
            match arrived.signal {
                libc::SIGCHLD => changed = true,
                FRONT_DIED if guardian::front_is_dead() => self.front_died(),
                // It was for us: see `Front::reap`.
                libc::SIGCONT if own => {}
                libc::SIGHUP if own => {
                    self.pass_on(&arrived, early);
                    guardian::continue_job();
                }
                _ => self.pass_on(&arrived, early),
            }
        }
        if changed && self.ended.is_none() {
            self.reap();
        }
        match (resumed, &self.ended) {
            (Some(stop), None) => self.resume(stop),
            (Some(_), Some(_)) => children().into_iter().for_each(|pid| signal_child(pid, libc::SIGCONT)),
            (None, _) => {}
        }
    }

    /// The front, stopped because the command was, goes on, and the command with it.
    fn resume(&mut self, stop: u16) {
        let child = self.running.pid;
        if stop == OF_INIT {
            return signal_child(child, libc::SIGCONT);
        }
        if self.running.news.is_some() {
            return resume_init(child, stop);
        }
        match self.stops.resume(child.as_raw(), stop) {
            Resume::Wake => signal_child(child, libc::SIGCONT),
            Resume::Again(stop) => self.stop_with_it(stop),
            Resume::Runs => {}
        }
    }

    fn stop_with_it(&self, stop: Stop) {
        let command = self.running.pid;
        stop_with_it(command, stop).iter().for_each(|signal| signal_child(command, *signal));
    }

    /// Reaps whoever has ended, up to the command.
    fn reap(&mut self) {
        let command = self.running.pid;
        while let Ok(Some((pid, status, usage))) = sys::reap() {
            if libc::WIFSTOPPED(status) {
                // Who has been continued meanwhile is not told of.
                if pid == command {
                    let signal = libc::WSTOPSIG(status);
                    let init = self.running.news.is_some();
                    let stop =
                        if init { Stop { signal, number: OF_INIT } } else { self.stops.another(signal) };
                    self.stop_with_it(stop);
                }
            } else if pid == command {
                // Behind an init, the command's own end is in what that has told.
                let status = self.running.news.as_ref().map_or(status, |news| news.end(status));
                self.ended = Some(Ended::from_status(status, &usage));
                return;
            }
        }
    }

    /// There is no one to wait for the command any more.
    fn front_died(&mut self) {
        if self.keeper.on_death == OnDeath::Kill {
            self.stop(Cause::FrontDied, libc::SIGKILL);
            if let Some(stop) = &mut self.stop {
                stop.kill_at = Some(Instant::now());
            }
        } else {
            // If it was a stopped job, the shell that could have continued it has lost sight of it.
            signal_all(&self.running, self.command(), libc::SIGCONT);
        }
    }

    /// Hands a signal on: to the command, or to those whom it left behind.
    fn pass_on(&mut self, arrived: &Arrived, early: bool) {
        let told = arrived.signal == libc::SIGTERM;
        if told {
            self.stop(Cause::Told, libc::SIGTERM);
        }
        if self.ended.is_some() {
            children().into_iter().for_each(|pid| pass_on(pid, arrived, early));
            return;
        }
        let child = self.running.pid;
        if !self.is_the_commands_own(arrived) && is_news_to(child, arrived, early) {
            if self.running.news.is_some() && arrived.signal == libc::SIGCONT {
                // A plain one is, to an init, its process group's.
                queue(child, arrived.signal, 0);
            } else {
                signal_child(child, arrived.signal);
            }
        }
        if told {
            // A stopped process acts on no signal.
            signal_child(child, libc::SIGCONT);
        }
    }

    /// Behind the init of a pid namespace, has the command signalled its whole process group, which we belong to,
    /// and so itself? The sender's number is then the one that the command has inside, which is always 2; and
    /// with us nobody has it but a kernel thread, who sends no signals: a number so low is not given out again.
    fn is_the_commands_own(&self, arrived: &Arrived) -> bool {
        const LEAD: i32 = 2;
        self.running.news.is_some()
            && self.plan.birth.new.has(Kind::Pid)
            && arrived.sender.as_raw() == LEAD
            && crate::files::text(Path::new("/proc/2/cmdline")).is_none_or(|line| line.is_empty())
    }

    /// Looks at the clocks.
    fn look(&mut self) {
        let (now, command) = (Instant::now(), self.command());
        if let Some(cause) = self.running.watch.look(now) {
            self.stop(cause, self.plan.receipt.first_signal());
            if let Some(stop) = &mut self.stop
                && !self.plan.receipt.grace().is_zero()
            {
                stop.told_all = true;
                signal_all(&self.running, command, stop.signal);
            }
        }
        if let Some(stop) = &mut self.stop
            && stop.kill_at.is_some_and(|at| at <= now)
        {
            let again = std::mem::replace(&mut stop.killed, true);
            stop.kill_at = Some(now + AGAIN);
            kill_all(&self.running, command, None);
            if again {
                children().into_iter().for_each(cgroup::thaw);
            }
        }
    }

    /// From here on the run is being ended.
    fn stop(&mut self, cause: Cause, signal: i32) {
        self.running.watch.stop();
        // A limit that is reached while we end the run anyhow changes nothing.
        if self.stop.is_none() {
            let kill_at = Instant::now().checked_add(self.plan.receipt.grace());
            self.stop = Some(Stopping { cause, signal, kill_at, told_all: false, killed: false });
        }
    }

    /// Reads the figures, ends what is left, removes the groups.
    fn finish(mut self) -> Outcome {
        // What came between the last look and the end; none of these blocks.
        for other in &mut self.running.others {
            (other.ready)(&other.fd);
        }
        let others = reap_all(None);
        let mut outcome = Outcome {
            ended: self.ended.unwrap_or(Ended::Exited(0)),
            cause: self.stop.as_ref().map(|stop| stop.cause),
            killed: self.stop.as_ref().is_some_and(|stop| stop.killed),
            out_of_memory: self.running.groups.out_of_memory(),
            left: Vec::new(),
            waived: std::mem::take(&mut self.running.waived),
            usage: None,
            samples: self.running.watch.samples(),
            growth: self.running.watch.growth(),
            started: self.running.started_at,
            wall: self.running.started.elapsed(),
        };
        if self.plan.receipt.counts() {
            // Before what is left is killed and the groups go.
            let now = Usage::read(&self.running.groups, &self.plan.counting);
            outcome.usage = Some(match &self.running.baseline {
                Some(before) => now.since(before),
                None => now,
            });
        }
        if others || !self.running.groups.try_remove() {
            outcome.left = self.end_all();
        }
        self.running.groups.forget();
        outcome
    }

    /// Kills what the command left behind, until it is gone; what is still there when the patience is over.
    fn end_all(&mut self) -> Vec<Left> {
        let start = Instant::now();
        let (mut dying, mut known, mut pause) = (BTreeSet::new(), 0, SHORT);
        loop {
            kill_all(&self.running, None, Some(&mut dying));
            let (news, others) = (dying.len() > known, reap_all(Some(&mut dying)));
            if self.running.groups.try_remove() && !others {
                return Vec::new();
            }
            if others && !can_see() && start.elapsed() > UNSEEN && self.running.groups.left().is_empty() {
                return vec![Left::Unseen];
            }
            if start.elapsed() > PATIENCE {
                let groups = self.running.groups.left().into_iter().map(Left::Group);
                return groups.chain(children().into_iter().map(|pid| Left::Process(pid.as_raw()))).collect();
            }
            // Until nobody is found who was born meanwhile: nothing else holds a fork bomb where no controller does.
            if news {
                (known, pause) = (dying.len(), SHORT);
                continue;
            }
            let died = self.see_them_die(&mut dying, pause);
            known = dying.len();
            if !died {
                // It had no effect, or a number is another's now: everybody gets it again.
                dying.clear();
                if pause > AGAIN {
                    children().into_iter().for_each(cgroup::thaw);
                }
            }
            pause = (pause * 4).min(PATIENCE);
        }
    }

    /// Reaps those who die, for a time, or until nobody is left who is dying, or dies. `false`: nobody died.
    fn see_them_die(&mut self, dying: &mut BTreeSet<Pid>, pause: Duration) -> bool {
        let (start, before) = (Instant::now(), dying.len());
        let mut last = start;
        loop {
            let until = (start + pause).min(last + LONG);
            if dying.len() > CROWD {
                std::thread::sleep(SHORT);
            } else {
                // Every end of a descendant wakes us; the time is for what is no descendant of ours.
                self.sleep(Some(until));
            }
            while self.running.signals.next().is_some() {}
            let (left, others, now) = (dying.len(), reap_all(Some(dying)), Instant::now());
            if !others || dying.is_empty() || now >= until {
                return dying.len() < before;
            }
            if dying.len() < left {
                last = now;
            }
        }
    }
}

/// SIGKILL to everything in the run, but to whom it has been sent already. Orphans of those that die become our
/// children and are met the next time.
fn kill_all(running: &Running, command: Option<Pid>, mut killed: Option<&mut BTreeSet<Pid>>) {
    running.groups.kill(killed.as_deref_mut());
    for pid in family(command) {
        if killed.as_mut().is_none_or(|killed| killed.insert(pid)) {
            signal_child(pid, libc::SIGKILL);
        }
    }
}

/// Hands a signal to a process, unless it has got it already.
fn pass_on(pid: Pid, arrived: &Arrived, early: bool) {
    if is_news_to(pid, arrived, early) {
        signal_child(pid, arrived.signal);
    }
}

/// Has it not got the signal already?
fn is_news_to(pid: Pid, arrived: &Arrived, early: bool) -> bool {
    // The terminal has signalled its whole foreground group. One that a process sent to its own group (`kill 0`)
    // has reached that process; a signal of ours is SIGPIPE, because nobody reads our messages.
    let has_got_it = !early && arrived.from_terminal && together(pid);
    !has_got_it && arrived.sender != pid && arrived.sender != Pid::this()
}

/// The command has stopped. A shell with job control waits for the *front* to stop, so it does, and passes on what
/// wakes it. Only where there is such a shell: elsewhere somebody would wake the command, and nobody the
/// front. What the command is to be sent now.
#[must_use]
pub(crate) fn stop_with_it(command: Pid, stop: Stop) -> &'static [i32] {
    let Ok(tty) = nix::fcntl::open(
        c"/dev/tty",
        nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    ) else {
        return &[];
    };
    let (own, before) = (guardian::job(), nix::unistd::tcgetpgrp(tty.as_fd()).ok());
    // A shell that suspends itself does so in a group of its own that has the terminal.
    let its_group = nix::unistd::getpgid(Some(command)).ok();
    let foreground = before.is_some() && (before == Some(own) || before == its_group);
    if foreground || (guardian::is_job_control(stop.signal) && its_group == Some(own)) {
        let heir = before.filter(|group| *group != own && before == its_group);
        return guardian::stop_front(command, stop, heir);
    }
    &[]
}

/// Reaps all that have ended, who are dying no more. `true`: there are processes of the command that have not.
fn reap_all(mut dying: Option<&mut BTreeSet<Pid>>) -> bool {
    loop {
        match sys::reap() {
            Ok(Some((pid, ..))) => {
                if let Some(dying) = &mut dying {
                    dying.remove(&pid);
                }
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
