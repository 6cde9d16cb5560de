//! From plan to running command: groups are made, the child is born, and speaks up if it fails.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::cage;
use crate::cage::birth::{Delivered, Held, Midwife, News};
use crate::cage::child::Tools;
use crate::cage::step::CageStep;
use crate::cgroup::Groups;
use crate::child::{self, Kit, Report};
use crate::error::{Class, Error, printable};
use crate::guardian;
use crate::limits::Version;
use crate::plan::Plan;
use crate::step::Step;
use crate::supervise::{Other, Watch};
use crate::sys;
use crate::sys::clone::CloneFlags;
use crate::sys::signals::Signals;
use crate::usage::Usage;

/// A command that has started.
#[allow(missing_debug_implementations)] // signal sets say nothing to a reader
pub struct Running {
    /// The command.
    pub pid: Pid,
    /// Its groups.
    pub groups: Groups,
    /// Where signals come in.
    pub signals: Signals,
    /// What else is watched.
    pub watch: Watch,
    /// Descriptors that other parts of the program want watched.
    pub others: Vec<Other>,
    /// When the command was started.
    pub started: Instant,
    /// Where the init of a pid namespace, which `pid` is then, tells of the command.
    pub news: Option<News>,
    /// What is let go of in the end.
    pub held: Held,
    /// The same, as a time of day.
    pub started_at: SystemTime,
    /// Limits that the kernel refused and that were waived.
    pub waived: Vec<String>,
    /// What the counters said before: in a shared group others have used something.
    pub baseline: Option<Usage>,
}

/// Takes the resources and starts the command.
///
/// # Errors
/// Whatever kept the command from running; nothing is left then.
pub fn start(plan: &mut Plan, signals: Signals) -> Result<Running, Error> {
    let mut waived = std::mem::take(&mut plan.waived);
    let mut taken = std::collections::BTreeSet::new();
    let mut groups = loop {
        match Groups::acquire(&plan.groups, plan.best_effort, &mut waived) {
            Err(error) if error.errno == Some(Errno::EEXIST) && plan.renumber(&mut taken) => {}
            result => break result?,
        }
    };
    for one in &waived {
        crate::say(&format!("rcon: going on without {one}"));
    }
    let watch = Watch::prepare(plan, &groups)?;
    if watch.fds().next().is_some() {
        signals.open().map_err(no_messages)?;
    }
    let baseline = (plan.receipt.counts() && groups.shared()).then(|| Usage::read(&groups, &plan.counting));
    let (started, started_at) = (Instant::now(), SystemTime::now());
    let pid = match launch(plan, &groups, &signals, true) {
        // No CLONE_INTO_CGROUP in this kernel, or not across this delegation: the child joins by itself.
        Err(Failure::Clone(
            Errno::ENOSYS | Errno::EPERM | Errno::E2BIG | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EACCES,
        )) if groups.born_in().is_some() => {
            groups
                .open_v2_entry()
                .map_err(|e| Error::new("cannot open cgroup.procs of the group").errno(e))?;
            let joins = (0..plan.groups.len())
                .filter(|i| plan.groups.get(*i).is_some_and(|g| g.version == Version::V2))
                .map(Step::Join);
            plan.steps.splice(0..0, joins);
            launch(plan, &groups, &signals, false)
        }
        other => other,
    };
    let (pid, Delivered { news, others, held }) = pid.map_err(|failure| failure.words(plan))?;
    groups.keep();
    Ok(Running { pid, groups, signals, watch, others, started, started_at, waived, baseline, news, held })
}

/// Becomes the command in this process: no child, no supervisor. Comes back only with what kept it from that.
pub fn become_command(plan: &Plan) -> Error {
    let argv = plan.exec().map_or(&[][..], |exec| &exec.argv);
    let nowhere = Cell::new(None);
    let tools = cage::child::Tools::default();
    let kit = Kit {
        steps: &plan.steps,
        entries: &[],
        signals: None,
        job: 0,
        argv: sys::Vector::of(argv),
        envp: environment(plan),
        cage: &tools,
        report: Report::Memory(&nowhere),
    };
    let (step, errno) = child::walk(&kit);
    Failure::Step(step, errno).words(plan)
}

fn environment(plan: &Plan) -> sys::Vector<'_> {
    match &plan.environment {
        None => sys::Vector::inherited_environment(),
        Some(env) if plan.steps.contains(&Step::PutPid) => {
            let own = guardian::front();
            sys::Vector::with_pid(env, |entry| crate::notify::names_pid(entry, own))
        }
        Some(env) => sys::Vector::of(env),
    }
}

fn no_messages(errno: Errno) -> Error {
    Error::new("cannot take signals as messages").errno(errno)
}

enum Failure {
    Pipe(Errno),
    Clone(Errno),
    Step(usize, Errno),
    Said(Error),
}

fn launch(
    plan: &Plan,
    groups: &Groups,
    signals: &Signals,
    born_inside: bool,
) -> Result<(Pid, Delivered), Failure> {
    let midwife = Midwife::prepare(&plan.birth).map_err(Failure::Said)?;
    if midwife.watches() {
        signals.open().map_err(|errno| Failure::Said(no_messages(errno)))?;
    }
    let entries = groups.entries();
    let born_in = if born_inside { groups.born_in() } else { None };
    let namespaces = plan.birth.new.at_birth();
    let flags =
        CloneFlags { borrow_memory: namespaces == 0 && plan.steps.iter().all(Step::is_quick), namespaces };
    if flags.borrow_memory && sys::clone::CAN_BORROW {
        let failure = Cell::new(None);
        let kit = kit(plan, &entries, signals, &midwife.tools, Report::Memory(&failure));
        let pid = sys::clone::spawn(flags, born_in, || child::run(&kit)).map_err(Failure::Clone)?;
        // It has executed the command or left by now.
        return match failure.get() {
            None => Ok((pid, midwife.deliver(pid))),
            Some((step, errno)) => Err(failed(pid, step, errno)),
        };
    }
    launch_apart(plan, &entries, signals, midwife, flags, born_in)
}

/// Namespaces of later steps that the child may be born in: whoever joins others makes them there.
fn early(plan: &Plan) -> u64 {
    let sets_clocks = |step: &Step| matches!(step, Step::Cage(CageStep::NewTime(Some(_))));
    match plan.birth.joins.is_empty() {
        true => plan.birth.new.early(!plan.groups.is_empty(), plan.steps.iter().any(sets_clocks)),
        false => 0,
    }
}

fn kit<'a>(
    plan: &'a Plan,
    entries: &'a [i32],
    signals: &Signals,
    cage: &'a Tools,
    report: Report<'a>,
) -> Kit<'a> {
    Kit {
        steps: &plan.steps,
        entries,
        signals: Some(signals.inherited()),
        // In another pid namespace the caller's process group has no number.
        job: if plan.birth.is_in_other_pid() { 0 } else { guardian::job().as_raw() },
        argv: sys::Vector::of(plan.exec().map_or(&[][..], |exec| &exec.argv)),
        envp: environment(plan),
        cage,
        report,
    }
}

/// The child with memory of its own, which tells through a pipe.
#[inline(never)]
fn launch_apart(
    plan: &Plan,
    entries: &[i32],
    signals: &Signals,
    mut midwife: Midwife,
    flags: CloneFlags,
    born_in: Option<BorrowedFd>,
) -> Result<(Pid, Delivered), Failure> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(Failure::Pipe)?;
    midwife.tools.report.set((reader.as_raw_fd(), writer.as_raw_fd()));
    let pid = {
        let kit = kit(plan, entries, signals, &midwife.tools, Report::Pipe(writer.as_raw_fd()));
        let with = |early| {
            midwife.tools.born_in.set(early);
            let flags = CloneFlags { namespaces: flags.namespaces | early, ..flags };
            sys::clone::spawn(flags, born_in, || child::run(&kit))
        };
        let birth = || match early(plan) {
            0 => with(0),
            // Where that cannot be, the steps are taken, and say why if they cannot be either.
            early => with(early).or_else(|_| with(0)),
        };
        let born = || if plan.birth.is_in_other_pid() { guardian::in_job(birth) } else { birth() };
        midwife.where_it_is_born(&plan.birth, born).map_err(Failure::Said)?.map_err(Failure::Clone)?
    };
    drop(writer);
    if let Err(error) = midwife.wake(&plan.birth, pid) {
        // It waits for its maps, which will not come: it leaves when the pipe has closed.
        drop(midwife);
        reap(pid);
        return Err(Failure::Said(error));
    }
    let mut message = [0_u8; 8];
    loop {
        match nix::unistd::read(reader.as_fd(), &mut message) {
            Ok(8) => break,
            // Closed by exec: the command runs.
            Ok(_) => return Ok((pid, midwife.deliver(pid))),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::Pipe(errno)),
        }
    }
    let [a, b, c, d, e, f, g, h] = message;
    let step = u32::from_ne_bytes([a, b, c, d]) as usize;
    Err(failed(pid, step, Errno::from_raw(i32::from_ne_bytes([e, f, g, h]))))
}

fn failed(pid: Pid, step: usize, errno: Errno) -> Failure {
    reap(pid);
    Failure::Step(step, errno)
}

/// The child has left, or is about to; ECHILD could only mean that it is reaped already.
fn reap(pid: Pid) {
    if let Err(errno) = waitpid(pid, None) {
        debug_assert_eq!(errno, Errno::ECHILD);
    }
}

impl Failure {
    fn words(self, plan: &Plan) -> Error {
        let new = plan.birth.new;
        match self {
            Self::Said(error) => error,
            Self::Clone(errno) if !new.is_empty() && !matches!(errno, Errno::EAGAIN | Errno::EBUSY) => {
                cage::trouble::of_birth(new, errno)
            }
            Self::Pipe(errno) => Error::new("cannot make a pipe to the child").errno(errno),
            Self::Clone(errno) => {
                let error = Error::new("cannot create a process").errno(errno);
                match errno {
                    Errno::EAGAIN => error.try_this("a limit on processes is reached: ulimit -u, or pids.max of an enclosing group"),
                    Errno::EBUSY => error.try_this("the group passes controllers on and may hold no process: choose another --cgroup-parent"),
                    _ => error,
                }
            }
            Self::Step(number, errno) => match plan.steps.get(number) {
                Some(Step::Exec(_)) => exec_error(plan, errno),
                Some(Step::Cage(step)) => cage::trouble::of_step(step, new, errno),
                Some(step) => {
                    let error =
                        Error::new(format!("the child failed to {}", crate::explain::step(step, plan)));
                    let error = if errno == Errno::EBADE { error } else { error.errno(errno) };
                    error.try_if(crate::privileges::hint(step, errno))
                }
                None => Error::new("the child failed at no known step").errno(errno),
            },
        }
    }
}

/// What kept the command from being executed, from the child's own errno.
fn exec_error(plan: &Plan, errno: Errno) -> Error {
    let name = plan.command_name();
    let class =
        if matches!(errno, Errno::ENOENT | Errno::ENOTDIR) { Class::NotFound } else { Class::NotExecutable };
    let error = Error::new(format!("cannot execute {name:?}")).errno(errno).class(class);
    if let (Errno::ENOENT, Some(root)) = (errno, &plan.birth.root) {
        // What is there on the host tells nothing of the command's root.
        let root = printable(root.as_os_str().as_bytes());
        let place = if plan.searches_path() { "in PATH, " } else { "" };
        return Error::new(format!("{name:?} was not found {place}in the root {root}"))
            .class(class)
            .try_this("where it is there: what it needs to start is not (a script's interpreter, or the program's loader and libraries)");
    }
    let candidates = plan.exec().map_or(&[][..], |exec| &exec.candidates);
    // One of them is there: then it is not the file that was not found.
    let there = candidates
        .iter()
        .map(|path| std::path::Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())))
        .find(|path| path.exists())
        .map(|path| printable(path.as_os_str().as_bytes()));
    match (errno, there) {
        (Errno::ENOENT, None) if plan.searches_path() => {
            let error = Error::new(format!("{name:?} was not found in PATH")).class(class);
            match std::path::Path::new(&name).exists() {
                true => error.try_this(format!("name it by its path: ./{name}")),
                false => error,
            }
        }
        (Errno::ENOENT, Some(file)) => {
            error.try_this(format!("the interpreter that {file} names is not there (head -n 1 {file})"))
        }
        (Errno::ENOEXEC, _) => {
            error.try_this(format!("it has no #! line: name its interpreter (rcon ... -- sh {name})"))
        }
        (Errno::EACCES, file) => {
            let file = file.unwrap_or(name);
            error.try_this(format!("it is no executable file: ls -ld {file}; chmod +x makes one"))
        }
        _ => error,
    }
}
