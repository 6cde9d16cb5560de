//! Where the tree goes, and how it gets there at once: built beside its place, under a name that nobody uses,
//! then renamed; a release also by a link that is swapped.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::config::{Config, file_name};
use super::report::{self, Notes};
use crate::error::{Error, printable};
use crate::scratch::{Scratch, bury, empty, sweep};

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The name of a staging directory begins with this.
const STAGING: &str = ".rcon-unpacking-";

/// The directory in which the tree gets its name.
pub(super) struct Place {
    dir: OwnedFd,
    path: PathBuf,
    to: To,
}

enum To {
    /// The tree itself.
    Tree(OsString),
    /// `releases` below the target; `target` has the link to the current one.
    Release { target: OwnedFd, next: u64, keep: Option<NonZeroU32> },
}

impl Place {
    /// Looks at the place; takes the lock on it, where several trees live in it.
    pub(super) fn open(target: &Path, deploy: bool, keep: Option<NonZeroU32>) -> Result<Self, Error> {
        if deploy { Self::release(target, keep) } else { Self::tree(target) }
    }

    fn tree(target: &Path) -> Result<Self, Error> {
        let shown = printable(target.as_os_str().as_bytes());
        let name =
            target.file_name().ok_or_else(|| Error::new(format!("{shown} has no name to be made under")))?;
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let fail = |errno| Error::new(format!("{shown} cannot be made")).errno(errno);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(parent, flags, Mode::empty()).map_err(fail)?;
        match openat(&dir, name, DIRECTORY, Mode::empty()) {
            Err(Errno::ENOENT) => {}
            Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(fail(Errno::EEXIST)),
            other => {
                let mut there = Dir::from_fd(other.map_err(fail)?).map_err(fail)?;
                if there.iter().flatten().any(|entry| !matches!(entry.file_name().to_bytes(), b"." | b"..")) {
                    return Err(Error::new(format!("{shown} is not empty"))
                        .try_this("another directory, or --deploy to keep several releases in one"));
                }
            }
        }
        Ok(Self { dir, path: parent.to_owned(), to: To::Tree(name.to_owned()) })
    }

    fn release(target: &Path, keep: Option<NonZeroU32>) -> Result<Self, Error> {
        let shown = printable(target.as_os_str().as_bytes());
        let fail = |errno| Error::new(format!("{shown}: releases cannot be made there")).errno(errno);
        match nix::unistd::mkdir(target, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let target_dir = open(target, flags, Mode::empty()).map_err(fail)?;
        match fstatat(&target_dir, "current", AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => {}
            Ok(stat) if is(SFlag::S_IFLNK, stat.st_mode) => {}
            other => {
                other.map_err(fail)?;
                return Err(Error::new(format!("{shown}/current is no symbolic link"))
                    .try_this("a directory that --deploy has made, or a new one"));
            }
        }
        match mkdirat(&target_dir, "releases", Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let dir = openat(&target_dir, "releases", DIRECTORY, Mode::empty()).map_err(fail)?;
        if crate::sys::try_lock(dir.as_fd(), true).is_err() {
            return Err(Error::new(format!("another rcon image unpack is at work on {shown}")));
        }
        let last = releases(dir.as_fd()).map_err(fail)?.into_iter().map(|(number, _)| number).max();
        let next = last.unwrap_or(0).saturating_add(1);
        let to = To::Release { target: target_dir, next, keep };
        Ok(Self { dir, path: target.join("releases"), to })
    }

    /// Gives the finished tree its name. The configuration comes first: a tree that is there has its own.
    pub(super) fn publish(
        &self,
        staging: &Staging,
        digest: &str,
        config: Option<&Config>,
    ) -> Result<PathBuf, Error> {
        let name = match &self.to {
            To::Tree(name) => name.clone(),
            To::Release { next, .. } => {
                let hash = digest.rsplit(':').next().and_then(|hex| hex.get(..12)).unwrap_or(digest);
                OsString::from(format!("{next:04}-{hash}"))
            }
        };
        let path = self.path.join(&name);
        let shown = printable(path.as_os_str().as_bytes());
        let fail = |errno| Error::new(format!("{shown} cannot be made")).errno(errno);
        let beside = file_name(&name);
        match config {
            Some(config) => {
                let text = format!("{:#}\n", config.json());
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                let mode = Mode::from_bits_truncate(0o644);
                let file = openat(&staging.scratch.dir, "image.json", flags, mode).map_err(fail)?;
                let mut file = std::fs::File::from(file);
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
                    .map_err(|error| fail(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))))?;
                renameat(&staging.scratch.dir, "image.json", &self.dir, beside.as_os_str()).map_err(fail)?;
            }
            // One that is left from an earlier tree of this name would speak for this one.
            None => match unlinkat(&self.dir, beside.as_os_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(fail(errno)),
            },
        }
        // An empty directory is replaced, anything else is an error: rename(2).
        if let Err(errno) = staging.hand_over(self.dir.as_fd(), &name) {
            let undone = unlinkat(&self.dir, beside.as_os_str(), UnlinkatFlags::NoRemoveDir);
            debug_assert!(undone.is_ok() || config.is_none());
            return Err(fail(errno));
        }
        if let To::Release { target, .. } = &self.to {
            let mut link = OsString::from("releases/");
            link.push(&name);
            let current =
                |errno| Error::new(format!("{shown} is there, but cannot become current")).errno(errno);
            // We have the lock: what is under this name was left by one that died.
            match unlinkat(target, ".current.new", UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(current(errno)),
            }
            symlinkat(link.as_os_str(), target, ".current.new").map_err(current)?;
            renameat(target, ".current.new", target, "current").map_err(current)?;
        }
        Ok(path)
    }

    /// Removes the oldest releases until there are as many as should be kept.
    /// One whose tree is a run's root is left for the next time.
    pub(super) fn prune(&self, staging: &Staging, notes: &mut Notes) -> Result<Vec<PathBuf>, Error> {
        let To::Release { keep: Some(keep), next, .. } = &self.to else { return Ok(Vec::new()) };
        let mut removed = Vec::new();
        let mut old = releases(self.dir.as_fd())
            .map_err(|errno| Error::new("old releases cannot be listed").errno(errno))?;
        // The new one is the current one.
        old.retain(|(number, _)| number < next);
        let mut spare = (old.len() + 1).saturating_sub(keep.get() as usize);
        while spare > 0 {
            spare -= 1;
            let oldest = old.iter().map(|(number, _)| *number).enumerate().min_by_key(|(_, number)| *number);
            let (_, name) = old.swap_remove(oldest.map_or(0, |(at, _)| at));
            let path = self.path.join(&name);
            // Runs hold a lock on their root. The lock is ours until the tree is buried: who comes now finds it gone.
            let tree = openat(&self.dir, name.as_os_str(), DIRECTORY, Mode::empty());
            if tree
                .as_ref()
                .is_ok_and(|tree| crate::sys::try_lock(tree.as_fd(), true) == Err(Errno::EWOULDBLOCK))
            {
                notes.add(report::IN_USE, || printable(path.as_os_str().as_bytes()));
                continue;
            }
            let fail = |errno| {
                let shown = printable(path.as_os_str().as_bytes());
                Error::new(format!("the old release {shown} cannot be removed")).errno(errno)
            };
            bury(self.dir.as_fd(), name.as_bytes(), staging.trash.as_fd(), &mut 0).map_err(fail)?;
            match unlinkat(&self.dir, file_name(&name).as_os_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(fail(errno)),
            }
            empty(staging.trash.as_fd()).map_err(fail)?;
            removed.push(path);
        }
        Ok(removed)
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

fn is(kind: SFlag, mode: u32) -> bool {
    mode & SFlag::S_IFMT.bits() == kind.bits()
}

/// The releases in a directory, with their numbers: `0012-3f2a…`. Other directories are not ours.
fn releases(dir: BorrowedFd) -> Result<Vec<(u64, OsString)>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::from_fd(openat(dir, ".", DIRECTORY, Mode::empty())?)?.iter() {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        let Some(text) = name.to_str() else { continue };
        let Some((number, hash)) = text.split_once('-') else { continue };
        let ours = hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(number) = number.parse().ok().filter(|_| ours) {
            found.push((number, name));
        }
    }
    Ok(found)
}

/// The tree's name in a staging directory.
const ROOT: &str = "root";

/// A directory that nobody but us can reach, on the file system where the tree will be. Removed when dropped,
/// and where we are killed, by the next one that works in the same place.
pub(super) struct Staging {
    scratch: Scratch,
    trash: OwnedFd,
}

impl Staging {
    pub(super) fn new(parent: BorrowedFd) -> Result<Self, Error> {
        let fail = |errno| Error::new("no temporary directory can be made beside the target").errno(errno);
        sweep(parent, STAGING, false).map_err(fail)?;
        let scratch = loop {
            let name = format!("{STAGING}{}-{}", std::process::id(), crate::sys::monotonic_ns());
            if let Some(scratch) = Scratch::new(parent, &name).map_err(fail)? {
                break scratch;
            }
        };
        mkdirat(&scratch.dir, "trash", Mode::S_IRWXU).map_err(fail)?;
        let trash = openat(&scratch.dir, "trash", DIRECTORY, Mode::empty()).map_err(fail)?;
        Ok(Self { scratch, trash })
    }

    /// Makes the directory that becomes the tree; also gives a second descriptor for what it loses on the way.
    pub(super) fn tree(&self) -> Result<(OwnedFd, OwnedFd), Error> {
        let fail = |errno| Error::new("no temporary directory can be made beside the target").errno(errno);
        mkdirat(&self.scratch.dir, ROOT, Mode::S_IRWXU).map_err(fail)?;
        let root = openat(&self.scratch.dir, ROOT, DIRECTORY, Mode::empty()).map_err(fail)?;
        let trash = self.trash.try_clone().map_err(|error| super::stream::from_io(&error))?;
        Ok((root, trash))
    }

    /// Renames the finished tree away. Who is not root may only do that with a directory that is writable (its `..`
    /// changes); images with a read-only root exist.
    fn hand_over(&self, to: BorrowedFd, name: &OsStr) -> Result<(), Errno> {
        match renameat(&self.scratch.dir, ROOT, to, name) {
            Err(Errno::EACCES) => {}
            other => return other,
        }
        let root = openat(
            &self.scratch.dir,
            ROOT,
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let mode = Mode::from_bits_truncate(fstat(&root)?.st_mode & 0o7777);
        fchmodat(&self.scratch.dir, ROOT, mode | Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
        renameat(&self.scratch.dir, ROOT, to, name)?;
        fchmodat(to, name, mode, FchmodatFlags::FollowSymlink)
    }

    /// A file without a name, for what cannot be read twice.
    pub(super) fn spool(&self) -> Result<std::fs::File, Error> {
        let fail = |errno| Error::new("no temporary file can be made beside the target").errno(errno);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&self.scratch.dir, "spool", flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(fail)?;
        unlinkat(&self.scratch.dir, "spool", UnlinkatFlags::NoRemoveDir).map_err(fail)?;
        Ok(file.into())
    }

    /// Writes all of this file system to the disk: a name that survives a power cut must not be of an empty file.
    pub(super) fn sync(&self) -> Result<(), Error> {
        nix::unistd::syncfs(&self.scratch.dir)
            .map_err(|errno| Error::new("the disk did not take it all").errno(errno))
    }
}
