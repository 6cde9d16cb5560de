//! Subcommands: the first word of the line, where it is one of these.

mod gc;

use clap::{ArgMatches, Command};

use crate::error::Error;

/// A subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Sub {
    /// The word.
    pub name: &'static str,
    /// Its options, for clap.
    pub command: fn() -> Command,
    /// Does it; the exit status.
    pub run: fn(&ArgMatches) -> Result<i32, Error>,
}

/// All of them, in the order of `--help`.
#[must_use]
pub fn all() -> &'static [Sub] {
    &[Sub { name: "gc", command: gc::command, run: gc::run }]
}

/// The subcommand that the first word names.
#[must_use]
pub fn find(word: &std::ffi::OsStr) -> Option<&'static Sub> {
    all().iter().find(|sub| sub.name == word)
}
