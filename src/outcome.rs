//! How a run ended, and the one place where that becomes an exit status.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::plan::Plan;
use crate::receipt::Asked;
use crate::record::Sample;
use crate::supervise::{Cause, Growth};
use crate::usage::Usage;
use crate::value::show_bytes;

/// The status when a time limit ended the run.
const TIMED_OUT: i32 = 124;

/// What a shell shows for a process that the kernel killed for want of memory.
const OUT_OF_MEMORY: i32 = 128 + libc::SIGKILL;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl Ended {
    /// From wait4(2)'s status of a process that has ended.
    #[must_use]
    pub fn from_status(status: i32, _usage: &libc::rusage) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signaled(libc::WTERMSIG(status))
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

/// What a run could not help leaving behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// A group, by its path.
    Group(String),
    /// A process that our SIGKILL did not end: it has become root, or hangs in the kernel.
    Process(i32),
    /// Processes that only /proc could show.
    Unseen,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(path) => f.write_str(path),
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Unseen => f.write_str("processes that the command left behind"),
        }
    }
}

/// All that is known at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The command's end.
    pub ended: Ended,
    /// Why we ended it, if we did.
    pub cause: Option<Cause>,
    /// It took SIGKILL to end it.
    pub killed: bool,
    /// Processes that the kernel killed for want of memory, and the peak in bytes.
    pub out_of_memory: Option<(u64, Option<u64>)>,
    /// What is still there.
    pub left: Vec<Left>,
    /// Limits that the kernel refused and that were waived.
    pub waived: Vec<String>,
    /// What was used, where a report is to be made.
    pub usage: Option<Usage>,
    /// How `--mem-grow` has raised the limit.
    pub growth: Vec<Growth>,
    /// What `--record` saw.
    pub samples: Vec<Sample>,
    /// When the command was started.
    pub started: SystemTime,
    /// How long it ran.
    pub wall: Duration,
}

/// The limit as the kernel holds it: rounded, percentages worked out.
pub(crate) fn memory_limit(plan: &Plan) -> Option<u64> {
    let writes = plan.groups.iter().flat_map(|group| &group.writes);
    let mut files = writes.flat_map(|write| &write.alternatives);
    let value = files.find(|(file, _)| matches!(*file, "memory.max" | "memory.limit_in_bytes"));
    value.and_then(|(_, value)| value.parse().ok())
}

impl Outcome {
    /// What is said on standard error: nothing when all is well.
    #[must_use]
    pub fn messages(&self, plan: &Plan) -> Vec<String> {
        let mut out = Vec::new();
        if let (Some((killed, peak)), false) = (self.out_of_memory, plan.quiet) {
            let limit = self
                .growth
                .last()
                .map(|last| last.to)
                .or(memory_limit(plan))
                .map_or_else(|| "max".to_owned(), show_bytes);
            let peak = peak.map_or_else(|| "n/a".to_owned(), show_bytes);
            out.push(format!(
                "rcon: out of memory: the kernel killed {killed} process{}; limit {limit}, peak {peak}",
                if killed == 1 { "" } else { "es" }
            ));
        }
        for left in &self.left {
            let why = match left {
                Left::Group(_) => {
                    "could not be removed: a process in it does not die (rcon gc --kill tries again)"
                }
                Left::Process(_) => {
                    "could not be ended: it has another user's rights by now, or hangs in the kernel"
                }
                Left::Unseen => {
                    "could not be found, and so not ended: no /proc of this pid namespace is mounted (mount -t proc proc /proc)"
                }
            };
            out.push(format!("rcon: {left} {why}"));
        }
        out
    }

    /// The command itself was killed by the kernel for want of memory: by SIGKILL, none of ours, and the group's
    /// counter has moved.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        self.ended == Ended::Signaled(libc::SIGKILL) && !self.killed && self.out_of_memory.is_some()
    }

    /// How we end: as the command did, unless a time limit ended it or the user wants to be told otherwise.
    #[must_use]
    pub fn end(&self, asked: &Asked) -> Ended {
        let own = |status: Option<u8>, else_: i32| Ended::Exited(status.map_or(else_, i32::from));
        if matches!(self.cause, Some(Cause::Timeout | Cause::CpuTime)) {
            if asked.preserve_status { self.ended } else { own(asked.timeout_status, TIMED_OUT) }
        } else if (asked.oom_status.is_some() && self.is_out_of_memory())
            || (asked.oom_fail && self.out_of_memory.is_some() && self.ended == Ended::Exited(0))
        {
            own(asked.oom_status, OUT_OF_MEMORY)
        } else {
            self.ended
        }
    }

    /// The status to leave with; where a signal ended the command, the front is told to die of it.
    #[must_use]
    pub fn leave(&self, asked: &Asked) -> i32 {
        match self.end(asked) {
            Ended::Exited(status) => status,
            Ended::Signaled(signal) => crate::guardian::leave_by(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(ended: Ended, cause: Option<Cause>, oom: bool) -> Outcome {
        let out_of_memory = oom.then_some((1, None));
        Outcome {
            ended,
            cause,
            killed: false,
            out_of_memory,
            left: Vec::new(),
            waived: Vec::new(),
            usage: None,
            samples: Vec::new(),
            growth: Vec::new(),
            started: SystemTime::UNIX_EPOCH,
            wall: Duration::ZERO,
        }
    }

    const KILLED: Ended = Ended::Signaled(libc::SIGKILL);
    const OK: Ended = Ended::Exited(0);

    #[test]
    fn a_time_limit_is_124_unless_told_otherwise() {
        let ended = outcome(KILLED, Some(Cause::CpuTime), false);
        let end = |asked: &Asked| ended.end(asked);
        assert_eq!(end(&Asked::default()), Ended::Exited(124));
        assert_eq!(end(&Asked { timeout_status: Some(0), ..Asked::default() }), OK);
        assert_eq!(end(&Asked { preserve_status: true, ..Asked::default() }), KILLED);
        assert_eq!(outcome(OK, Some(Cause::Timeout), true).end(&Asked::default()), Ended::Exited(124));
        assert_eq!(outcome(KILLED, Some(Cause::Told), false).end(&Asked::default()), KILLED);
    }

    #[test]
    fn out_of_memory_changes_the_status_only_where_asked() {
        let status = Asked { oom_status: Some(99), ..Asked::default() };
        let fail = Asked { oom_fail: true, ..Asked::default() };
        assert_eq!(outcome(KILLED, None, true).end(&Asked::default()), KILLED);
        assert_eq!(outcome(KILLED, None, true).end(&status), Ended::Exited(99));
        assert_eq!(outcome(KILLED, None, false).end(&status), KILLED);
        assert_eq!(outcome(OK, None, true).end(&status), OK);
        assert_eq!(outcome(OK, None, true).end(&fail), Ended::Exited(137));
        assert_eq!(outcome(OK, None, false).end(&fail), OK);
        assert_eq!(outcome(Ended::Exited(3), None, true).end(&fail), Ended::Exited(3));
    }
}
