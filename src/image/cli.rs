//! `rcon image unpack` and `rcon image pack`.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Devices, Form, Limits, Platform, UnpackOptions, pack, unpack};
use crate::error::{Error, printable};

/// The options of `rcon image`, for clap.
#[must_use]
pub fn command() -> Command {
    Command::new("image")
        .about("Make a root directory of an image, or an archive of a directory")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(unpack_command())
        .subcommand(
            Command::new("pack")
                .about("Write a directory as a tar archive")
                .arg(path("dir", "DIR", "The directory"))
                .arg(
                    Arg::new("output")
                        .short('o')
                        .long("output")
                        .value_name("FILE")
                        .value_parser(value_parser!(PathBuf))
                        .help("Where to; standard output if not given"),
                ),
        )
}

fn unpack_command() -> Command {
    let value = |name: &'static str, what: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(what).help(help)
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("unpack")
        .about("Make a directory of a tar archive, a docker save archive or an OCI image")
        .arg(path("source", "TAR", "The archive (plain, gzip, zstd), an OCI layout directory, or -"))
        .arg(path("dir", "DIR", "The directory to make; it may be there if it is empty"))
        .arg(switch("deploy", "Make DIR/releases/NUMBER-HASH and point DIR/current to it"))
        .arg(
            value("keep", "N", "Keep N releases, remove older ones")
                .requires("deploy")
                .value_parser(value_parser!(NonZeroU32)),
        )
        .arg(
            value("form", "FORM", "What TAR holds: the tree itself, or an image in layers")
                .value_parser(PossibleValuesParser::new(["auto", "rootfs", "image"]))
                .default_value("auto"),
        )
        .arg(value("image", "NAME", "Which of several images"))
        .arg(
            value("platform", "OS/ARCH", "For which machine, if not this one")
                .value_parser(|text: &str| text.parse::<Platform>()),
        )
        .arg(
            value("devices", "WHAT", "Device nodes: refuse the archive, skip or keep them")
                .value_parser(PossibleValuesParser::new(["refuse", "skip", "keep"]))
                .default_value("refuse"),
        )
        .arg(switch("keep-setuid", "Keep set-user-ID and set-group-ID bits and file capabilities"))
        .arg(switch("best-effort", "Leave out owners and attributes that this user may not set"))
        .arg(
            value("max-size", "SIZE", "Refuse what unpacks to more")
                .value_parser(crate::value::bytes)
                .default_value("16G"),
        )
        .arg(
            value("max-entries", "N", "Refuse what has more entries")
                .value_parser(value_parser!(u64).range(1..))
                .default_value("1000000"),
        )
        .arg(
            value("max-ratio", "N", "Refuse what unpacks to more than N times its size (from 64 MiB on)")
                .value_parser(value_parser!(u64).range(1..))
                .default_value("200"),
        )
        .arg(switch("no-sync", "Do not wait until it is on the disk"))
}

fn path(name: &'static str, what: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(what).required(true).value_parser(value_parser!(PathBuf)).help(help)
}

/// Does what the command line says; the exit status.
///
/// # Errors
/// Names the archive and its entry.
pub fn run(matches: &ArgMatches) -> Result<i32, Error> {
    match matches.subcommand() {
        Some(("unpack", matches)) => run_unpack(matches),
        Some(("pack", matches)) => run_pack(matches),
        _ => Err(Error::new("rcon image: say unpack or pack")),
    }
}

fn given<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Option<T> {
    matches.get_one::<T>(name).cloned()
}

fn run_unpack(matches: &ArgMatches) -> Result<i32, Error> {
    let word = |name| matches.get_one::<String>(name).map(String::as_str);
    let source: PathBuf = given(matches, "source").unwrap_or_default();
    let title = format!("image unpack {}", printable(source.as_os_str().as_bytes()));
    let defaults = Limits::default();
    let options = UnpackOptions {
        deploy: matches.get_flag("deploy"),
        keep: given(matches, "keep"),
        form: match word("form") {
            Some("rootfs") => Form::Rootfs,
            Some("image") => Form::Image,
            _ => Form::Auto,
        },
        image: given(matches, "image"),
        platform: given(matches, "platform"),
        devices: match word("devices") {
            Some("skip") => Devices::Skip,
            Some("keep") => Devices::Keep,
            _ => Devices::Refuse,
        },
        keep_setuid: matches.get_flag("keep-setuid"),
        best_effort: matches.get_flag("best-effort"),
        limits: Limits {
            bytes: given(matches, "max-size").unwrap_or(defaults.bytes),
            entries: given(matches, "max-entries").unwrap_or(defaults.entries),
            ratio: given(matches, "max-ratio").unwrap_or(defaults.ratio),
            ratio_from: defaults.ratio_from,
        },
        sync: !matches.get_flag("no-sync"),
        ..UnpackOptions::new(source, given::<PathBuf>(matches, "dir").unwrap_or_default())
    };
    let report = interruptible(&mut |stopped| unpack(&options, stopped))?
        .map_err(|error| error.option(title.as_str()))?;
    for line in report.notes.lines() {
        crate::say(&format!("rcon: {title}: {line}"));
    }
    // The name of a release is news; the name of a directory is what the user said.
    if options.deploy {
        crate::print(&format!("{}\n", printable(report.root.as_os_str().as_bytes())));
    }
    Ok(0)
}

fn run_pack(matches: &ArgMatches) -> Result<i32, Error> {
    let dir: PathBuf = given(matches, "dir").unwrap_or_default();
    let title = format!("image pack {}", printable(dir.as_os_str().as_bytes()));
    let output: Option<PathBuf> = given(matches, "output");
    let result = match &output {
        Some(path) => pack::to_file(&dir, path),
        None if std::io::stdout().is_terminal() => {
            Err(Error::new("an archive is not for a terminal").try_this("-o FILE, or | zstd > FILE"))
        }
        None => {
            let mut out = std::io::stdout().lock();
            pack(&dir, &mut out).and_then(|left| {
                out.flush().map_err(|error| pack::unwritable(&error))?;
                Ok(left)
            })
        }
    };
    for line in result.map_err(|error| error.option(title.as_str()))?.lines() {
        crate::say(&format!("rcon: {title}: {line}"));
    }
    Ok(0)
}

/// Runs with the signals that end a program held back, so that what was begun can be removed; then dies of them.
fn interruptible<T>(work: &mut dyn FnMut(&dyn Fn() -> bool) -> T) -> Result<T, Error> {
    let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    let fail = |errno: Errno| Error::new("signals cannot be held back").errno(errno);
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before)).map_err(fail)?;
    let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(fail)?;
    let came = Cell::new(None);
    let result = work(&|| {
        if came.get().is_none() {
            came.set(fd.read_signal().ok().flatten().map(|info| info.ssi_signo as i32));
        }
        came.get().is_some()
    });
    if let Some(signal) = came.get() {
        crate::sys::signals::die_of(signal);
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).map_err(fail)?;
    Ok(result)
}
