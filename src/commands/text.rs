//! `rcon completions`, `rcon man` and `rcon report-schema`: one file that people download can install itself.

use clap::{Arg, ArgMatches, Command};

use crate::error::Error;

/// A long text, as a static: those have names by which the linker puts them where no run comes along (build.rs).
macro_rules! long_text {
    ($name:ident, $file:literal) => {
        static $name: [u8; include_bytes!($file).len()] = *include_bytes!($file);
    };
}

long_text!(BASH, "../../completions/rcon.bash");
long_text!(ZSH, "../../completions/_rcon");
long_text!(FISH, "../../completions/rcon.fish");
long_text!(CAPCON_FISH, "../../completions/capcon.fish");
long_text!(RCON_1, "../doc/rcon.1");
long_text!(CAPCON_1, "../doc/capcon.1");
long_text!(PROFILE_5, "../doc/rcon-profile.5");
long_text!(SCHEMA, "../report/schema.json");

const COMPLETIONS: [(&str, &[&[u8]]); 3] =
    [("bash", &[&BASH]), ("zsh", &[&ZSH]), ("fish", &[&FISH, &CAPCON_FISH])];

const PAGES: [(&str, &[u8]); 3] = [("rcon", &RCON_1), ("capcon", &CAPCON_1), ("profile", &PROFILE_5)];

fn put(text: &[u8]) -> Result<(), Error> {
    crate::print(&String::from_utf8_lossy(text))
}

pub(super) fn completions_command() -> Command {
    Command::new("completions").about("Print the completion script of a shell").arg(
        Arg::new("SHELL")
            .required(true)
            .value_parser(["bash", "zsh", "fish"])
            .help("source <(rcon completions bash)"),
    )
}

pub(super) fn completions(matches: &ArgMatches) -> Result<i32, Error> {
    let shell = matches.get_one::<String>("SHELL");
    for (_, texts) in COMPLETIONS.iter().filter(|(name, _)| Some(*name) == shell.map(String::as_str)) {
        texts.iter().try_for_each(|text| put(text))?;
    }
    Ok(0)
}

pub(super) fn man_command() -> Command {
    Command::new("man").about("Print a manual page, for man -l -").arg(
        Arg::new("PAGE")
            .default_value("rcon")
            .value_parser(["rcon", "capcon", "profile"])
            .help("rcon man capcon | man -l -"),
    )
}

pub(super) fn man(matches: &ArgMatches) -> Result<i32, Error> {
    let page = matches.get_one::<String>("PAGE");
    let asked = PAGES.iter().find(|(name, _)| Some(*name) == page.map(String::as_str));
    asked.map_or(Ok(0), |(_, text)| put(text).map(|()| 0))
}

pub(super) fn schema_command() -> Command {
    Command::new("report-schema").about("Print the JSON Schema of --report=json")
}

pub(super) fn schema(_: &ArgMatches) -> Result<i32, Error> {
    put(&SCHEMA).map(|()| 0)
}
