//! Several writes to files of live groups as one: if one is refused, those before it are undone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::cgroup::{read_at, write_at, write_hint};
use crate::error::Error;
use crate::limits::{How, Write};

/// What has been written, with what was there before. Dropped without [`Transaction::keep`], it puts that back.
#[derive(Debug, Default)]
pub struct Transaction {
    done: Vec<Done>,
}

#[derive(Debug)]
struct Done {
    dir: OwnedFd,
    file: &'static str,
    before: String,
}

impl Transaction {
    /// Makes all the writes, each to the directory that `dir_of` finds for it.
    ///
    /// # Errors
    /// The first refusal that stays one; nothing is changed then.
    pub fn write<'a>(
        &mut self,
        writes: &[Write],
        dir_of: impl Fn(&Write) -> Option<BorrowedFd<'a>>,
    ) -> Result<(), Error> {
        let mut refused = Vec::new();
        for write in writes {
            if self.one(write, &dir_of).is_err() {
                refused.push(write);
            }
        }
        // Old values may be in the way of new ones until all are written (v1: memory.memsw.limit_in_bytes below
        // the new memory.limit_in_bytes).
        refused.into_iter().try_for_each(|write| self.one(write, &dir_of))
    }

    fn one<'a>(
        &mut self,
        write: &Write,
        dir_of: &impl Fn(&Write) -> Option<BorrowedFd<'a>>,
    ) -> Result<(), Error> {
        let dir = dir_of(write).ok_or_else(|| {
            Error::new(format!("the run has no group of the {} controller", write.controller.name()))
                .option(&write.option)
        })?;
        let mut written = false;
        for (file, value) in &write.alternatives {
            let Some(before) = read_at(dir, file) else { continue };
            if write.how == How::IfEmpty && !before.trim().is_empty() {
                return Ok(());
            }
            match write_at(dir, file, value) {
                Ok(()) => {}
                Err(Errno::ENOENT) => continue,
                Err(errno) => {
                    let error = Error::new(format!("cannot write {value:?} to {file}"))
                        .errno(errno)
                        .option(&write.option);
                    return Err(match (write_hint(file, errno), errno) {
                        (Some(hint), _) => error.try_this(hint),
                        // Only v1's memory limits answer so.
                        (None, Errno::EBUSY) => error.try_this(
                            "it uses more, and the kernel could not free enough: end some of it first",
                        ),
                        (None, _) => error,
                    });
                }
            }
            if let Ok(dir) = dir.try_clone_to_owned() {
                self.done.push(Done { dir, file, before: former(file, value, &before) });
            }
            written = true;
            if write.how != How::Every {
                break;
            }
        }
        if !written {
            let names: Vec<&str> = write.alternatives.iter().map(|(file, _)| *file).collect();
            return Err(Error::new(format!(
                "this kernel has no {} here, or the run has just ended",
                names.join(" or ")
            ))
            .option(&write.option));
        }
        match &write.verify {
            Some((file, wanted)) if read_at(dir, file).as_deref().map(str::trim) != Some(wanted.as_str()) => {
                Err(Error::new(format!("the kernel does not give all of it ({file})"))
                    .option(&write.option)
                    .try_this("ask only for what the enclosing group has"))
            }
            _ => Ok(()),
        }
    }

    /// What a write by another's hand is about to change.
    pub fn note(&mut self, dir: BorrowedFd, write: &Write) {
        for (file, value) in &write.alternatives {
            if let (Some(before), Ok(dir)) = (read_at(dir, file), dir.try_clone_to_owned()) {
                self.done.push(Done { dir, file, before: former(file, value, &before) });
            }
        }
    }

    /// It stays.
    pub fn keep(mut self) {
        self.done.clear();
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // Last written, first put back. What was in force can be so again; a group that is gone needs nothing.
        for done in self.done.drain(..).rev() {
            let back = write_at(done.dir.as_fd(), done.file, &done.before);
            debug_assert!(back != Err(Errno::EBADF));
        }
    }
}

/// What to write so that a file says again what it said. Files with a line for each disk take one line per write.
fn former(file: &str, written: &str, before: &str) -> String {
    let before = before.trim();
    let key = written.split(' ').next().unwrap_or_default();
    let line = before.lines().find(|line| line.split(' ').next() == Some(key));
    match file {
        "io.max" => {
            line.map_or_else(|| format!("{key} rbps=max wbps=max riops=max wiops=max"), str::to_owned)
        }
        _ if file.starts_with("blkio.throttle.") => line.map_or_else(|| format!("{key} 0"), str::to_owned),
        _ if before.is_empty() => "\n".to_owned(),
        _ => before.lines().next().unwrap_or(before).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_disk_is_put_back_without_the_others() {
        let io = "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=max riops=max wiops=max\n";
        assert_eq!(former("io.max", "8:16 rbps=9", io), "8:16 rbps=2 wbps=max riops=max wiops=max");
        assert_eq!(former("io.max", "8:1 rbps=9", io), "8:1 rbps=max wbps=max riops=max wiops=max");
        assert_eq!(former("blkio.throttle.read_bps_device", "8:1 9", "8:0 7\n"), "8:1 0");
        assert_eq!(former("cpuset.cpus", "0", "\n"), "\n");
        assert_eq!(former("cpu.max", "1 2", "max 100000\n"), "max 100000");
        assert_eq!(former("io.weight", "default 7", "default 100\n8:0 5\n"), "default 100");
    }
}
