//! The table of options: one row each, in one file for each part of the program. Help, man page, completions
//! and both readers are loops over it.

mod cage;
mod control;
mod environment;
mod place;
mod privileges;
mod receipt;
mod run;

use std::ffi::OsStr;

use super::Args;
use crate::limits::{LIMITS, Limit};

/// What follows the option's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// `--name VALUE` or `--name=VALUE`; here the placeholder.
    Value(&'static str),
    /// `--name` or `--name=VALUE`; here the placeholder.
    Optional(&'static str),
}

/// What an occurrence does.
#[derive(Clone, Copy, Debug)]
pub enum Apply {
    /// Asks for a limit.
    Limit(&'static Limit),
    /// Puts the value (empty where there is none) into the arguments.
    Set(fn(&mut Args, &OsStr) -> Result<(), String>),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// The long name, without dashes.
    pub name: &'static str,
    /// A short name.
    pub short: Option<char>,
    /// What follows it.
    pub takes: Takes,
    /// Under which heading `--help` shows it; nothing: only the man page does.
    pub heading: Option<&'static str>,
    /// One line: meaning, unit, default.
    pub help: &'static str,
    /// What it does.
    pub apply: Apply,
}

/// Shared by rows that are not limits.
pub(super) const RUN: Option<&str> = Some("Run");
pub(super) const PRIVILEGES: Option<&str> = Some("Privileges");
/// Only capcon's own help shows these.
pub(super) const DETAIL: Option<&str> = Some("Privileges in detail");
pub(super) const PLACE: Option<&str> = Some("Place of the group");

/// Limits as options: made by the compiler, so that no run pays for it.
static LIMIT_ROWS: [Opt; LIMITS.len()] = {
    let mut rows = [of_limit(&LIMITS[0]); LIMITS.len()];
    let mut at = 1;
    while at < rows.len() {
        rows[at] = of_limit(&LIMITS[at]);
        at += 1;
    }
    rows
};

const fn of_limit(limit: &'static Limit) -> Opt {
    Opt {
        name: limit.name,
        short: None,
        takes: Takes::Value(limit.value_name),
        heading: Some("Limits"),
        help: limit.help,
        apply: Apply::Limit(limit),
    }
}

/// All rows, in the order of `--help`.
pub fn all() -> impl Iterator<Item = &'static Opt> {
    let features = cage::ROWS.iter().chain(control::ROWS).chain(environment::ROWS).chain(privileges::ROWS);
    LIMIT_ROWS.iter().chain(receipt::ROWS).chain(run::ROWS).chain(place::ROWS).chain(features)
}

/// Is this heading part of `--help`? rcon leaves out what few need; capcon shows what it is for.
#[must_use]
pub fn shown(heading: &str, capcon: bool) -> bool {
    if capcon { [PRIVILEGES, DETAIL, RUN].contains(&Some(heading)) } else { Some(heading) != DETAIL }
}

/// The row with this long name, as capcon means it: there `--group` is the command's group, as in the original,
/// and not a group of runs.
#[must_use]
pub fn find_as(name: &str, capcon: bool) -> Option<&'static Opt> {
    find(if capcon && name == "group" { "gid" } else { name })
}

/// The row with this long name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Opt> {
    all().find(|option| option.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let mut names = std::collections::BTreeSet::new();
        for option in all() {
            assert!(names.insert(option.name), "--{} twice", option.name);
            assert!(option.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            assert!(!option.help.is_empty() && !option.help.ends_with('.'), "--{}: help", option.name);
            assert!(option.help.len() <= 100, "--{}: help is {} long", option.name, option.help.len());
        }
        super::super::command(false).debug_assert();
        super::super::command(true).debug_assert();
    }
}
