//! Where a report goes: a file as a whole or not at all, a descriptor, a line at the end of a history.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Error, printable};
use crate::receipt::{Asked, Sink};

/// How long a lock on a history file is waited for; a line is written in far less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(10);

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let error = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    Error::new(format!("cannot {what} {}", printable(path.as_os_str().as_encoded_bytes()))).errno(error)
}

/// Before the command starts: the descriptors that the report goes to are open, and are not the command's: whoever
/// reads the other end of a pipe would wait for everybody who has it.
///
/// # Errors
/// One is not open for writing.
pub fn claim(asked: &Asked) -> Result<(), Error> {
    for target in &asked.reports {
        if let Sink::Descriptor(number @ 3..) = target.sink {
            crate::sys::keep_for_writing(number).map_err(|errno| {
                Error::new(format!("descriptor {number} is not open for writing"))
                    .errno(errno)
                    .option("--report")
                    .try_this(format!("rcon --report=json:fd={number} -- cmd {number}>report.json"))
            })?;
        }
    }
    Ok(())
}

/// Writes to a descriptor that the caller has opened.
///
/// # Errors
/// The kernel's answer.
pub fn descriptor(number: i32, content: &[u8]) -> Result<(), Error> {
    let mut rest = content;
    while !rest.is_empty() {
        match crate::sys::write_some(number, rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(
                    Error::new(format!("cannot write the report to descriptor {number}")).errno(errno)
                );
            }
        }
    }
    Ok(())
}

/// Writes a file: whoever looks finds the old content or the new one, never a part.
///
/// A device, a pipe or a terminal is written to as it is. A link to a file is refused: to follow it would let
/// whoever may make links in that directory choose a file of ours, and to replace it is not what its owner wants.
///
/// # Errors
/// The kernel's answer.
pub fn file(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |error: io::Error| failed("write the report to", path, &error);
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => {
            let mut out = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
                .open(path)
                .map_err(failed)?;
            let kind = out.metadata().map_err(failed)?.file_type();
            if !(kind.is_char_device() || kind.is_fifo() || kind.is_socket()) {
                return Err(Error::new(format!(
                    "{} is a link or no plain file: give the file itself",
                    path.display()
                )));
            }
            out.write_all(content).map_err(failed)
        }
        Ok(_) => replace(path, content).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => replace(path, content).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// Writes a record of samples.
///
/// # Errors
/// The kernel's answer.
pub fn record(path: &Path, record: &crate::record::Record) -> Result<(), Error> {
    // Cannot fail: its keys are strings and its numbers finite.
    let text = serde_json::to_string(record).unwrap_or_default() + "\n";
    file(path, text.as_bytes())
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}-{:x}", std::process::id(), crate::sys::monotonic_ns()));
    let beside = path.with_file_name(hidden);
    let mut out = OpenOptions::new().write(true).create_new(true).open(&beside)?;
    let result = out.write_all(content).and_then(|()| std::fs::rename(&beside, path));
    if result.is_err() {
        // The first error is the one to tell.
        drop(std::fs::remove_file(&beside));
    }
    result
}

/// Adds one line to a history that other runs add to at the same time.
///
/// # Errors
/// The kernel's answer, or a lock that is held for long.
pub fn append(path: &Path, line: &[u8]) -> Result<(), Error> {
    let failed = |error: io::Error| failed("add the report to", path, &error);
    let start = Instant::now();
    loop {
        let mut out = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .custom_flags(libc::O_NOCTTY)
            .open(path)
            .map_err(failed)?;
        while crate::sys::try_lock(out.as_fd(), true).is_err() {
            if start.elapsed() > PATIENCE {
                return Err(Error::new(format!("{} is locked by somebody else for long", path.display())));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Rotated away while we waited: the name means another file now.
        let meta = out.metadata().map_err(failed)?;
        let now = std::fs::metadata(path);
        if now.is_ok_and(|now| (now.dev(), now.ino()) == (meta.dev(), meta.ino())) {
            return add(&mut out, meta.len(), line).map_err(failed);
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::new(format!("{} is replaced again and again", path.display())));
        }
    }
}

/// One write. A line that does not fit (a full disk) is taken back, and a part that somebody else has left is
/// ended first.
fn add(out: &mut File, size: u64, line: &[u8]) -> io::Result<()> {
    let mut last = [b'\n'];
    if size > 0 {
        out.seek(SeekFrom::Start(size - 1))?;
        out.read_exact(&mut last)?;
    }
    let whole = if last == [b'\n'] { line.to_vec() } else { [b"\n", line].concat() };
    let written = out.write_all(&whole);
    if written.is_err() {
        // The first error is the one to tell.
        drop(out.set_len(size));
    }
    written
}
