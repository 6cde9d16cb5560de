//! Options of where a run lives and what outlives it.

use super::{Apply, Opt, RUN, Takes};
use crate::guardian::OnDeath;

pub(super) static ROWS: &[Opt] = &[Opt {
    name: "on-wrapper-death",
    short: None,
    takes: Takes::Value("WHAT"),
    heading: RUN,
    help: "When rcon itself is killed: kill the command (default), or keep it within its limits",
    apply: Apply::Set(|args, value| {
        args.on_wrapper_death = match value.to_str() {
            Some("kill") => OnDeath::Kill,
            Some("keep") => OnDeath::Keep,
            _ => return Err("give kill or keep".to_owned()),
        };
        Ok(())
    }),
}];
