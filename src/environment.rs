//! The command's environment: the caller's, unless something was asked or an option brings variables with it.
//! Pure.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// One change, in the order of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `--env NAME=VALUE`.
    Set(OsString, OsString),
    /// `--unset NAME`.
    Unset(OsString),
    /// `--clear-env`.
    Clear,
}

/// Reads `NAME=VALUE`.
///
/// # Errors
/// No name, or no `=`.
pub fn assignment(word: &OsStr) -> Result<Change, String> {
    let bytes = word.as_bytes();
    match bytes.iter().position(|b| *b == b'=') {
        Some(at) if at > 0 => {
            let (name, value) = bytes.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            Ok(Change::Set(OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
        }
        _ => Err("give NAME=VALUE".to_owned()),
    }
}

/// Reads the name of a variable.
///
/// # Errors
/// An empty name, or one with `=`.
pub fn name(word: &OsStr) -> Result<OsString, String> {
    if word.is_empty() || word.as_bytes().contains(&b'=') {
        return Err("give the name of a variable".to_owned());
    }
    Ok(word.to_owned())
}

/// The environment after `brought` (what other options bring: HOME with a user, hints with limits) and then
/// `changes`, which the user asked for by name and so win. Entries are `NAME=VALUE`.
#[must_use]
pub fn changed(inherited: &[CString], brought: &[(OsString, OsString)], changes: &[Change]) -> Vec<CString> {
    let mut entries = inherited.to_vec();
    for (name, value) in brought {
        set(&mut entries, name, value);
    }
    for change in changes {
        match change {
            Change::Set(name, value) => set(&mut entries, name, value),
            Change::Unset(name) => unset(&mut entries, name),
            Change::Clear => entries.clear(),
        }
    }
    entries
}

fn unset(entries: &mut Vec<CString>, name: &OsStr) {
    entries.retain(|entry| {
        let rest = entry.as_bytes().strip_prefix(name.as_bytes());
        !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
    });
}

fn set(entries: &mut Vec<CString>, name: &OsStr, value: &OsStr) {
    unset(entries, name);
    let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
    // Neither can hold NUL: both come from an argument vector, an environment or a file that was checked.
    entries.extend(CString::new(entry));
}

/// The value of a variable.
#[must_use]
pub fn get<'a>(entries: &'a [CString], name: &str) -> Option<&'a OsStr> {
    entries.iter().find_map(|entry| {
        entry.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(OsStr::from_bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_wins_over_what_is_brought() {
        let inherited = [c"HOME=/root".to_owned(), c"A=1".to_owned(), c"AB=2".to_owned()];
        let brought = [("HOME".into(), "/nonexistent".into())];
        let changes = [assignment(OsStr::new("HOME=/x=y")).unwrap(), Change::Unset("A".into())];
        assert_eq!(changed(&inherited, &brought, &changes), [c"AB=2".to_owned(), c"HOME=/x=y".to_owned()]);
        assert_eq!(changed(&inherited, &[], &[Change::Clear]), Vec::<CString>::new());
        assert_eq!(get(&inherited, "A"), Some(OsStr::new("1")));
        assert!(assignment(OsStr::new("=x")).is_err() && assignment(OsStr::new("x")).is_err());
    }
}
