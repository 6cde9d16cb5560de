//! A root process that wants out of its root directory, by every way that is known to it.

use crate::{
    case::Case,
    needs::Need,
    support::{Output, RCON, run, victim_line},
};
use nix::{
    fcntl::{OFlag, open},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::stat::{Mode, SFlag, makedev, mknod, stat},
    unistd::{chdir, chroot, fchdir},
};
use std::{
    fs,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("escape::nothing_succeeds_with_few_capabilities", &[Need::Root], nothing_succeeds),
        Case::new("escape::no_way_of_a_chroot_with_all_capabilities", &[Need::Root], no_way_of_a_chroot),
        Case::new("escape::chroot_only_can_be_left", &[Need::Root], chroot_only_can_be_left),
        Case::new(
            "escape::nothing_succeeds_in_a_user_namespace",
            &[Need::Root, Need::Userns],
            user_namespace,
        ),
    ]
}

/// What container runtimes leave to root, without mknod, which they ban by other means as well.
const FEW: &str = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,audit_write,setfcap";

/// Ways that lead out of a mere chroot(2).
const OF_A_CHROOT: [&str; 5] = ["descriptor", "second-chroot", "proc-root", "proc-cwd", "proc-fd"];

/// Lets the victim loose in a root, with a descriptor of the host's root leaked to it; which ways led out.
fn loose(options: &[&str]) -> Vec<String> {
    loose_by("escape", options)
}

fn loose_by(role: &str, options: &[&str]) -> Vec<String> {
    let root = tempfile::tempdir().expect("temporary directory");
    let outside = tempfile::tempdir().expect("temporary directory");
    let secret = outside.path().join("secret");
    fs::write(&secret, "outside").expect("write");
    for name in ["proc", "tmp", "dev", "sys"] {
        fs::create_dir(root.path().join(name)).expect("mkdir");
    }
    let [program, _] = victim_line("");
    fs::copy(&program, root.path().join("victim")).expect("copy");
    let line = "exec 7</ 8<.; exec \"$@\"";
    let mut run = run("sh").args(["-c", line, "sh", RCON, "--root"]).args([root.path()]).args(options);
    run = run.args([
        "--env",
        "RUST_BACKTRACE=0",
        "--",
        "/victim",
        &format!("--victim={role}:{}", secret.display()),
    ]);
    let out: Output = run.run();
    assert!(out.stdout.ends_with("tried all\n"), "{out}");
    out.stdout.lines().filter_map(|line| line.strip_prefix("out by ")).map(str::to_owned).collect()
}

fn nothing_succeeds() {
    for more in [&[][..], &["--unshare", "net,ipc,uts"][..], &["--dev", "minimal", "--sys", "ro"][..]] {
        let out = loose(&[&["--allow", FEW, "--proc", "--tmpfs", "/tmp"][..], more].concat());
        assert_eq!(out, [""; 0], "{more:?}");
    }
}

/// With every capability root can mount, make devices and trace: nobody calls that a cage. But the root
/// directory itself holds, and the processes outside are not there.
fn no_way_of_a_chroot() {
    let out = loose_by("escape-chroot", &["--proc"]);
    assert_eq!(out, [""; 0]);
}

/// Said in the documentation: this proves that it is so, and that the victim knows its trade.
fn chroot_only_can_be_left() {
    let out = loose_by("escape-chroot", &["--chroot-only"]);
    assert!(out.iter().any(|way| way == "second-chroot"), "{out:?}");
    let out = loose_by("escape-chroot", &["--chroot-only", "--keep-fd", "7"]);
    assert!(out.iter().any(|way| way == "descriptor"), "{out:?}");
}

fn user_namespace() {
    let out =
        loose(&["--map-users", "0:100000:65536", "--unshare", crate::cage::all_kinds(), "--dev", "minimal"]);
    assert_eq!(out, [""; 0]);
}

/// Tries everything; says which ways led to the file at `secret`, a path on the host.
pub(crate) fn attempt(secret: &Path, of_a_chroot: bool) {
    let seen = |prefix: &str| {
        let path = format!("{prefix}/{}", secret.strip_prefix("/").expect("absolute").display());
        fs::read(path).is_ok_and(|text| text == b"outside")
    };
    let ways: [(&str, &dyn Fn() -> bool); 15] = [
        ("name", &|| seen("") || seen("/../../..")),
        ("descriptor", &|| (3..64).any(|fd| by_descriptor(fd) && seen("."))),
        ("second-chroot", &|| second_chroot() && seen("")),
        ("proc-root", &|| processes().iter().any(|pid| seen(&format!("/proc/{pid}/root")))),
        ("proc-cwd", &|| {
            processes().iter().any(|pid| seen(&format!("/proc/{pid}/cwd/../../../../../../..")))
        }),
        ("proc-fd", &|| processes().iter().any(|pid| by_their_descriptors(pid, &seen))),
        ("proc-exe", &|| {
            processes()
                .iter()
                .any(|pid| fs::File::options().write(true).open(format!("/proc/{pid}/exe")).is_ok())
        }),
        ("namespace", &|| processes().iter().any(|pid| by_namespace(pid)) && seen("")),
        ("machine-files", &machine_files),
        ("mount", &|| mounts()),
        ("unmount", &|| umount2("/", MntFlags::MNT_DETACH).is_ok() && seen("/../..")),
        ("device", &device),
        ("trace", &|| processes().iter().any(|pid| trace(pid.parse().unwrap_or(0)))),
        ("handle", &handle),
        ("user-namespace", &|| {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).is_ok() && mounts()
        }),
    ];
    for (name, way) in ways.into_iter().filter(|(name, _)| !of_a_chroot || OF_A_CHROOT.contains(name)) {
        if in_a_child(way) {
            println!("out by {name}");
        }
    }
    println!("tried all");
}

/// Each way in a process of its own, which it may ruin.
fn in_a_child(way: &dyn Fn() -> bool) -> bool {
    #[allow(unsafe_code)]
    // SAFETY: this program has one thread at this point, so the child may do anything.
    match unsafe { nix::unistd::fork() }.expect("fork") {
        nix::unistd::ForkResult::Child => {
            let out = way();
            std::process::exit(if out { 17 } else { 0 })
        }
        nix::unistd::ForkResult::Parent { child } => {
            let ended = nix::sys::wait::waitpid(child, None).expect("wait");
            matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 17))
        }
    }
}

fn processes() -> Vec<String> {
    let own = std::process::id().to_string();
    let parent = std::os::unix::process::parent_id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && *name != own && *name != parent).collect()
}

fn by_descriptor(fd: i32) -> bool {
    #[allow(unsafe_code)]
    // SAFETY: a number that may not be open: then the call fails, which is an answer.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fchdir(fd).is_ok() && (0..64).all(|_| chdir("..").is_ok())
}

/// chroot(2): "In particular, the superuser can escape from a chroot jail".
fn second_chroot() -> bool {
    let Ok(here) = open("/", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()) else { return false };
    drop(fs::create_dir_all("/tmp/inner"));
    chroot("/tmp/inner").is_ok()
        && fchdir(here.as_fd()).is_ok()
        && (0..64).all(|_| chdir("..").is_ok())
        && chroot(".").is_ok()
}

fn by_their_descriptors(pid: &str, seen: &dyn Fn(&str) -> bool) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| seen(&format!("{}/../../../../..", entry.path().display())))
}

fn by_namespace(pid: &str) -> bool {
    let Ok(fd) = fs::File::open(format!("/proc/{pid}/ns/mnt")) else { return false };
    setns(&fd, CloneFlags::CLONE_NEWNS).is_ok()
}

/// Opened for writing, these change the whole machine: nothing is written.
fn machine_files() -> bool {
    let files = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
    ];
    files.iter().any(|file| fs::File::options().write(true).open(file).is_ok())
}

/// Mounts that only root of the machine may make. They are taken away at once: what is mounted here is shared
/// with the machine, and whoever deletes this root directory must not find it inside.
fn mounts() -> bool {
    let none = None::<&str>;
    ["debugfs", "securityfs"].iter().any(|kind| {
        let mounted = mount(Some("x"), "/sys", Some(*kind), MsFlags::empty(), none).is_ok();
        mounted && umount2("/sys", MntFlags::MNT_DETACH).is_ok()
    }) || mount(none, "/", none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none).is_ok() && !in_user_namespace()
}

fn in_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.contains("4294967295"))
}

/// The disk that the root is on, or any other: made as a node, and opened.
fn device() -> bool {
    let root = stat("/").map(|stat| stat.st_dev).unwrap_or_default();
    [root, makedev(254, 0), makedev(8, 0), makedev(7, 0), makedev(1, 0)].into_iter().enumerate().any(
        |(number, device)| {
            let path = format!("/tmp/disk{number}");
            mknod(path.as_str(), SFlag::S_IFBLK, Mode::S_IRUSR, device).is_ok()
                && fs::File::open(path).is_ok()
        },
    ) || mknod("/tmp/mem", SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 1)).is_ok()
}

#[allow(unsafe_code, reason = "calls that no crate here wraps")]
fn trace(pid: i32) -> bool {
    // SAFETY: attaching takes numbers; the other process is only stopped, and let go below.
    let attached = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) } == 0;
    if attached {
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
    }
    attached
}

/// open_by_handle_at(2) of the file system's root, whose handle can be guessed: the "shocker" of old.
#[allow(unsafe_code, reason = "calls that no crate here wraps")]
fn handle() -> bool {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        data: [u32; 2],
    }
    let Ok(here) = open("/", OFlag::O_RDONLY, Mode::empty()) else { return false };
    // ext4: inode 2, generation 0.
    let mut handle = Handle { bytes: 8, kind: 1, data: [2, 0] };
    let fd = std::os::fd::AsRawFd::as_raw_fd(&here);
    // SAFETY: the handle has the length that it says.
    let opened = unsafe { libc::syscall(libc::SYS_open_by_handle_at, fd, &raw mut handle, libc::O_RDONLY) };
    opened >= 0
}
