//! What the generators loop over: options of the run form and of each subcommand, and what each option's value is.

use clap::{Arg, Command};

/// What can be offered for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It takes none.
    Flag,
    Capabilities,
    Signals,
    Runs,
    Profiles,
    Directories,
    Files,
    Users,
    Groups,
    Processes,
    /// Free text.
    Text,
}

impl Kind {
    /// Its name in the scripts.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Capabilities => "capabilities",
            Self::Signals => "signals",
            Self::Runs => "runs",
            Self::Profiles => "profiles",
            Self::Directories => "directories",
            Self::Files => "files",
            Self::Users => "users",
            Self::Groups => "groups",
            Self::Processes => "processes",
            Self::Text => "text",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Switch {
    pub(crate) long: String,
    pub(crate) short: Option<char>,
    pub(crate) help: String,
    pub(crate) value: String,
    pub(crate) kind: Kind,
    /// The value may be left out, and stands behind `=`.
    pub(crate) optional: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Sub {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) switches: Vec<Switch>,
    /// What its words are; nothing: it takes none. `exec` goes on with a command.
    pub(crate) words: Option<Kind>,
    /// Its own subcommands.
    pub(crate) subs: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) switches: Vec<Switch>,
    pub(crate) subs: Vec<Sub>,
}

impl Program {
    pub(crate) fn rcon() -> Self {
        let command = rcon::cli::command(false);
        Self {
            name: "rcon",
            switches: switches(&command),
            subs: command.get_subcommands().map(sub).collect(),
        }
    }

    pub(crate) fn capcon() -> Self {
        Self { name: "capcon", switches: switches(&rcon::cli::command(true)), subs: Vec::new() }
    }

    /// `--long` and `-s` of all switches that take a value as the next word.
    pub(crate) fn with_values(&self) -> Vec<String> {
        let takes = self.switches.iter().filter(|switch| switch.kind != Kind::Flag && !switch.optional);
        takes.flat_map(Switch::spellings).collect()
    }
}

impl Switch {
    pub(crate) fn spellings(&self) -> Vec<String> {
        let short = self.short.map(|short| format!("-{short}"));
        std::iter::once(format!("--{}", self.long)).chain(short).collect()
    }
}

fn sub(command: &Command) -> Sub {
    let words = command.get_positionals().next().map(|arg| match arg.get_id().as_str() {
        "NAME" if command.get_name() == "profile" => Kind::Profiles,
        "NAME" => Kind::Runs,
        "PID" => Kind::Processes,
        _ => Kind::Files,
    });
    Sub {
        name: command.get_name().to_owned(),
        about: command.get_about().map(ToString::to_string).unwrap_or_default(),
        switches: switches(command),
        words: if command.get_name() == "profile" { Some(Kind::Profiles) } else { words },
        subs: command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect(),
    }
}

fn switches(command: &Command) -> Vec<Switch> {
    let mut all: Vec<Switch> =
        command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(switch).collect();
    for (long, short, help) in [("help", 'h', "Print help"), ("version", 'V', "Print the version")] {
        let known = all.iter().any(|switch| switch.long == long);
        if !known && (long == "help" || command.get_version().is_some()) {
            let (long, help) = (long.to_owned(), help.to_owned());
            all.push(Switch {
                long,
                short: Some(short),
                help,
                value: String::new(),
                kind: Kind::Flag,
                optional: false,
            });
        }
    }
    all
}

fn switch(arg: &Arg) -> Option<Switch> {
    let takes = arg.get_action().takes_values();
    let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    let value = value.filter(|_| takes).unwrap_or_default();
    let long = arg.get_long()?.to_owned();
    let kind = if takes { kind(&long, &value) } else { Kind::Flag };
    Some(Switch {
        kind,
        short: arg.get_short(),
        help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
        optional: takes && arg.get_num_args().is_some_and(|range| range.min_values() == 0),
        value,
        long,
    })
}

fn kind(long: &str, value: &str) -> Kind {
    match (long, value) {
        ("profile", _) => Kind::Profiles,
        ("name" | "group", "NAME") => Kind::Runs,
        (_, "CAP,...") => Kind::Capabilities,
        (_, "SIGNAL") => Kind::Signals,
        (_, "PID") => Kind::Processes,
        (_, "DIR") => Kind::Directories,
        (_, "USER[:GROUP]") => Kind::Users,
        (_, "GROUP" | "GROUP,..." | "GID") => Kind::Groups,
        ("cgroup-parent", _) => Kind::Text,
        (_, value) if ["FILE", "PATH", "SRC", "DST"].iter().any(|word| value.starts_with(word)) => {
            Kind::Files
        }
        _ => Kind::Text,
    }
}

/// Capability names as users write them.
pub(crate) fn capabilities() -> Vec<String> {
    let mut names: Vec<String> = (0..=40).map(rcon::capabilities::name).collect();
    names.extend(["all".to_owned(), "none".to_owned()]);
    names
}
