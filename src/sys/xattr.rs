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

/// The attribute of an open file; nothing where it has none.
#[must_use]
pub fn get(fd: BorrowedFd, name: &CStr) -> Option<Vec<u8>> {
    let mut value = vec![0_u8; 4096];
    // SAFETY: the name ends with NUL, and the buffer's true length is given.
    let length =
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}
