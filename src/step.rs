//! The steps of the child between its birth and the command, as data: the same list is run by the child, printed
//! by `--explain`, and named by an error.

use std::ffi::CString;

use crate::cage::step::CageStep;
use crate::sys::caps::Posix;

/// One step. The list is made by [`crate::plan`], in an order that is decided there and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Join the group with this index in the plan, through its `tasks` file (v1) or `cgroup.procs` (v2, where
    /// the kernel cannot create the child inside).
    Join(usize),
    /// Take these out of the bounding set.
    DropBounding {
        /// What goes.
        drop: u64,
        /// What stays, for the words.
        keep: u64,
    },
    /// Keep the permitted set over a change from root to another user (PR_SET_KEEPCAPS).
    KeepCapabilities,
    /// Set the supplementary groups.
    SetGroups(Vec<u32>),
    /// Set real, effective and saved group.
    SetGroup(u32),
    /// Set real, effective and saved user.
    SetUser(u32),
    /// Set effective, permitted and inheritable capabilities.
    SetCapabilities(Posix),
    /// Set the ambient capabilities.
    SetAmbient(u64),
    /// Set the securebits flags.
    SetSecurebits(u32),
    /// Set no_new_privs.
    NoNewPrivs,
    /// Read back what was set; other than expected is EBADE.
    Verify(Expected),
    /// Write this into the trace behind the descriptor, and have the kernel asked for a capability, which tells the
    /// trace the command's user namespace.
    Mark(i32, &'static str),
    /// A step into the cage.
    Cage(CageStep),
    /// Make the socket for messages to a service manager in this network namespace, and hand it to the parent.
    OpenRelay,
    /// Put the command's own number into LISTEN_PID and its like.
    PutPid,
    /// Go back to the process group that the caller put us in: the keeper has one of its own.
    JoinJob,
    /// Have the kernel kill the command should its keeper die (PR_SET_PDEATHSIG). After every change of identity,
    /// which undoes it.
    DieWithKeeper,
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
            Self::Join(_) | Self::JoinJob | Self::DieWithKeeper | Self::RestoreSignals | Self::Exec(_) => {
                true
            }
            Self::PutPid | Self::OpenRelay => true,
            Self::DropBounding { .. } | Self::SetCapabilities(_) | Self::SetAmbient(_) => true,
            Self::KeepCapabilities | Self::SetSecurebits(_) | Self::NoNewPrivs | Self::Verify(_) => true,
            // Another user's process has no business in our memory; and the kernel would mark that memory as
            // not dumpable, ours included (PR_SET_DUMPABLE in prctl(2)).
            Self::SetUser(_) | Self::SetGroup(_) | Self::SetGroups(_) => false,
            Self::Mark(..) => true,
            Self::Cage(step) => step.is_quick(),
        }
    }
}

/// What reading back must give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Real, effective and saved user.
    User(u32),
    /// Real, effective and saved group.
    Group(u32),
    /// Supplementary groups, in any order.
    Supplementary(Vec<u32>),
    /// The bounding set.
    Bounding {
        /// Its content.
        set: u64,
        /// All capabilities of the kernel.
        known: u64,
    },
    /// Effective, permitted and inheritable.
    Capabilities(Posix),
    /// The ambient set.
    Ambient {
        /// Its content.
        set: u64,
        /// What can be in it: permitted and inheritable.
        among: u64,
    },
    /// The securebits flags, but for keep-caps, which ends at exec.
    Securebits(u32),
    /// no_new_privs is set.
    NoNewPrivs,
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Paths to try, in order: one, or one for each directory of PATH.
    pub candidates: Vec<CString>,
    /// The argument vector.
    pub argv: Vec<CString>,
}
