//! What a run has used, from the kernel's own counters of its groups: they count every process, also those that
//! ended long ago. Where the kernel does not tell, there is a reason and no number.
//!
//! Sources: Documentation/admin-guide/cgroup-v2.rst, Documentation/admin-guide/cgroup-v1/*.rst,
//! Documentation/accounting/psi.rst.

use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::cgroup::{Groups, keyed};
use crate::error::Error;
use crate::limits::{Controller, Version};

/// CPU time of all processes of a run, kept open to be read again and again.
#[derive(Debug)]
pub struct CpuMeter {
    file: OwnedFd,
    version: Version,
}

impl CpuMeter {
    /// Every v2 group counts it (`cpu.stat`); on v1 the cpuacct controller does.
    ///
    /// # Errors
    /// No group that counts it.
    pub fn open(groups: &Groups) -> Result<Self, Error> {
        let (dir, version, file) = match (groups.v2(), groups.of(Controller::Cpuacct)) {
            (Some(dir), _) => (dir, Version::V2, "cpu.stat"),
            (None, Some((dir, version))) => (dir, version, "cpuacct.usage"),
            (None, None) => return Err(Error::new("no group of this run counts CPU time")),
        };
        let file = openat(dir, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| Error::new(format!("cannot open {file} of the group")).errno(e))?;
        Ok(Self { file, version })
    }

    /// Nanoseconds; nothing if the file cannot be read any more.
    #[must_use]
    pub fn read(&self) -> Option<u64> {
        let mut buffer = [0_u8; 1024];
        let length = nix::sys::uio::pread(&self.file, &mut buffer, 0).ok()?;
        let text = std::str::from_utf8(buffer.get(..length)?).ok()?;
        match self.version {
            Version::V1 => text.trim_end().parse().ok(),
            Version::V2 => keyed(text, "usage_usec")?.checked_mul(1_000),
        }
    }
}
