//! Who holds locks on which files: `/proc/locks` (proc_locks(5)), so that looking needs no lock of one's own.

use std::collections::BTreeMap;

use nix::sys::stat::{major, minor};
use nix::unistd::Pid;

/// Holders of flock(2) locks by file (device, inode).
#[derive(Debug, Default)]
pub(super) struct Locks {
    holders: BTreeMap<(u64, u64, u64), Vec<Pid>>,
}

impl Locks {
    pub(super) fn read() -> Self {
        Self::parse(&crate::files::text(std::path::Path::new("/proc/locks")).unwrap_or_default())
    }

    /// Lines such as `1: FLOCK  ADVISORY  READ 19526 00:24:152 0 EOF`; `1: -> FLOCK …` waits for one.
    fn parse(text: &str) -> Self {
        let mut locks = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().skip(1);
            if words.next() != Some("FLOCK") {
                continue;
            }
            let (Some(pid), Some(file)) = (words.nth(2), words.next()) else { continue };
            let mut numbers = file.split(':');
            let mut hex = || numbers.next().and_then(|word| u64::from_str_radix(word, 16).ok());
            let (Some(major), Some(minor)) = (hex(), hex()) else { continue };
            let inode = numbers.next().and_then(|word| word.parse().ok());
            if let (Some(inode), Ok(pid @ 1..)) = (inode, pid.parse::<i32>()) {
                locks.holders.entry((major, minor, inode)).or_default().push(Pid::from_raw(pid));
            }
        }
        locks
    }

    /// The processes that locked this file and live in a pid namespace that can be seen from here.
    pub(super) fn holders(&self, device: u64, inode: u64) -> Vec<Pid> {
        self.holders.get(&(major(device), minor(device), inode)).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_the_lock_is_a_holder() {
        let locks = Locks::parse(
            "1: FLOCK  ADVISORY  READ 19526 00:24:152 0 EOF\n\
             1: -> FLOCK  ADVISORY  WRITE 3 00:24:152 0 EOF\n\
             2: POSIX  ADVISORY  WRITE 4 00:24:152 0 EOF\n\
             3: FLOCK  ADVISORY  READ 5 00:24:152 0 EOF\n\
             4: FLOCK  ADVISORY  READ -1 00:24:153 0 EOF\ngarbage\n",
        );
        let device = nix::sys::stat::makedev(0, 0x24);
        assert_eq!(locks.holders(device, 152), [Pid::from_raw(19526), Pid::from_raw(5)]);
        assert_eq!(locks.holders(device, 153), []);
    }
}
