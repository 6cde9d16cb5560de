//! Debian's cloud kernels, and the part of the guests' file system that belongs to them.

use super::{Places, cpio::Archive, make, packages};
use crate::{
    Result,
    guests::Kernel,
    shell::{capture, which},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// What a QEMU guest boots.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) image: PathBuf,
    pub(crate) base: PathBuf,
}

/// Modules that a guest loads at boot, if its kernel has them as modules.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "overlay",
    "loop",
    "squashfs",
    "bfq",
    "brd",
    "zram",
    "dm-mod",
    "fuse",
    "veth",
];

/// From the cache, or from Debian.
pub(crate) fn get(places: &Places, kernel: Kernel) -> Result<Files> {
    let (name, start, end) = match kernel {
        Kernel::V6_1 => ("6.1", "linux-image-6.1.0-", "-cloud-amd64"),
        Kernel::V6_12 => ("6.12", "linux-image-6.12.", "+deb12-cloud-amd64"),
    };
    let directory = places.lab.join("kernels").join(name);
    let unpacked = directory.join("unpacked");
    if !unpacked.exists() {
        let package = packages::newest(start, end)?;
        println!("lab: downloading {package}");
        // Made under another name first: a half of it is never taken for the whole.
        let fresh = directory.join("fresh");
        fs::remove_dir_all(&fresh).ok();
        make(&fresh)?;
        capture(Command::new("apt-get").args(["download", "-qq", &package]).current_dir(&fresh))?;
        let archive = only(&fresh, |name| name.ends_with(".deb"))?;
        capture(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(fresh.join("root")))?;
        fs::rename(fresh.join("root"), &unpacked).map_err(|error| error.to_string())?;
        fs::remove_dir_all(&fresh).map_err(|error| error.to_string())?;
    }
    let image = only(&unpacked.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    let base = directory.join("base.cpio");
    self::base(&base, Some(&unpacked))?;
    Ok(Files { image, base })
}

/// Busybox, a user database, and the kernel's modules. Made again if what it is made of is newer.
pub(crate) fn base(path: &Path, kernel: Option<&Path>) -> Result<()> {
    let busybox = which("busybox").ok_or("no busybox")?;
    let age = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let newest_source = [age(&busybox), std::env::current_exe().ok().and_then(|path| age(&path))];
    if age(path) >= newest_source.into_iter().flatten().max() && path.exists() {
        return Ok(());
    }
    let modules = kernel.map(modules).transpose()?.unwrap_or_default();
    let applets = capture(Command::new(&busybox).arg("--list"))?;
    let fresh = path.with_extension("fresh");
    write(&fresh, &busybox, &applets, &modules).map_err(|error| format!("{}: {error}", fresh.display()))?;
    fs::rename(&fresh, path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, busybox: &Path, applets: &str, modules: &[Module]) -> io::Result<()> {
    let mut archive = Archive::create(path)?;
    for directory in
        ["/proc", "/sys", "/dev", "/run", "/root", "/etc", "/mnt", "/sbin", "/usr/bin", "/usr/sbin"]
    {
        archive.directory(directory, 0o755)?;
    }
    archive.directory("/tmp", 0o1777)?;
    archive.directory("/var/tmp", 0o1777)?;
    archive.directory("/home/lab", 0o777)?;
    archive.file("/bin/busybox", 0o755, busybox)?;
    for applet in applets.lines().filter(|name| !["busybox", "init", "linuxrc"].contains(name)) {
        archive.symlink(&format!("/bin/{applet}"), "busybox")?;
    }
    archive.symlink("/usr/bin/env", "/bin/busybox")?;
    archive.text(
        "/etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nlab:x:1000:1000:lab:/home/lab:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    )?;
    archive.text("/etc/group", 0o644, b"root:x:0:\nlab:x:1000:\nnogroup:x:65534:\n")?;
    archive.text("/etc/hosts", 0o644, b"127.0.0.1 localhost\n")?;
    archive.text("/etc/subuid", 0o644, b"lab:100000:65536\n")?;
    archive.text("/etc/subgid", 0o644, b"lab:100000:65536\n")?;
    if !modules.is_empty() {
        let order: String = modules.iter().map(|module| format!("{}\n", module.name)).collect();
        archive.text("/lab/modules/order", 0o644, order.as_bytes())?;
        for module in modules {
            archive.text(&format!("/lab/modules/{}", module.name), 0o644, &module.content)?;
        }
    }
    archive.finish().map(drop)
}

struct Module {
    name: String,
    content: Vec<u8>,
}

/// The modules that we want and what they depend on, in the order in which they can be loaded.
fn modules(unpacked: &Path) -> Result<Vec<Module>> {
    let version = only(&unpacked.join("lib/modules"), |_| true)?;
    let name = version.file_name().unwrap_or_default().to_owned();
    let depmod = which("depmod").ok_or("no depmod")?;
    capture(Command::new(depmod).arg("-b").arg(unpacked).arg(name))?;
    // "kernel/a.ko: kernel/b.ko kernel/c.ko": a needs c, then b (modules.dep(5))
    let table =
        fs::read_to_string(version.join("modules.dep")).map_err(|error| format!("modules.dep: {error}"))?;
    let mut order: Vec<&str> = Vec::new();
    for wanted in MODULES {
        let found =
            table.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| stem(path) == *wanted);
        let Some((path, needs)) = found else { continue }; // built in, or not there: the guest's needs will tell
        for path in needs.split_whitespace().rev().chain([path]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    order.into_iter().map(|path| load(&version.join(path))).collect()
}

/// A module's content, unpacked: not every kernel unpacks it itself.
fn load(path: &Path) -> Result<Module> {
    let name = format!("{}.ko", stem(&path.to_string_lossy()));
    if path.extension().is_some_and(|extension| extension == "xz") {
        let out = Command::new("xz").arg("-dc").arg(path).output().map_err(|error| format!("xz: {error}"))?;
        return if out.status.success() {
            Ok(Module { name, content: out.stdout })
        } else {
            Err(format!("xz {}: {}", path.display(), out.status))
        };
    }
    let content = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Module { name, content })
}

fn stem(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file)
}

/// The one entry of a directory whose name fits.
fn only(directory: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut found = entries.flatten().filter(|entry| fits(&entry.file_name().to_string_lossy()));
    found
        .next()
        .map(|entry| entry.path())
        .ok_or_else(|| format!("nothing that fits in {}", directory.display()))
}
