//! `--show`: the privileges of a process, for people and for programs.

use nix::errno::Errno;
use serde_json::{Value, json};

use super::Show;
use crate::capabilities::{self, Mask, Sets, brief, securebit_names};
use crate::cli::Format;
use crate::error::Error;
use crate::sys::caps;

/// What `/proc/PID/status` tells, and what only the process itself can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Status {
    pid: u32,
    name: String,
    users: Vec<u32>,
    groups: Vec<u32>,
    supplementary: Vec<u32>,
    sets: Sets,
    no_new_privs: bool,
    /// The kernel shows them to the process itself alone.
    securebits: Option<u32>,
}

/// The text.
///
/// # Errors
/// No such process; `/proc` is not there.
#[inline(never)]
pub fn show(asked: Show) -> Result<String, Error> {
    let path = asked.pid.map_or_else(|| "/proc/self/status".to_owned(), |pid| format!("/proc/{pid}/status"));
    let text = std::fs::read(&path).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        match (asked.pid, errno) {
            (Some(pid), Errno::ENOENT | Errno::ESRCH) => {
                Error::new("there is no such process").option(format!("--pid {pid}"))
            }
            _ => Error::new(format!("cannot read {path}")).errno(errno).try_this("mount -t proc proc /proc"),
        }
    })?;
    let mut status = Status::parse(&String::from_utf8_lossy(&text));
    let (_, known) = caps::bounding();
    if asked.pid.is_none() || asked.pid == Some(std::process::id()) {
        status.securebits = caps::securebits().ok();
    }
    Ok(match asked.format {
        Some(Format::Json) => format!("{:#}\n", status.json(known)),
        _ => status.text(known),
    })
}

impl Status {
    /// proc_pid_status(5).
    fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            let mask = || Mask::from_str_radix(value, 16).unwrap_or_default();
            let numbers = || value.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            match key {
                "Name" => out.name = value.to_owned(),
                "Pid" => out.pid = value.parse().unwrap_or_default(),
                "Uid" => out.users = numbers(),
                "Gid" => out.groups = numbers(),
                "Groups" => out.supplementary = numbers(),
                "CapInh" => out.sets.inheritable = mask(),
                "CapPrm" => out.sets.permitted = mask(),
                "CapEff" => out.sets.effective = mask(),
                "CapBnd" => out.sets.bounding = mask(),
                "CapAmb" => out.sets.ambient = mask(),
                "NoNewPrivs" => out.no_new_privs = value == "1",
                _ => {}
            }
        }
        out
    }

    fn text(&self, known: Mask) -> String {
        let mut lines = Vec::new();
        if let (None, pid) = (self.securebits, self.pid) {
            lines.push(format!("{:<13}{pid} {}", "process", crate::error::printable(self.name.as_bytes())));
        }
        lines.extend([
            format!("{:<13}{}", "user", ids(&self.users)),
            format!("{:<13}{}", "group", ids(&self.groups)),
            format!("{:<13}{}", "groups", list(&self.supplementary)),
        ]);
        lines.extend(self.sets.rows().map(|(name, set)| format!("{name:<13}{}", brief(set, known))));
        let bits = self
            .securebits
            .map_or_else(|| "not shown by the kernel for another process".to_owned(), securebit_names);
        lines.push(format!("{:<13}{bits}", "securebits"));
        lines.push(format!("{:<13}{}", "no_new_privs", if self.no_new_privs { "yes" } else { "no" }));
        lines.push(String::new());
        lines.join("\n")
    }

    fn json(&self, known: Mask) -> Value {
        let bits = self.securebits.map(|bits| match bits {
            0 => Vec::new(),
            bits => securebit_names(bits).split(',').map(str::to_owned).collect::<Vec<_>>(),
        });
        json!({
            "schema_version": 1,
            "pid": self.pid,
            "name": self.name,
            "users": self.users,
            "groups": self.groups,
            "supplementary_groups": self.supplementary,
            "known": capabilities::numbers(known).map(capabilities::name).collect::<Vec<_>>(),
            "capabilities": capabilities::json(self.sets),
            "securebits": bits,
            "no_new_privs": self.no_new_privs,
        })
    }
}

/// Real, effective, saved and file system identity: once, where they are the same.
fn ids(all: &[u32]) -> String {
    match all {
        [first, rest @ ..] if rest.iter().all(|id| id == first) => first.to_string(),
        [real, effective, saved, file] => {
            format!("real {real}, effective {effective}, saved {saved}, for files {file}")
        }
        _ => "n/a".to_owned(),
    }
}

fn list(all: &[u32]) -> String {
    if all.is_empty() {
        return "none".to_owned();
    }
    all.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
