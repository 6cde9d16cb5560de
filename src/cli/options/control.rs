//! Options by which a run can be found again.

use super::{Apply, Opt, PLACE, Takes};
use crate::cli::text;
use crate::runs::Name;

pub(super) static ROWS: &[Opt] = &[Opt {
    name: "name",
    short: None,
    takes: Takes::Value("NAME"),
    heading: PLACE,
    help: "Call the run so for ls, set, kill; no two at a time (NAME%n numbers them)",
    apply: Apply::Set(|args, value| {
        args.control.name = Some(Name::parse(text(value)?)?);
        Ok(())
    }),
}];
