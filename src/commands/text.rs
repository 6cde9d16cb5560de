//! `rcon completions` and `rcon man`: one file that people download can install itself.

use clap::{Arg, ArgMatches, Command};

use crate::error::Error;

const COMPLETIONS: [(&str, &[&str]); 3] = [
    ("bash", &[include_str!("../../completions/rcon.bash")]),
    ("zsh", &[include_str!("../../completions/_rcon")]),
    ("fish", &[include_str!("../../completions/rcon.fish"), include_str!("../../completions/capcon.fish")]),
];

const PAGES: [(&str, &str); 3] = [
    ("rcon", include_str!("../doc/rcon.1")),
    ("capcon", include_str!("../doc/capcon.1")),
    ("profile", include_str!("../doc/rcon-profile.5")),
];

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
        texts.iter().for_each(|text| crate::print(text));
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
    PAGES
        .iter()
        .filter(|(name, _)| Some(*name) == page.map(String::as_str))
        .for_each(|(_, text)| crate::print(text));
    Ok(0)
}
