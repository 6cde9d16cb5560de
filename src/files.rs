//! Small files of `/proc` and `/sys`, read with as few calls as they need: the standard library asks for the
//! size first, which these files do not know, and then reads in growing steps.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC);

/// The whole of a file.
///
/// # Errors
/// The kernel's answer.
pub fn read(path: &Path) -> Result<Vec<u8>, Errno> {
    drain(open(path, READ, Mode::empty())?.as_fd())
}

/// The whole of a file below an open directory.
///
/// # Errors
/// The kernel's answer.
pub fn read_at(dir: BorrowedFd, file: &str) -> Result<Vec<u8>, Errno> {
    drain(openat(dir, file, READ, Mode::empty())?.as_fd())
}

/// The text of a file without the newline at its end; nothing where there is none, or none that is text.
#[must_use]
pub fn text(path: &Path) -> Option<String> {
    let mut text = String::from_utf8(read(path).ok()?).ok()?;
    text.truncate(text.trim_end().len());
    Some(text)
}

/// What a small file that is kept open says now; nothing where it cannot be read, or is no text.
#[must_use]
pub fn again(file: &impl AsFd) -> Option<String> {
    let mut buffer = [0_u8; 4096];
    let length = nix::sys::uio::pread(file, &mut buffer, 0).ok()?;
    Some(std::str::from_utf8(buffer.get(..length)?).ok()?.to_owned())
}

/// All that can be read from a descriptor.
///
/// # Errors
/// The kernel's answer.
pub fn drain(fd: BorrowedFd) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        match nix::unistd::read(fd, &mut buffer) {
            Ok(0) => return Ok(out),
            Ok(n) => out.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
