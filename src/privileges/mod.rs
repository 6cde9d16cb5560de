//! What the command may do and who it is: what was asked and what the caller has become steps. Pure, but for
//! [`Facts::read`].

mod planner;
pub mod show;

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;

use crate::cage::Birth;
use crate::cage::idmap::{Maps, Range};
use crate::cage::namespaces::Kind;
use crate::capabilities::{List, Mask, Sets};
use crate::cli::Format;
use crate::error::Error;
use crate::identity::{self, Identity};
use crate::learn::Learn;
use crate::passwd::Accounts;
use crate::step::{Expected, Step};
use crate::sys::caps::{self, Posix};

/// What was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Called as capcon: no_new_privs unless said otherwise, and no supervisor where none is needed.
    pub capcon: bool,
    /// `--allow` and the original's `--cap-…`.
    pub allow: Option<List>,
    /// `--drop`.
    pub drop: Option<List>,
    /// `--bounding`, `--permitted`, `--effective`, `--inheritable`, `--ambient`, in the order of [`Sets::rows`].
    pub sets: [Option<List>; 5],
    /// `--securebits`.
    pub securebits: Option<u32>,
    /// `--no-new-privs`.
    pub no_new_privs: Option<bool>,
    /// Who the command runs as.
    pub identity: identity::Asked,
    /// `--learn`: watch what it needs.
    pub learn: Option<Learn>,
    /// `--show`: print the sets and stop.
    pub show: Option<Show>,
}

/// What `--show` shows, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Show {
    /// Of this process; of the caller, where none is given.
    pub pid: Option<u32>,
    /// For people, if nothing is said, or for programs.
    pub format: Option<Format>,
}

impl Asked {
    /// Does the plan depend on what the caller has?
    #[must_use]
    pub fn needs_facts(&self) -> bool {
        self.allow.is_some()
            || self.drop.is_some()
            || self.sets.iter().any(Option::is_some)
            || self.securebits.is_some()
            || self.no_new_privs == Some(false)
            || self.identity.any()
    }
}

/// What the caller has, and whom it asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Capabilities that this kernel has.
    pub known: Mask,
    /// The sets.
    pub sets: Sets,
    /// securebits flags.
    pub securebits: u32,
    /// no_new_privs is set.
    pub no_new_privs: bool,
    /// Real, effective, saved user.
    pub users: [u32; 3],
    /// Real, effective, saved group.
    pub groups: [u32; 3],
    /// Supplementary groups.
    pub supplementary: Vec<u32>,
    /// The command's identity, looked up.
    pub identity: Identity,
}

impl Facts {
    /// Reads the state of this process, and, where the identity asks for it, the passwd and group files below
    /// `root`: the directory that will be the command's root.
    ///
    /// # Errors
    /// A name that is not there.
    pub fn read(asked: &identity::Asked, root: &Path) -> Result<Self, Error> {
        let accounts = if asked.needs_accounts() { read_accounts(root)? } else { Accounts::default() };
        let identity = asked.resolve(&accounts)?;
        Self::current(identity)
            .map_err(|errno| Error::new("cannot read this process's capabilities").errno(errno))
    }

    fn current(identity: Identity) -> Result<Self, nix::errno::Errno> {
        let (bounding, known) = caps::bounding();
        let Posix { permitted, effective, inheritable } = caps::get()?;
        // Nothing else can be ambient (capabilities(7)).
        let ambient = caps::ambient(permitted & inheritable)?;
        let (users, groups) = caps::ids()?;
        let supplementary = match identity.groups {
            Some(_) => nix::unistd::getgroups()?.into_iter().map(nix::unistd::Gid::as_raw).collect(),
            None => Vec::new(),
        };
        Ok(Self {
            known,
            sets: Sets { bounding, permitted, effective, inheritable, ambient },
            securebits: caps::securebits()?,
            no_new_privs: caps::no_new_privs()?,
            users,
            groups,
            supplementary,
            identity,
        })
    }

    /// The same process after it has entered a user namespace: there it has every capability, over what belongs
    /// to that namespace (user_namespaces(7)).
    #[must_use]
    pub fn within(&self, inside: &Inside) -> Self {
        let all = self.known;
        Self {
            sets: Sets { bounding: all, permitted: all, effective: all, inheritable: 0, ambient: 0 },
            securebits: 0,
            users: inside.user(self.users),
            groups: inside.group(self.groups),
            // What is not mapped shows as another number, so there is nothing to compare with.
            supplementary: Vec::new(),
            ..self.clone()
        }
    }
}

#[inline(never)]
fn read_accounts(root: &Path) -> Result<Accounts, Error> {
    let dir = crate::cgroup::open_dir(root)
        .map_err(|errno| Error::new(format!("cannot open {}", root.display())).errno(errno))?;
    Accounts::read(dir.as_fd()).map_err(|(file, errno)| {
        let error = Error::new(format!("cannot read /{file}")).errno(errno);
        match errno {
            nix::errno::Errno::ENOSYS => error.try_this(
                "files of another root are read with openat2 (Linux 5.6), which this kernel, or a seccomp filter, does not offer",
            ),
            _ => error,
        }
    })
}

/// The user namespace that the command will be in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// The maps of a new one; one that is joined has its own, which are not looked at.
    maps: Option<Maps>,
}

impl Inside {
    /// Of this birth; nothing: it stays in the caller's.
    #[must_use]
    pub fn of(birth: &Birth) -> Option<Self> {
        let joins = birth.joins.iter().any(|join| join.kind == Kind::User);
        (birth.new.has(Kind::User) || joins).then(|| Self { maps: birth.maps.clone() })
    }

    fn user(&self, ids: [u32; 3]) -> [u32; 3] {
        self.maps.as_ref().map_or(ids, |maps| translate(ids, &maps.users, maps.become_zero))
    }

    fn group(&self, ids: [u32; 3]) -> [u32; 3] {
        self.maps.as_ref().map_or(ids, |maps| translate(ids, &maps.groups, maps.become_zero))
    }

    /// Supplementary groups cannot be changed in it: an ordinary user gave that up for the map.
    fn keeps_groups(&self) -> bool {
        self.maps.as_ref().is_some_and(|maps| maps.deny_setgroups)
    }
}

fn translate(ids: [u32; 3], ranges: &[Range], become_zero: bool) -> [u32; 3] {
    if become_zero {
        return [0; 3];
    }
    ids.map(|id| {
        let range = ranges.iter().find(|range| id >= range.outside && id - range.outside < range.count);
        range.map_or(id, |range| range.inside + (id - range.outside))
    })
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Changes, in order.
    pub steps: Vec<Step>,
    /// Reading back what the changes did; goes after everything that may change it.
    pub checks: Vec<Step>,
    /// Variables of the user.
    pub variables: Vec<(OsString, OsString)>,
    /// What deserves a word when it runs.
    pub notes: Vec<String>,
    /// The sets of the command after exec, where something was asked of them.
    pub sets: Option<Sets>,
}

/// Makes the steps.
///
/// # Errors
/// What the caller cannot give, naming the capability, the set and the reason.
pub fn plan(asked: &Asked, facts: Option<&Facts>, inside: Option<&Inside>) -> Result<Planned, Error> {
    let no_new_privs = asked.no_new_privs.unwrap_or(asked.capcon);
    let Some(facts) = facts.filter(|_| asked.needs_facts()) else {
        let mut out = Planned::default();
        if no_new_privs {
            out.steps.push(Step::NoNewPrivs);
            out.checks.push(Step::Verify(Expected::NoNewPrivs));
        }
        return Ok(out);
    };
    if asked.no_new_privs == Some(false) && facts.no_new_privs {
        return Err(Error::new("the caller has no_new_privs set already, and nothing can unset it")
            .option("--no-new-privs=no"));
    }
    let mut facts = Cow::Borrowed(facts);
    let mut notes = Vec::new();
    if let Some(inside) = inside {
        facts = Cow::Owned(facts.within(inside));
        if inside.keeps_groups() && facts.identity.groups.is_some() {
            if asked.identity.groups.is_some() {
                return Err(Error::new("an ordinary user's namespace cannot change supplementary groups")
                    .option("--groups")
                    .try_this("leave them alone, or let root lend group numbers in /etc/subgid and use --map-groups"));
            }
            facts.to_mut().identity.groups = None;
            notes.push(
                "the supplementary groups stay the caller's: an ordinary user's namespace cannot change them"
                    .to_owned(),
            );
        }
    }
    let mut planned = planner::Planner { asked, facts: &facts, no_new_privs }.plan()?;
    planned.notes.splice(0..0, notes);
    Ok(planned)
}

/// What to do about a step that the kernel refused.
#[must_use]
pub fn hint(step: &Step, errno: nix::errno::Errno) -> Option<&'static str> {
    use nix::errno::Errno;
    match (step, errno) {
        (Step::SetUser(_) | Step::SetGroup(_) | Step::SetGroups(_), Errno::EINVAL) => {
            Some("a user or group that the user namespace maps (cat /proc/self/uid_map)")
        }
        (Step::SetGroups(_), Errno::EPERM) => {
            Some("a user namespace that allows it (/proc/self/setgroups), or leave the groups alone")
        }
        (Step::SetSecurebits(_), Errno::EPERM) => {
            Some("without exec-restrict-file and exec-deny-interactive, which came with Linux 6.14")
        }
        _ => None,
    }
}
