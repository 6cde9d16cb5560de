//! The steps of the child between its birth and the command, as data: the same list is run by the child, printed
//! by `--explain`, and named by an error.

use std::ffi::CString;

/// One step. The list is made by [`crate::plan`], in an order that is decided there and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Join the group with this index in the plan, through its `tasks` file (v1) or `cgroup.procs` (v2, where
    /// the kernel cannot create the child inside).
    Join(usize),
    /// Give signal mask and SIGCHLD back as the caller had them.
    RestoreSignals,
    /// Become the command: the first candidate that exists.
    Exec(Exec),
}

impl Step {
    /// Does it only change the child itself, without waiting for anybody and without a process of its own? Then
    /// the child may borrow our memory, while we sleep.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        match self {
            Self::Join(_) | Self::RestoreSignals | Self::Exec(_) => true,
        }
    }
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Paths to try, in order: one, or one for each directory of PATH.
    pub candidates: Vec<CString>,
    /// The argument vector.
    pub argv: Vec<CString>,
}
