//! Small files of `/proc` and `/sys`, read with as few calls as they need: the standard library asks for the
//! size first, which these files do not know, and then reads in growing steps.

use std::ffi::OsStr;
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

/// The whole of a file of short lines (64 bytes at most) below an open directory. The kernel gives as many as fit, so
/// that an answer with room for another one is the last: no call is needed to see the end.
///
/// # Errors
/// The kernel's answer.
pub fn lines_at(dir: BorrowedFd, file: &OsStr) -> Result<Vec<u8>, Errno> {
    read_until(openat(dir, file, READ, Mode::empty())?.as_fd(), BUFFER - 64)
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
    let mut buffer = [0_u8; BUFFER];
    let length = nix::sys::uio::pread(file, &mut buffer, 0).ok()?;
    Some(std::str::from_utf8(buffer.get(..length)?).ok()?.to_owned())
}

/// All that can be read from a descriptor.
///
/// # Errors
/// The kernel's answer.
pub fn drain(fd: BorrowedFd) -> Result<Vec<u8>, Errno> {
    read_until(fd, 1)
}

/// The kernel's own for these files: a page.
const BUFFER: usize = 4096;

/// Reads until an answer is shorter than `full`.
fn read_until(fd: BorrowedFd, full: usize) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    let mut buffer = [0_u8; BUFFER];
    loop {
        match nix::unistd::read(fd, &mut buffer) {
            Ok(n) => {
                // Never more than there is room for.
                out.extend_from_slice(buffer.get(..n).unwrap_or_default());
                if n < full {
                    return Ok(out);
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
