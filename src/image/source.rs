//! What is unpacked: a stream that is the tree itself, or a store with an image's parts.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::Form;
use super::entries::Entries;
use super::limits::Budget;
use super::place::Staging;
use super::store::{Store, is_hash};
use super::stream::{CHUNK, Stream, from_io};
use super::tree::components;
use crate::error::Error;

pub(super) enum Source<'a> {
    /// A tar of the tree itself (docker export).
    Tree(Stream<'a>),
    /// An image in layers (docker save, OCI).
    Image(Store),
}

/// How far into a stream the first name can be, behind an entry for `./` and extension headers.
const AHEAD: u64 = 64 << 10;

/// Opens what the user named; `-` is standard input.
pub(super) fn open_source<'a>(
    path: &Path,
    form: Form,
    staging: &Staging,
    budget: &'a Budget<'a>,
) -> Result<Source<'a>, Error> {
    let fail = |errno| Error::new("cannot be opened").errno(errno);
    let fd = if path.as_os_str() == "-" {
        io::stdin().as_fd().try_clone_to_owned().map_err(|error| from_io(&error))?
    } else {
        open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(fail)?
    };
    let kind = SFlag::from_bits_truncate(fstat(&fd).map_err(fail)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        return match form {
            Form::Rootfs => Err(Error::new("is a directory, no archive of a tree")),
            Form::Auto | Form::Image => Ok(Source::Image(Store::Layout(fd))),
        };
    }
    let file = File::from(fd);
    let again = file.try_clone().map_err(|error| from_io(&error))?;
    let at_start = kind == SFlag::S_IFREG && (&file).stream_position().is_ok_and(|at| at == 0);
    let mut stream = Stream::open(Box::new(file), budget)?;
    let image = match form {
        Form::Rootfs => false,
        Form::Image => true,
        Form::Auto => looks_like_image(stream.look_ahead(AHEAD)?),
    };
    if !image {
        return Ok(Source::Tree(stream));
    }
    // Its table of contents is its last entry, as a rule: it must be read twice.
    if at_start && !stream.is_compressed() {
        budget.forget_bytes();
        return Store::archive(again, budget).map(Source::Image);
    }
    let mut spool = staging.spool()?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match io::Read::read(&mut stream, &mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Err(from_io(&error)),
        };
        spool.write_all(buffer.get(..count).unwrap_or_default()).map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            Error::new("cannot be copied to a temporary file beside the target").errno(errno)
        })?;
    }
    // The layers in it count again when they are unpacked.
    budget.forget_bytes();
    Store::archive(spool, budget).map(Source::Image)
}

/// Does the first name say that this is an image? Its parts have names that no tree has at its top: hashes,
/// `blobs`, `manifest.json`.
fn looks_like_image(head: &[u8]) -> bool {
    let mut head = head;
    let mut entries = Entries::new(&mut head);
    while let Ok(Some(entry)) = entries.next() {
        let Ok(parts) = components(&entry.path) else { return false };
        let Some(first) = parts.first().and_then(|part| std::str::from_utf8(part).ok()) else { continue };
        let stem = first.split_once('.').map_or(first, |(stem, _)| stem);
        return matches!(first, "blobs" | "index.json" | "manifest.json" | "oci-layout" | "repositories")
            || first.starts_with("sha256:")
            || is_hash(stem);
    }
    false
}
