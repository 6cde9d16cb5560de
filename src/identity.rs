//! Who the command runs as: words of the command line become numbers, by the passwd and group files. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use crate::error::{Error, printable};
use crate::passwd::{self, Accounts};

/// A user or group as it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// By number; it needs no entry anywhere.
    Number(u32),
    /// By name.
    Name(Vec<u8>),
}

/// Reads a name or a number.
///
/// # Errors
/// Empty, or a number that none can have.
pub fn who(word: &[u8]) -> Result<Who, String> {
    if word.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if word.iter().all(u8::is_ascii_digit) {
        return passwd::number(word).map(Who::Number).ok_or_else(|| {
            format!("{} is no user or group number: they end at 4294967294", printable(word))
        });
    }
    if word.contains(&b':') || word.contains(&0) {
        return Err(format!("{} is no name of a user or group", printable(word)));
    }
    Ok(Who::Name(word.to_vec()))
}

/// What was asked about the command's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--user NAME|UID`.
    pub user: Option<Who>,
    /// The group after the colon of `--user`, or `--gid`.
    pub group: Option<Who>,
    /// The group is that of `--user`.
    pub group_of_user: bool,
    /// `--groups`; empty: none.
    pub groups: Option<Vec<Who>>,
    /// HOME and its like stay the caller's.
    pub keep_env: bool,
}

/// Who the command runs as; nothing: as the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Real, effective and saved user.
    pub uid: Option<u32>,
    /// Real, effective and saved group.
    pub gid: Option<u32>,
    /// Supplementary groups.
    pub groups: Option<Vec<u32>>,
    /// HOME, USER, LOGNAME and SHELL of the user.
    pub variables: Vec<(OsString, OsString)>,
}

impl Asked {
    /// Was anything asked?
    #[must_use]
    pub fn any(&self) -> bool {
        self.user.is_some() || self.group.is_some() || self.groups.is_some()
    }

    /// Are the passwd and group files needed? A number alone still has a main group and a home there.
    #[must_use]
    pub fn needs_accounts(&self) -> bool {
        let named = |who: &Who| matches!(who, Who::Name(_));
        self.user.is_some()
            || self.group.as_ref().is_some_and(named)
            || self.groups.iter().flatten().any(named)
    }

    /// Looks everything up. The files are those of the root directory that the command will have.
    ///
    /// # Errors
    /// A name that has no entry; a number without an entry whose group nobody said.
    pub fn resolve(&self, accounts: &Accounts) -> Result<Identity, Error> {
        let entry = match &self.user {
            None => None,
            Some(Who::Number(uid)) => accounts.user_of(*uid),
            Some(Who::Name(name)) => {
                Some(accounts.user(name).ok_or_else(|| unknown("user", name, "--user "))?)
            }
        };
        let gid = match (&self.group, entry) {
            (Some(group), _) => {
                let option = match (&self.user, self.group_of_user) {
                    (Some(Who::Name(user)), true) => format!("--user {}:", printable(user)),
                    (Some(Who::Number(uid)), true) => format!("--user {uid}:"),
                    _ => "--gid ".to_owned(),
                };
                Some(group_number(group, accounts, &option)?)
            }
            (None, Some(user)) => Some(user.gid),
            (None, None) => None,
        };
        let uid = match &self.user {
            Some(Who::Number(uid)) => Some(*uid),
            _ => entry.map(|user| user.uid),
        };
        if let (Some(uid), None) = (uid, gid) {
            // Never leave the caller's group, which may be root's, to a user that was only half said.
            return Err(Error::new(format!(
                "user {uid} has no line in /etc/passwd, so its group is not known"
            ))
            .option(format!("--user {uid}"))
            .try_this(format!("--user {uid}:GROUP, by name or number")));
        }
        let groups = match (&self.groups, entry, uid, gid) {
            (Some(list), ..) => {
                let number = |one| group_number(one, accounts, "--groups ");
                Some(list.iter().map(number).collect::<Result<_, _>>()?)
            }
            (None, Some(user), _, Some(gid)) => Some(accounts.groups_of(&user.name, gid)),
            (None, None, Some(_), Some(gid)) => Some(vec![gid]),
            // --gid alone: the supplementary groups stay.
            _ => None,
        };
        let variables = match (uid, self.keep_env) {
            (Some(uid), false) => variables(uid, entry),
            _ => Vec::new(),
        };
        Ok(Identity { uid, gid, groups, variables })
    }
}

fn group_number(who: &Who, accounts: &Accounts, option: &str) -> Result<u32, Error> {
    match who {
        Who::Number(gid) => Ok(*gid),
        Who::Name(name) => {
            let group = accounts.group(name).ok_or_else(|| unknown("group", name, option))?;
            Ok(group.gid)
        }
    }
}

fn unknown(what: &str, name: &[u8], option: &str) -> Error {
    let file = if what == "user" { "/etc/passwd" } else { "/etc/group" };
    let name = printable(name);
    Error::new(format!("no {what} is called {name} in {file}")).option(format!("{option}{name}")).try_this(
        format!(
            "its number: {} {name} tells it where LDAP or the like knows it",
            match what {
                "user" => "id -u",
                _ => "getent group",
            }
        ),
    )
}

fn variables(uid: u32, entry: Option<&passwd::User>) -> Vec<(OsString, OsString)> {
    let name = entry.map_or_else(|| uid.to_string().into_bytes(), |user| user.name.clone());
    let or = |field: Option<&Vec<u8>>, default: &str| match field {
        Some(text) if !text.is_empty() => text.clone(),
        _ => default.as_bytes().to_vec(),
    };
    [
        ("HOME", or(entry.map(|user| &user.home), "/")),
        ("USER", name.clone()),
        ("LOGNAME", name),
        ("SHELL", or(entry.map(|user| &user.shell), "/bin/sh")),
    ]
    .into_iter()
    .map(|(name, value)| (OsStr::new(name).to_owned(), OsString::from_vec(value)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passwd::{Group, User};

    fn accounts() -> Accounts {
        let user =
            User { name: b"www".to_vec(), uid: 33, gid: 34, home: b"/srv".to_vec(), shell: Vec::new() };
        let group = |name: &str, gid, members: &[&str]| Group {
            name: name.into(),
            gid,
            members: members.iter().map(|member| member.as_bytes().to_vec()).collect(),
        };
        Accounts { users: vec![user], groups: vec![group("www", 34, &[]), group("ssl", 100, &["www"])] }
    }

    fn asked(user: &str, group: Option<&str>, groups: Option<&[&str]>) -> Asked {
        let who = |word: &str| who(word.as_bytes()).unwrap();
        Asked {
            user: Some(who(user)),
            group: group.map(who),
            group_of_user: false,
            groups: groups.map(|list| list.iter().map(|word| who(word)).collect()),
            keep_env: false,
        }
    }

    #[test]
    fn a_name_brings_all_that_belongs_to_it() {
        let found = asked("www", None, None).resolve(&accounts()).unwrap();
        assert_eq!((found.uid, found.gid, found.groups), (Some(33), Some(34), Some(vec![34, 100])));
        let variables: Vec<_> =
            found.variables.iter().map(|(n, v)| format!("{}={}", n.display(), v.display())).collect();
        assert_eq!(variables, ["HOME=/srv", "USER=www", "LOGNAME=www", "SHELL=/bin/sh"]);
        assert_eq!(asked("33", None, None).resolve(&accounts()).unwrap().groups, Some(vec![34, 100]));
    }

    #[test]
    fn what_is_said_wins() {
        let found = asked("www", Some("7"), Some(&["ssl", "8"])).resolve(&accounts()).unwrap();
        assert_eq!((found.gid, found.groups), (Some(7), Some(vec![100, 8])));
        let found = asked("www", None, Some(&[])).resolve(&accounts()).unwrap();
        assert_eq!((found.gid, found.groups), (Some(34), Some(Vec::new())));
    }

    #[test]
    fn nobody_is_half_known() {
        let message = |asked: Asked| asked.resolve(&accounts()).unwrap_err().to_string();
        assert!(message(asked("7", None, None)).contains("--user 7:GROUP"));
        assert!(message(asked("wwww", None, None)).contains("no user is called wwww in /etc/passwd"));
        assert!(
            message(asked("www", Some("x"), None)).contains("--gid x: no group is called x in /etc/group")
        );
        assert!(message(asked("www", None, Some(&["x"]))).contains("--groups x: no group"));
        let of_user = Asked { group_of_user: true, ..asked("www", Some("x"), None) };
        assert!(message(of_user).contains("--user www:x: no group"));
        let found = asked("7", Some("8"), None).resolve(&accounts()).unwrap();
        assert_eq!((found.uid, found.gid, found.groups), (Some(7), Some(8), Some(vec![8])));
        assert!(who(b"4294967295").is_err() && who(b"").is_err() && who(b"a:b").is_err());
    }
}
