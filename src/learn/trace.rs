//! A tracing instance of our own in tracefs: its buffer, filter and events are ours alone, nobody else's tracing
//! is touched. It goes when we go; if we are killed, the front of the run sweeps it away.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::observed::{Observed, own_pid};
use crate::error::Error;
use crate::sys;

/// All our instances are called so: our number follows.
const PREFIX: &str = "rcon-learn-";

/// Kilobytes of buffer for each CPU; it is drained when half full.
const BUFFER: &str = "4096";

/// Where the kernel tells of capability checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// `capability:cap_capable`, since Linux 6.14.
    Tracepoint,
    /// Two kprobes on the function, with this number in the name of their group.
    Probes(u32),
}

/// A running instance.
#[derive(Debug)]
pub(super) struct Instance {
    tracefs: OwnedFd,
    dir: OwnedFd,
    name: String,
    source: Source,
    pipe: Option<File>,
    marker: Option<OwnedFd>,
}

fn open_locked(tracefs: &OwnedFd, name: &str) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let dir =
        openat(tracefs, name, flags, Mode::empty()).map_err(failed("cannot open the tracing instance"))?;
    // Held as long as we live: whoever sweeps sees that it is in use.
    sys::try_lock(dir.as_fd(), true).map_err(failed("cannot lock the tracing instance"))?;
    Ok(dir)
}

fn failed(what: impl Into<String>) -> impl FnOnce(Errno) -> Error {
    let what = what.into();
    move |errno| {
        let error = Error::new(what).errno(errno).option("--learn");
        match errno {
            Errno::EPERM | Errno::EACCES => {
                error.try_this("root on the machine itself: the kernel's tracing is open to nobody else (nor under lockdown)")
            }
            Errno::ENODEV | Errno::ENOENT => {
                error.try_this("a kernel with CONFIG_FTRACE, and Linux 6.14 or CONFIG_KPROBE_EVENTS")
            }
            _ => error,
        }
    }
}

impl Instance {
    /// Makes it, recording nothing yet.
    ///
    /// # Errors
    /// The kernel has no tracing, or not for this caller.
    pub(super) fn new() -> Result<Self, Error> {
        let tracefs = tracefs().map_err(failed("cannot have the kernel's tracing file system"))?;
        sweep(tracefs.as_fd(), false);
        let number = std::process::id();
        let name = format!("instances/{PREFIX}{number}-{:x}", sys::monotonic_ns());
        mkdirat(&tracefs, name.as_str(), Mode::from_bits_truncate(0o700))
            .map_err(failed("cannot make a tracing instance"))?;
        let dir = match open_locked(&tracefs, &name) {
            Ok(dir) => dir,
            Err(error) => {
                remove(tracefs.as_fd(), &name, None);
                return Err(error);
            }
        };
        // From here on Drop removes it.
        let source = Source::Tracepoint;
        let mut instance = Self { tracefs, dir, name, source, pipe: None, marker: None };
        instance.source = instance.choose(number)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        instance.marker = Some(
            openat(&instance.dir, "trace_marker", flags, Mode::empty())
                .map_err(failed("cannot open the tracing instance's marker"))?,
        );
        instance
            .set_up()
            .map_err(|(file, errno)| failed(format!("cannot write {file} of the tracing instance"))(errno))?;
        instance.pipe =
            Some(instance.read("trace_pipe").map_err(failed("cannot read the tracing instance"))?);
        Ok(instance)
    }

    /// What the kernel offers.
    fn choose(&self, number: u32) -> Result<Source, Error> {
        if nix::sys::stat::fstatat(&self.dir, "events/capability/cap_capable", nix::fcntl::AtFlags::empty())
            .is_ok()
        {
            return Ok(Source::Tracepoint);
        }
        // $argN: the function's arguments by the calling convention (kprobetrace.rst).
        let probes = format!(
            "p:rcon_{number}/ask cap_capable cred=$arg1:x64 ns=$arg2:x64 cap=$arg3:s32 opts=$arg4:x32\n\
             r:rcon_{number}/answer cap_capable ret=$retval:s32\n"
        );
        for probe in probes.lines() {
            append(self.tracefs.as_fd(), "kprobe_events", probe).map_err(|errno| {
                drop_probes(self.tracefs.as_fd(), number);
                failed("this kernel has no tracepoint of capability checks, and cannot probe the function")(
                    errno,
                )
            })?;
        }
        Ok(Source::Probes(number))
    }

    /// Filter and events. The tasks that we start are followed, we ourselves are not.
    fn set_up(&self) -> Result<(), (&'static str, Errno)> {
        let write = |file: &'static str, text: &str| self.write(file, text).map_err(|errno| (file, errno));
        write("buffer_size_kb", BUFFER)?;
        write("options/event-fork", "1")?;
        write("options/stacktrace", "1")?;
        // In a pid namespace the kernel's number for us is not ours.
        let mark = format!("rcon: who is {}", self.name);
        sys::write_number(self.marker(), mark.as_bytes()).map_err(|errno| ("trace_marker", errno))?;
        let text = self.text("trace").map_err(|errno| ("trace", errno))?;
        let own = own_pid(&text, &mark).ok_or(("trace", Errno::ESRCH))?;
        write("trace", "")?;
        write("set_event_pid", &own.to_string())?;
        let filter = format!("common_pid != {own}");
        // Who a task is at that moment: the name in front of an event is that of a later one. Their text holds
        // names of 15 bytes at most.
        for event in ["task_newtask", "task_rename"] {
            let file = |end: &str| format!("events/task/{event}/{end}");
            let write =
                |file: &str, text: &str| self.write(file, text).map_err(|errno| ("the tasks' events", errno));
            write(&file("filter"), &filter)?;
            write(&file("enable"), "1")?;
        }
        match self.source {
            Source::Tracepoint => {
                write("events/capability/cap_capable/filter", &filter)?;
                write("events/capability/cap_capable/enable", "1")
            }
            Source::Probes(number) => {
                for event in ["ask", "answer"] {
                    let file = |end: &str| format!("events/rcon_{number}/{event}/{end}");
                    let write = |file: &str, text: &str| {
                        self.write(file, text).map_err(|errno| ("the probes' events", errno))
                    };
                    write(&file("filter"), &filter)?;
                    write(&file("enable"), "1")?;
                }
                Ok(())
            }
        }
    }

    /// The descriptor that the child marks its beginning through.
    pub(super) fn marker(&self) -> i32 {
        self.marker.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// A descriptor of its own that becomes readable when the buffer fills.
    pub(super) fn pipe(&self) -> Result<OwnedFd, Errno> {
        match &self.pipe {
            Some(pipe) => nix::unistd::dup(pipe),
            None => Err(Errno::EBADF),
        }
    }

    /// Reads all that is there.
    pub(super) fn end(mut self, observed: &mut Observed, rest: &mut Vec<u8>) -> Result<(), Error> {
        self.write("tracing_on", "0").map_err(failed("cannot stop the tracing instance"))?;
        if let Some(pipe) = &self.pipe {
            drain(pipe.as_fd(), observed, rest);
        }
        observed.end();
        self.close_files();
        Ok(())
    }

    fn close_files(&mut self) {
        self.pipe = None;
        self.marker = None;
    }

    fn remove(&self) {
        let probes = match self.source {
            Source::Probes(number) => Some(number),
            Source::Tracepoint => None,
        };
        remove(self.tracefs.as_fd(), &self.name, probes);
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Errno> {
        write(self.dir.as_fd(), file, text, OFlag::O_TRUNC)
    }

    fn read(&self, file: &str) -> Result<File, Errno> {
        openat(&self.dir, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())
            .map(File::from)
    }

    fn text(&self, file: &str) -> Result<String, Errno> {
        let mut bytes = Vec::new();
        self.read(file)?
            .read_to_end(&mut bytes)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.close_files();
        self.remove();
    }
}

/// Reads what is in the pipe, up to the last whole line; the rest stays for the next time.
pub(super) fn drain(pipe: BorrowedFd, observed: &mut Observed, rest: &mut Vec<u8>) {
    let mut buffer = [0_u8; 16384];
    loop {
        match nix::unistd::read(pipe, &mut buffer) {
            Ok(0) | Err(Errno::EAGAIN) => return,
            Ok(length) => {
                rest.extend_from_slice(buffer.get(..length).unwrap_or_default());
                if let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') {
                    let lines: Vec<u8> = rest.drain(..=end).collect();
                    String::from_utf8_lossy(&lines).lines().for_each(|line| observed.line(line));
                }
            }
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// tracefs as a mount of ours that is attached nowhere: it is the same file system whether the machine has it
/// mounted or not, and no mount table changes.
fn tracefs() -> Result<OwnedFd, Errno> {
    let context = sys::mount::fs_open(c"tracefs")?;
    let mounted = sys::mount::fs_mount(context, 0);
    sys::mount::close(context);
    mounted.map(sys::own)
}

fn write(dir: BorrowedFd, file: &str, text: &str, flag: OFlag) -> Result<(), Errno> {
    let fd = openat(dir, file, OFlag::O_WRONLY | OFlag::O_CLOEXEC | flag, Mode::empty())?;
    if text.is_empty() {
        return Ok(());
    }
    File::from(fd)
        .write_all(text.as_bytes())
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// Never with O_TRUNC, which would take away everybody's probes.
fn append(dir: BorrowedFd, file: &str, text: &str) -> Result<(), Errno> {
    write(dir, file, text, OFlag::O_APPEND)
}

fn drop_probes(tracefs: BorrowedFd, number: u32) {
    for event in ["ask", "answer"] {
        // One that is not there is as good as removed.
        append(tracefs, "kprobe_events", &format!("-:rcon_{number}/{event}")).ok();
    }
}

fn remove(tracefs: BorrowedFd, name: &str, probes: Option<u32>) {
    // The kernel lets go of the buffers of a reader that has just left a moment later: EBUSY.
    for pause in [0, 1, 10, 100, 1000] {
        std::thread::sleep(std::time::Duration::from_millis(pause));
        match unlinkat(tracefs, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => break,
            Err(_) => {}
        }
    }
    if let Some(number) = probes {
        drop_probes(tracefs, number);
    }
}

/// [`sweep`] of a machine where nothing else has to be done; what cannot be looked at, cannot have been made.
pub(super) fn sweep_all(dry: bool) -> Vec<String> {
    tracefs().map_or_else(|_| Vec::new(), |tracefs| sweep(tracefs.as_fd(), dry))
}

/// Removes instances whose owner was killed: nobody holds the lock on them.
fn sweep(tracefs: BorrowedFd, dry: bool) -> Vec<String> {
    let mut found = Vec::new();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let Ok(instances) = openat(tracefs, "instances", flags, Mode::empty()) else { return found };
    for name in crate::cgroup::children(instances.as_fd()) {
        let Some((number, name)) = name.to_str().and_then(|name| {
            let number = name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()?;
            Some((number, name))
        }) else {
            continue;
        };
        let unused = openat(&instances, name, flags, Mode::empty())
            .is_ok_and(|dir| sys::try_lock(dir.as_fd(), true).is_ok());
        if unused {
            if !dry {
                remove(tracefs, &format!("instances/{name}"), Some(number));
            }
            found.push(name.to_owned());
        }
    }
    found
}
