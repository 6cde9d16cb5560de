//! Running the programs that we need, with errors that say which and why.

use crate::Result;
use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// Runs it with its output kept; the output is in the error if it fails.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let out = command.stdin(Stdio::null()).output().map_err(|error| format!("{line}: {error}"))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(failure(&line, &out)),
    }
}

/// Runs it with its output shown.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let line = describe(command);
    let status = command.stdin(Stdio::null()).status().map_err(|error| format!("{line}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{line}: {status}")) }
}

pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Where a program is, as execvp(3) would find it, and in the administrator's directories.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let directories = path.split(':').chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"]);
    directories.map(|directory| PathBuf::from(directory).join(name)).find(|file| file.is_file())
}

fn failure(line: &str, out: &Output) -> String {
    let text = [&out.stdout[..], &out.stderr[..]].concat();
    format!("{line}: {}\n{}", out.status, String::from_utf8_lossy(&text).trim_end())
}
