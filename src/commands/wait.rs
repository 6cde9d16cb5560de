//! `rcon wait`: returns when the runs have ended.

use std::time::Instant;

use clap::{Arg, ArgMatches, Command};

use crate::error::Error;
use crate::runs::{Watched, one, until_released};
use crate::value::Span;

pub(super) fn command() -> Command {
    Command::new("wait").about("Wait until runs have ended").arg(super::names()).arg(
        Arg::new("timeout")
            .long("timeout")
            .value_name("TIME")
            .value_parser(|text: &str| text.parse::<Span>())
            .help("At most so long; then the status is 124"),
    )
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    let deadline = matches.get_one::<Span>("timeout").and_then(|span| Instant::now().checked_add(span.0));
    for word in matches.get_many::<std::ffi::OsString>("NAME").into_iter().flatten() {
        let run = one(word)?;
        if until_released(&run, deadline) == Watched::TimedOut {
            crate::say(&format!("rcon: {} has not ended in time", run.shown()));
            return Ok(124);
        }
    }
    Ok(0)
}
