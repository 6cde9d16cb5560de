//! Options about the end of a run: when, what is told, which status.

use super::{Apply, Opt, Takes};
use crate::cli::text;
use crate::receipt::{Target, limit_of_time, record, status};

const TIME: Option<&str> = Some("Time and status");
const REPORT: Option<&str> = Some("Report");

pub(super) static ROWS: &[Opt] = &[
    Opt {
        name: "timeout",
        short: None,
        takes: Takes::Value("TIME"),
        heading: TIME,
        help: "End it after this time, such as 90s or 10m: status 124 (default: no limit)",
        apply: Apply::Set(|args, value| {
            args.receipt.timeout = Some(limit_of_time(value)?);
            Ok(())
        }),
    },
    Opt {
        name: "timeout-boottime",
        short: None,
        takes: Takes::Value("TIME"),
        heading: TIME,
        help: "The same, and time in which the machine is suspended counts",
        apply: Apply::Set(|args, value| {
            args.receipt.timeout_boottime = Some(limit_of_time(value)?);
            Ok(())
        }),
    },
    Opt {
        name: "cpu-time",
        short: None,
        takes: Takes::Value("TIME"),
        heading: TIME,
        help: "End it when all its processes together have used so much CPU time: status 124",
        apply: Apply::Set(|args, value| {
            args.receipt.cpu_time = Some(limit_of_time(value)?);
            Ok(())
        }),
    },
    Opt {
        name: "signal",
        short: None,
        takes: Takes::Value("SIGNAL"),
        heading: TIME,
        help: "What a time limit sends first (default TERM)",
        apply: Apply::Set(|args, value| {
            args.receipt.signal = Some(text(value)?.parse()?);
            Ok(())
        }),
    },
    Opt {
        name: "kill-after",
        short: None,
        takes: Takes::Value("TIME"),
        heading: TIME,
        help: "Kill what then is left, after this time (default 10s; 0s: at once)",
        apply: Apply::Set(|args, value| {
            args.receipt.kill_after = Some(match text(value)? {
                "0" => "0s".parse()?,
                text => text.parse()?,
            });
            Ok(())
        }),
    },
    Opt {
        name: "preserve-status",
        short: None,
        takes: Takes::Nothing,
        heading: TIME,
        help: "The command's own status also when a time limit ended it",
        apply: Apply::Set(|args, _| {
            args.receipt.preserve_status = true;
            Ok(())
        }),
    },
    Opt {
        name: "timeout-status",
        short: None,
        takes: Takes::Value("N"),
        heading: TIME,
        help: "This status, not 124, when a time limit ended it",
        apply: Apply::Set(|args, value| {
            args.receipt.timeout_status = Some(status(value)?);
            Ok(())
        }),
    },
    Opt {
        name: "oom-status",
        short: None,
        takes: Takes::Value("N"),
        heading: TIME,
        help: "This status, not 137, when it was killed for want of memory",
        apply: Apply::Set(|args, value| {
            args.receipt.oom_status = Some(status(value)?);
            Ok(())
        }),
    },
    Opt {
        name: "oom-fail",
        short: None,
        takes: Takes::Nothing,
        heading: TIME,
        help: "Fail when any of its processes was killed for want of memory, even if it reports success",
        apply: Apply::Set(|args, _| {
            args.receipt.oom_fail = true;
            Ok(())
        }),
    },
    Opt {
        name: "mem-grow",
        short: None,
        takes: Takes::Value("MAX"),
        heading: Some("Limits"),
        help: "Double --mem whenever it is not enough, up to this size, and say so",
        apply: Apply::Set(|args, value| {
            args.receipt.mem_grow = Some(crate::value::bytes(text(value)?)?);
            Ok(())
        }),
    },
    Opt {
        name: "report",
        short: None,
        takes: Takes::Optional("WHAT"),
        heading: REPORT,
        help: "Tell at the end what it used and how it ended; =json, =json:FILE, =json:fd=N for programs",
        apply: Apply::Set(|args, value| {
            args.receipt.reports.push(Target::parse(value)?);
            Ok(())
        }),
    },
    Opt {
        name: "report-append",
        short: None,
        takes: Takes::Value("FILE"),
        heading: REPORT,
        help: "Add the report to a file as one line of JSON (rcon history reads it)",
        apply: Apply::Set(|args, value| {
            args.receipt.append = Some(path(value)?);
            Ok(())
        }),
    },
    Opt {
        name: "record",
        short: None,
        takes: Takes::Value("FILE[:TIME]"),
        heading: REPORT,
        help: "Look at it every second, or TIME, and write that down at the end (rcon plot draws it)",
        apply: Apply::Set(|args, value| {
            args.receipt.record = Some(record(value)?);
            Ok(())
        }),
    },
    Opt {
        name: "report-strict",
        short: None,
        takes: Takes::Nothing,
        heading: REPORT,
        help: "Status 125 when a report cannot be written (default: a message)",
        apply: Apply::Set(|args, _| {
            args.receipt.strict = true;
            Ok(())
        }),
    },
];

fn path(value: &std::ffi::OsStr) -> Result<std::path::PathBuf, String> {
    if value.is_empty() { Err("give the path of a file".to_owned()) } else { Ok(value.into()) }
}
