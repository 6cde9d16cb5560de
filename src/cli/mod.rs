//! What the user said: the argument vector becomes [`Args`], plain data. No I/O, nothing of the machine.
//!
//! Two readers fill the same `Args` through the same table of options (`options`): a plain loop for the plain
//! case, which costs next to nothing, and clap for everything else (help, version, short options, and the
//! words of every mistake). A property test holds the two equal.

mod clap_reader;
pub mod options;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::cgroup::layout::Layout;
use crate::environment::Change;
use crate::error::{Error, printable};
use crate::guardian::OnDeath;
use crate::limits::{Asked, Controller, Limit, Value};
use crate::privileges::{self, Show};
use crate::receipt;
use crate::value::Size;

pub use clap_reader::{command, options_of, refusal, some_options};
use options::{Apply, Opt, Takes};

/// What `--explain` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// All that was said about a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args {
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// `--command`: a line for `sh -c`, instead of words.
    pub shell_line: Option<OsString>,
    /// Limits in order.
    pub limits: Vec<Asked>,
    /// `--dev`: the place of I/O rules that name none.
    pub dev: Option<String>,
    /// Print the plan and stop.
    pub explain: Option<Format>,
    /// Go on without what cannot be applied.
    pub best_effort: bool,
    /// Say nothing about out-of-memory kills.
    pub quiet: bool,
    /// Wait for all processes of the group instead of ending them with the command.
    pub wait_all: bool,
    /// A named group that several runs may share.
    pub group: Option<String>,
    /// Where groups go, instead of below the caller's own.
    pub cgroup_parent: Option<PathBuf>,
    /// Groups may go where the caller's own limits do not reach.
    pub allow_escape: bool,
    /// What happens to the command when we are killed.
    pub on_wrapper_death: OnDeath,
    /// Changes to the environment, in order.
    pub environment: Vec<Change>,
    /// Tell runtimes what they have.
    pub hint_env: bool,
    /// Namespaces, root, mounts, settings of the process.
    pub cage: crate::cage::Asked,
    /// How the run can be found.
    pub control: crate::runs::Asked,
    /// Capabilities and identity.
    pub privileges: privileges::Asked,
    /// The end of the run: time limits, what is told, statuses.
    pub receipt: receipt::Asked,
}

impl Args {
    /// Is a cgroup needed for this run at all?
    #[must_use]
    pub fn needs_group(&self) -> bool {
        !self.limits.is_empty()
            || self.group.is_some()
            || self.control.name.is_some()
            || self.cgroup_parent.is_some()
            || self.receipt.needs_group()
    }

    /// The controllers whose hierarchies are all that this run has to do with: that of its limits, and of v1's that
    /// can hold a run together. `None`: others may matter as well.
    #[must_use]
    pub fn needs_no_other_hierarchies(&self) -> Option<Vec<Controller>> {
        let simple = |asked: &Asked| !matches!(asked.value, Value::Size(Size::Percent(_)));
        if self.limits.is_empty()
            || !self.limits.iter().all(simple)
            || self.group.is_some()
            || self.control.name.is_some()
            || self.cgroup_parent.is_some()
            || self.explain.is_some()
            || self.hint_env
            || self.receipt.needs_group()
            || self.receipt.counts()
        {
            return None;
        }
        let mut wanted: Vec<Controller> = Vec::new();
        for controller in self.limits.iter().map(|asked| asked.limit.controller).chain([Controller::Pids]) {
            if !wanted.contains(&controller) {
                wanted.push(controller);
            }
        }
        Some(wanted)
    }

    /// Must the v2 tree be looked at although no asked limit is ruled there: where a v1 run is tracked in it.
    #[must_use]
    pub fn needs_v2_chain(&self, layout: &Layout) -> bool {
        let tracks = |controller| layout.v1_of(controller).is_some();
        !(tracks(Controller::Pids) || tracks(Controller::Freezer))
            || self.receipt.cpu_time.is_some()
            || self.receipt.counts()
    }

    /// No option but these.
    fn said_nothing_but(&self, show: Option<Show>) -> bool {
        let privileges =
            privileges::Asked { show, capcon: self.privileges.capcon, ..privileges::Asked::default() };
        *self == Self { privileges, ..Self::default() }
    }

    /// Checks and fills in what depends on several options at once; both readers end here. What is not `whole`, as
    /// its profiles are still to come, is read again on top of them.
    fn finish(&mut self, whole: bool) -> Result<(), Error> {
        if !whole {
            return Ok(());
        }
        if let Some(line) = self.shell_line.take() {
            if !self.command.is_empty() {
                return Err(Error::new("both --command and a command after the options: give one of them"));
            }
            self.command = vec!["sh".into(), "-c".into(), line];
        }
        if self.group.is_some() && self.control.name.is_some() {
            return Err(Error::new(
                "both --name and --group: one is for this run alone, the other is shared",
            ));
        }
        if let Some(dev) = &self.dev {
            let mut used = false;
            for asked in &mut self.limits {
                if let Value::Io(rule) = &mut asked.value
                    && rule.place.is_none()
                {
                    rule.place = Some(dev.clone());
                    used = true;
                }
            }
            if !used {
                return Err(Error::new(
                    "names the disk of I/O options that name none themselves, and there is no such option",
                )
                .option(format!("--dev {}", printable(dev.as_bytes())))
                .try_this(
                    "--dev minimal makes a /dev for the command; --io-write /data:10M names the disk itself",
                ));
            }
        }
        self.receipt.check(&self.limits, self.group.is_some())?;
        if self.command.is_empty() && self.privileges.capcon && self.said_nothing_but(None) {
            self.privileges.show = Some(Show::default());
        }
        if let Some(show) = self.privileges.show {
            let asked = match (show.pid, show.format) {
                (Some(pid), _) => format!("--pid {pid}"),
                (None, Some(Format::Json)) => "--format json".to_owned(),
                (None, Some(Format::Text)) => "--format text".to_owned(),
                (None, None) => "--show".to_owned(),
            };
            if !self.command.is_empty() || self.cage.image_config {
                return Err(
                    Error::new("prints capabilities and runs nothing, and there is a command").option(asked)
                );
            }
            if !self.said_nothing_but(self.privileges.show) {
                return Err(Error::new(
                    "prints capabilities and runs nothing: what else is asked for would be ignored",
                )
                .option(asked)
                .try_this("rcon --show; --explain tells what a run with other options would do"));
            }
        }
        if self.command.is_empty()
            && self.explain.is_none()
            && !self.cage.image_config
            && self.privileges.show.is_none()
        {
            if self.privileges.capcon {
                return Err(Error::new("no command given")
                    .try_this("capcon --allow net_bind_service -- cmd arg...   (capcon --help shows more)"));
            }
            return Err(Error::new("no command given")
                .try_this("rcon --cpu 30% --mem 256M -- cmd arg...   (rcon --help shows more)"));
        }
        Ok(())
    }
}

/// What the argument vector asks for.
#[derive(Debug)]
pub enum Request {
    /// Wrap a command.
    Run(Box<Args>),
    /// Print this on standard output and leave with 0: help or version.
    Print(String),
}

/// Reads the words after the program's name, which is capcon or rcon.
///
/// # Errors
/// What is wrong, naming the option.
pub fn parse(words: &[OsString], capcon: bool) -> Result<Request, Error> {
    let base = || {
        let mut base = Args::default();
        base.privileges.capcon = capcon;
        base
    };
    read(words, base, |args| args.control.profiles.is_empty())
}

/// The same, on top of options that come from elsewhere: what stands in `words` wins.
///
/// # Errors
/// As [`parse`].
pub fn parse_onto(base: &Args, words: &[OsString]) -> Result<Request, Error> {
    read(words, || base.clone(), |_| true)
}

fn read(
    words: &[OsString],
    base: impl Fn() -> Args,
    is_whole: impl Fn(&Args) -> bool,
) -> Result<Request, Error> {
    let mut args = match parse_plain(Box::new(base()), words) {
        Some(args) => args,
        None => match clap_reader::parse(base(), words)? {
            clap_reader::Parsed::Args(args) => args,
            clap_reader::Parsed::Print(text) => return Ok(Request::Print(text)),
        },
    };
    let whole = is_whole(&args);
    args.finish(whole)?;
    Ok(Request::Run(args))
}

/// The plain reader. `None`: something that clap has to read, or to refuse in words, also where it is a value that
/// is wrong: what stands behind it can be `--help`.
pub(crate) fn parse_plain(mut args: Box<Args>, words: &[OsString]) -> Option<Box<Args>> {
    let capcon = args.privileges.capcon;
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let bytes = word.as_encoded_bytes();
        if bytes == b"--" {
            break;
        }
        let Some(long) = bytes.strip_prefix(b"--") else {
            if bytes.starts_with(b"-") && bytes.len() > 1 {
                return None;
            }
            args.command.push(word.clone());
            break;
        };
        let (name, attached) = match long.iter().position(|b| *b == b'=') {
            Some(at) => (long.get(..at)?, long.get(at + 1..)),
            None => (long, None),
        };
        let option = options::find_as(std::str::from_utf8(name).ok()?, capcon)?;
        let value = match (option.takes, attached) {
            (Takes::Nothing, Some(_)) => return None,
            (Takes::Nothing | Takes::Optional(..), None) => None,
            (Takes::Value(_), None) => Some(rest.next()?.as_os_str()),
            (_, Some(value)) => {
                use std::os::unix::ffi::OsStrExt;
                Some(OsStr::from_bytes(value))
            }
        };
        apply(&mut args, option, value).ok()?;
    }
    args.command.extend(rest.cloned());
    Some(args)
}

/// Applies one occurrence of an option.
pub(crate) fn apply(args: &mut Args, option: &'static Opt, value: Option<&OsStr>) -> Result<(), Error> {
    let spelled = || match value {
        Some(value) if matches!(option.takes, Takes::Optional(..)) => {
            format!("--{}={}", option.name, printable(value.as_encoded_bytes()))
        }
        Some(value) if value.is_empty() => format!("--{} ''", option.name),
        Some(value) => format!("--{} {}", option.name, printable(value.as_encoded_bytes())),
        None => format!("--{}", option.name),
    };
    let result = match option.apply {
        Apply::Limit(limit) => {
            value.ok_or_else(String::new).and_then(text).and_then(|text| ask(args, limit, text, spelled()))
        }
        Apply::Set(set) => set(args, value.unwrap_or_default()),
    };
    result.map_err(|why| Error::new(why).option(spelled()))
}

fn ask(args: &mut Args, limit: &'static Limit, text: &str, spelled: String) -> Result<(), String> {
    let value = (limit.parse)(text)?;
    // The last one said holds, but for rules, which add up.
    if !limit.repeatable {
        args.limits.retain(|old| old.limit.name != limit.name);
    }
    args.limits.push(Asked { limit, spelled, value });
    Ok(())
}

/// A value as text.
///
/// # Errors
/// Bytes that are no UTF-8.
pub fn text(value: &OsStr) -> Result<&str, String> {
    match value.to_str() {
        Some("") => Err("the value is empty".to_owned()),
        Some(text) => Ok(text),
        None => Err("the value is not UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    /// Words of a command line, built from the table of options so that most of them mean something.
    fn words() -> impl Strategy<Value = Vec<OsString>> {
        let names: Vec<&'static Opt> = options::all().collect();
        let value = prop_oneof![
            prop::sample::select(vec![
                "30%", "2cpus", "64M", "25%", "max", "0", "100", "20ms", "0-1", "/:10M", "name", "A=b", "/x",
                "", "json", "--", "-", "--cpu", "-q", "gc", "a=b=c", "--mem=1G",
            ])
            .prop_map(OsString::from),
            prop::collection::vec(1u8..=255, 0..4).prop_map(OsString::from_vec),
        ];
        let option = (prop::sample::select(names), value.clone(), 0..8).prop_map(|(option, value, form)| {
            let name = format!("--{}", option.name);
            let attached = || {
                let mut word = OsString::from(format!("{name}="));
                word.push(&value);
                word
            };
            match (option.takes, form) {
                // Mostly as it is meant, now and then not.
                (Takes::Nothing, 0) | (Takes::Value(_), 1..4) | (Takes::Optional(_), 1..5) => {
                    vec![attached()]
                }
                (Takes::Nothing | Takes::Optional(_), _) | (Takes::Value(_), 0) => vec![name.into()],
                (Takes::Value(_), _) => vec![name.into(), value],
            }
        });
        let other = prop_oneof![
            4 => value.prop_map(|word| vec![word]),
            1 => Just(vec![OsString::from("--"), "true".into()]),
            1 => Just(vec![OsString::from("--no-such-option")]),
        ];
        let part = prop_oneof![6 => option, 1 => other];
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the plain reader takes upon itself, clap reads in the same way.
        #[test]
        fn both_readers_agree(words in words(), capcon in prop::bool::weighted(0.2)) {
            let mut base = Args::default();
            base.privileges.capcon = capcon;
            let Some(plain) = parse_plain(Box::new(base.clone()), &words) else { return Ok(()) };
            match clap_reader::parse(base, &words) {
                Ok(clap_reader::Parsed::Args(args)) => prop_assert_eq!(args, plain),
                Ok(clap_reader::Parsed::Print(text)) => prop_assert!(false, "clap prints {}", text),
                Err(error) => prop_assert!(false, "clap refuses: {}", error),
            }
        }

        /// No line is a panic, and a refusal says something.
        #[test]
        fn any_line_is_read_or_refused(words in prop::collection::vec(prop::collection::vec(1u8..=255, 0..12), 0..5)) {
            let words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
            if let Err(error) = parse(&words, false) {
                prop_assert!(!error.what.is_empty());
                prop_assert!(!error.to_string().contains('\x1b'));
            }
        }
    }

    #[test]
    fn help_and_version_behind_a_wrong_value() {
        for last in ["-V", "--version", "-h", "--help"] {
            let words = ["--cpu-period=30%", last].map(OsString::from);
            assert!(matches!(parse(&words, false), Ok(Request::Print(_))), "{last}");
        }
    }

    #[test]
    fn the_plain_reader_reads_the_plain_case() {
        // Else the test above would hold of a reader that reads nothing.
        for line in [
            "true",
            "--cpu 30% --mem=256M --pids 64 -- make test",
            "--io-write /:1M --io-write /x:2M --explain=json --quiet ls -l",
            "--explain -- --cpu",
            "-",
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert!(parse_plain(Box::default(), &words).is_some(), "{line}");
        }
    }
}
