//! Users and groups from the passwd and group files themselves. No name service: a static binary that loads
//! the machine's NSS modules would load whatever libraries lie there (or in a new root). Users of LDAP and the
//! like are given by number.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fstat, stat};

/// More than this is no passwd or group file.
const LARGEST: u64 = 64 << 20;

/// A line of passwd(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: Vec<u8>,
    /// User number.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// Home directory.
    pub home: Vec<u8>,
    /// Shell.
    pub shell: Vec<u8>,
}

/// A line of group(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Vec<u8>,
    /// Its number.
    pub gid: u32,
    /// Login names of users that have it beside their main group.
    pub members: Vec<Vec<u8>>,
}

/// Both files of one root directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// In the order of the file.
    pub users: Vec<User>,
    /// In the order of the file.
    pub groups: Vec<Group>,
}

impl Accounts {
    /// Reads `etc/passwd` and `etc/group` below an open root directory; no link in them leads out of it. A
    /// file that is not there is an empty one.
    ///
    /// # Errors
    /// The file's name, and why it cannot be read.
    pub fn read(root: BorrowedFd) -> Result<Self, (&'static str, Errno)> {
        let read = |name| read_below(root, name).map_err(|errno| (name, errno));
        Ok(Self { users: users(&read("etc/passwd")?), groups: groups(&read("etc/group")?) })
    }

    /// The first user of this name.
    #[must_use]
    pub fn user(&self, name: &[u8]) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The first user of this number.
    #[must_use]
    pub fn user_of(&self, uid: u32) -> Option<&User> {
        self.users.iter().find(|user| user.uid == uid)
    }

    /// The first group of this name.
    #[must_use]
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// All groups of a user as initgroups(3) gathers them: `gid` first, then those that list the name.
    #[must_use]
    pub fn groups_of(&self, name: &[u8], gid: u32) -> Vec<u32> {
        let mut out = vec![gid];
        for group in &self.groups {
            if group.members.iter().any(|member| member == name) && !out.contains(&group.gid) {
                out.push(group.gid);
            }
        }
        out
    }
}

/// A file below a root directory, whatever links are in it.
pub(crate) fn read_below(root: BorrowedFd, name: &str) -> Result<Vec<u8>, Errno> {
    // O_NONBLOCK: a FIFO in its place must not stop us.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let opened = match openat2(root, name, how) {
        // Linux before 5.6. Our own root is what it resolves below anyway.
        Err(Errno::ENOSYS) if is_own_root(root) => openat(root, name, flags, Mode::empty()),
        other => other,
    };
    let file = match opened {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    if !file.metadata().map_err(errno)?.is_file() {
        return Err(Errno::EINVAL);
    }
    let mut text = Vec::new();
    let length = file.take(LARGEST + 1).read_to_end(&mut text).map_err(errno)?;
    if length as u64 > LARGEST { Err(Errno::EFBIG) } else { Ok(text) }
}

fn is_own_root(dir: BorrowedFd) -> bool {
    let same = |one: FileStat, other: FileStat| (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino);
    matches!((fstat(dir), stat("/")), (Ok(dir), Ok(root)) if same(dir, root))
}

fn lines(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    text.split(|byte| *byte == b'\n')
        // A name starts with none of these: a comment, and NIS's lines.
        .filter(|line| !line.starts_with(b"#") && !line.starts_with(b"+") && !line.starts_with(b"-"))
        // NUL ends strings for everybody else.
        .filter(|line| !line.contains(&0))
        .map(|line| line.split(|byte| *byte == b':').collect())
}

fn users(text: &[u8]) -> Vec<User> {
    lines(text)
        .filter_map(|fields| {
            let [name, _, uid, gid, _, home, shell] = *fields.as_slice() else { return None };
            let user = User {
                name: name.to_vec(),
                uid: number(uid)?,
                gid: number(gid)?,
                home: home.to_vec(),
                shell: shell.to_vec(),
            };
            (!name.is_empty()).then_some(user)
        })
        .collect()
}

fn groups(text: &[u8]) -> Vec<Group> {
    lines(text)
        .filter_map(|fields| {
            let [name, _, gid, members] = *fields.as_slice() else { return None };
            let members = members.split(|byte| *byte == b',').filter(|member| !member.is_empty());
            let group = Group {
                name: name.to_vec(),
                gid: number(gid)?,
                members: members.map(<[u8]>::to_vec).collect(),
            };
            (!name.is_empty()).then_some(group)
        })
        .collect()
}

/// A user's or group's number: decimal digits, not the all-ones value, which means "unchanged" to the kernel.
#[must_use]
pub fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::path::Path;

    fn read(root: &Path) -> Result<Accounts, (&'static str, Errno)> {
        let root = File::open(root).unwrap();
        Accounts::read(root.as_fd())
    }

    #[test]
    fn files_are_read_as_they_are() {
        let text = b"# comment\nroot:x:0:0::/root:/bin/sh\n+nis::::::\nbad:x:-1:0::/:/\nshort:x:1\nlast:x:4294967295:1:::\n\
            www:x:33:34:Web,,,:/srv www:/usr/sbin/nologin";
        let found = users(text);
        assert_eq!(found.iter().map(|user| user.uid).collect::<Vec<_>>(), [0, 33]);
        let www = &found[1];
        assert_eq!(
            (www.gid, &www.home[..], &www.shell[..]),
            (34, &b"/srv www"[..], &b"/usr/sbin/nologin"[..])
        );
        let accounts = Accounts {
            users: found,
            groups: groups(b"www:x:34:\nssl:x:100:www,root\nlogs:*:101:,www\nother:x:102:wwwx\n"),
        };
        assert_eq!(accounts.groups_of(b"www", 34), [34, 100, 101]);
    }

    #[test]
    fn numbers_are_decimal_and_bounded() {
        assert_eq!(number(b"0065534"), Some(65534));
        for wrong in [&b""[..], b"-1", b"+1", b"0x10", b"4294967295", b"4294967296", b" 1"] {
            assert_eq!(number(wrong), None);
        }
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), Ok(Accounts::default()), "files that are not there are empty");
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        // Absolute and climbing links stay below the root, where this file is not.
        std::os::unix::fs::symlink("/../../etc/passwd", etc.join("passwd")).unwrap();
        assert!(matches!(read(dir.path()), Err(("etc/passwd", Errno::ELOOP))));
        std::fs::remove_file(etc.join("passwd")).unwrap();
        nix::unistd::mkfifo(&etc.join("passwd"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(read(dir.path()), Err(("etc/passwd", Errno::EINVAL)));
        std::fs::remove_file(etc.join("passwd")).unwrap();
        std::os::unix::fs::symlink("/usr/passwd", etc.join("passwd")).unwrap();
        std::fs::create_dir(dir.path().join("usr")).unwrap();
        std::fs::write(dir.path().join("usr/passwd"), "in:x:7:8::/:/bin/sh\n").unwrap();
        assert_eq!(read(dir.path()).unwrap().user(b"in").map(|user| (user.uid, user.gid)), Some((7, 8)));
    }
}
