//! How a run ended, and the one place where that becomes an exit status.

use crate::plan::Plan;
use crate::sys::signals::die_of;
use crate::value::show_bytes;

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

/// All that is known at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The command's end.
    pub ended: Ended,
    /// Processes that the kernel killed for want of memory, and the peak in bytes.
    pub out_of_memory: Option<(u64, Option<u64>)>,
    /// Groups that could not be removed.
    pub left: Vec<String>,
}

/// The limit as the kernel holds it: rounded, percentages worked out.
fn memory_limit(plan: &Plan) -> Option<u64> {
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
            let limit = memory_limit(plan).map_or_else(|| "max".to_owned(), show_bytes);
            let peak = peak.map_or_else(|| "n/a".to_owned(), show_bytes);
            out.push(format!(
                "rcon: out of memory: the kernel killed {killed} process{}; limit {limit}, peak {peak}",
                if killed == 1 { "" } else { "es" }
            ));
        }
        for group in &self.left {
            out.push(format!("rcon: {group} could not be removed: a process in it does not die (rcon gc --kill tries again)"));
        }
        out
    }

    /// Leaves as the command left.
    pub fn leave(&self) -> i32 {
        match self.ended {
            Ended::Exited(status) => status,
            Ended::Signaled(signal) => die_of(signal),
        }
    }
}
