//! Options by which a run can be found again.

use super::{Apply, Opt, PLACE, RUN, Takes};
use crate::cli::text;
use crate::runs::Name;

pub(super) static ROWS: &[Opt] = &[
    Opt {
        name: "profile",
        short: None,
        takes: Takes::Value("NAME"),
        heading: RUN,
        help: "Start from the options in NAME.toml (rcon profile ls); those on the line win",
        apply: Apply::Set(|args, value| {
            args.control.profiles.push(crate::profile::name(text(value)?)?);
            Ok(())
        }),
    },
    Opt {
        name: "name",
        short: None,
        takes: Takes::Value("NAME"),
        heading: PLACE,
        help: "Call the run so for ls, set, kill; no two at a time (NAME%n numbers them)",
        apply: Apply::Set(|args, value| {
            args.control.name = Some(Name::parse(text(value)?)?);
            Ok(())
        }),
    },
];
