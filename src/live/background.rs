//! A watcher: the process that stays behind a group which no wrapper waits for, and removes it when its last
//! process has gone. It is a copy of this one, so that it owns what it has made from the start.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::stat::Mode;

use crate::error::Error;

/// As [`in_background_even_so`], with nothing to do after a refusal.
///
/// # Errors
/// No process can be made.
pub fn in_background<W: FnOnce()>(work: impl FnOnce() -> Result<W, Error>) -> Result<i32, Error> {
    in_background_even_so(|| match work() {
        Ok(watch) => (Ok(()), Some(watch)),
        Err(error) => (Err(error), None),
    })
}

/// Does `work` in a copy of this process. When it is done, so is this process: with its result; what `work` hands
/// back (a refusal may leave something to be undone later, too) goes on in the background, free of the caller's terminal, directory and descriptors.
///
/// # Errors
/// No process can be made. What `work` refuses is said by the copy.
pub fn in_background_even_so<W: FnOnce()>(
    work: impl FnOnce() -> (Result<(), Error>, Option<W>),
) -> Result<i32, Error> {
    let (reader, writer) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::new("cannot make a pipe").errno(e))?;
    let mut writer = Some(writer);
    crate::sys::fork(|| {
        // Fails only for who leads a group already, which a new process does not.
        let session = nix::unistd::setsid();
        debug_assert!(session.is_ok());
        let (result, watch) = work();
        let status = match result {
            Ok(()) => 0_u8,
            Err(error) => {
                crate::say(&error.to_string());
                u8::try_from(error.status()).unwrap_or(125)
            }
        };
        // Before the answer: who waits for the caller's pipes to close must not wait for us.
        if watch.is_some() {
            let_go();
        }
        let told = writer.take().map(|writer| nix::unistd::write(&writer, &[status]));
        debug_assert!(told.is_some_and(|told| told.is_ok()));
        if let Some(watch) = watch {
            watch();
        }
        0
    })
    .map_err(|e| Error::new("cannot make a process").errno(e))?;
    drop(writer);
    let mut status = [125_u8];
    loop {
        match nix::unistd::read(reader.as_fd(), &mut status) {
            Ok(1) => return Ok(i32::from(status[0])),
            Ok(_) => return Err(Error::new("the watcher has died before it was ready")),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::new("cannot hear the watcher").errno(errno)),
        }
    }
}

/// Lets go of what was inherited. Our own descriptors are close-on-exec, the caller's are not.
fn let_go() {
    let listed = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<i32> =
        listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|fd| *fd > 2).collect();
    for fd in numbers {
        crate::sys::close_inherited(fd);
    }
    if let Ok(null) = open(c"/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
        crate::sys::replace_standard_descriptors(null.as_fd());
    }
    // Nothing here opens a relative path: a directory that cannot be left keeps a file system busy, no more.
    let left = nix::unistd::chdir("/");
    debug_assert!(left.is_ok());
    debug_assert!(
        fcntl(std::io::stdin(), FcntlArg::F_GETFD).is_ok_and(|f| f & FdFlag::FD_CLOEXEC.bits() == 0)
    );
}
