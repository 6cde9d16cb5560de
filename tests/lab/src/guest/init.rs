//! Process 1 of a guest that has nothing but our files.

use super::{Job, Kind, agent, layout, systemd};
use crate::{
    Result,
    guests::{Guest, Layout},
    shell::capture,
    wire::{Lines, Message, Sink},
};
use nix::{
    mount::{MsFlags, mount},
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    unistd::{chdir, chroot},
};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// Everything that programs expect to be mounted; the cgroup layout comes later.
const MOUNTS: &[(&str, &str, &str)] = &[
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", "mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("tmpfs", "/run", "mode=755"),
    ("tmpfs", "/tmp", "mode=1777"),
    ("securityfs", "/sys/kernel/security", ""),
];

/// Where nothing is mounted if a project has been carried there: the root is a tmpfs as well, and has the room of both.
const CARRIED: &str = "/tmp";

fn is_used(directory: &str) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

pub(super) fn main() -> ! {
    if let Err(error) = leave_rootfs() {
        println!("lab: a root of our own: {error}");
    }
    for (kind, place, options) in MOUNTS {
        if *place == CARRIED && is_used(place) {
            let none = None::<&str>;
            let room = mount(none, "/", none, MsFlags::MS_REMOUNT, Some("size=90%")).map_err(Into::into);
            // The project's path was made with the mode of any other directory.
            let mode = || fs::set_permissions(place, Permissions::from_mode(0o1777));
            if let Err(error) = room.and_then(|()| mode()) {
                println!("lab: room for all in {place}: {error}");
            }
            continue;
        }
        if let Err(error) = fs::create_dir_all(place).map_err(|error| error.to_string()).and_then(|()| {
            mount(Some(*kind), *place, Some(*kind), MsFlags::empty(), Some(*options))
                .map_err(|error| error.to_string())
        }) {
            println!("lab: {kind} on {place}: {error}");
        }
    }
    // An init that ends is a kernel panic, which the lab reports with the console's last lines.
    let job = Job::read().expect("the job");
    if Guest::named(&job.guest).is_some_and(Guest::has_systemd) {
        systemd::boot(&job);
    }
    let port = open_port(&job.port, job.kind == Kind::Tests).expect("the serial port");
    let sink: Arc<dyn Sink> = Arc::new(Lines(Mutex::new(port)));
    sink.send(Message::Hello);
    let done = prepare(&job).and_then(|()| match job.kind {
        Kind::Tests => agent::run_tests(entered(&job), Path::new("/run/report"), Arc::clone(&sink)),
        Kind::Shell => shell(&job),
    });
    if let Err(trouble) = done {
        sink.send(Message::Trouble(trouble));
    }
    power_off()
}

/// The kernel's first file system cannot be pivoted away from (pivot_root(2)), which a container's root must be:
/// the same files, mounted once more on top of it, can.
fn leave_rootfs() -> nix::Result<()> {
    let none = None::<&str>;
    mount(Some("/"), "/mnt", none, MsFlags::MS_BIND, none)?;
    chdir("/mnt")?;
    mount(Some("/mnt"), "/", none, MsFlags::MS_MOVE, none)?;
    chroot(".")?;
    chdir("/")
}

/// A serial port is a terminal: made raw, so that nothing is echoed or translated.
pub(super) fn open_port(path: &Path, raw: bool) -> Result<File> {
    let port = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::fcntl::OFlag::O_NOCTTY.bits())
        .open(path)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if raw {
        let mut settings = tcgetattr(&port).map_err(|error| format!("tcgetattr: {error}"))?;
        cfmakeraw(&mut settings);
        tcsetattr(&port, SetArg::TCSANOW, &settings).map_err(|error| format!("tcsetattr: {error}"))?;
    }
    Ok(port)
}
/// The test binary, started from the place in the tree and as the user that the layout says.
fn entered(job: &Job) -> Command {
    let mut command = Command::new("/init");
    command.arg("lab-enter").arg(&job.program).args(&job.arguments).current_dir(&job.directory);
    command.envs(job.environment.iter().map(|(name, value)| (name, value)));
    command
}

fn shell(job: &Job) -> Result<()> {
    let port = open_port(&job.port, false)?;
    let clone = || port.try_clone().map_err(|error| format!("dup: {error}"));
    let mut command = Command::new("/init");
    // a session of its own with the port as its terminal, so that Ctrl-C and job control work
    command.args(["lab-enter", "/bin/busybox", "setsid", "-c", "/bin/sh", "-l"]).current_dir("/");
    command.envs(job.environment.iter().map(|(name, value)| (name, value))).env("TERM", "linux");
    command.stdin(clone()?).stdout(clone()?).stderr(clone()?);
    command.status().map(drop).map_err(|error| format!("sh: {error}"))
}

fn prepare(job: &Job) -> Result<()> {
    load_modules()?;
    capture(Command::new("/bin/ip").args(["link", "set", "lo", "up"]))?;
    let guest = Guest::named(&job.guest).ok_or_else(|| format!("no guest {}", job.guest))?;
    if guest.layout != Layout::Nothing {
        fs::create_dir_all("/sys/fs/cgroup").map_err(|error| format!("/sys/fs/cgroup: {error}"))?;
    }
    swap_on()?;
    // 16 MiB of huge pages, where the kernel has them
    if let Err(error) = fs::write("/proc/sys/vm/nr_hugepages", "8")
        && Path::new("/proc/sys/vm/nr_hugepages").exists()
    {
        return Err(format!("nr_hugepages: {error}"));
    }
    layout::mount_all(guest.layout)
}

/// The modules that were carried in, in the order that their dependencies want.
pub(super) fn load_modules() -> Result<()> {
    let Ok(list) = fs::read_to_string("/lab/modules/order") else { return Ok(()) };
    for name in list.lines() {
        capture(Command::new("/bin/insmod").arg(format!("/lab/modules/{name}")))?;
    }
    Ok(())
}

/// The disk with the serial number `swap`, where the machine has one.
fn swap_on() -> Result<()> {
    let Some(disk) = disk("swap") else { return Ok(()) };
    capture(Command::new("/bin/mkswap").arg(&disk))?;
    capture(Command::new("/bin/swapon").arg(&disk)).map(drop)
}

/// The virtio disk with this serial number. The driver may still be probing.
pub(super) fn disk(serial: &str) -> Option<String> {
    for _ in 0..1500 {
        let entries: Vec<_> = fs::read_dir("/sys/block").ok()?.flatten().map(|entry| entry.path()).collect();
        let found = entries
            .iter()
            .find(|path| fs::read_to_string(path.join("serial")).is_ok_and(|text| text.trim() == serial));
        if let Some(name) = found.and_then(|path| path.file_name()) {
            return Some(format!("/dev/{}", name.to_string_lossy()));
        }
        if !Path::new("/lab/modules/order").exists() {
            return None; // User-mode Linux: no virtio
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}

pub(super) fn power_off() -> ! {
    nix::unistd::sync();
    // not through a signal to init: that is us
    drop(fs::write("/proc/sysrq-trigger", "o"));
    thread::sleep(Duration::from_secs(2));
    drop(Command::new("/bin/busybox").args(["poweroff", "-f"]).status());
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}
