//! `rcon kill`: a signal to every process of a run, in such a way that none escapes by forking.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::freeze::Frozen;
use crate::cgroup::{kill_tree, remove_tree};
use crate::error::Error;
use crate::receipt::SignalNumber;
use crate::runs::{self, Run, Watched, process, until_released};

/// How long the end is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn command() -> Command {
    Command::new("kill")
        .about("End runs: SIGKILL, or another signal, to all processes of each")
        .arg(super::names())
        .arg(
            Arg::new("signal")
                .long("signal")
                .short('s')
                .value_name("SIGNAL")
                .value_parser(signal)
                .help("Send this one (a name such as TERM, or a number) and do not wait for the end"),
        )
}

fn signal(text: &str) -> Result<i32, String> {
    text.parse().map(|SignalNumber(number)| number)
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    let signal = matches.get_one::<i32>("signal").copied();
    Ok(super::for_each(matches, |run| match signal {
        None | Some(libc::SIGKILL) => end(run),
        Some(signal) => send(run, signal),
    }))
}

/// Kills all, and waits until the run is gone; a run that nobody owns is removed too.
fn end(run: &Run) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        let mut all = true;
        for dir in &run.dirs {
            match dir.open() {
                Ok(fd) => all &= kill_tree(fd.as_fd(), dir.version, None),
                // Gone already.
                Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(errno) => {
                    return Err(Error::new(format!("cannot open {}", dir.path.display())).errno(errno));
                }
            }
        }
        let until = deadline.min(Instant::now() + pause);
        if until_released(run, Some(until)) == Watched::Ended {
            break;
        }
        if !all {
            return Err(Error::new(format!("some processes of {} are not ours to signal", run.shown()))
                .errno(Errno::EPERM)
                .try_this("as root, or as the user whose processes they are"));
        }
        if Instant::now() >= deadline {
            return Err(Error::new(format!("{} does not die", run.shown())).try_this(
                "rcon show tells which process; one in state D waits for a device or a file server",
            ));
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    for dir in &run.dirs {
        // Its owner, where there is one, is removing it: whoever comes first.
        if let (Ok(fd), Some(parent), Some(name)) = (dir.open(), dir.path.parent(), dir.path.file_name())
            && crate::sys::try_lock(fd.as_fd(), true).is_ok()
            && let Ok(parent) = crate::cgroup::open_dir(parent)
        {
            remove_tree(parent.as_fd(), name);
        }
    }
    Ok(())
}

/// Sends the signal once to each process. Frozen meanwhile where that can be done, so that no process forks
/// unseen; elsewhere the list is read until it brings nobody new.
fn send(run: &Run, signal: i32) -> Result<(), Error> {
    let _frozen = Frozen::hold(run);
    let mut seen: BTreeSet<(i32, u64)> = BTreeSet::new();
    let mut refused = None;
    for _ in 0..1000 {
        let mut news = false;
        for pid in processes(run) {
            let Some(stat) = process::stat(pid) else { continue };
            if seen.insert((pid.as_raw(), stat.started)) {
                news = true;
                match process::signal(pid, stat.started, signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => refused = Some((pid, errno)),
                }
            }
        }
        if !news {
            break;
        }
    }
    match refused {
        _ if seen.is_empty() => Err(Error::new(format!("no process is in {}", run.shown()))),
        Some((pid, errno)) => Err(Error::new(format!("cannot signal process {pid}")).errno(errno)),
        None => Ok(()),
    }
}

/// The processes that are in the run now.
fn processes(run: &Run) -> BTreeSet<Pid> {
    runs::processes_now(run)
}
