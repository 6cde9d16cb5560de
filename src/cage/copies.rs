//! `--copy-files=write`: files of the host copied into the root, before the command starts.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use crate::error::Error;

/// What is copied where nothing else is said.
pub const USUAL: [&str; 4] = ["/etc/resolv.conf", "/etc/hosts", "/etc/passwd", "/etc/group"];

/// The most that one file may hold, in bytes: these are configuration files.
const LARGEST: u64 = 64 << 20;

/// Copies to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    /// The root directory.
    pub root: PathBuf,
    /// Files, each to the same path below the root; those that the host does not have are left out.
    pub files: Vec<PathBuf>,
}

impl Copies {
    /// Copies all of them, with owner and mode. A file that is there is replaced as a whole; a link in its place
    /// is replaced and not followed.
    ///
    /// # Errors
    /// The first that cannot be copied.
    pub fn make(&self) -> Result<(), Error> {
        let failed = |what: String, errno| Error::new(what).errno(errno).option("--copy-files=write");
        let root = crate::cgroup::open_dir(&self.root)
            .map_err(|e| failed(format!("cannot open {}", self.root.display()), e))?;
        for file in &self.files {
            match copy(root.as_fd(), file) {
                Ok(()) => {}
                Err(errno) => {
                    let what = format!("cannot copy {} to {}", file.display(), self.root.display());
                    return Err(failed(what, errno));
                }
            }
        }
        Ok(())
    }
}

fn below(root: BorrowedFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(root, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
}

fn copy(root: BorrowedFd, path: &Path) -> Result<(), Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let source = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(errno)?,
    };
    let meta = source.metadata().map_err(errno)?;
    if !meta.is_file() {
        return Err(Errno::EINVAL);
    }
    let mut content = Vec::new();
    source.take(LARGEST).read_to_end(&mut content).map_err(errno)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
    let dir = directory(root, parent)?;
    let temporary = format!(".rcon-{}-{:x}", std::process::id(), crate::sys::monotonic_ns());
    let create = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(&dir, temporary.as_str(), create, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let done = fill(&file, &content, &meta).and_then(|()| put(&dir, &temporary, name));
    if done.is_err() {
        // The error that counts is the first one.
        return done
            .or_else(|first| unlinkat(&dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir).and(Err(first)));
    }
    Ok(())
}

fn fill(file: &OwnedFd, content: &[u8], meta: &std::fs::Metadata) -> Result<(), Errno> {
    let mut rest = content;
    while !rest.is_empty() {
        let written = nix::unistd::write(file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    match fchown(file, Some(Uid::from_raw(meta.uid())), Some(Gid::from_raw(meta.gid()))) {
        // An ordinary user's copy is its own.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    // No set-user-id bits: what is copied is no program.
    fchmod(file, Mode::from_bits_truncate(meta.mode() & 0o777))
}

fn put(dir: &OwnedFd, from: &str, to: &OsStr) -> Result<(), Errno> {
    renameat(dir, from, dir, to.as_bytes())
}

/// Opens a directory below the root, and makes what is missing on the way.
fn directory(root: BorrowedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let open = |path: &Path| below(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY);
    match open(path) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
    let above = directory(root, parent)?;
    mkdirat(&above, name, Mode::from_bits_truncate(0o755))?;
    open(path)
}
