//! `rcon profile`: what profiles there are, what they say, and whether they are right.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};

use crate::error::{Error, printable};
use crate::profile;

pub(super) fn command() -> Command {
    let names = || {
        Arg::new("NAME")
            .num_args(0..)
            .value_parser(clap::value_parser!(OsString))
            .help("Name of a profile, or a file")
    };
    Command::new("profile")
        .about("List, show and check profiles (rcon --profile NAME, rcon-profile(5))")
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .subcommand(Command::new("ls").about("List them: name and file"))
        .subcommand(
            Command::new("show")
                .about("Show the options that they come to, each with its place")
                .arg(names().required(true)),
        )
        .subcommand(Command::new("check").about("Check them; without a name, all").arg(names()))
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    match matches.subcommand() {
        Some(("show", matches)) => show(&words(matches)),
        Some(("check", matches)) => Ok(check(&words(matches))),
        _ => {
            for (name, path) in profile::all() {
                crate::print(&format!("{name}\t{}\n", printable(path.as_os_str().as_encoded_bytes())))?;
            }
            Ok(0)
        }
    }
}

fn words(matches: &ArgMatches) -> Vec<OsString> {
    matches.get_many::<OsString>("NAME").into_iter().flatten().cloned().collect()
}

fn show(words: &[OsString]) -> Result<i32, Error> {
    let names = words
        .iter()
        .map(|word| profile::name(&word.to_string_lossy()).map_err(Error::new))
        .collect::<Result<Vec<_>, _>>()?;
    let entries = profile::load(&names, false)?;
    for entry in &entries {
        crate::print(&format!("{:<40} # {}\n", entry.spelled(), entry.origin))?;
    }
    profile::applied(&entries, crate::cli::Args::default()).map(|_| 0)
}

fn check(words: &[OsString]) -> i32 {
    let all = profile::all();
    let paths: Vec<PathBuf> = if words.is_empty() {
        all.into_iter().map(|(_, path)| path).collect()
    } else {
        let named = |word: &OsString| {
            all.iter().find(|(name, _)| name.as_str() == word).map(|(_, path)| path.clone())
        };
        words.iter().map(|word| named(word).unwrap_or_else(|| PathBuf::from(word))).collect()
    };
    let mut status = 0;
    for path in paths {
        for error in profile::check(&path) {
            crate::say(&error.to_string());
            status = 1;
        }
    }
    status
}
