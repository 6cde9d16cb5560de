//! Profiles: options of the run form in files, so that a line need not repeat them. TOML; keys are long option
//! names, values what would stand on the line, and `extends` names what a profile builds on.

mod file;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::cli::options::{self, Opt, Takes};
use crate::cli::{Args, apply};
use crate::environment::Change;
use crate::error::{Error, printable};
use crate::order;

/// One option that a profile gives.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its row.
    pub option: &'static Opt,
    /// Its value.
    pub value: Option<OsString>,
    /// `/etc/rcon/profiles/ci.toml:3`.
    pub origin: String,
}

impl Entry {
    /// As it would stand on a command line.
    #[must_use]
    pub fn spelled(&self) -> String {
        match (&self.value, self.option.takes) {
            (None, _) => format!("--{}", self.option.name),
            (Some(value), Takes::Optional(_)) => {
                format!("--{}={}", self.option.name, printable(value.as_encoded_bytes()))
            }
            (Some(value), _) => format!("--{} {}", self.option.name, printable(value.as_encoded_bytes())),
        }
    }
}

/// What only makes sense on a line, or would hide what is run.
const NOT_IN_A_FILE: [&str; 8] = ["profile", "command", "explain", "dry-run", "show", "pid", "format", "man"];

/// How many profiles may build on each other.
const DEPTH: usize = 16;

/// Where profiles are looked for, the user's own first.
#[must_use]
pub fn directories() -> Vec<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".config"));
    let own = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let own = own.or_else(home).filter(|dir| dir.is_absolute()).map(|dir| dir.join("rcon/profiles"));
    own.into_iter().chain([PathBuf::from("/etc/rcon/profiles")]).collect()
}

/// Reads the name of a profile.
///
/// # Errors
/// Says what a name may be: never a path.
pub fn name(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.@+-".contains(&b);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) || text.starts_with(['.', '-']) {
        return Err("give the name of a profile: letters, digits, and _ . @ + -".to_owned());
    }
    Ok(text.to_owned())
}

/// The options of these profiles, what they build on first.
///
/// # Errors
/// No such profile; one that cannot be trusted, read or understood.
pub fn load(names: &[String], capcon: bool) -> Result<Vec<Entry>, Error> {
    let mut out = Vec::new();
    for name in names {
        add(name, capcon, &mut Vec::new(), &mut out)?;
    }
    Ok(out)
}

/// Applies them, each checked by its option's own reader.
///
/// # Errors
/// The first value that is none, with file and line.
pub fn applied(entries: &[Entry], mut args: Args) -> Result<Args, Error> {
    let mut file = None;
    for entry in entries {
        let next = entry.origin.rsplit_once(':').map(|(file, _)| file);
        if next != file {
            on_top(&mut args);
            file = next;
        }
        apply(&mut args, entry.option, entry.value.as_deref())
            .map_err(|error| Error { what: format!("{}: {}", entry.origin, error.what), ..error })?;
    }
    on_top(&mut args);
    Ok(args)
}

/// The variables that come now win over those that are there already.
fn on_top(args: &mut Args) {
    if !args.environment.is_empty() {
        args.environment.push(Change::OnTop);
    }
}

fn add(name: &str, capcon: bool, chain: &mut Vec<String>, out: &mut Vec<Entry>) -> Result<(), Error> {
    if chain.iter().any(|one| one == name) || chain.len() >= DEPTH {
        chain.push(name.to_owned());
        return Err(Error::new(format!("profiles extend each other without end: {}", chain.join(", "))));
    }
    let path = find(name)?;
    let text = file::read(&path)?;
    let profile = parse(&path, &text, capcon)?;
    chain.push(name.to_owned());
    for base in &profile.extends {
        add(base, capcon, chain, out)?;
    }
    chain.pop();
    out.retain(|entry| !profile.off.contains(&entry.option.name));
    out.extend(profile.entries);
    Ok(())
}

fn find(name: &str) -> Result<PathBuf, Error> {
    let places = directories();
    let file = format!("{name}.toml");
    places.iter().map(|dir| dir.join(&file)).find(|path| path.symlink_metadata().is_ok()).ok_or_else(|| {
        let shown: Vec<String> = places.iter().map(|dir| dir.display().to_string()).collect();
        Error::new(format!("there is no {file} in {}", shown.join(" or ")))
            .option(format!("--profile {name}"))
            .try_this("rcon profile ls")
    })
}

/// A file's content.
#[derive(Debug)]
pub struct Profile {
    /// What it builds on.
    pub extends: Vec<String>,
    /// Names of options that are `false`: what it builds on may have switched them on.
    pub off: Vec<&'static str>,
    /// Its own options, in the file's order.
    pub entries: Vec<Entry>,
}

/// Reads a file's content.
///
/// # Errors
/// What is wrong first, with file and line.
pub fn parse(path: &Path, text: &str, capcon: bool) -> Result<Profile, Error> {
    let (profile, wrong) = understood(path, text, capcon)?;
    wrong.into_iter().next().map_or(Ok(profile), Err)
}

/// What can be understood of a file's content, and what is wrong with the rest; `Err`: it is no TOML.
fn understood(path: &Path, text: &str, capcon: bool) -> Result<(Profile, Vec<Error>), Error> {
    let shown = printable(path.as_os_str().as_encoded_bytes());
    let line_of = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        Error::new(format!("{shown}:{line}: {}", printable(error.message().as_bytes())))
    })?;
    let mut rows: Vec<_> = table.get_ref().iter().collect();
    // The table is sorted by key; the order of options is the file's.
    order::sort_by_key(&mut rows, |(key, _)| key.span().start);
    let mut profile = Profile { extends: Vec::new(), off: Vec::new(), entries: Vec::new() };
    let mut wrong = Vec::new();
    for (key, value) in rows {
        let origin = format!("{shown}:{}", line_of(key.span().start));
        if let Err(why) = profile.add(key.get_ref(), value.get_ref(), &origin, capcon) {
            let word = printable(key.get_ref().as_bytes());
            wrong.push(Error::new(format!("{origin}: {word}: {why}")));
        }
    }
    Ok((profile, wrong))
}

impl Profile {
    /// Takes one key with its value.
    fn add(&mut self, key: &str, value: &DeValue, origin: &str, capcon: bool) -> Result<(), String> {
        let values = flatten(value)?;
        if key == "extends" {
            for value in values {
                let Plain::Text(base) = value else { return Err("give names of profiles".to_owned()) };
                self.extends.push(name(&base)?);
            }
            return Ok(());
        }
        let option = options::find_as(key, capcon)
            .filter(|option| !NOT_IN_A_FILE.contains(&option.name))
            .ok_or("no option that a profile can give has this name (rcon --help lists them)")?;
        for value in values {
            let value = match (option.takes, value) {
                (Takes::Nothing | Takes::Optional(_), Plain::Yes(true)) => None,
                (Takes::Nothing | Takes::Optional(_), Plain::Yes(false)) => {
                    self.off.push(option.name);
                    continue;
                }
                (Takes::Nothing, _) => {
                    return Err("give true or false: this option takes no value".to_owned());
                }
                (Takes::Value(what), Plain::Yes(_)) => {
                    return Err(format!("give a value ({what}), not true or false"));
                }
                (_, Plain::Text(text)) => Some(OsString::from(text)),
            };
            self.entries.push(Entry { option, value, origin: origin.to_owned() });
        }
        Ok(())
    }
}

enum Plain {
    Text(String),
    Yes(bool),
}

/// A value, or the values of a list; numbers as they are written.
fn flatten(value: &DeValue) -> Result<Vec<Plain>, String> {
    Ok(match value {
        DeValue::String(text) => vec![Plain::Text(text.to_string())],
        DeValue::Integer(number) if number.radix() == 10 => vec![Plain::Text(number.as_str().to_owned())],
        DeValue::Boolean(yes) => vec![Plain::Yes(*yes)],
        DeValue::Array(list) => {
            let mut out = Vec::new();
            for one in list.iter() {
                match one.get_ref() {
                    DeValue::Array(_) => return Err("a list in a list".to_owned()),
                    one => out.extend(flatten(one)?),
                }
            }
            out
        }
        other => {
            return Err(format!(
                "give a string, a whole number, true, or a list, not a {}",
                other.type_str()
            ));
        }
    })
}

/// All profiles that can be named: (name, file), the one that is used where two have one name.
#[must_use]
pub fn all() -> Vec<(String, PathBuf)> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for dir in directories() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let stem = path.file_stem().and_then(OsStr::to_str).and_then(|stem| name(stem).ok());
            if let (Some(stem), Some("toml")) = (stem, path.extension().and_then(OsStr::to_str))
                && seen.insert(stem.clone())
            {
                out.push((stem, path));
            }
        }
    }
    order::sort_by(&mut out, Ord::cmp);
    out
}

/// Checks a file, named or given by its path: everything that is wrong with it.
#[must_use]
pub fn check(path: &Path) -> Vec<Error> {
    let (profile, mut wrong) = match file::read(path).and_then(|text| understood(path, &text, false)) {
        Ok(understood) => understood,
        Err(error) => return vec![error],
    };
    let taken = |entry| applied(std::slice::from_ref(entry), Args::default());
    wrong.extend(profile.entries.iter().filter_map(|entry| taken(entry).err()));
    let mut chain = vec![path.file_stem().unwrap_or_default().to_string_lossy().into_owned()];
    for base in &profile.extends {
        wrong.extend(add(base, false, &mut chain, &mut Vec::new()).err());
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let path = Path::new("/p/ci.toml");
        match parse(path, text, false).and_then(|p| applied(&p.entries, Args::default()).map(drop)) {
            Err(error) => error.to_string(),
            Ok(()) => panic!("taken: {text}"),
        }
    }

    #[test]
    fn options_keep_the_order_and_the_lines_of_the_file() {
        let text = "# for CI\nextends = [\"base\", \"net\"]\npids = 64\n\nmem = \"256M\"\nio-write = [\"8:0:10M\", \"8:16:20M\"]\nwait-all = true\nbest-effort = false\n";
        let profile = parse(Path::new("/p/ci.toml"), text, false).unwrap();
        assert_eq!(profile.extends, ["base", "net"]);
        let lines: Vec<String> =
            profile.entries.iter().map(|entry| format!("{} {}", entry.origin, entry.spelled())).collect();
        assert_eq!(
            lines,
            [
                "/p/ci.toml:3 --pids 64",
                "/p/ci.toml:5 --mem 256M",
                "/p/ci.toml:6 --io-write 8:0:10M",
                "/p/ci.toml:6 --io-write 8:16:20M",
                "/p/ci.toml:7 --wait-all"
            ]
        );
        let args = applied(&profile.entries, Args::default()).unwrap();
        assert!(args.wait_all && !args.best_effort && args.limits.len() == 4);
    }

    #[test]
    fn mistakes_name_file_and_line() {
        assert!(wrong("\npids = 64\nmem = \"12Q\"\n").contains("/p/ci.toml:3"));
        assert!(wrong("memm = \"1G\"").contains("/p/ci.toml:1: memm: no option"));
        assert!(wrong("\n\nmem = \n").contains("/p/ci.toml:3"));
        assert!(wrong("mem = true").contains("not true or false"));
        assert!(wrong("wait-all = \"yes\"").contains("takes no value"));
        assert!(wrong("[mem]\nx = 1").contains("a table") || wrong("[mem]\nx = 1").contains("table"));
        assert!(wrong("command = \"x\"").contains("no option"));
        assert!(wrong("extends = \"../x\"").contains("name of a profile"));
        assert!(wrong("\"\\u001b[31m\" = 1").contains("\\u{1b}"));
        assert!(wrong("cpu = 1.5").contains("float"));
    }
}
