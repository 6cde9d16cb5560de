//! What the machine has to say about a cage. Read-only.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::idmap;
use super::namespaces::Kind;
use super::{Asked, Facts};
use crate::environment::Change;
use crate::error::Error;
use crate::files;

impl Facts {
    /// Reads what these options need.
    ///
    /// # Errors
    /// No working directory; a descriptor to keep that is not open.
    pub fn read(root: &Path, asked: &Asked, tag: String) -> Result<Self, Error> {
        for fd in &asked.keep {
            if !crate::sys::child::is_open(*fd) {
                return Err(Error::new("this descriptor is not open")
                    .errno(Errno::EBADF)
                    .option(format!("--keep-fd {fd}")));
            }
        }
        let cwd = std::env::current_dir().map_err(|error| {
            Error::new("the working directory cannot be named")
                .errno(Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOENT)))
                .try_this("cd to a directory that exists")
        })?;
        let privileged =
            caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_ADMIN).unwrap_or(false);
        let mut facts = Self { cwd, tag, privileged, ..Self::default() };
        if let Some(root) = &asked.root {
            facts.variables = drootenv(root)?;
        }
        if asked.new_namespaces(&facts).has(Kind::User) {
            facts.ids = ids(root, asked);
        }
        Ok(facts)
    }
}

/// droot's file of variables, `/.drootenv` in the root.
fn drootenv(root: &Path) -> Result<Vec<(OsString, OsString)>, Error> {
    // A root that cannot be opened is told of by the child, which names the step.
    let Ok(dir) = crate::cgroup::open_dir(root) else { return Ok(Vec::new()) };
    let failed =
        |why: String| Error::new(format!("/.drootenv in {}: {why}", root.display())).option("--root");
    let text = crate::passwd::read_below(dir.as_fd(), ".drootenv").map_err(|errno| match errno {
        Errno::ENOSYS => {
            failed("it cannot be read".to_owned()).errno(errno).try_this(super::trouble::TOO_OLD)
        }
        errno => failed(errno.desc().to_owned()),
    })?;
    // A name alone brings nothing here: the root's maker would get what the caller has not given.
    let changes = crate::environment::parse_file(&text, |_| None).map_err(failed)?;
    let pairs = changes.into_iter().filter_map(|change| match change {
        Change::Set(name, value) => Some((name, value)),
        _ => None,
    });
    Ok(pairs.collect())
}

fn ids(root: &Path, asked: &Asked) -> idmap::Facts {
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let has = |cap| caps::has_cap(None, caps::CapSet::Effective, cap).unwrap_or(false);
    let privileged = has(caps::Capability::CAP_SETUID) && has(caps::Capability::CAP_SETGID);
    let read = |path: &str| files::text(&root.join(path)).unwrap_or_default();
    let mut facts = idmap::Facts { own, privileged, ..idmap::Facts::default() };
    if privileged && is_first_user_namespace(root) {
        // Every number is mapped to itself (user_namespaces(7)).
        let all = vec![idmap::Range { inside: 0, outside: 0, count: u32::MAX }];
        facts.maps = (all.clone(), all);
    } else if privileged {
        facts.maps =
            (idmap::parse_map(&read("proc/self/uid_map")), idmap::parse_map(&read("proc/self/gid_map")));
    } else if !asked.map.users.is_empty() || !asked.map.groups.is_empty() {
        let name = user_name(&read("etc/passwd"), own.0);
        let lent = |path: &str| idmap::parse_lent(&read(path), name.as_deref(), own.0);
        facts.lent = (lent("etc/subuid"), lent("etc/subgid"));
    }
    facts
}

/// One question instead of two files to read; where the kernel cannot answer, they are read.
fn is_first_user_namespace(root: &Path) -> bool {
    /// PROC_USER_INIT_INO of linux/proc_ns.h.
    const FIRST: u64 = 0xEFFF_FFFD;
    root == Path::new("/") && crate::sys::pidfd::own_user_namespace() == Ok(FIRST)
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// A namespace opened for the child.
pub(super) fn open_namespace(path: &PathBuf) -> Result<std::os::fd::OwnedFd, Errno> {
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())
}
