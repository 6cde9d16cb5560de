//! What an archive may cost: a small file can ask for a full disk or a million files.

use std::cell::Cell;

use crate::error::Error;
use crate::value::show_bytes;

/// Bounds on what is unpacked. An archive that passes one of them is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes after decompression, over all layers; holes of sparse files count as if they were written.
    pub bytes: u64,
    /// Entries over all layers.
    pub entries: u64,
    /// Bytes after decompression per byte before, in each compressed stream.
    pub ratio: u64,
    /// Bytes after decompression from which on the ratio counts: a short run of zeros is no bomb.
    pub ratio_from: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 16 << 30, entries: 1_000_000, ratio: 200, ratio_from: 64 << 20 }
    }
}

/// Names that are kept in memory until the end (those of directories): bytes.
const NAMES: u64 = 128 << 20;

/// What is left of the limits, and whether anybody wants us to stop.
pub(super) struct Budget<'a> {
    limits: Limits,
    bytes: Cell<u64>,
    entries: Cell<u64>,
    names: Cell<u64>,
    stopped: &'a dyn Fn() -> bool,
}

impl<'a> Budget<'a> {
    pub(super) fn new(limits: Limits, stopped: &'a dyn Fn() -> bool) -> Self {
        Self { limits, bytes: Cell::new(0), entries: Cell::new(0), names: Cell::new(0), stopped }
    }

    /// Entries so far.
    pub(super) fn entries_so_far(&self) -> u64 {
        self.entries.get()
    }

    /// Bytes so far.
    pub(super) fn bytes_so_far(&self) -> u64 {
        self.bytes.get()
    }

    /// Takes bytes; says no before they are written.
    pub(super) fn take_bytes(&self, count: u64) -> Result<(), Error> {
        if (self.stopped)() {
            return Err(Error::new("interrupted"));
        }
        let total = self.bytes.get().saturating_add(count);
        if total > self.limits.bytes {
            let limit = show_bytes(self.limits.bytes);
            return Err(Error::new(format!("unpacks to more than {limit} (--max-size)"))
                .try_this("raise --max-size if you trust where the archive comes from"));
        }
        self.bytes.set(total);
        Ok(())
    }

    /// Gives bytes back that went into a temporary copy.
    pub(super) fn forget_bytes(&self) {
        self.bytes.set(0);
    }

    /// Would so many bytes still be allowed?
    pub(super) fn has_room(&self, count: u64) -> Result<(), Error> {
        let before = self.bytes.get();
        let answer = self.take_bytes(count);
        self.bytes.set(before);
        answer
    }

    pub(super) fn take_entry(&self) -> Result<(), Error> {
        let total = self.entries.get() + 1;
        if total > self.limits.entries {
            return Err(Error::new(format!("has more than {} entries (--max-entries)", self.limits.entries))
                .try_this("raise --max-entries if you trust where the archive comes from"));
        }
        self.entries.set(total);
        Ok(())
    }

    pub(super) fn take_name(&self, length: usize) -> Result<(), Error> {
        let total = self.names.get().saturating_add(length as u64);
        if total > NAMES {
            return Err(Error::new("the names of its directories take more than 128 MiB"));
        }
        self.names.set(total);
        Ok(())
    }

    /// Checks one compressed stream: `packed` bytes became `plain`.
    pub(super) fn check_ratio(&self, packed: u64, plain: u64) -> Result<(), Error> {
        if plain > self.limits.ratio_from && plain / self.limits.ratio > packed {
            let limit = self.limits.ratio;
            return Err(Error::new(format!("unpacks to more than {limit} times its size (--max-ratio)"))
                .try_this("raise --max-ratio if you trust where the archive comes from"));
        }
        Ok(())
    }
}
