//! The child's side: runs the steps and becomes the command. Only async-signal-safe calls, no allocation, no
//! formatting, no panic: the child has numbers, the parent has the words.

use std::cell::Cell;

use nix::errno::Errno;

use crate::cage::child::Tools;
use crate::cage::step::CageStep;
use crate::capabilities::KEEP_CAPS;
use crate::step::{Exec, Expected, Step};
use crate::sys;
use crate::sys::caps;
use crate::sys::clone::CloneFlags;
use crate::sys::signals::Inherited;

/// What the steps need, made before the child is.
#[allow(missing_debug_implementations)] // raw pointers and signal sets say nothing to a reader
pub struct Kit<'a> {
    /// The steps, in order.
    pub steps: &'a [Step],
    /// For each group, the descriptor to join through; -1: the child is born inside.
    pub entries: &'a [i32],
    /// The caller's process group.
    pub job: i32,
    /// The caller's signal state, where it was changed.
    pub signals: Option<Inherited>,
    /// The argument vector of the command.
    pub argv: sys::Vector<'a>,
    /// The environment of the command.
    pub envp: sys::Vector<'a>,
    /// What the steps into the cage need.
    pub cage: &'a Tools,
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
    let (step, errno) = walk(kit);
    kit.report.failed(step, errno);
    sys::leave(125)
}

/// Runs the steps in this process; comes back only with the number of the one that failed, and why.
#[must_use]
pub fn walk(kit: &Kit) -> (usize, Errno) {
    walk_from(kit, 0)
}

fn walk_from(kit: &Kit, first: usize) -> (usize, Errno) {
    for (number, step) in kit.steps.iter().enumerate().skip(first) {
        let taken = match step {
            Step::Cage(CageStep::Init(wait_all)) => leave_an_init(kit, number + 1, *wait_all),
            step => take(step, kit),
        };
        if let Err(errno) = taken {
            return (number, errno);
        }
    }
    (usize::MAX, Errno::EINVAL)
}

/// This process becomes the init; a child of it goes on with the steps, in its memory where they allow that.
#[inline(never)]
fn leave_an_init(kit: &Kit, next: usize, wait_all: bool) -> Result<(), Errno> {
    let borrow_memory = kit.steps.iter().skip(next).all(Step::is_quick);
    // Before there is a command. Our memory and descriptors are not the cage's business: ptrace(2) of us now needs
    // CAP_SYS_PTRACE outside. And whoever signals all that is called as rcon means the one that passes it on.
    sys::child::let_see(false);
    sys::name_process(crate::guardian::KEEPER)?;
    let lead = sys::clone::spawn(CloneFlags { borrow_memory, ..CloneFlags::default() }, None, || {
        // The steps may need files of /proc/self, which are root's alone as long as nobody may see us. In our own
        // memory they are ours to decide on for both; quick steps need none.
        if !(borrow_memory && sys::clone::CAN_BORROW) {
            sys::child::let_see(true);
        }
        sys::mount::close(kit.cage.status);
        let (step, errno) = walk_from(kit, next);
        kit.report.failed(step, errno);
    })?;
    sys::child::serve_as_init(lead.as_raw(), kit.cage.status, wait_all)
}

fn take(step: &Step, kit: &Kit) -> Result<(), Errno> {
    match step {
        Step::Join(group) => match kit.entries.get(*group) {
            Some(entry) if *entry >= 0 => sys::write_number(*entry, b"0"),
            Some(_) => Ok(()),
            None => Err(Errno::EINVAL),
        },
        Step::DropBounding { drop, .. } => caps::drop_bounding(*drop),
        Step::KeepCapabilities => caps::keep(),
        Step::SetGroups(groups) => caps::set_groups(groups),
        Step::SetGroup(gid) => caps::set_group(*gid),
        Step::SetUser(uid) => caps::set_user(*uid),
        Step::SetCapabilities(sets) => caps::set(*sets),
        Step::SetAmbient(set) => caps::set_ambient(*set),
        Step::SetSecurebits(bits) => caps::set_securebits(*bits),
        Step::NoNewPrivs => caps::set_no_new_privs(),
        Step::Verify(expected) => match holds(expected) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Errno::EBADE),
            Err(errno) => Err(errno),
        },
        Step::OpenRelay => match &kit.cage.relay {
            Some((pipe, name)) => sys::child::open_relay(name, *pipe),
            None => Ok(()),
        },
        Step::PutPid => {
            kit.envp.put_pid();
            Ok(())
        }
        Step::Mark(fd, text) => {
            // The kernel reads it without taking page faults (tracing_mark_write), and EFAULT would be its answer
            // for a page that a new process has not looked at yet: this one it has just written.
            let mut buffer = [0_u8; 64];
            let length = text.len().min(buffer.len());
            let (copy, _) = buffer.split_at_mut(length);
            copy.copy_from_slice(text.as_bytes().split_at(length).0);
            sys::write_number(*fd, std::hint::black_box(copy))?;
            caps::ask();
            Ok(())
        }
        Step::Cage(step) => crate::cage::child::take(step, kit.cage),
        // EPERM: the group is gone, as the front is, and the keeper is about to notice; or it has no number in
        // this pid namespace, and we were born in it, as where it has none in the caller's.
        Step::JoinJob if kit.job == 0 => Ok(()),
        Step::JoinJob => match sys::join_process_group(kit.job) {
            Err(Errno::EPERM) => Ok(()),
            result => result,
        },
        Step::DieWithKeeper => sys::signal_at_parents_death(libc::SIGKILL),
        Step::RestoreSignals => kit.signals.map_or(Ok(()), |signals| signals.restore()),
        Step::Exec(exec) => Err(execute(exec, kit)),
    }
}

/// What the kernel says of us after all changes.
fn holds(expected: &Expected) -> Result<bool, Errno> {
    Ok(match expected {
        Expected::User(uid) => caps::ids()?.0 == [*uid; 3],
        Expected::Group(gid) => caps::ids()?.1 == [*gid; 3],
        Expected::Supplementary(groups) => caps::groups_are(groups)?,
        Expected::Bounding { set, known } => caps::bounding() == (*set, *known),
        Expected::Capabilities(sets) => caps::get()? == *sets,
        Expected::Ambient { set, among } => caps::ambient(*among)? == *set,
        Expected::Securebits(bits) => (caps::securebits()? ^ bits) & !KEEP_CAPS == 0,
        Expected::NoNewPrivs => caps::no_new_privs()?,
    })
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
