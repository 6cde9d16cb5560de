//! `cargo xtask`: the project's own tasks.
//!
//! * `cargo xtask test`: every test, on this machine and in the kernel lab: the README's test command.
//! * `cargo xtask lab`: the kernel lab alone.
//! * `cargo xtask generate`: completions and man pages anew from the table of options.
//! * `cargo xtask deb`: a Debian package of the release binary.
//! * `cargo xtask dependencies`: licences and duplicate versions of what we link.
//!
//! This same static binary is also the init process and the agent of the lab's guests: see [`guest`].

mod deb;
mod engine;
mod guest;
mod guests;
mod junit;
mod lab;
mod licences;
mod matrix;
mod payload;
mod prepare;
mod results;
mod selftest;
mod shell;
mod table;
mod test;
mod wire;

use clap::{Arg, ArgAction, Command};
use std::process::ExitCode;

/// What went wrong, in words for the person at the terminal.
pub(crate) type Result<T, E = String> = std::result::Result<T, E>;

fn command() -> Command {
    let lab = Command::new("lab")
        .about("Run the tests on the kernels that users have")
        .arg(switch("list", "List the guests and what they are"))
        .arg(value("only", "GUEST", "Run only this guest (repeatable)").action(ArgAction::Append))
        .arg(switch("share", "In each guest only its share of the cases, as cargo xtask test has it"))
        .arg(value("shell", "GUEST", "Open a shell in this guest, with rcon on the PATH"))
        .arg(switch("bench", "Measure instead of testing: the wrapper beside its floor"))
        .arg(switch("selftest", "See the lab notice broken guests and broken limits"));
    let test = Command::new("test")
        .about("Run every test: on this machine, then in the kernel lab")
        .arg(switch(
            "all",
            "Every case in every guest, also those that a guest of another layout runs as well",
        ))
        .arg(switch("require-lab", "Fail, rather than skip the lab, where its packages are missing"));
    Command::new("xtask")
        .bin_name("cargo xtask")
        .about("The project's own tasks")
        .subcommand_required(true)
        .subcommand(test.args(common()))
        .subcommand(lab.args(common()))
        .subcommand(
            Command::new("deb").about("Make a Debian package of the release binary").arg(switch(
                "try",
                "Install it in a clean Debian and see that everything is there and works",
            )),
        )
        .subcommand(Command::new("generate").about("Write completions and man pages anew"))
        .subcommand(
            Command::new("dependencies").about("Check licences and duplicate versions of what is linked"),
        )
}

fn common() -> [Arg; 5] {
    [
        value(
            "filter",
            "TEST",
            "In guests, run only tests whose name contains this, or one of these (with commas)",
        ),
        switch(
            "again",
            "A kernel test that fails runs twice more: if it passes both times it is told at the end as unsteady, and up to \
             two of these do not fail the run. What leaves something behind fails at once",
        ),
        switch("no-systemd", "Leave out the guests with systemd, which boot slowly"),
        value("jobs", "N", "Guests at a time").default_value("2").value_parser(clap::value_parser!(usize)),
        value("time-limit", "SECONDS", "End a guest that takes longer")
            .default_value("1200")
            .value_parser(clap::value_parser!(u64)),
    ]
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn value(name: &'static str, of: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(of).help(help)
}

fn main() -> ExitCode {
    if let Some(code) = guest::maybe_play() {
        return code;
    }
    let matches = command().get_matches();
    let done = match matches.subcommand() {
        Some(("lab", args)) => lab::main(args),
        Some(("test", args)) => test::main(args),
        Some(("generate", _)) => generate(),
        Some(("deb", args)) => deb::main(args),
        Some(("dependencies", _)) => licences::main(),
        _ => Err("no such task".to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The test that finds stale files writes them when it is told to.
fn generate() -> Result<bool> {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--quiet", "--package", "rcon", "--test", "generated"]).env("RCON_BLESS", "1");
    cargo.status().map(|status| status.success()).map_err(|error| format!("cargo: {error}"))
}
