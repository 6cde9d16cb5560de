//! What a case needs of the machine. Each need is decided by looking at the kernel and its file systems.

use crate::{
    facts::{boot_word, hierarchies},
    place, sudo, victim,
};
use nix::unistd::{AccessFlags, access, geteuid};
use std::{env, fmt, fs, path::Path, process::Command};

/// Something that a case cannot do without. Spelled in `RCON_MUST` (words apart) as it is displayed (`v2:memory`, `swap`).
#[allow(dead_code, reason = "a vocabulary: not every word of it is in use at all times")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// We are uid 0.
    Root,
    /// We are not uid 0.
    NonRoot,
    /// Some group can be made somewhere, v1 or v2.
    Cgroup,
    /// A group with this controller can be made, in v1 or v2.
    Controller(&'static str),
    /// … in a v1 hierarchy.
    V1(&'static str),
    /// … in the v2 hierarchy.
    V2(&'static str),
    /// No v2 hierarchy offers this controller.
    NoV2(&'static str),
    /// cgroups are mounted, but none has this controller.
    NoController(&'static str),
    /// The v2 hierarchy has this controller, but there is no group that we may give it to.
    NoPlace(&'static str),
    /// Controllers on v1, and a v2 hierarchy beside them.
    Hybrid,
    /// `cgroup.kill` exists (Linux 5.14).
    CgroupKill,
    /// This user may make user namespaces.
    Userns,
    /// Time namespaces (Linux 5.6).
    TimeNamespace,
    Overlay,
    Swap,
    /// A block device that is ours to write: in the lab a disk, on a real machine a loop device.
    Disk,
    /// A disk that does 50 operations a second, no more, under the bfq scheduler: the lab's.
    SlowDisk,
    /// systemd is init.
    Systemd,
    /// Groups are to be had only in a scope that systemd makes for who asks.
    Scope,
    /// cgroup file systems are mounted, all read-only.
    ReadOnlyCgroupfs,
    /// No cgroup file system is mounted.
    NoCgroupfs,
    /// Pressure stall information.
    Psi,
    /// A kernel that outlives the end of memory within execve(2).
    PoorExec,
    /// At least this many CPUs.
    Cpus(usize),
    /// sudo, which lets us be root without a password; and it gives the command a terminal of its own (`use_pty` of
    /// sudoers(5)), or leaves it ours.
    Sudo {
        pty: bool,
    },
    /// A program on the PATH.
    Tool(&'static str),
    /// A file that not every kernel has.
    File(&'static str),
    /// The kernel can trace (tracefs).
    Tracing,
    /// A guest of the kernel lab: what would hurt a machine is allowed.
    Lab,
    /// Not a guest of the lab.
    Host,
}

impl Need {
    /// Why the machine does not have it; `None` if it does.
    pub(crate) fn unmet(self) -> Option<String> {
        match self {
            Self::Root => unless(geteuid().is_root(), || format!("this is uid {}", geteuid())),
            Self::NonRoot => unless(!geteuid().is_root(), || "this is uid 0".to_owned()),
            Self::Cgroup => place::any().err(),
            Self::Controller(name) => match (place::v1(name), place::v2_or_scope(name)) {
                (Err(v1), Err(v2)) => Some(format!("{v1}; {v2}")),
                _ => None,
            },
            Self::V1(name) => place::v1(name).err(),
            Self::V2(name) => place::v2_or_scope(name).err(),
            Self::Scope => match place::v2("memory") {
                Ok(group) => Some(format!("{} is ours", group.display())),
                Err(_) => place::scope("memory").err(),
            },
            Self::NoV2(name) => unless(!hierarchies().iter().any(|one| one.v2 && one.has(name)), || {
                format!("the v2 hierarchy has {name}")
            }),
            Self::NoController(name) => match Self::NoCgroupfs.unmet() {
                None => Some("no cgroup file system is mounted".to_owned()),
                Some(_) => {
                    unless(!hierarchies().iter().any(|one| one.has(name)), || format!("{name} is there"))
                }
            },
            Self::NoPlace(name) => {
                let there = hierarchies().iter().any(|one| one.v2 && one.has(name));
                match place::v2_or_scope(name) {
                    _ if !there => Some(format!("no v2 hierarchy has {name}")),
                    Ok(()) => Some(format!("{name} is to be had")),
                    Err(_) => None,
                }
            }
            Self::Hybrid => {
                let v1 =
                    hierarchies().iter().any(|one| one.controllers.iter().any(|name| !name.contains('=')));
                let v2 = hierarchies().iter().any(|one| one.v2);
                unless(v1 && v2, || format!("controllers on v1: {v1}, v2 mounted: {v2}"))
            }
            Self::CgroupKill => place::has_kill().err(),
            Self::Userns => userns_denied(),
            Self::TimeNamespace => unless(Path::new("/proc/self/ns/time").exists(), || {
                "the kernel has no time namespaces".to_owned()
            }),
            Self::Overlay => unless(file_has("/proc/filesystems", "overlay"), || {
                "the kernel has no overlay file system (loaded)".to_owned()
            }),
            Self::Swap => {
                unless(fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1), || {
                    "no swap is on".to_owned()
                })
            }
            Self::Disk => disk_missing(),
            Self::SlowDisk => {
                unless(boot_word("rcon.slow").is_some(), || "there is no slow disk here".to_owned())
            }
            Self::Systemd => {
                unless(Path::new("/run/systemd/system").is_dir(), || "init is not systemd".to_owned())
            }
            Self::ReadOnlyCgroupfs => match hierarchies() {
                [] => Some("no cgroup file system is mounted".to_owned()),
                all => unless(all.iter().all(|one| one.read_only), || {
                    "cgroupfs is mounted read-write".to_owned()
                }),
            },
            Self::NoCgroupfs => match hierarchies() {
                [] => None,
                [first, ..] => Some(format!("one is mounted at {}", first.mount.display())),
            },
            Self::Psi => unless(fs::read_to_string("/proc/pressure/cpu").is_ok(), || {
                "the kernel gives no pressure information".to_owned()
            }),
            Self::PoorExec => {
                // Without it: no user-mode Linux, which always has it; the case runs.
                let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
                unless(!cpu.contains("User Mode Linux"), || {
                    "user-mode Linux panics (clear_user) where execve is to clear a page that it does not get"
                        .to_owned()
                })
            }
            Self::Cpus(number) => {
                let have = std::thread::available_parallelism().map_or(1, |count| count.get());
                unless(have >= number, || format!("there are {have}"))
            }
            Self::Sudo { .. } if !has_tool("sudo") => Some("sudo is not installed".to_owned()),
            Self::Sudo { pty } => sudo::way(pty).err(),
            Self::Tool(name) => unless(has_tool(name), || format!("no {name} is on the PATH")),
            Self::File(path) => unless(Path::new(path).exists(), || format!("this kernel has no {path}")),
            Self::Tracing => {
                unless(file_has("/proc/filesystems", "tracefs"), || "the kernel has no tracefs".to_owned())
            }
            Self::Lab => unless(in_lab(), || "this is no guest of the kernel lab".to_owned()),
            Self::Host => unless(!in_lab(), || "this is a guest of the kernel lab".to_owned()),
        }
    }

    /// Has whoever started the tests promised it here? Then its absence is a failure, not a skip: a guest that
    /// lost its swap device must not turn the tests of swap into silence.
    pub(crate) fn is_promised(self) -> bool {
        let spelled = self.to_string();
        env::var("RCON_MUST").is_ok_and(|list| list.split_whitespace().any(|word| word == spelled))
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::NonRoot => f.write_str("non-root"),
            Self::Cgroup => f.write_str("cgroup"),
            Self::Controller(name) => write!(f, "controller:{name}"),
            Self::V1(name) => write!(f, "v1:{name}"),
            Self::V2(name) => write!(f, "v2:{name}"),
            Self::NoV2(name) => write!(f, "no-v2:{name}"),
            Self::NoController(name) => write!(f, "no-controller:{name}"),
            Self::NoPlace(name) => write!(f, "no-place:{name}"),
            Self::Hybrid => f.write_str("hybrid"),
            Self::CgroupKill => f.write_str("cgroup-kill"),
            Self::Userns => f.write_str("userns"),
            Self::TimeNamespace => f.write_str("time-namespace"),
            Self::Overlay => f.write_str("overlay"),
            Self::Swap => f.write_str("swap"),
            Self::Disk => f.write_str("disk"),
            Self::SlowDisk => f.write_str("slow-disk"),
            Self::Systemd => f.write_str("systemd"),
            Self::Scope => f.write_str("scope"),
            Self::ReadOnlyCgroupfs => f.write_str("read-only-cgroupfs"),
            Self::NoCgroupfs => f.write_str("no-cgroupfs"),
            Self::Psi => f.write_str("psi"),
            Self::PoorExec => f.write_str("poor-exec"),
            Self::Cpus(number) => write!(f, "cpus:{number}"),
            Self::Sudo { pty } => f.write_str(if *pty { "sudo:pty" } else { "sudo:tty" }),
            Self::Tool(name) => write!(f, "tool:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Tracing => f.write_str("tracing"),
            Self::Lab => f.write_str("lab"),
            Self::Host => f.write_str("host"),
        }
    }
}

fn unless(fine: bool, reason: impl FnOnce() -> String) -> Option<String> {
    (!fine).then(reason)
}

fn has_tool(name: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

fn file_has(path: &str, word: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.split_whitespace().any(|found| found == word))
}

/// Only the lab's guests are booted with this word.
fn in_lab() -> bool {
    boot_word("rcon.lab").is_some()
}

/// Tries it, in a child: sysctls, LSMs and limits decide, and only the kernel knows them all.
fn userns_denied() -> Option<String> {
    let out = match Command::new(victim::program()).arg("--victim=userns").output() {
        Ok(out) => out,
        Err(error) => return Some(format!("cannot try: {error}")),
    };
    unless(out.status.success(), || String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn disk_missing() -> Option<String> {
    if in_lab() {
        return match boot_word("rcon.disk") {
            Some(path) => {
                let ours = access(path.as_str(), AccessFlags::R_OK | AccessFlags::W_OK).is_ok();
                unless(ours, || format!("{path} is not ours to write"))
            }
            None => Some("this guest has no disk".to_owned()),
        };
    }
    if !geteuid().is_root() {
        return Some("a loop device needs root".to_owned());
    }
    unless(Path::new("/dev/loop-control").exists(), || "there is no /dev/loop-control".to_owned())
}
