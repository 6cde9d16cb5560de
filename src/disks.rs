//! From a place to the disks that hold it: a device node, `MAJ:MIN`, or any path.
//!
//! Limits act on whole disks: the kernel refuses a partition. Stacked devices (LVM, LUKS, RAID) are followed
//! to the disks below them, because that is where requests queue. A loop device is a disk of its own.
//!
//! Source: sysfs(5), Documentation/ABI/testing/sysfs-block.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{Error, printable};
use crate::order;

/// The disks (`MAJ:MIN`, each once) of `place`; nothing means the working directory.
///
/// # Errors
/// A place that does not exist, or that no block device holds (tmpfs, overlay, network file systems).
pub fn resolve(root: &Path, place: Option<&str>) -> Result<Vec<String>, Error> {
    let word = place.unwrap_or(".");
    if let Some((major, minor)) = numbers(word) {
        return whole_disks(root, major, minor);
    }
    let shown = printable(word.as_bytes());
    let failed = |error: std::io::Error| {
        let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        Error::new(format!("cannot look at {shown}")).errno(errno)
    };
    // Held open, so that the number and the mount are of one file. O_PATH opens no device.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(word).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let number = if meta.file_type().is_block_device() { meta.rdev() } else { meta.dev() };
    match (nix::sys::stat::major(number), nix::sys::stat::minor(number)) {
        (0, _) => {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()));
            let info = info.unwrap_or_default();
            let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap_or("").trim();
            disks_of_mount(root, mount, &shown)
        }
        (major, minor) => whole_disks(root, major, minor),
    }
}

fn whole_disks(root: &Path, major: u64, minor: u64) -> Result<Vec<String>, Error> {
    let mut disks = Vec::new();
    whole(root, &format!("{major}:{minor}"), &mut disks, 0)?;
    order::sort_by(&mut disks, Ord::cmp);
    Ok(disks)
}

/// `8:16`.
fn numbers(word: &str) -> Option<(u64, u64)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A file system with a number of its own that is no disk's (btrfs, overlay, tmpfs): the mount, by its number in
/// mountinfo, names a source that may be a device. (Numbers of btrfs subvolumes are in no table.)
fn disks_of_mount(root: &Path, mount: &str, shown: &str) -> Result<Vec<String>, Error> {
    let mountinfo = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let line = mountinfo.lines().find(|line| line.split(' ').next() == Some(mount));
    let tail = line.and_then(|line| line.split_once(" - ")).map_or("", |(_, tail)| tail);
    let mut fields = tail.split(' ');
    let (kind, source) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
    if let Some(name) = device_name(root, source) {
        let mut disks = Vec::new();
        for number in members(root, kind, &name) {
            whole(root, &number, &mut disks, 0)?;
        }
        order::sort_by(&mut disks, Ord::cmp);
        return Ok(disks);
    }
    let kind = if kind.is_empty() { "no known file system" } else { kind };
    Err(Error::new(format!("{shown} is on {kind}, which no disk is known to hold"))
        .try_this("name the disk: --io-write /dev/sda:10M or 8:0:10M (lsblk lists them)"))
}

/// The kernel's name of a block device in `/dev`: `sda1`, `dm-0`.
fn device_name(root: &Path, source: &str) -> Option<String> {
    let path = source.strip_prefix("/dev/")?;
    if let Ok(meta) = fs::metadata(root.join("dev").join(path))
        && meta.file_type().is_block_device()
    {
        let (major, minor) = (nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
        let dir = fs::canonicalize(root.join(format!("sys/dev/block/{major}:{minor}"))).ok()?;
        return Some(dir.file_name()?.to_str()?.to_owned());
    }
    let in_sysfs = !path.contains("..") && root.join("sys/class/block").join(path).join("dev").exists();
    in_sysfs.then(|| path.to_owned())
}

/// The devices of the file system that is on this one: btrfs may spread over several.
fn members(root: &Path, kind: &str, name: &str) -> Vec<String> {
    let of_name = |name: &Path| read_number(&root.join("sys/class/block").join(name));
    if kind == "btrfs" {
        for entry in fs::read_dir(root.join("sys/fs/btrfs")).into_iter().flatten().flatten() {
            let devices = entry.path().join("devices");
            if devices.join(name).exists() {
                let names = fs::read_dir(devices).into_iter().flatten().flatten();
                return names.filter_map(|device| of_name(Path::new(&device.file_name()))).collect();
            }
        }
    }
    of_name(Path::new(name)).into_iter().collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A machine's block devices: (path below sys/devices, number, partition?, names of the devices below).
    fn machine(devices: &[(&str, &str, bool, &[&str])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let sys = root.path().join("sys");
        for dir in ["dev/block", "class/block"] {
            fs::create_dir_all(sys.join(dir)).unwrap();
        }
        for (path, number, partition, slaves) in devices {
            let dir = sys.join("devices").join(path);
            fs::create_dir_all(dir.join("slaves")).unwrap();
            fs::write(dir.join("dev"), format!("{number}\n")).unwrap();
            if *partition {
                fs::write(dir.join("partition"), "1\n").unwrap();
            }
            symlink(format!("../../devices/{path}"), sys.join("dev/block").join(number)).unwrap();
            let name = Path::new(path).file_name().unwrap();
            symlink(format!("../../devices/{path}"), sys.join("class/block").join(name)).unwrap();
            for slave in *slaves {
                symlink(format!("../../{slave}"), dir.join("slaves").join(slave.replace('/', "-"))).unwrap();
            }
        }
        root
    }

    fn disks(root: &tempfile::TempDir, place: &str) -> Result<Vec<String>, Error> {
        resolve(root.path(), Some(place))
    }

    #[test]
    fn a_partition_means_its_disk_and_a_stack_the_disks_below() {
        let root = machine(&[
            ("sda", "8:0", false, &[]),
            ("sda/sda1", "8:1", true, &[]),
            ("sdb", "8:16", false, &[]),
            ("sdb/sdb1", "8:17", true, &[]),
            // LVM on LUKS on a partition; RAID over both disks.
            ("dm-0", "253:0", false, &["sda/sda1"]),
            ("dm-1", "253:1", false, &["dm-0"]),
            ("md0", "9:0", false, &["sda/sda1", "sdb/sdb1"]),
            ("loop0", "7:0", false, &[]),
            ("loop0/loop0p1", "259:0", true, &[]),
        ]);
        for (place, expected) in [
            ("8:0", &["8:0"][..]),
            ("8:1", &["8:0"]),
            ("253:1", &["8:0"]),
            ("9:0", &["8:0", "8:16"]),
            ("259:0", &["7:0"]),
        ] {
            assert_eq!(disks(&root, place).unwrap(), expected, "{place}");
        }
        let error = disks(&root, "8:99").unwrap_err();
        assert!(error.what.contains("no block device 8:99"), "{error}");
    }

    #[test]
    fn a_file_system_of_many_disks_means_all_and_one_of_none_is_refused() {
        let root = machine(&[
            ("sda", "8:0", false, &[]),
            ("sda/sda1", "8:1", true, &[]),
            ("sdb", "8:16", false, &[]),
        ]);
        let proc = root.path().join("proc/self");
        fs::create_dir_all(&proc).unwrap();
        fs::write(
            proc.join("mountinfo"),
            "20 1 0:30 /@home /home rw - btrfs /dev/sda1 rw,subvol=/@home\n\
             21 1 0:31 / /tmp rw - tmpfs tmpfs rw\n\
             22 1 0:32 / /odd rw - fuse.x /dev/../etc rw\n",
        )
        .unwrap();
        let devices = root.path().join("sys/fs/btrfs/uuid/devices");
        fs::create_dir_all(&devices).unwrap();
        for name in ["sda1", "sdb"] {
            fs::write(devices.join(name), "").unwrap();
        }
        assert_eq!(disks_of_mount(root.path(), "20", "/home").unwrap(), ["8:0", "8:16"]);
        for (mount, kind) in [("21", "tmpfs"), ("22", "fuse.x"), ("99", "no known file system")] {
            let error = disks_of_mount(root.path(), mount, "/x").unwrap_err();
            assert!(error.what.contains(kind) && error.way_out.is_some(), "{error}");
        }
    }

    #[test]
    fn a_place_that_is_not_there_says_so() {
        let error = resolve(Path::new("/"), Some("/nonexistent/x")).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
        // procfs is on no disk, on any machine.
        let error = resolve(Path::new("/"), Some("/proc/self")).unwrap_err();
        assert!(error.what.contains("proc"), "{error}");
    }
}
