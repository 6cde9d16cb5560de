//! Options of the command's environment.

use super::{Apply, Opt, Takes};
use crate::environment::{Change, assignment, name};

const ENVIRONMENT: Option<&str> = Some("Environment");

pub(super) static ROWS: &[Opt] = &[
    Opt {
        name: "env",
        short: None,
        takes: Takes::Value("NAME=VALUE"),
        heading: ENVIRONMENT,
        help: "Set a variable for the command",
        apply: Apply::Set(|args, value| {
            args.environment.push(assignment(value)?);
            Ok(())
        }),
    },
    Opt {
        name: "env-file",
        short: None,
        takes: Takes::Value("FILE"),
        heading: ENVIRONMENT,
        help: "Set the variables that a file holds: NAME=VALUE lines",
        apply: Apply::Set(|args, value| {
            if value.is_empty() {
                return Err("give a file".to_owned());
            }
            args.environment.push(Change::File(value.into()));
            Ok(())
        }),
    },
    Opt {
        name: "unset",
        short: None,
        takes: Takes::Value("NAME"),
        heading: ENVIRONMENT,
        help: "Remove a variable",
        apply: Apply::Set(|args, value| {
            args.environment.push(Change::Unset(name(value)?));
            Ok(())
        }),
    },
    Opt {
        name: "clear-env",
        short: None,
        takes: Takes::Nothing,
        heading: ENVIRONMENT,
        help: "Start from an empty environment (later --env add to it)",
        apply: Apply::Set(|args, _| {
            // What was said before it is cleared with the rest.
            args.environment = vec![Change::Clear];
            Ok(())
        }),
    },
    Opt {
        name: "hint-env",
        short: None,
        takes: Takes::Nothing,
        heading: ENVIRONMENT,
        help: "Tell runtimes of CPUs and memory: GOMAXPROCS, JAVA_TOOL_OPTIONS and others, where they are not set",
        apply: Apply::Set(|args, _| {
            args.hint_env = true;
            Ok(())
        }),
    },
];
