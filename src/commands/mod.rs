//! Subcommands: the first word of the line, where it is one of these.

mod attach;
mod doctor;
mod end;
mod exec;
mod freeze;
mod gc;
mod history;
mod ls;
mod plot;
mod profile;
mod set;
mod show;
mod text;
mod top;
mod wait;

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Command};

use crate::error::Error;
use crate::runs::{self, Run};

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
    &[
        Sub { name: "ls", command: ls::command, run: ls::run },
        Sub { name: "top", command: top::command, run: top::run },
        Sub { name: "show", command: show::command, run: show::run },
        Sub { name: "set", command: set::command, run: set::run },
        Sub { name: "attach", command: attach::command, run: attach::run },
        Sub { name: "exec", command: exec::command, run: exec::run },
        Sub { name: "freeze", command: freeze::freeze_command, run: freeze::freeze },
        Sub { name: "thaw", command: freeze::thaw_command, run: freeze::thaw },
        Sub { name: "kill", command: end::command, run: end::run },
        Sub { name: "wait", command: wait::command, run: wait::run },
        Sub { name: "doctor", command: doctor::command, run: doctor::run },
        Sub { name: "profile", command: profile::command, run: profile::run },
        Sub { name: "completions", command: text::completions_command, run: text::completions },
        Sub { name: "man", command: text::man_command, run: text::man },
        Sub { name: "gc", command: gc::command, run: gc::run },
        Sub { name: "image", command: crate::image::command, run: crate::image::run },
        Sub { name: "plot", command: plot::command, run: plot::run },
        Sub { name: "history", command: history::command, run: history::run },
        Sub { name: "report-schema", command: text::schema_command, run: text::schema },
    ]
}

/// The subcommand that the first word names.
#[must_use]
pub fn find(word: &std::ffi::OsStr) -> Option<&'static Sub> {
    all().iter().find(|sub| sub.name == word)
}

/// One run.
fn name() -> Arg {
    Arg::new("NAME")
        .required(true)
        .value_parser(clap::value_parser!(OsString))
        .help("Name of a run, or the number of a process in it")
}

/// For people or for programs.
fn format() -> Arg {
    Arg::new("format")
        .long("format")
        .value_name("FORMAT")
        .value_parser(["text", "json"])
        .help("json for programs")
}

/// `NAME...`: which runs are meant.
fn names() -> Arg {
    Arg::new("NAME")
        .required(true)
        .num_args(1..)
        .value_parser(clap::value_parser!(OsString))
        .help("Name of a run, or the number of a process in it (rcon ls shows them)")
}

/// Does something to each run that is named; goes on after one that fails. Status 1: one has failed.
fn for_each(matches: &ArgMatches, act: impl Fn(&Run) -> Result<(), Error>) -> i32 {
    let mut status = 0;
    for word in matches.get_many::<OsString>("NAME").into_iter().flatten() {
        if let Err(error) = runs::one(word).and_then(|run| act(&run)) {
            crate::say(&error.to_string());
            status = 1;
        }
    }
    status
}

/// The run ended between the look at it and the touch.
fn gone(run: &Run, errno: nix::errno::Errno) -> Error {
    match errno {
        nix::errno::Errno::ENOENT | nix::errno::Errno::ENODEV => {
            Error::new(format!("{} has just ended", run.shown()))
        }
        _ => Error::new(format!("cannot open the group of {}", run.shown())).errno(errno),
    }
}
