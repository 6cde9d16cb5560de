//! clap: the words of help and of every mistake, and the reader of what the plain one leaves to it.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::options::{self, Opt, Takes};
use super::{Args, apply};
use crate::error::Error;
use crate::order;

const EXAMPLES: &str = "\
Examples:
  rcon --cpu 30% --mem 256M --pids 64 -- make test    a budget for a command and all its children
  rcon --io-write /data:10M -- tar xf backup.tar      10 MiB/s to the disk that holds /data
  rcon --mem 25% --explain -- ./server                what would be done here, without doing it

Exit status: the command's own; when a signal ended it, rcon dies of the same signal (a shell
shows 128+N). 125: rcon failed and the command did not run; 126: the command cannot be executed;
127: it was not found.";

const CAPCON_EXAMPLES: &str = "\
Examples:
  capcon --allow net_bind_service -- ./server              this capability and no other
  capcon --user www --allow net_bind_service -- ./server   the same, as an ordinary user
  capcon --drop all --user nobody:nogroup -- make test     none at all
  capcon                                                   what this shell has

Every option of rcon works too (rcon --help): a limit makes capcon watch over the command as rcon
does; without one it becomes the command. Sets hold for whatever the command executes.

Exit status: the command's own; 125: capcon failed and the command did not run; 126: the command
cannot be executed; 127: it was not found.";

/// The whole command line as clap sees it; help, completions and the man page are made from it.
#[must_use]
pub fn command(capcon: bool) -> Command {
    if capcon {
        return run_form(true)
            .about("Run a command with exactly the capabilities that it needs")
            .after_help(CAPCON_EXAMPLES)
            .max_term_width(100);
    }
    let about =
        "Run a command with a budget: limits on CPU, memory, tasks and I/O that hold for all its processes";
    let whole = run_form(false).about(about).after_help(EXAMPLES).max_term_width(100);
    crate::commands::all().iter().fold(whole, |whole, sub| whole.subcommand((sub.command)()))
}

/// Without subcommands, which the first word alone tells: in any other place their names are commands to wrap.
fn run_form(capcon: bool) -> Command {
    let (name, usage) = if capcon {
        ("capcon", "capcon [OPTIONS] [--] COMMAND [ARG]...\n       capcon [--show] [--pid PID]")
    } else {
        ("rcon", "rcon [OPTIONS] [--] COMMAND [ARG]...\n       rcon SUBCOMMAND ...")
    };
    Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage(usage)
        .disable_help_subcommand(true)
        .args(rows(capcon).map(|option| arg(option, capcon)))
        .arg(
            Arg::new("COMMAND")
                .num_args(0..)
                .trailing_var_arg(true)
                .value_parser(clap::value_parser!(OsString))
                .hide(true),
        )
}

/// capcon's `--group` is another spelling of `--gid`.
fn rows(capcon: bool) -> impl Iterator<Item = &'static Opt> {
    options::all().filter(move |option| !(capcon && option.name == "group"))
}

fn arg(option: &'static Opt, capcon: bool) -> Arg {
    let arg = Arg::new(option.name).long(option.name).short(option.short).help(option.help);
    let arg = if capcon && option.name == "gid" { arg.visible_alias("group") } else { arg };
    let arg = match option.heading {
        Some(heading) if options::shown(heading, capcon) => arg.help_heading(heading),
        _ => arg.hide(true),
    };
    let words = clap::value_parser!(OsString);
    match option.takes {
        Takes::Nothing => arg.action(ArgAction::SetTrue).overrides_with(option.name),
        Takes::Value(name) => {
            arg.action(ArgAction::Append).value_name(name).value_parser(words).allow_hyphen_values(true)
        }
        Takes::Optional(name) => arg
            .action(ArgAction::Append)
            .value_name(name)
            .value_parser(words)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value(""),
    }
}

/// clap's words about a mistake, safe for a terminal: they repeat what was typed.
#[must_use]
pub fn refusal(error: &clap::Error) -> Error {
    let text = error.to_string();
    let lines = text.strip_prefix("error: ").unwrap_or(&text).trim_end().lines();
    let lines: Vec<String> = lines.map(|line| crate::error::printable(line.as_bytes())).collect();
    Error::new(lines.join("\n"))
}

pub(super) enum Parsed {
    Args(Box<Args>),
    Print(String),
}

/// Reads the words after the program's name.
pub(super) fn parse(base: Args, words: &[OsString]) -> Result<Parsed, Error> {
    crate::sys::finish_start();
    let capcon = base.privileges.capcon;
    let argv =
        std::iter::once(OsString::from(if capcon { "capcon" } else { "rcon" })).chain(words.iter().cloned());
    let matches = match run_form(capcon).try_get_matches_from(argv) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // Help is asked for: it lists the subcommands too.
            return Ok(Parsed::Print(match error.kind() {
                ErrorKind::DisplayVersion => error.to_string(),
                _ => command(capcon).render_help().to_string(),
            }));
        }
        Err(error) => {
            return Err(refusal(&error));
        }
    };
    let mut args = read_rows(&matches, rows(capcon), base)?;
    args.command.extend(matches.get_many::<OsString>("COMMAND").into_iter().flatten().cloned());
    Ok(Parsed::Args(Box::new(args)))
}

/// Options of the run form, for a subcommand that takes some of them.
pub fn some_options(takes: impl Fn(&Opt) -> bool) -> impl Iterator<Item = Arg> {
    options::all().filter(move |option| takes(option)).map(|option| arg(option, false))
}

/// What those options say, in the order in which they stand on the line.
///
/// # Errors
/// A value that is none, naming the option.
pub fn options_of(matches: &ArgMatches, takes: impl Fn(&Opt) -> bool) -> Result<Args, Error> {
    read_rows(matches, options::all().filter(|option| takes(option)), Args::default())
}

fn read_rows(
    matches: &ArgMatches,
    rows: impl Iterator<Item = &'static Opt>,
    mut args: Args,
) -> Result<Args, Error> {
    let mut occurrences: Vec<(usize, &'static Opt, Option<OsString>)> = Vec::new();
    for option in rows {
        let Some(indices) = matches.indices_of(option.name) else { continue };
        if option.takes == Takes::Nothing {
            if matches.get_flag(option.name) {
                occurrences.extend(indices.map(|at| (at, option, None)));
            }
            continue;
        }
        let values = matches.get_many::<OsString>(option.name).into_iter().flatten();
        let optional = matches!(option.takes, Takes::Optional(_));
        occurrences.extend(indices.zip(values).map(|(at, value)| {
            let value = (!(optional && value.is_empty())).then(|| value.clone());
            (at, option, value)
        }));
    }
    order::sort_by_key(&mut occurrences, |(at, ..)| *at);
    for (_, option, value) in &occurrences {
        apply(&mut args, option, value.as_deref())?;
    }
    Ok(args)
}
