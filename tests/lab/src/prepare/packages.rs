//! Debian's packages that the lab runs on: installed as root, named otherwise.

use crate::{
    Result,
    guests::{Guest, Machine},
    shell::{capture, show, which},
};
use nix::unistd::geteuid;
use std::process::Command;

/// (a program, the package that brings it)
type Tool = (&'static str, &'static str);

const QEMU: &[Tool] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
];
const UML: &[Tool] = &[("linux.uml", "user-mode-linux"), ("busybox", "busybox-static")];
const SYSTEMD: &[Tool] = &[("mmdebstrap", "mmdebstrap"), ("sqfstar", "squashfs-tools")];

/// Makes sure that the programs for these guests are there.
///
/// # Errors
/// Which packages are missing, if they cannot be installed from here.
pub(crate) fn install(guests: &[&Guest]) -> Result<()> {
    let missing = missing(guests);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if which("apt-get").is_none() {
        return Err(format!("these Debian packages are missing: {list}\n(and this machine has no apt-get)"));
    }
    if !geteuid().is_root() {
        return Err(format!("these Debian packages are missing: {list}\ntry: sudo apt-get install {list}"));
    }
    println!("lab: installing {list}");
    let install = || apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing).show();
    // Lists that are absent or old name packages that are gone: fetched only if the first try shows it.
    install().or_else(|_| apt().args(["update", "-qq"]).show().and_then(|()| install()))
}

/// The packages that these guests need and this machine does not have.
pub(crate) fn missing(guests: &[&Guest]) -> Vec<&'static str> {
    let mut tools: Vec<Tool> = Vec::new();
    for guest in guests {
        match guest.machine {
            Machine::Host => {}
            Machine::Uml => tools.extend(UML),
            Machine::Qemu(..) => tools.extend(QEMU),
        }
        if guest.has_systemd() {
            tools.extend(SYSTEMD);
        }
    }
    let mut packages: Vec<&str> = tools
        .into_iter()
        .filter(|(program, _)| which(program).is_none())
        .map(|(_, package)| package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

struct Apt(Command);

fn apt() -> Apt {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Apt(command)
}

impl Apt {
    fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    fn show(mut self) -> Result<()> {
        show(&mut self.0)
    }
}

/// The newest package whose name begins and ends so, as this machine's package sources know it: names with a
/// version in them vanish from the mirrors when the next one comes.
pub(crate) fn newest(start: &str, end: &str) -> Result<String> {
    let find = || -> Result<Option<String>> {
        let names = capture(Command::new("apt-cache").args(["pkgnames", start]))?;
        let fitting = names.lines().filter(|name| name.ends_with(end));
        Ok(fitting.max_by_key(|name| numbers(name)).map(str::to_owned))
    };
    let found = match find()? {
        None if geteuid().is_root() => {
            apt().args(["update", "-qq"]).show()?;
            find()?
        }
        found => found,
    };
    found.ok_or_else(|| {
        format!(
            "no package {start}*{end} in this machine's package sources: they must have Debian 12 (bookworm)"
        )
    })
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("linux-image-6.1.0-100-cloud-amd64") > numbers("linux-image-6.1.0-56-cloud-amd64"));
    }
}
