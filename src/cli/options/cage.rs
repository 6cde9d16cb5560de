//! Options of the cage.

use std::ffi::{CString, OsStr};
use std::path::PathBuf;

use super::{Apply, Opt, Takes};
use crate::cage::copies;
use crate::cage::mounts::{self, Wanted, Wish};
use crate::cage::step::Access;
use crate::cage::{self, Asked, idmap, namespaces, process};
use crate::cli::{Args, text};
use crate::error::printable;

const CAGE: Option<&str> = Some("Cage");
const MOUNTS: Option<&str> = Some("Mounts (in the order given)");
const PROCESS: Option<&str> = Some("Process");

/// A row: name, what it takes, heading, help, and what it does.
const fn row(
    name: &'static str,
    takes: Takes,
    heading: Option<&'static str>,
    help: &'static str,
    set: fn(&mut Args, &OsStr) -> Result<(), String>,
) -> Opt {
    Opt { name, short: None, takes, heading, help, apply: Apply::Set(set) }
}

fn spelled(name: &str, value: &OsStr) -> String {
    format!("--{name} {}", printable(value.as_encoded_bytes()))
}

fn mount(asked: &mut Asked, option: String, what: Wanted) -> Result<(), String> {
    asked.mounts.push(Wish { option, what });
    Ok(())
}

fn setting(asked: &mut Asked, setting: process::Setting) -> Result<(), String> {
    asked.settings.retain(|old| !setting.replaces(old));
    asked.settings.push(setting);
    Ok(())
}

fn number<T: std::str::FromStr>(value: &OsStr) -> Result<T, String> {
    text(value)?.parse().map_err(|_| "give a number".to_owned())
}

fn all_absolute(files: &[PathBuf]) -> Result<(), String> {
    if files.iter().all(|path| path.is_absolute()) { Ok(()) } else { Err("give absolute paths".to_owned()) }
}

/// Seconds, or a duration with units; negative ones go back.
fn offset(value: &OsStr) -> Result<i64, String> {
    const EXAMPLE: &str = "give seconds or a time such as 7days, -1h";
    let word = text(value)?;
    let (sign, size) = word.strip_prefix('-').map_or((1, word), |rest| (-1, rest));
    let seconds = match size.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => humantime::parse_duration(size).map_err(|_| EXAMPLE.to_owned())?.as_secs(),
    };
    i64::try_from(seconds).map(|seconds| sign * seconds).map_err(|_| EXAMPLE.to_owned())
}

pub(super) static ROWS: &[Opt] = &[
    row(
        "root",
        Takes::Value("DIR"),
        CAGE,
        "Make DIR the command's root directory; it sees nothing else",
        |args, value| {
            text(value)?;
            args.cage.root = Some(PathBuf::from(value));
            Ok(())
        },
    ),
    row(
        "unshare",
        Takes::Value("LIST"),
        CAGE,
        "New namespaces: mount,pid,net,ipc,uts,user,cgroup,time or all",
        |args, value| args.cage.unshare.add_list(text(value)?),
    ),
    row(
        "join",
        Takes::Value("KIND=PATH|PID"),
        CAGE,
        "Enter an existing namespace: net=/run/netns/blue, pid=1234",
        |args, value| {
            args.cage.joins.push(namespaces::join(text(value)?)?);
            Ok(())
        },
    ),
    row("hostname", Takes::Value("NAME"), CAGE, "A host name of its own", |args, value| {
        let name = text(value)?;
        if name.len() > 64 {
            return Err("the kernel takes up to 64 bytes".to_owned());
        }
        args.cage.hostname = Some(CString::new(name).map_err(|e| e.to_string())?);
        Ok(())
    }),
    row("map-root", Takes::Nothing, CAGE, "User namespace in which the caller is root", |args, _| {
        args.cage.map.root = true;
        Ok(())
    }),
    row(
        "map-user",
        Takes::Value("UID"),
        None,
        "User namespace in which the caller is this user",
        |args, value| {
            args.cage.map.user = Some(number(value)?);
            Ok(())
        },
    ),
    row(
        "map-group",
        Takes::Value("GID"),
        None,
        "User namespace in which the caller's group is this one",
        |args, value| {
            args.cage.map.group = Some(number(value)?);
            Ok(())
        },
    ),
    row(
        "map-users",
        Takes::Value("IN:OUT:COUNT"),
        CAGE,
        "Map a range of users (and groups) into the user namespace",
        |args, value| {
            args.cage.map.users.push(idmap::range(text(value)?)?);
            Ok(())
        },
    ),
    row(
        "map-groups",
        Takes::Value("IN:OUT:COUNT"),
        None,
        "Map a range of groups, where it differs from --map-users",
        |args, value| {
            args.cage.map.groups.push(idmap::range(text(value)?)?);
            Ok(())
        },
    ),
    row(
        "boottime-offset",
        Takes::Value("TIME"),
        None,
        "Time namespace whose boot time is shifted: 7days, -1h",
        |args, value| {
            args.cage.boottime = Some(offset(value)?);
            Ok(())
        },
    ),
    row(
        "monotonic-offset",
        Takes::Value("TIME"),
        None,
        "Time namespace whose monotonic clock is shifted",
        |args, value| {
            args.cage.monotonic = Some(offset(value)?);
            Ok(())
        },
    ),
    row(
        "as-init",
        Takes::Nothing,
        None,
        "The command is pid 1 itself, with no init that reaps for it",
        |args, _| {
            args.cage.as_init = true;
            Ok(())
        },
    ),
    row(
        "chroot-only",
        Takes::Nothing,
        None,
        "With --root: chroot without any namespace (root can leave it)",
        |args, _| {
            args.cage.chroot_only = true;
            Ok(())
        },
    ),
    row(
        "ephemeral",
        Takes::Optional("DIR"),
        CAGE,
        "With --root: throw every write away afterwards; it lies in memory, or below DIR",
        |args, value| {
            args.cage.ephemeral = true;
            args.cage.ephemeral_in = (!value.is_empty()).then(|| PathBuf::from(value));
            Ok(())
        },
    ),
    row(
        "keep-changes",
        Takes::Value("DIR"),
        CAGE,
        "With --ephemeral: keep the changes in DIR, an upper layer (DIR.work is used too)",
        |args, value| {
            text(value)?;
            args.cage.keep_changes = Some(PathBuf::from(value));
            Ok(())
        },
    ),
    row(
        "image-config",
        Takes::Nothing,
        CAGE,
        "With --root: command, variables, user, directory as the image unpacked there has them",
        |args, _| {
            args.cage.image_config = true;
            Ok(())
        },
    ),
    row("read-only", Takes::Nothing, CAGE, "The root is read-only, but for the mounts below", |args, _| {
        args.cage.read_only = true;
        Ok(())
    }),
    row(
        "keep-fd",
        Takes::Value("N"),
        None,
        "With --root: leave this descriptor open for the command",
        |args, value| {
            args.cage.keep.push(number(value)?);
            Ok(())
        },
    ),
    row(
        "bind",
        Takes::Value("SRC[:DST]"),
        MOUNTS,
        "Show a file or directory of the host in the cage",
        |args, value| mount(&mut args.cage, spelled("bind", value), mounts::bind(value, Access::AsIs)?),
    ),
    row(
        "ro-bind",
        Takes::Value("SRC[:DST]"),
        MOUNTS,
        "The same, read-only with all mounts below it",
        |args, value| {
            mount(&mut args.cage, spelled("ro-bind", value), mounts::bind(value, Access::ReadOnly)?)
        },
    ),
    row(
        "rw",
        Takes::Value("PATH"),
        MOUNTS,
        "The same path as on the host, writable as there",
        |args, value| cage::at_itself(&mut args.cage, value, Access::AsIs, spelled("rw", value)),
    ),
    row(
        "ro",
        Takes::Value("PATH"),
        MOUNTS,
        "The same path as on the host, read-only; / is --read-only",
        |args, value| cage::at_itself(&mut args.cage, value, Access::ReadOnly, spelled("ro", value)),
    ),
    row(
        "tmpfs",
        Takes::Value("DST[:SIZE]"),
        MOUNTS,
        "An empty directory in memory, gone afterwards",
        |args, value| mount(&mut args.cage, spelled("tmpfs", value), mounts::tmpfs(value)?),
    ),
    row(
        "overlay",
        Takes::Value("LOWER[:LOWER...]:DST"),
        MOUNTS,
        "Directories over each other, topmost first; see --upper",
        |args, value| mount(&mut args.cage, spelled("overlay", value), mounts::overlay(value)?),
    ),
    row(
        "upper",
        Takes::Value("DIR"),
        MOUNTS,
        "Where writes to the --overlay before it go (DIR.work is used too)",
        |args, value| {
            text(value)?;
            match args.cage.mounts.last_mut().map(|wish| &mut wish.what) {
                Some(Wanted::Overlay { upper, .. }) => {
                    *upper = Some(PathBuf::from(value));
                    Ok(())
                }
                _ => Err("it belongs right behind an --overlay".to_owned()),
            }
        },
    ),
    row(
        "copy-files",
        Takes::Optional("LIST"),
        MOUNTS,
        "Show resolv.conf, hosts, passwd, group (or a list) of the host, read-only; =write copies",
        |args, value| {
            let usual = || copies::USUAL.map(PathBuf::from).to_vec();
            let list: Vec<&str> = value.to_str().ok_or("the value is not UTF-8")?.split(',').collect();
            if list.first() == Some(&"write") {
                let named: Vec<PathBuf> = list.iter().skip(1).map(PathBuf::from).collect();
                args.cage.copies.extend(if named.is_empty() { usual() } else { named });
                return all_absolute(&args.cage.copies);
            }
            let (files, optional) = if value.is_empty() {
                (usual(), true)
            } else {
                (list.iter().map(PathBuf::from).collect(), false)
            };
            all_absolute(&files)?;
            for path in files {
                let option = format!("--copy-files {}", path.display());
                let what =
                    Wanted::Bind { source: path.clone(), target: path, access: Access::ReadOnly, optional };
                mount(&mut args.cage, option, what)?;
            }
            Ok(())
        },
    ),
    row("private-tmp", Takes::Nothing, MOUNTS, "Own /tmp and /var/tmp, gone afterwards", |args, _| {
        // Said twice it is where it was said last.
        args.cage.mounts.retain(|wish| wish.option != "--private-tmp");
        for place in ["/tmp", "/var/tmp"] {
            mount(&mut args.cage, "--private-tmp".to_owned(), Wanted::Tmpfs(place.into(), None))?;
        }
        Ok(())
    }),
    row(
        "proc",
        Takes::Optional("full"),
        MOUNTS,
        "/proc; =full: without the guard that --root puts on it",
        |args, value| match value.to_str() {
            Some("") => mount(&mut args.cage, "--proc".to_owned(), Wanted::Proc(false)),
            Some("full") => mount(&mut args.cage, "--proc=full".to_owned(), Wanted::Proc(true)),
            _ => Err("give nothing, or full".to_owned()),
        },
    ),
    row("sys", Takes::Value("ro"), MOUNTS, "/sys, read-only", |args, value| match value.to_str() {
        Some("ro") => mount(&mut args.cage, "--sys ro".to_owned(), Wanted::Sys),
        _ => Err("there is only --sys ro (--bind /sys is the writable one)".to_owned()),
    }),
    row("mask", Takes::Value("PATH"), MOUNTS, "Hide a file or directory", |args, value| {
        mount(&mut args.cage, spelled("mask", value), mounts::mask(value)?)
    }),
    row(
        "chdir",
        Takes::Value("DIR"),
        PROCESS,
        "Working directory (inside the root, if there is one)",
        |args, value| {
            text(value)?;
            args.cage.chdir = Some(PathBuf::from(value));
            Ok(())
        },
    ),
    row("umask", Takes::Value("MASK"), PROCESS, "File mode creation mask, octal", |args, value| {
        args.cage.umask = Some(cage::umask(text(value)?)?);
        Ok(())
    }),
    row(
        "rlimit",
        Takes::Value("NAME=SOFT[:HARD]"),
        PROCESS,
        "Resource limit of each process: nofile=1024:4096, core=unlimited",
        |args, value| setting(&mut args.cage, process::rlimit(text(value)?)?),
    ),
    row("nice", Takes::Value("N"), PROCESS, "Nice value, -20 (first in line) to 19", |args, value| {
        setting(&mut args.cage, process::nice(text(value)?)?)
    }),
    row(
        "ionice",
        Takes::Value("CLASS[:LEVEL]"),
        PROCESS,
        "I/O priority: idle, best-effort:0-7, realtime:0-7",
        |args, value| setting(&mut args.cage, process::ionice(text(value)?)?),
    ),
    row(
        "sched",
        Takes::Value("POLICY[:PRIO]"),
        PROCESS,
        "Scheduling policy: other, batch, idle, fifo:1-99, rr:1-99, deadline:RUNTIME:DEADLINE",
        |args, value| setting(&mut args.cage, process::sched(text(value)?)?),
    ),
    row(
        "oom-score-adj",
        Takes::Value("N"),
        PROCESS,
        "Out-of-memory killer: -1000 never takes it, 1000 takes it first",
        |args, value| setting(&mut args.cage, process::oom_score_adj(text(value)?)?),
    ),
];
