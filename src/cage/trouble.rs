//! Why a cage could not be made, in words: the kernel's answer in its situation, and the way out.

use std::fs;

use nix::errno::Errno;

use super::namespaces::{Kind, Set};
use super::step::{CageStep, Root, What};
use crate::error::Error;

/// Where a system call is not there.
pub const TOO_OLD: &str = "this needs openat2, open_tree and mount_setattr (Linux 5.12), which this kernel, or a seccomp filter, does not offer";

fn sysctl(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// What forbids user namespaces to this caller, if it is one of the known switches; `read` gives what a file says.
fn forbidden(read: &dyn Fn(&str) -> Option<String>) -> Option<(&'static str, &'static str)> {
    let known = [
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "kernel.unprivileged_userns_clone is 0",
            "as root: sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/user/max_user_namespaces",
            "0",
            "user.max_user_namespaces is 0",
            "as root: sysctl -w user.max_user_namespaces=10000",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns is 1: AppArmor gives programs without a profile no power in a user namespace",
            "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give rcon a profile with 'userns,' in /etc/apparmor.d",
        ),
    ];
    known
        .into_iter()
        .find(|(path, bad, ..)| read(path).as_deref() == Some(bad))
        .map(|(_, _, why, way_out)| (why, way_out))
}

/// The child could not be created in its namespaces.
#[must_use]
pub fn of_birth(new: Set, errno: Errno) -> Error {
    let names: Vec<&str> = new.kinds().map(Kind::name).collect();
    let error = Error::new(format!("cannot create a process in new namespaces ({})", names.join(", ")))
        .errno(errno)
        .option(if new.has(Kind::User) { "--unshare user" } else { "--unshare" });
    match (errno, forbidden(&sysctl)) {
        (Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::EUSERS, Some((why, way_out)))
            if new.has(Kind::User) =>
        {
            Error { what: format!("{}: {why}", error.what), ..error }.try_this(way_out)
        }
        (Errno::EPERM, _) if new.has(Kind::User) => error.try_this(
            "a security module or a seccomp filter (of a container?) forbids it, or rcon runs in a chroot: run it as root outside",
        ),
        (Errno::EPERM, _) => error.try_this("as root, or with a user namespace: --unshare user"),
        (Errno::ENOSPC | Errno::EUSERS, _) => {
            error.try_this("a limit on namespaces is reached: sysctl user | grep max_ (or 32 levels of nesting)")
        }
        (Errno::EINVAL, _) => {
            error.try_this("this kernel lacks one of these kinds of namespaces: ls /proc/self/ns")
        }
        _ => error,
    }
}

/// A step of the cage failed.
#[must_use]
pub fn of_step(step: &CageStep, new: Set, errno: Errno) -> Error {
    let mut error = Error::new(format!("cannot {}", step.words())).errno(errno);
    error.option = step.option().map(str::to_owned);
    // What is joined is outside of the new user namespace.
    let inside = new.has(Kind::User) && !matches!(step, CageStep::Enter(..));
    if let (true, Errno::EPERM | Errno::EACCES, Some((why, way_out))) = (inside, errno, forbidden(&sysctl)) {
        error.what = format!("{} ({why})", error.what);
        return error.try_this(way_out);
    }
    error.try_if(way_out(step, new, errno))
}

fn way_out(step: &CageStep, new: Set, errno: Errno) -> Option<&'static str> {
    Some(match (step, errno) {
        (_, Errno::ENOSYS) => TOO_OLD,
        (CageStep::NewTime(_) | CageStep::NewCgroup, Errno::EINVAL) => {
            "this kernel lacks this kind of namespace (ls /proc/self/ns): name those that it has"
        }
        (CageStep::PrivateMounts | CageStep::EnterRoot, Errno::EINVAL) => {
            "rcon itself runs in a chroot, where the kernel allows no pivot_root: use --chroot-only"
        }
        (CageStep::Enter(..), Errno::EPERM) if new.has(Kind::User) => {
            "only who has power over it joins it, and no new user namespace has: as root, or --join user= of the same process in place of --unshare user"
        }
        (CageStep::Enter(..), Errno::EPERM) => {
            "it belongs to another user namespace: as root, or --join user= of the same process first"
        }
        (CageStep::Enter(..), Errno::EINVAL) => {
            "it is a namespace of another kind, or one that we are in already"
        }
        (CageStep::Mount(mount), Errno::EROFS) => match mount.what {
            What::Mask => return None,
            _ => "the mount point is missing there: make it first (mkdir -p, or touch for a file)",
        },
        (CageStep::Mount(mount), Errno::EPERM) => match mount.what {
            What::Proc { .. } => {
                "parts of the caller's /proc are hidden (a container?), so the kernel gives it no whole one: --bind /proc"
            }
            What::Overlay { .. } => "an overlay in a user namespace needs Linux 5.11",
            _ => return None,
        },
        (CageStep::Mount(mount), Errno::ENODEV) => match mount.what {
            What::Overlay { .. } => "the kernel has no overlay file system: modprobe overlay",
            _ => return None,
        },
        (CageStep::Root(Root::Kept { .. }), Errno::EINVAL) => {
            "the file system of that directory cannot hold an overlay's writes (another overlay? NFS?): name another one"
        }
        (CageStep::Root(_), Errno::ENODEV) => "the kernel has no overlay file system: modprobe overlay",
        (
            CageStep::Process(super::process::Setting::Nice(_) | super::process::Setting::OomScoreAdj(_)),
            Errno::EACCES | Errno::EPERM,
        ) => "only root may go below the caller's own value",
        (CageStep::Process(super::process::Setting::Deadline(_)), Errno::EBUSY) => {
            "the processors have no such share left for deadlines (kernel.sched_rt_runtime_us): ask for less"
        }
        (CageStep::Process(super::process::Setting::Deadline(_)), Errno::EPERM) => {
            "only root may, and only where the command may run on all processors (no --cpuset, and none around us)"
        }
        (CageStep::Process(super::process::Setting::Rlimit(..)), Errno::EPERM) => {
            "only root may go above the caller's own hard limit (ulimit -aH)"
        }
        (CageStep::Process(super::process::Setting::Sched(..)), Errno::EPERM) => {
            "only root of the machine itself may, or whom it allows it (ulimit -r): a user namespace does not help"
        }
        (CageStep::Process(super::process::Setting::Ionice(..)), Errno::EPERM) => {
            "only root of the machine itself may: a user namespace does not help"
        }
        (CageStep::Return(_), Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {
            "a mount of this run hides where you are: say --chdir DIR, or run it from elsewhere"
        }
        (CageStep::Chroot, Errno::EPERM) => "as root, or with a user namespace: --unshare user",
        (CageStep::CloseDescriptors(_), Errno::EBADF) => "--keep-fd: pass only descriptors that are open",
        (_, Errno::EPERM) if !new.has(Kind::User) => "as root, or with a user namespace: --unshare user",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::process::{Setting, ionice, sched};
    use super::*;

    #[test]
    fn what_a_user_namespace_gives_no_right_to_is_not_sought_there() {
        let hint = |word: Result<Setting, String>| {
            let step = CageStep::Process(word.unwrap());
            of_step(&step, Set::default(), Errno::EPERM).way_out.unwrap()
        };
        for word in [sched("fifo:1"), ionice("realtime:0")] {
            let said = hint(word);
            assert!(said.contains("a user namespace does not help") && !said.contains("--unshare"), "{said}");
        }
        // An option that there is.
        assert!(hint(sched("deadline:1ms:10ms")).contains("no --cpuset"));
    }

    #[test]
    fn the_switch_that_forbids_is_named() {
        for (file, value, word) in [
            ("/proc/sys/kernel/unprivileged_userns_clone", "0", "unprivileged_userns_clone=1"),
            ("/proc/sys/user/max_user_namespaces", "0", "max_user_namespaces=10000"),
            ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "/etc/apparmor.d"),
        ] {
            let set = |path: &str| Some(if path == file { value } else { "7" }.to_owned());
            let (why, way_out) = forbidden(&set).unwrap();
            assert!(way_out.contains(word), "{way_out}");
            let name = file.rsplit('/').next().unwrap();
            assert!(why.contains(&format!("{name} is {value}")), "{why}");
        }
        // Where nothing forbids it, and on kernels without these switches.
        assert_eq!(forbidden(&|_| Some("31231".to_owned())), None);
        assert_eq!(forbidden(&|_| None), None);
    }
}
