//! From what the user calls a run to the run.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::Pid;

use super::{PREFIX, Run, find};
use crate::error::{Error, printable};

/// The run that `word` means: its name, its path as in `/proc/PID/cgroup`, or the number of its wrapper or of a
/// process in it.
///
/// # Errors
/// There is none, or there are several.
pub fn one(word: &OsStr) -> Result<Run, Error> {
    let runs = matching(find()?, word);
    let shown = printable(word.as_bytes());
    match <[Run; 1]>::try_from(runs) {
        Ok([run]) => Ok(run),
        Err(runs) if runs.is_empty() => {
            let what = match number(word) {
                Some(pid) => format!("process {pid} belongs to no run"),
                None => format!("there is no run called {shown}"),
            };
            Err(Error::new(what).try_this("rcon ls lists all runs"))
        }
        Err(runs) => {
            let places: Vec<String> = runs
                .iter()
                .filter_map(|run| run.dirs.last())
                .map(|dir| printable(dir.place.as_os_str().as_bytes()))
                .collect();
            Err(Error::new(format!("{} runs are called {shown}", places.len()))
                .try_this(format!("name one by its place: {}", places.join(" or "))))
        }
    }
}

fn number(word: &OsStr) -> Option<Pid> {
    let text = word.to_str().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    text.parse().ok().map(Pid::from_raw)
}

/// All that `word` may mean.
#[must_use]
pub fn matching(runs: Vec<Run>, word: &OsStr) -> Vec<Run> {
    if let Some(pid) = number(word) {
        return by_number(runs, pid);
    }
    let bytes = word.as_bytes();
    if bytes.starts_with(b"/") {
        let path = Path::new(word);
        let is = |run: &Run| run.dirs.iter().any(|dir| dir.place == path || dir.path == path);
        return runs.into_iter().filter(is).collect();
    }
    let name = bytes.strip_prefix(PREFIX.as_bytes()).unwrap_or(bytes);
    let exact: Vec<Run> =
        runs.into_iter().filter(|run| run.name.as_bytes() == name || run.name.as_bytes() == bytes).collect();
    // One that nobody uses must not make the living one ambiguous.
    if exact.len() > 1 && exact.iter().any(|run| !run.is_stale()) {
        return exact.into_iter().filter(|run| !run.is_stale()).collect();
    }
    exact
}

/// A wrapper's number means its run; any other the innermost run that the process is in.
fn by_number(runs: Vec<Run>, pid: Pid) -> Vec<Run> {
    let (wrapped, others): (Vec<Run>, Vec<Run>) =
        runs.into_iter().partition(|run| run.wrappers.contains(&pid));
    if !wrapped.is_empty() {
        return wrapped;
    }
    let depth = |run: &Run| run.dirs.iter().map(|dir| dir.place.components().count()).max();
    others.into_iter().filter(|run| run.processes.contains(&pid)).max_by_key(depth).into_iter().collect()
}
