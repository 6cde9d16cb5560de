//! Extended attributes, of which only one question is asked.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
