//! A small Debian with systemd, as a read-only image.

use super::Places;
use crate::Result;
use nix::unistd::geteuid;
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    process::{Command, Stdio},
};

/// The second line is what cases need there: strace, newuidmap(1), make, a container runtime, ip(8), sudo(8).
const PACKAGES: &str = "systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,procps,util-linux,kmod,\
    strace,uidmap,make,crun,iproute2,sudo";

/// Run in the new system. The user lingers, so that it has a session without logging in, and may do everything by sudo,
/// which gives a command a terminal of its own unless that is env(1).
const CUSTOMIZE: &str = r#"chroot "$1" useradd -m -u 1000 -s /bin/bash lab
mkdir -p "$1/var/lib/systemd/linger"; touch "$1/var/lib/systemd/linger/lab"
echo lab > "$1/etc/hostname"; echo 127.0.0.1 localhost lab > "$1/etc/hosts"; : > "$1/etc/machine-id"
echo 'lab ALL=(root) NOPASSWD: ALL' > "$1/etc/sudoers.d/lab"
echo 'Defaults use_pty' >> "$1/etc/sudoers.d/lab"; echo 'Defaults!/usr/bin/env !use_pty' >> "$1/etc/sudoers.d/lab"
chmod 440 "$1/etc/sudoers.d/lab"
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*"#;

/// From the cache, or made with mmdebstrap.
pub(crate) fn get(places: &Places) -> Result<PathBuf> {
    // Another list, another image.
    let mut made_of = DefaultHasher::new();
    (PACKAGES, CUSTOMIZE).hash(&mut made_of);
    let image = places.lab.join(format!("debian-{:016x}.squashfs", made_of.finish()));
    if image.exists() {
        return Ok(image);
    }
    println!("lab: making a Debian image with systemd");
    let fresh = places.lab.join("debian.fresh");
    fs::remove_file(&fresh).ok();
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap.arg(if geteuid().is_root() { "--mode=root" } else { "--mode=unshare" });
    bootstrap.args(["--quiet", "--variant=essential", &format!("--include={PACKAGES}")]);
    for unneeded in ["doc", "man", "locale", "info"] {
        bootstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{unneeded}/*"));
    }
    bootstrap.arg(format!("--customize-hook={CUSTOMIZE}"));
    bootstrap.args(["bookworm", "-"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut bootstrap = bootstrap.spawn().map_err(|error| format!("mmdebstrap: {error}"))?;
    let archive = bootstrap.stdout.take().ok_or("mmdebstrap: no output")?;
    let packed = Command::new("sqfstar")
        .args(["-comp", "lz4", "-quiet", "-no-progress"])
        .arg(&fresh)
        .stdin(archive)
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("sqfstar: {error}"));
    let made = bootstrap.wait().map_err(|error| format!("mmdebstrap: {error}"))?;
    if !made.success() {
        return Err(format!("mmdebstrap: {made}"));
    }
    match packed? {
        status if status.success() => {}
        status => return Err(format!("sqfstar: {status}")),
    }
    fs::rename(&fresh, &image).map_err(|error| error.to_string())?;
    Ok(image)
}
