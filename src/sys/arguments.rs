//! The argument vector and the environment, as the kernel laid them out.

use std::cell::Cell;
use std::ffi::{CStr, CString, OsString, c_char, c_int};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStringExt;

/// Copies what `main` was given.
///
/// # Safety
/// `argv` points to `argc` pointers to NUL-terminated strings, as the C start-up code gives them to `main`.
#[must_use]
pub unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    super::start::come_back();
    let count = usize::try_from(argc).unwrap_or(0);
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        // SAFETY: `i` is less than `argc`, so this is within the vector.
        let word = unsafe { argv.add(i) };
        // SAFETY: within the vector.
        let word = unsafe { *word };
        // SAFETY: each points to a NUL-terminated string that lives as long as the process.
        let word = unsafe { CStr::from_ptr(word) };
        out.push(OsString::from_vec(word.to_bytes().to_vec()));
    }
    out
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Copies the environment, entries without `=` included: the command gets it as we got it.
#[must_use]
pub fn environment() -> Vec<CString> {
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

/// A vector of C strings that ends with null, as execve(2) takes it.
#[derive(Debug)]
pub struct Vector<'a> {
    start: *const *const c_char,
    /// Keeps what `start` points to, unless that is the C library's.
    _pointers: Vec<*const c_char>,
    _strings: PhantomData<&'a [CString]>,
    /// Entries that end in the number of the process that executes.
    slots: Vec<Slot>,
}

/// An entry whose number the child puts in.
#[derive(Debug)]
struct Slot {
    /// `NAME=` and room for ten digits and a NUL.
    bytes: Box<[Cell<u8>]>,
    digits: usize,
}

impl<'a> Vector<'a> {
    /// These strings.
    #[must_use]
    pub fn of(words: &'a [CString]) -> Self {
        let pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
        Self { start: pointers.as_ptr(), _pointers: pointers, _strings: PhantomData, slots: Vec::new() }
    }

    /// These strings; of those for which `is_slot` says so the value is the number of the process that calls
    /// [`Vector::put_pid`].
    #[must_use]
    pub fn with_pid(words: &'a [CString], is_slot: impl Fn(&CString) -> bool) -> Self {
        let mut slots = Vec::new();
        let mut pointers: Vec<*const c_char> = Vec::with_capacity(words.len() + 1);
        for word in words {
            if !is_slot(word) {
                pointers.push(word.as_ptr());
                continue;
            }
            let name = word.as_bytes().iter().take_while(|b| **b != b'=').chain(b"=");
            let bytes: Box<[Cell<u8>]> = name.copied().chain([0; 11]).map(Cell::new).collect();
            pointers.push(bytes.as_ptr().cast());
            slots.push(Slot { digits: bytes.len() - 11, bytes });
        }
        pointers.push(std::ptr::null());
        Self { start: pointers.as_ptr(), _pointers: pointers, _strings: PhantomData, slots }
    }

    /// Puts the number of this process in. Async-signal-safe.
    pub fn put_pid(&self) {
        // SAFETY: no arguments.
        let pid = unsafe { libc::getpid() };
        let mut digits = [0_u8; 10];
        let text = super::decimal(pid.unsigned_abs(), &mut digits);
        for slot in &self.slots {
            let room = slot.bytes.get(slot.digits..).unwrap_or_default();
            for (to, from) in room.iter().zip(text.iter().chain(&[0])) {
                to.set(*from);
            }
        }
    }

    /// The environment as we got it, without a copy.
    #[must_use]
    pub fn inherited_environment() -> Self {
        // SAFETY: reading the pointer; nothing in this program changes the environment.
        let start = unsafe { environ };
        Self { start, _pointers: Vec::new(), _strings: PhantomData, slots: Vec::new() }
    }

    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.start
    }
}
