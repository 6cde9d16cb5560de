//! From a place to the disks that hold it: a device node, `MAJ:MIN`, or any path.
//!
//! Limits act on whole disks: the kernel refuses a partition. Stacked devices (LVM, LUKS, RAID) are followed
//! to the disks below them, because that is where requests queue. A loop device is a disk of its own.
//!
//! Source: sysfs(5), Documentation/ABI/testing/sysfs-block.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::error::{Error, printable};

/// The disks (`MAJ:MIN`, each once) of `place`; nothing means the working directory.
///
/// # Errors
/// A place that does not exist, or that no block device holds (tmpfs, overlay, network file systems).
pub fn resolve(root: &Path, place: Option<&str>) -> Result<Vec<String>, Error> {
    let word = place.unwrap_or(".");
    let number = match numbers(word) {
        Some(number) => number,
        None => {
            let shown = printable(word.as_bytes());
            let meta = fs::metadata(word).map_err(|error| {
                let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
                Error::new(format!("cannot look at {shown}")).errno(errno)
            })?;
            let number = if meta.file_type().is_block_device() { meta.rdev() } else { meta.dev() };
            let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
            if major == 0 {
                return device_of_mount(root, minor, &shown);
            }
            (major, minor)
        }
    };
    let mut disks = Vec::new();
    whole(root, &format!("{}:{}", number.0, number.1), &mut disks, 0)?;
    Ok(disks)
}

/// `8:16`.
fn numbers(word: &str) -> Option<(u64, u64)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A file system with a number of its own (btrfs, overlay, tmpfs): its source in mountinfo may be a device.
fn device_of_mount(root: &Path, minor: u64, shown: &str) -> Result<Vec<String>, Error> {
    let id = format!("0:{minor}");
    let mountinfo = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let line = mountinfo.lines().find(|line| line.split(' ').nth(2) == Some(&id));
    let tail = line.and_then(|line| line.split_once(" - ")).map_or("", |(_, tail)| tail);
    let mut fields = tail.split(' ');
    let (kind, source) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
    if source.starts_with("/dev/")
        && let Ok(meta) = fs::metadata(source)
        && meta.file_type().is_block_device()
    {
        return resolve(root, Some(source));
    }
    let kind = if kind.is_empty() { "no known file system" } else { kind };
    Err(Error::new(format!("{shown} is on {kind}, which no disk is known to hold"))
        .try_this("name the disk: --io-write /dev/sda:10M or 8:0:10M (lsblk lists them)"))
}

fn whole(root: &Path, number: &str, out: &mut Vec<String>, depth: usize) -> Result<(), Error> {
    let dir = root.join("sys/dev/block").join(number);
    let Ok(real) = fs::canonicalize(&dir) else {
        return Err(Error::new(format!("there is no block device {number}")).try_this("lsblk lists them"));
    };
    // A partition's directory lies in its disk's.
    if real.join("partition").exists()
        && let Some(disk) = real.parent()
    {
        return whole_of_dir(root, disk, out, depth);
    }
    whole_of_dir(root, &real, out, depth)
}

fn whole_of_dir(root: &Path, dir: &Path, out: &mut Vec<String>, depth: usize) -> Result<(), Error> {
    let below: Vec<_> = fs::read_dir(dir.join("slaves")).into_iter().flatten().flatten().collect();
    // Stacks are a few deep; a longer one is a loop that sysfs cannot have.
    if !below.is_empty() && depth < 16 {
        for entry in below {
            if let Some(number) = read_number(&entry.path()) {
                whole(root, &number, out, depth + 1)?;
            }
        }
        return Ok(());
    }
    let number = read_number(dir)
        .ok_or_else(|| Error::new(format!("{} does not tell its device number", dir.display())))?;
    if !out.contains(&number) {
        out.push(number);
    }
    Ok(())
}

fn read_number(dir: &Path) -> Option<String> {
    fs::read_to_string(dir.join("dev")).ok().map(|text| text.trim_end().to_owned())
}
