//! The command's environment: the caller's, unless something was asked or an option brings variables with it.
//! Pure.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// One change, in the order of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `--env NAME=VALUE`.
    Set(OsString, OsString),
    /// `--unset NAME`.
    Unset(OsString),
    /// `--clear-env`.
    Clear,
    /// The caller's variables go, those that options bring stay: an image's environment.
    Forget,
    /// `--env-file`: what this file holds.
    File(PathBuf),
    /// What follows was said on top of what comes before: by the line on top of a profile or an image.
    OnTop,
}

/// Reads the text of an `--env-file`: `NAME=VALUE` lines; `#` begins a comment; a line with a name alone takes the
/// value that `inherited` has for it, as docker has it. Nothing is quoted, so nothing is unquoted.
///
/// # Errors
/// The first line that is neither.
pub fn parse_file(
    text: &[u8],
    inherited: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    for (number, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii().is_empty() || line.starts_with(b"#") {
            continue;
        }
        if line.contains(&0) {
            return Err(format!("line {}: it holds a NUL byte", number + 1));
        }
        let word = OsStr::from_bytes(line);
        if line.contains(&b'=') {
            changes.push(assignment(word).map_err(|why| format!("line {}: {why}", number + 1))?);
        } else if let Some(value) = inherited(word) {
            changes.push(Change::Set(word.to_owned(), value));
        }
    }
    Ok(changes)
}

/// The changes with each file replaced by what was read from it. A variable that is named wins over the files that
/// were said beside it, before it or after it, as docker has it.
#[must_use]
pub fn expanded(changes: &[Change], files: &[Vec<Change>]) -> Vec<Change> {
    let mut files = files.iter();
    let mut out = Vec::with_capacity(changes.len());
    for said_at_once in changes.split(|change| *change == Change::OnTop) {
        let is = |wanted: u8| {
            said_at_once.iter().filter(move |change| {
                let kind = match change {
                    Change::Clear | Change::Forget => 0,
                    Change::File(_) => 1,
                    _ => 2,
                };
                kind == wanted
            })
        };
        out.extend(is(0).cloned());
        is(1).for_each(|_| out.extend(files.next().into_iter().flatten().cloned()));
        out.extend(is(2).cloned());
    }
    out
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
/// `changes` (expanded), which the user asked for by name and so win. Entries are `NAME=VALUE`.
#[must_use]
pub fn changed(inherited: &[CString], brought: &[(OsString, OsString)], changes: &[Change]) -> Vec<CString> {
    let forgotten = changes.contains(&Change::Forget);
    let mut entries = if forgotten { Vec::new() } else { inherited.to_vec() };
    for (name, value) in brought {
        set(&mut entries, name, value);
    }
    for change in changes {
        match change {
            Change::Set(name, value) => set(&mut entries, name, value),
            Change::Unset(name) => unset(&mut entries, name),
            Change::Clear => entries.clear(),
            // Done above; replaced by what they hold.
            Change::Forget | Change::File(_) | Change::OnTop => {}
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
        let nothing = |_: &OsStr| None;
        let lines = parse_file(b"# comment\nA=1=2\nHOME\n\nB=\r\n", nothing).unwrap();
        assert_eq!(lines, [Change::Set("A".into(), "1=2".into()), Change::Set("B".into(), "".into())]);
        assert!(parse_file(b"=x", nothing).is_err() && parse_file(b"A=\0", nothing).is_err());
        let taken = parse_file(b"HOME\nGONE\n", |name| (name == "HOME").then(|| "/root".into())).unwrap();
        assert_eq!(taken, [Change::Set("HOME".into(), "/root".into())]);
        let all = expanded(&[Change::Clear, Change::File("f".into())], &[lines]);
        assert_eq!(changed(&inherited, &[], &all), [c"A=1=2".to_owned(), c"B=".to_owned()]);
        let (file, named) = (Change::File("f".into()), assignment(OsStr::new("A=named")).unwrap());
        let filed = vec![assignment(OsStr::new("A=file")).unwrap()];
        for (said, wins) in [
            (vec![named.clone(), file.clone()], c"A=named"),
            (vec![file.clone(), named.clone()], c"A=named"),
            (vec![named.clone(), Change::OnTop, file.clone()], c"A=file"),
            (vec![file.clone(), Change::OnTop, named.clone()], c"A=named"),
        ] {
            let all = expanded(&said, std::slice::from_ref(&filed));
            assert_eq!(changed(&[], &[], &all), [wins.to_owned()], "{said:?}");
        }
        let all = expanded(&[Change::Unset("A".into()), file], &[filed]);
        assert_eq!(changed(&inherited, &[], &all), [c"HOME=/root".to_owned(), c"AB=2".to_owned()]);
        let forgotten = changed(&inherited, &brought, &[Change::Forget]);
        assert_eq!(forgotten, [c"HOME=/nonexistent".to_owned()]);
        assert_eq!(get(&inherited, "A"), Some(OsStr::new("1")));
        assert!(assignment(OsStr::new("=x")).is_err() && assignment(OsStr::new("x")).is_err());
    }
}
