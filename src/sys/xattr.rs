//! Extended attributes, notes that a file system keeps beside a file.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

/// Is this attribute of the file `1`? Anything else, an error included, is no.
#[must_use]
pub fn is_one(path: &Path, name: &CStr) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    let mut value = [0_u8; 4];
    // SAFETY: both strings end with NUL, and the buffer's true length is given.
    let length =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    usize::try_from(length).ok().and_then(|n| value.get(..n)) == Some(b"1")
}

/// Sets an attribute of an open file.
///
/// # Errors
/// EOPNOTSUPP: this file system keeps none of this kind; EPERM.
pub fn set(fd: BorrowedFd, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: the name ends with NUL; pointer and length of the value are of one slice.
    Errno::result(unsafe {
        libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    })
    .map(drop)
}

/// Removes an attribute of an open file.
///
/// # Errors
/// ENODATA: it has none of this name; EPERM.
pub fn remove(fd: BorrowedFd, name: &CStr) -> Result<(), Errno> {
    // SAFETY: the name ends with NUL.
    Errno::result(unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// The attribute of an open file; nothing where it has none.
#[must_use]
pub fn get(fd: BorrowedFd, name: &CStr) -> Option<Vec<u8>> {
    read(fd, name).ok()
}

/// The value of an extended attribute of an open file.
///
/// # Errors
/// The kernel's answer; ERANGE if somebody makes it longer all the time.
pub fn read(fd: BorrowedFd, name: &CStr) -> Result<Vec<u8>, Errno> {
    fill(|buffer| {
        // SAFETY: the name ends with NUL, and the buffer's true length is given.
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })
}

/// The names of an open file's extended attributes.
///
/// # Errors
/// The kernel's answer: ENOTSUP, …
pub fn list(fd: BorrowedFd) -> Result<Vec<CString>, Errno> {
    let names = fill(|buffer| {
        // SAFETY: the buffer's true length is given.
        unsafe { libc::flistxattr(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })?;
    Ok(names
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        .map(CStr::to_owned)
        .collect())
}

/// Calls with a buffer that grows until the answer fits. The kernel's own bound is 64 KiB (xattr(7)).
fn fill(mut call: impl FnMut(&mut [u8]) -> isize) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match Errno::result(call(&mut buffer)) {
            Ok(length) => {
                buffer.truncate(usize::try_from(length).unwrap_or(0));
                return Ok(buffer);
            }
            Err(Errno::ERANGE) if buffer.len() < 1 << 17 => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}
