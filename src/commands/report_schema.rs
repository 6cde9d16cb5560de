//! `rcon report-schema`: what the fields of a report mean, for programs.

use clap::{ArgMatches, Command};

use crate::error::Error;

pub(super) fn command() -> Command {
    Command::new("report-schema").about("Print the JSON Schema of --report=json")
}

pub(super) fn run(_: &ArgMatches) -> Result<i32, Error> {
    crate::print(crate::report::SCHEMA);
    Ok(0)
}
