//! Reading a profile's file. Who can write it decides what root runs with: root reads only what nobody but root
//! could have written, and looks at every directory on the way.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use crate::error::{Error, printable};

/// More than any profile needs.
const LARGEST: i64 = 1 << 20;

/// The text of the file.
///
/// # Errors
/// It cannot be read, or not be trusted.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    let shown = printable(path.as_os_str().as_bytes());
    let cannot = |errno| Error::new(format!("cannot read {shown}")).errno(errno);
    let file = if nix::unistd::geteuid().is_root() { trusted(path)? } else { plain(path).map_err(cannot)? };
    let stat = fstat(&file).map_err(cannot)?;
    if kind(&stat) != SFlag::S_IFREG || stat.st_size > LARGEST {
        return Err(Error::new(format!("{shown} is no plain file of at most 1 MiB")));
    }
    String::from_utf8(crate::files::drain(file.as_fd()).map_err(cannot)?)
        .map_err(|_| Error::new(format!("{shown} is not UTF-8")))
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

// A FIFO must not make us wait for a writer.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

fn plain(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, READ, Mode::empty())
}

/// Opens it step by step, not through links, each step checked by its descriptor.
fn trusted(path: &Path) -> Result<OwnedFd, Error> {
    let absolute = if path.is_absolute() {
        path.to_owned()
    } else {
        std::env::current_dir().unwrap_or_default().join(path)
    };
    let steps: Vec<&OsStr> = absolute
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            Component::ParentDir => Some("..".as_ref()),
            _ => None,
        })
        .collect();
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mut so_far = std::path::PathBuf::from("/");
    let cannot = |path: &Path, errno| {
        let error =
            Error::new(format!("cannot open {}", printable(path.as_os_str().as_bytes()))).errno(errno);
        match errno {
            Errno::ELOOP | Errno::ENOTDIR => {
                error.try_this("root follows no links to profiles: name the real place (XDG_CONFIG_HOME)")
            }
            _ => error,
        }
    };
    let mut at = open("/", directory, Mode::empty()).map_err(|errno| cannot(&so_far, errno))?;
    let Some((last, above)) = steps.split_last() else { return Err(cannot(path, Errno::EISDIR)) };
    for step in above {
        so_far.push(step);
        at = openat(&at, *step, directory, Mode::empty()).map_err(|errno| cannot(&so_far, errno))?;
        only_roots(&at, &so_far)?;
    }
    so_far.push(last);
    let file = openat(&at, *last, READ | OFlag::O_NOFOLLOW, Mode::empty())
        .map_err(|errno| cannot(&so_far, errno))?;
    only_roots(&file, &so_far)?;
    Ok(file)
}

/// In a directory with the sticky bit others can add, but not replace what is root's.
fn only_roots(fd: &OwnedFd, path: &Path) -> Result<(), Error> {
    let shown = printable(path.as_os_str().as_bytes());
    let stat = fstat(fd).map_err(|errno| Error::new(format!("cannot look at {shown}")).errno(errno))?;
    let sticky = kind(&stat) == SFlag::S_IFDIR && stat.st_mode & 0o1000 != 0;
    if stat.st_uid != 0 {
        return Err(Error::new(format!("{shown} belongs to user {}, and root reads it", stat.st_uid))
            .try_this(format!("chown root {shown}")));
    }
    if stat.st_mode & 0o022 != 0 && !sticky {
        return Err(Error::new(format!("others can write {shown}, and root reads it"))
            .try_this(format!("chmod go-w {shown}")));
    }
    Ok(())
}
