//! What is watched while the command runs, besides its signals. Made before the command starts, so that a lack
//! of descriptors keeps it from starting; what was not asked for is not there and costs nothing.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::earliest;
use super::grow::{Grow, Growth};
use crate::cgroup::Groups;
use crate::error::Error;
use crate::plan::Plan;
use crate::record::{Recorder, Sample};
use crate::usage::CpuMeter;
use crate::value::show_bytes;

/// Why we ended the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `--timeout` or `--timeout-boottime` had passed.
    Timeout,
    /// `--cpu-time` was used up.
    CpuTime,
    /// We were told to, by SIGTERM.
    Told,
    /// The process that the caller waits for was killed.
    FrontDied,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Watch {
    /// poll(2)'s own timeout is on CLOCK_MONOTONIC: no timer is needed for it.
    timeout: Option<Deadline>,
    boottime: Option<TimerFd>,
    cpu: Option<CpuLimit>,
    recorder: Option<Recorder>,
    grow: Option<Grow>,
    start: Option<Instant>,
}

/// A length of time, and after the start a moment.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    span: Duration,
    at: Option<Instant>,
}

#[derive(Debug)]
struct CpuLimit {
    meter: CpuMeter,
    /// Nanoseconds on the meter at which the run ends.
    limit: u64,
    /// CPU time that can be used per time, in thousandths of one CPU.
    rate: u64,
    next: Option<Instant>,
}

/// How often CPU time is looked at when hardly any is left. What can be used meanwhile is used too much.
const CPU_STEP: Duration = Duration::from_millis(10);

impl Watch {
    /// Takes what the plan asks for.
    ///
    /// # Errors
    /// No descriptor left, a clock that this kernel has not, a counter that is not there.
    pub fn prepare(plan: &Plan, groups: &Groups) -> Result<Self, Error> {
        let asked = &plan.receipt;
        let timeout = asked.timeout.map(|span| Deadline { span: span.0, at: None });
        let mut watch = Self { timeout, ..Self::default() };
        if let Some(span) = asked.timeout_boottime {
            watch.boottime = Some(
                boot_timer(span.0)
                    .map_err(|e| Error::new("cannot set a timer on CLOCK_BOOTTIME").errno(e))
                    .map_err(|e| e.option(format!("--timeout-boottime {span}")))?,
            );
        }
        if let Some(span) = asked.cpu_time {
            let failed = |error: Error| error.option(format!("--cpu-time {span}"));
            let meter = CpuMeter::open(groups).map_err(failed)?;
            let used =
                meter.read().ok_or_else(|| failed(Error::new("the group's CPU time cannot be read")))?;
            let limit = used.saturating_add(u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX));
            watch.cpu = Some(CpuLimit { meter, limit, rate: rate(plan), next: None });
        }
        if let Some(max) = asked.mem_grow {
            let option = || format!("--mem-grow {}", show_bytes(max));
            let limit = crate::outcome::memory_limit(plan).filter(|limit| *limit < max).ok_or_else(|| {
                Error::new("it is not more than --mem")
                    .option(option())
                    .try_this("--mem 256M --mem-grow 2G: the limit starts there and is doubled as needed")
            })?;
            watch.grow = Some(Grow::new(groups, limit, max).map_err(|error| error.option(option()))?);
        }
        watch.recorder = asked.record.as_ref().map(|(_, interval)| Recorder::new(groups, *interval));
        Ok(watch)
    }

    /// The command has started: time runs.
    pub fn start(&mut self, now: Instant) {
        self.start = Some(now);
        if let Some(deadline) = &mut self.timeout {
            deadline.at = now.checked_add(deadline.span);
        }
        if let Some(cpu) = &mut self.cpu {
            cpu.look(now);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.start(now);
        }
    }

    /// The descriptors on which something happens, and what.
    pub fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let boottime = self.boottime.as_ref().map(|timer| (timer.as_fd(), PollFlags::POLLIN));
        boottime.into_iter().chain(self.grow.as_ref().map(Grow::fd))
    }

    /// When to look again at the latest.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let recorder = self.recorder.as_ref().and_then(Recorder::next);
        let cpu = self.cpu.as_ref().and_then(|cpu| cpu.next);
        earliest(self.timeout.and_then(|deadline| deadline.at), earliest(cpu, recorder))
    }

    /// Looks; the limit that has been reached, if one has.
    pub fn look(&mut self, now: Instant) -> Option<Cause> {
        if let Some(recorder) = &mut self.recorder {
            recorder.look_if_due(now);
        }
        if let (Some(grow), Some(start)) = (&mut self.grow, self.start) {
            grow.look(start);
        }
        if self.timeout.and_then(|deadline| deadline.at).is_some_and(|at| at <= now) {
            return Some(Cause::Timeout);
        }
        if let Some(timer) = &self.boottime
            // EAGAIN until it has expired.
            && timer.wait().is_ok()
        {
            return Some(Cause::Timeout);
        }
        let cpu = self.cpu.as_mut()?;
        (cpu.next.is_some_and(|at| at <= now) && cpu.look(now)).then_some(Cause::CpuTime)
    }

    /// No limit of time holds any more: the run is being ended.
    pub fn stop(&mut self) {
        *self = Self {
            recorder: self.recorder.take(),
            grow: self.grow.take(),
            start: self.start,
            ..Self::default()
        };
    }

    /// How the memory limit has grown.
    pub fn growth(&mut self) -> Vec<Growth> {
        self.grow.as_mut().map(Grow::steps).unwrap_or_default()
    }

    /// The last sample, and all before.
    pub fn samples(&mut self) -> Vec<Sample> {
        self.recorder.as_mut().map(|recorder| recorder.finish(Instant::now())).unwrap_or_default()
    }
}

impl CpuLimit {
    /// Is the limit reached? If not, the next look is when it can be at the earliest.
    fn look(&mut self, now: Instant) -> bool {
        let Some(left) =
            self.limit.checked_sub(self.meter.read().unwrap_or(u64::MAX)).filter(|left| *left > 0)
        else {
            return true;
        };
        let earliest = u128::from(left) * 1_000 / u128::from(self.rate.max(1));
        let wait = Duration::from_nanos(u64::try_from(earliest).unwrap_or(u64::MAX)).max(CPU_STEP);
        self.next = now.checked_add(wait);
        false
    }
}

/// At most so much CPU time passes per time: what the machine has, or the quota.
fn rate(plan: &Plan) -> u64 {
    // Not our own affinity mask, which the command may change for itself.
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    let machine = u64::try_from(online.unwrap_or(1)).unwrap_or(1).saturating_mul(1_000);
    plan.cpu_quota().map_or(machine, |millionths| machine.min(millionths / 1_000))
}

fn boot_timer(span: Duration) -> Result<TimerFd, Errno> {
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    // The kernel refuses more seconds than it can count.
    let span = span.min(Duration::from_secs(u64::from(u32::MAX)));
    timer.set(Expiration::OneShot(TimeSpec::from_duration(span)), TimerSetTimeFlags::empty())?;
    Ok(timer)
}
