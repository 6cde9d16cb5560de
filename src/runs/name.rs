//! What the user calls a run. Pure.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;

/// Options by which a run can be found again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--name`.
    pub name: Option<Name>,
    /// `--profile`, in order.
    pub profiles: Vec<String>,
}

/// `--name`: for one run at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// This one.
    Exact(String),
    /// The first free number between these two: `build%n`.
    Numbered(String, String),
}

/// What every name may be made of.
const PLAIN: &str = "give up to 64 letters, digits, and _ . @ + - (not first: . and -)";

/// Can a run be found by this name, which is `bare` but for what stands for a number?
fn check(text: &str, bare: &str, help: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.@+-".contains(&b);
    if bare.is_empty() || text.len() > 64 || !bare.bytes().all(plain) || text.starts_with(['.', '-']) {
        return Err(help.to_owned());
    }
    if bare.bytes().all(|b| b.is_ascii_digit()) {
        return Err("a name of digits alone would be taken for the number of a process".to_owned());
    }
    if text.ends_with(".self") {
        return Err("names that end in .self are rcon's own".to_owned());
    }
    Ok(())
}

/// Reads the name of a group that runs share: `--group`.
///
/// # Errors
/// Says what a name may be.
pub fn shared(text: &str) -> Result<String, String> {
    check(text, text, PLAIN).map(|()| text.to_owned())
}

impl Name {
    /// Reads one.
    ///
    /// # Errors
    /// Says what a name may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bare = text.replacen("%n", "", 1);
        check(text, &bare, &format!("{PLAIN}, and %n once for a number"))?;
        Ok(match text.split_once("%n") {
            Some((before, after)) => Self::Numbered(before.to_owned(), after.to_owned()),
            None => Self::Exact(text.to_owned()),
        })
    }

    /// Is it this one, or one of these with a number?
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        match self {
            Self::Exact(own) => name == own,
            Self::Numbered(before, after) => {
                let number =
                    name.strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(after.as_str()));
                number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
            }
        }
    }

    /// The name itself, where `taken` are in use; `Err`: it is in use.
    ///
    /// # Errors
    /// The name that is in use.
    pub fn choose(&self, taken: &BTreeSet<OsString>) -> Result<String, String> {
        let free = |name: &String| !taken.contains(std::ffi::OsStr::new(name));
        match self {
            Self::Exact(name) if free(name) => Ok(name.clone()),
            Self::Exact(name) => Err(name.clone()),
            // One more number than names are taken: one of them is free.
            Self::Numbered(before, after) => (1..=taken.len() + 1)
                .map(|n| format!("{before}{n}{after}"))
                .find(free)
                .ok_or_else(|| self.to_string()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Numbered(before, after) => write!(f, "{before}%n{after}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_first_free_ones() {
        let taken: BTreeSet<OsString> = ["b1", "b3", "c"].into_iter().map(OsString::from).collect();
        let name = |text: &str| Name::parse(text).unwrap();
        assert_eq!(name("b%n").choose(&taken), Ok("b2".to_owned()));
        assert_eq!(name("%n.x").choose(&taken), Ok("1.x".to_owned()));
        assert_eq!(name("c").choose(&taken), Err("c".to_owned()));
        assert_eq!(name("d").choose(&taken), Ok("d".to_owned()));
    }

    #[test]
    fn hostile_names_are_refused() {
        for text in
            ["", "..", ".x", "-x", "a/b", "a b", "a\nb", "\u{1b}[31m", "12", "a%n%n", "%n", "ä", "x.self"]
        {
            assert!(Name::parse(text).is_err() && shared(text).is_err(), "{text:?}");
        }
        assert!(shared("b%n").is_err() && shared("12a").is_ok());
    }
}
