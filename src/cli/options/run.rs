//! Options of the run itself, and the original rcon's spellings.

use super::{Apply, Opt, PLACE, RUN, Takes};
use crate::cage::mounts::{Wanted, Wish};
use crate::cli::{Format, ask, text};
use crate::limits::limit;
use crate::runs::name;

pub(super) static ROWS: &[Opt] = &[
    Opt {
        name: "wait-all",
        short: None,
        takes: Takes::Nothing,
        heading: RUN,
        help: "Wait for all its processes, rather than end them when the command ends",
        apply: Apply::Set(|args, _| {
            args.wait_all = true;
            Ok(())
        }),
    },
    Opt {
        name: "best-effort",
        short: None,
        takes: Takes::Nothing,
        heading: RUN,
        help: "Warn about limits that cannot be applied, rather than refuse to start",
        apply: Apply::Set(|args, _| {
            args.best_effort = true;
            Ok(())
        }),
    },
    Opt {
        name: "explain",
        short: None,
        takes: Takes::Optional("FORMAT"),
        heading: RUN,
        help: "Print what would be done on this machine, and do nothing; =json for programs",
        apply: Apply::Set(|args, value| {
            args.explain = Some(match value.to_str() {
                Some("" | "text") => Format::Text,
                Some("json") => Format::Json,
                _ => return Err("give text or json".to_owned()),
            });
            Ok(())
        }),
    },
    Opt {
        name: "quiet",
        short: Some('q'),
        takes: Takes::Nothing,
        heading: RUN,
        help: "No message about out-of-memory kills",
        apply: Apply::Set(|args, _| {
            args.quiet = true;
            Ok(())
        }),
    },
    Opt {
        name: "group",
        short: None,
        takes: Takes::Value("NAME"),
        heading: PLACE,
        help: "Share one group, and so one budget, with other runs of this name",
        apply: Apply::Set(|args, value| {
            args.group = Some(name::shared(text(value)?)?);
            Ok(())
        }),
    },
    Opt {
        name: "cgroup-parent",
        short: None,
        takes: Takes::Value("PATH"),
        heading: PLACE,
        help: "Make the group below this one (a path as in /proc/PID/cgroup), not below the caller's",
        apply: Apply::Set(|args, value| {
            let path = std::path::Path::new(text(value)?);
            let plain = |part: std::path::Component| {
                matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir)
            };
            if !path.is_absolute() || !path.components().all(plain) {
                return Err("give the absolute path of a group, such as /batch, without '..'".to_owned());
            }
            args.cgroup_parent = Some(path.to_owned());
            Ok(())
        }),
    },
    Opt {
        name: "allow-escape",
        short: None,
        takes: Takes::Nothing,
        heading: PLACE,
        help: "Allow a place that the limits which the caller is under do not reach",
        apply: Apply::Set(|args, _| {
            args.allow_escape = true;
            Ok(())
        }),
    },
    // The original rcon's spellings.
    Opt {
        name: "memory",
        short: None,
        takes: Takes::Value("SIZE"),
        heading: None,
        help: "The same as --mem",
        apply: Apply::Set(|args, value| alias(args, "mem", value, "--memory")),
    },
    Opt {
        name: "read",
        short: None,
        takes: Takes::Value("RATE"),
        heading: None,
        help: "The same as --io-read, on the disk that --dev names",
        apply: Apply::Set(|args, value| alias(args, "io-read", value, "--read")),
    },
    Opt {
        name: "write",
        short: None,
        takes: Takes::Value("RATE"),
        heading: None,
        help: "The same as --io-write, on the disk that --dev names",
        apply: Apply::Set(|args, value| alias(args, "io-write", value, "--write")),
    },
    Opt {
        name: "dev",
        short: None,
        takes: Takes::Value("WHERE"),
        heading: Some("Mounts (in the order given)"),
        help: "With the word minimal: a /dev of null, zero, random, tty, pts, shm... (else: see the man page)",
        apply: Apply::Set(|args, value| {
            // The original's --dev names a disk; the cage's has one value only, which is no disk.
            if value == "minimal" {
                let option = "--dev minimal".to_owned();
                args.cage.mounts.push(Wish { option, what: Wanted::Dev });
                return Ok(());
            }
            args.dev = Some(text(value)?.to_owned());
            Ok(())
        }),
    },
    Opt {
        name: "command",
        short: None,
        takes: Takes::Value("LINE"),
        heading: None,
        help: "A line for sh -c, in place of a command",
        apply: Apply::Set(|args, value| {
            text(value)?;
            args.shell_line = Some(value.to_owned());
            Ok(())
        }),
    },
    Opt {
        name: "dry-run",
        short: None,
        takes: Takes::Nothing,
        heading: None,
        help: "The same as --explain",
        apply: Apply::Set(|args, _| {
            args.explain = Some(Format::Text);
            Ok(())
        }),
    },
];

fn alias(
    args: &mut crate::cli::Args,
    name: &str,
    value: &std::ffi::OsStr,
    spelled: &str,
) -> Result<(), String> {
    let word = text(value)?;
    let row = limit(name).ok_or_else(|| format!("no limit is called {name}"))?;
    ask(args, row, word, format!("{spelled} {}", crate::error::printable(word.as_bytes())))
}
