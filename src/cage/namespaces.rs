//! Which namespaces are made new, and which are joined.

use std::path::PathBuf;

/// A kind of namespace (namespaces(7)), in the order in which they are named everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// User and group ids, capabilities.
    User,
    /// Mounts.
    Mount,
    /// Process ids.
    Pid,
    /// Network.
    Net,
    /// System V IPC, POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// The view of the cgroup tree.
    Cgroup,
    /// Monotonic and boot time clocks.
    Time,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Mount, Self::Pid, Self::Net, Self::Ipc, Self::Uts, Self::Cgroup, Self::Time];

    /// The name that users give and see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// Its file in /proc/PID/ns.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            other => other.name(),
        }
    }

    /// The bit for clone3(2), unshare(2) and setns(2).
    #[must_use]
    pub fn flag(self) -> i32 {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Net => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Time => libc::CLONE_NEWTIME,
        }
    }

    fn parse(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == word || kind.file() == word);
        known.or((word == "network").then_some(Self::Net)).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("there is no namespace {word:?}: choose of {}, or all", names.join(", "))
        })
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(i32);

impl Set {
    /// Is the kind in it?
    #[must_use]
    pub fn has(self, kind: Kind) -> bool {
        self.0 & kind.flag() != 0
    }

    /// Puts the kind in.
    pub fn add(&mut self, kind: Kind) {
        self.0 |= kind.flag();
    }

    /// Nothing in it?
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its kinds.
    pub fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }

    /// The kinds that the child is created with. A cgroup namespace has its creator's group as root, so that the
    /// child of a group makes it after joining; the clocks of a time namespace are set before anybody is in it.
    #[must_use]
    pub fn at_birth(self) -> u64 {
        self.0 as u64 & !Self::AFTER_BIRTH
    }

    /// Those of the others that it may be created with as well, where the kernel can: there is no group to join, and
    /// no clock to set.
    #[must_use]
    pub fn early(self, joins: bool, sets_clocks: bool) -> u64 {
        let late =
            if joins { libc::CLONE_NEWCGROUP } else { 0 } | if sets_clocks { libc::CLONE_NEWTIME } else { 0 };
        self.0 as u64 & Self::AFTER_BIRTH & !(late as u64)
    }

    const AFTER_BIRTH: u64 = (libc::CLONE_NEWCGROUP | libc::CLONE_NEWTIME) as u64;

    /// Adds a list: `mount,pid`, `all`.
    ///
    /// # Errors
    /// A name that is none.
    pub fn add_list(&mut self, list: &str) -> Result<(), String> {
        for word in list.split(',') {
            if word == "all" {
                Kind::ALL.into_iter().for_each(|kind| self.add(kind));
            } else {
                self.add(Kind::parse(word)?);
            }
        }
        Ok(())
    }
}

/// A namespace to enter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Which kind.
    pub kind: Kind,
    /// Its file, such as /run/netns/blue or /proc/1234/ns/net.
    pub path: PathBuf,
}

/// Reads `--join`: `net=/run/netns/blue`, `net=1234`; `pid=1234` and `all=1234`-like forms name one kind each.
///
/// # Errors
/// What is wrong with it.
pub fn join(text: &str) -> Result<Join, String> {
    let (kind, from) =
        text.split_once('=').ok_or("give KIND=PATH or KIND=PID, such as net=/run/netns/blue")?;
    let kind = Kind::parse(kind)?;
    let path = match from.parse::<u32>() {
        Ok(pid) => PathBuf::from(format!("/proc/{pid}/ns/{}", kind.file())),
        Err(_) if from.contains('/') => PathBuf::from(from),
        Err(_) => return Err("give the path of a namespace or a process id".to_owned()),
    };
    Ok(Join { kind, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_joins() {
        let mut set = Set::default();
        set.add_list("mount,pid,cgroup").unwrap();
        assert!(set.has(Kind::Mount) && set.has(Kind::Pid) && !set.has(Kind::Net));
        assert_eq!(set.at_birth(), (libc::CLONE_NEWNS | libc::CLONE_NEWPID) as u64);
        assert_eq!(set.early(false, false), libc::CLONE_NEWCGROUP as u64);
        assert_eq!(set.early(true, false), 0);
        assert!(set.add_list("mount,paper").unwrap_err().contains("\"paper\""));
        set.add_list("all").unwrap();
        assert_eq!(set.kinds().count(), 8);
        assert_eq!(set.early(true, false), libc::CLONE_NEWTIME as u64);
        assert_eq!(set.early(true, true), 0);
        assert_eq!(join("net=12").unwrap().path, PathBuf::from("/proc/12/ns/net"));
        assert_eq!(join("mount=/x/y").unwrap().kind, Kind::Mount);
        assert!(join("net=blue").is_err() && join("net").is_err());
    }
}
