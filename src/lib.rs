//! rcon: run any command line with a budget, a cage and a receipt.
//!
//! Data flows one way: arguments ([`cli`]) and machine ([`host`]) become a plan ([`plan`], pure), the plan takes
//! resources and starts a child ([`spawn`], [`child`]), which is waited for ([`supervise`]) and becomes an
//! outcome and an exit status ([`outcome`]).

pub mod cage;
pub mod capabilities;
pub mod cgroup;
pub mod child;
pub mod cli;
pub mod commands;
pub mod disks;
pub mod environment;
pub mod error;
pub mod explain;
pub mod files;
pub mod guardian;
pub mod hints;
pub mod host;
pub mod identity;
pub mod image;
pub mod learn;
pub mod limits;
pub mod live;
pub mod notify;
pub mod order;
pub mod outcome;
pub mod passwd;
pub mod plan;
pub mod plot;
pub mod privileges;
pub mod profile;
pub mod receipt;
pub mod record;
pub mod report;
pub mod runs;
pub mod scratch;
pub mod spawn;
pub mod step;
pub mod supervise;
// The one module with unsafe code.
#[allow(unsafe_code)]
pub mod sys;
pub mod systemd;
pub mod usage;
pub mod value;
pub mod weaker;

use std::ffi::OsString;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::path::Path;

use cli::{Args, Format, Request};
use error::Error;
use guardian::{Keeper, Line, OnDeath};
use host::Host;
use nix::errno::Errno;
use sys::signals::Signals;

/// The whole life of the program; returns the exit status.
#[must_use]
pub fn main(argv: Vec<OsString>) -> i32 {
    // The kernel takes all memory back at once: whatever a run has is never taken apart, here and below.
    let argv = ManuallyDrop::new(argv);
    sys::plug_standard_descriptors();
    let mut words = argv.get(1..).unwrap_or_default();
    // The same binary under another name, or `rcon capcon ...` where there is no link to it.
    let mut capcon = argv.first().is_some_and(|name| Path::new(name).file_name() == Some("capcon".as_ref()));
    if !capcon && words.first().is_some_and(|word| word == "capcon") {
        capcon = true;
        words = words.get(1..).unwrap_or_default();
    }
    if sys::raised_at_exec() && !is_harmless(words) {
        let error = raised();
        say(&error.to_string());
        return error.status();
    }
    let result = match words.first().filter(|_| !capcon).and_then(|word| commands::find(word)) {
        Some(sub) => subcommand(sub, words),
        None => wrap(&Line { words, capcon }),
    };
    result.unwrap_or_else(|error| {
        let text = error.to_string();
        match text.strip_prefix("rcon: ") {
            Some(text) if capcon => say(&format!("capcon: {text}")),
            _ => say(&text),
        }
        error.status()
    })
}

/// What even a stranger's rights may be used for.
fn is_harmless(words: &[OsString]) -> bool {
    matches!(words, [word] if ["--help", "-h", "--version", "-V", "--show"].iter().any(|harmless| word == harmless))
}

/// Any option, the command itself, and most subcommands would lend the caller rights that are not the caller's.
fn raised() -> Error {
    Error::new(
        "this file is set-user-ID, set-group-ID or has file capabilities, or who started it is: rcon would give such \
         rights to any command, and refuses",
    )
    .try_this("chmod ug-s FILE; setcap -r FILE; and where more rights are needed: sudo rcon ...")
}

/// Reads the line, on top of the profiles that it names.
pub(crate) fn request(words: &[OsString], capcon: bool) -> Result<Request, Error> {
    match cli::parse(words, capcon)? {
        Request::Run(args) if !args.control.profiles.is_empty() => {
            let mut base = Args::default();
            base.privileges.capcon = capcon;
            let entries = profile::load(&args.control.profiles, capcon)?;
            cli::parse_onto(&profile::applied(&entries, base)?, words)
        }
        request => Ok(request),
    }
}

/// Wraps a command, or tells about it.
fn wrap(line: &Line) -> Result<i32, Error> {
    let early = if line.is_plain() { Some(guardian::split(line)?) } else { None };
    match line.parse()? {
        Request::Run(args) => run(&ManuallyDrop::new(args), line, early),
        Request::Print(text) => {
            print(&text)?;
            Ok(0)
        }
    }
}

// `#[inline(never)]`, here and elsewhere, keeps what a plain run does not do out of the pages that it goes through.

/// The life of a run, and what is told of it.
fn run(args: &Args, line: &Line, early: Option<(Keeper, Signals)>) -> Result<i32, Error> {
    let started = std::time::SystemTime::now();
    let result = live(args, line, early);
    if let Err(error) = &result
        && args.receipt.counts()
        && args.explain.is_none()
    {
        tell(&report::Report::of_failure(args, error, started), args);
    }
    result
}

/// What a run was asked to tell of itself. `false`: it could not, everywhere.
#[inline(never)]
fn tell_outcome(plan: &plan::Plan, outcome: &outcome::Outcome, args: &Args) -> bool {
    let report = report::Report::of(plan, outcome);
    let told = tell(&report, args);
    let Some((path, _)) = &args.receipt.record else { return told };
    let record = record::Record::of(&report, &outcome.samples);
    report::sink::record(path, &record).map_err(|error| say(&error.to_string())).is_ok() && told
}

/// Delivers the report. `false`: not everywhere.
#[inline(never)]
fn tell(report: &report::Report, args: &Args) -> bool {
    let failures = report::deliver(report, &args.receipt);
    for failure in &failures {
        say(&failure.to_string());
    }
    failures.is_empty()
}

fn live(args: &Args, line: &Line, early: Option<(Keeper, Signals)>) -> Result<i32, Error> {
    if let Some(show) = args.privileges.show {
        print(&privileges::show::show(show)?)?;
        return Ok(0);
    }
    let imaged;
    let args = if args.cage.image_config {
        imaged = cage::image_config::applied(args)?;
        &imaged
    } else {
        args
    };
    let widened = ManuallyDrop::new(args.privileges.learn.map(|_| learn::widened(args)));
    let args = widened.as_deref().unwrap_or(args);
    // To take it apart would write to pages that the command's birth has left shared.
    let host = ManuallyDrop::new(Host::read(Path::new("/"), args)?);
    if let Some(format) = args.explain {
        return explain(args, &host, format);
    }
    let mut plan = ManuallyDrop::new(plan::plan(args, &host)?);
    let name = if args.privileges.capcon { "capcon" } else { "rcon" };
    for note in &plan.notes {
        say(&format!("{name}: {note}"));
    }
    if plan.in_place {
        return Err(spawn::become_command(&plan));
    }
    report::sink::claim(&plan.receipt)?;
    let alone = early.is_none()
        && plan.leaves_nothing()
        && args.on_wrapper_death == OnDeath::Kill
        && args.privileges.learn.is_none();
    let alone = if alone { guardian::alone()? } else { None };
    let (keeper, signals) = early.or(alone).map_or_else(|| guardian::split(line), Ok)?;
    let keeper = keeper.told(args.on_wrapper_death);
    let outcome = match args.privileges.learn {
        None => supervise::wait(spawn::start(&mut plan, signals)?, &plan, &keeper),
        Some(learn) => learn::run(learn, args, &mut plan, signals, &keeper)?,
    };
    for message in outcome.messages(&plan) {
        say(&message);
    }
    if args.receipt.counts() && !tell_outcome(&plan, &outcome, args) && args.receipt.strict {
        return Ok(125);
    }
    Ok(outcome.leave(&plan.receipt))
}

/// Prints the plan, and what it could not honour; 125 where a run would have been refused.
#[inline(never)]
fn explain(args: &Args, host: &Host, format: Format) -> Result<i32, Error> {
    let lenient = Args { best_effort: true, ..args.clone() };
    let plan = plan::plan(&lenient, host)?;
    match format {
        Format::Text => print(&explain::text(&plan, host))?,
        Format::Json => print(&format!("{:#}\n", explain::json(&plan, host)))?,
    }
    Ok(if plan.waived.is_empty() || args.best_effort { 0 } else { 125 })
}

fn subcommand(sub: &commands::Sub, words: &[OsString]) -> Result<i32, Error> {
    sys::finish_start();
    let command = (sub.command)().bin_name(format!("rcon {}", sub.name));
    match command.try_get_matches_from(words) {
        Ok(matches) => (sub.run)(&matches),
        Err(error) if !error.use_stderr() => {
            print(&error.to_string())?;
            Ok(0)
        }
        Err(error) => Err(cli::refusal(&error)),
    }
}

/// A message on standard error. Nobody is left to hear that it cannot be written.
pub(crate) fn say(message: &str) {
    let written = std::io::stderr().write_all(format!("{message}\n").as_bytes());
    drop(written);
}

/// What was asked for, on standard output; a reader that has gone has had enough.
///
/// # Errors
/// It cannot be written, as on a full disk: half of an answer is none.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            Err(Error::new("cannot write to standard output").errno(errno))
        }
        _ => Ok(()),
    }
}
