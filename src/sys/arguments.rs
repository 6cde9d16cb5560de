//! The argument vector and the environment, as the kernel laid them out.

use std::ffi::{CStr, CString, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;

/// Copies what `main` was given.
#[must_use]
pub fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(argc).unwrap_or(0);
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        // SAFETY: the C start-up code gives `argc` valid pointers at `argv` (C17 5.1.2.2.1).
        let word = unsafe { *argv.add(i) };
        // SAFETY: each points to a NUL-terminated string that lives as long as the process.
        let word = unsafe { CStr::from_ptr(word) };
        out.push(OsString::from_vec(word.to_bytes().to_vec()));
    }
    out
}

/// Copies the environment, entries without `=` included: the command gets it as we got it.
#[must_use]
pub fn environment() -> Vec<CString> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    let mut out = Vec::new();
    // SAFETY: reading the pointer; nothing in this program changes the environment (setenv is not used).
    let mut entry = unsafe { environ };
    if entry.is_null() {
        return out;
    }
    loop {
        // SAFETY: the vector ends with a null pointer (environ(7)), at which we stop.
        let word = unsafe { *entry };
        if word.is_null() {
            return out;
        }
        // SAFETY: each entry is a NUL-terminated string.
        out.push(unsafe { CStr::from_ptr(word) }.to_owned());
        // SAFETY: not past the end: the null pointer has not been seen yet.
        entry = unsafe { entry.add(1) };
    }
}
