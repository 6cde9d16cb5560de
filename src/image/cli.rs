//! `rcon image unpack` and `rcon image pack`.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

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
        .arg(value("keep", "N", "Keep N releases, remove older ones").requires("deploy"))
        .arg(
            value("form", "FORM", "What TAR holds: the tree itself, or an image in layers")
                .value_parser(PossibleValuesParser::new(["auto", "rootfs", "image"]))
                .default_value("auto"),
        )
        .arg(value("image", "NAME", "Which of several images"))
        .arg(value("platform", "OS/ARCH", "For which machine, if not this one"))
        .arg(
            value("devices", "WHAT", "Device nodes: refuse the archive, skip or keep them")
                .value_parser(PossibleValuesParser::new(["refuse", "skip", "keep"]))
                .default_value("refuse"),
        )
        .arg(switch("keep-setuid", "Keep set-user-ID and set-group-ID bits and file capabilities"))
        .arg(switch("best-effort", "Leave out owners and attributes that this user may not set"))
        .arg(value("max-size", "SIZE", "Refuse what unpacks to more").default_value("16G"))
        .arg(value("max-entries", "N", "Refuse what has more entries").default_value("1000000"))
        .arg(
            value("max-ratio", "N", "Refuse what unpacks to more than N times its size (from 64 MiB on)")
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

fn path_of(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one::<PathBuf>(name).cloned()
}

/// Reads an option's word. clap could; each type of value that it reads costs 4 KiB of program.
fn parsed<T>(
    matches: &ArgMatches,
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Error> {
    let Some(word) = matches.get_one::<String>(name) else { return Ok(None) };
    let fail =
        |what| Error::new(what).option(format!("image unpack --{name} {}", printable(word.as_bytes())));
    parse(word).map(Some).map_err(fail)
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "give a number from 1 on".to_owned())
}

fn run_unpack(matches: &ArgMatches) -> Result<i32, Error> {
    let word = |name| matches.get_one::<String>(name).map(String::as_str);
    let source = path_of(matches, "source").unwrap_or_default();
    let title = format!("image unpack {}", printable(source.as_os_str().as_bytes()));
    let defaults = Limits::default();
    let options = UnpackOptions {
        deploy: matches.get_flag("deploy"),
        keep: parsed(matches, "keep", number)?,
        form: match word("form") {
            Some("rootfs") => Form::Rootfs,
            Some("image") => Form::Image,
            _ => Form::Auto,
        },
        image: matches.get_one::<String>("image").cloned(),
        platform: parsed(matches, "platform", Platform::from_str)?,
        devices: match word("devices") {
            Some("skip") => Devices::Skip,
            Some("keep") => Devices::Keep,
            _ => Devices::Refuse,
        },
        keep_setuid: matches.get_flag("keep-setuid"),
        best_effort: matches.get_flag("best-effort"),
        limits: Limits {
            bytes: parsed(matches, "max-size", crate::value::bytes)?.unwrap_or(defaults.bytes),
            entries: parsed(matches, "max-entries", number)?.map_or(defaults.entries, NonZeroU64::get),
            ratio: parsed(matches, "max-ratio", number)?.map_or(defaults.ratio, NonZeroU64::get),
            ratio_from: defaults.ratio_from,
        },
        sync: !matches.get_flag("no-sync"),
        ..UnpackOptions::new(source, path_of(matches, "dir").unwrap_or_default())
    };
    let report = interruptible(&mut |stopped| unpack(&options, stopped))?
        .map_err(|error| error.option(title.as_str()))?;
    for line in report.notes.lines() {
        crate::say(&format!("rcon: {title}: {line}"));
    }
    // The name of a release is news; the name of a directory is what the user said.
    if options.deploy {
        crate::print(&format!("{}\n", printable(report.root.as_os_str().as_bytes())))?;
    }
    Ok(0)
}

fn run_pack(matches: &ArgMatches) -> Result<i32, Error> {
    let dir = path_of(matches, "dir").unwrap_or_default();
    let title = format!("image pack {}", printable(dir.as_os_str().as_bytes()));
    let result = match &path_of(matches, "output") {
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
