//! The binary: hands its argument vector to the library and leaves with the status that it gets back.
//!
//! `no_main`, because the standard library's start-up opens `/dev/null` on closed standard descriptors and
//! changes SIGPIPE: both would reach the wrapped command. It also costs more system calls than a whole
//! `execve`.
#![no_main]

// The one unsafe attribute outside `sys`: the C start-up code looks for this symbol by name.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main(argc: std::ffi::c_int, argv: *const *const std::ffi::c_char) -> std::ffi::c_int {
    // SAFETY: these are what the C start-up code gave us.
    let status = rcon::main(unsafe { rcon::sys::arguments(argc, argv) });
    // Nothing is buffered, and nobody has asked to be called at exit.
    rcon::sys::leave(status)
}
