//! The child's side: runs the steps and becomes the command. Only async-signal-safe calls, no allocation, no
//! formatting, no panic: the child has numbers, the parent has the words.

use std::cell::Cell;

use nix::errno::Errno;

use crate::step::{Exec, Step};
use crate::sys;
use crate::sys::signals::Inherited;

/// What the steps need, made before the child is.
#[allow(missing_debug_implementations)] // raw pointers and signal sets say nothing to a reader
pub struct Kit<'a> {
    /// The steps, in order.
    pub steps: &'a [Step],
    /// For each group, the descriptor to join through; -1: the child is born inside.
    pub entries: &'a [i32],
    /// The caller's signal state.
    pub signals: Inherited,
    /// The argument vector of the command.
    pub argv: sys::Vector<'a>,
    /// The environment of the command.
    pub envp: sys::Vector<'a>,
    /// Where a failure is reported.
    pub report: Report<'a>,
}

/// The child's way to tell which step failed, and how.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)] // a descriptor or a place in memory
pub enum Report<'a> {
    /// A close-on-exec pipe: 4 bytes step number, 4 bytes errno.
    Pipe(i32),
    /// Memory that the child borrows from us.
    Memory(&'a Cell<Option<(usize, Errno)>>),
}

impl Report<'_> {
    fn failed(self, step: usize, errno: Errno) {
        match self {
            Self::Pipe(pipe) => sys::report_failure(pipe, step as u32, errno),
            Self::Memory(place) => place.set(Some((step, errno))),
        }
    }
}

/// Runs the steps. Comes back never: the last step becomes the command, a failure is reported.
pub fn run(kit: &Kit) -> ! {
    for (number, step) in kit.steps.iter().enumerate() {
        if let Err(errno) = take(step, kit) {
            kit.report.failed(number, errno);
            sys::leave(125);
        }
    }
    kit.report.failed(usize::MAX, Errno::EINVAL);
    sys::leave(125)
}

fn take(step: &Step, kit: &Kit) -> Result<(), Errno> {
    match step {
        Step::Join(group) => match kit.entries.get(*group) {
            Some(entry) if *entry >= 0 => sys::write_number(*entry, b"0"),
            Some(_) => Ok(()),
            None => Err(Errno::EINVAL),
        },
        Step::RestoreSignals => kit.signals.restore(),
        Step::Exec(exec) => Err(execute(exec, kit)),
    }
}

/// Tries the candidates as execvp(3) does: goes on where a file is not there or not reachable, remembers that
/// one was there and could not be executed.
fn execute(exec: &Exec, kit: &Kit) -> Errno {
    if let [only] = exec.candidates.as_slice() {
        return sys::execute(only, &kit.argv, &kit.envp);
    }
    let mut answer = Errno::ENOENT;
    for candidate in &exec.candidates {
        match sys::execute(candidate, &kit.argv, &kit.envp) {
            Errno::EACCES => answer = Errno::EACCES,
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
            other => return other,
        }
    }
    answer
}
