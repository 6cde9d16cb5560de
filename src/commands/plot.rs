//! `rcon plot`: draws what `--record` wrote.

use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::error::{Error, printable};
use crate::plot::{svg, terminal};
use crate::record::Record;

pub(super) fn command() -> Command {
    let switch = |name: &'static str, help| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("plot")
        .about("Draw what --record wrote: CPU, memory, tasks and I/O over time, with the limits")
        .arg(
            Arg::new("FILE")
                .required(true)
                .value_parser(clap::value_parser!(OsString))
                .help("What --record wrote"),
        )
        .arg(switch("svg", "A picture on standard output").conflicts_with("html"))
        .arg(switch("html", "A page with that picture on standard output"))
        .arg(
            Arg::new("width")
                .long("width")
                .value_name("COLUMNS")
                .value_parser(clap::value_parser!(u16).range(20..=1000))
                .help("Columns (default: the terminal's, else 80)"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    let Some(file) = matches.get_one::<OsString>("FILE") else { return Ok(125) };
    let record = read(Path::new(file))?;
    let text = if matches.get_flag("svg") {
        svg::draw(&record)
    } else if matches.get_flag("html") {
        svg::page(&record)
    } else {
        let width = matches.get_one::<u16>("width").map_or_else(columns, |width| usize::from(*width));
        terminal::draw(&record, terminal::Style { width, unicode: knows_unicode() })
    };
    crate::print(&text)?;
    Ok(0)
}

fn read(file: &Path) -> Result<Record, Error> {
    let shown = printable(file.as_os_str().as_encoded_bytes());
    let bytes = crate::files::read(file).map_err(|e| Error::new(format!("cannot read {shown}")).errno(e))?;
    Record::read(&bytes).map_err(|error| {
        Error::new(format!("{shown} is no record: {error}"))
            .try_this("rcon --record run.json -- cmd; rcon plot run.json")
    })
}

/// The terminal's, or what COLUMNS says, or 80.
fn columns() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    crate::sys::terminal_size().map(|size| usize::from(size.0)).or(asked).unwrap_or(80).clamp(20, 1000)
}

/// The locale in which the terminal is to be written to (locale(7)).
fn knows_unicode() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
    let locale = locale.to_ascii_uppercase();
    locale.contains("UTF-8") || locale.contains("UTF8")
}
