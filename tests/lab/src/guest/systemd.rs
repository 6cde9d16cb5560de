//! A guest with Debian's user space and systemd as init: the tests run as one of its units.

use super::{AGENT, JOB, Job, Kind, USER_ID, agent, init};
use crate::{
    Result,
    guests::{Guest, Layout, Unit},
    wire::{Lines, Message, Sink},
};
use nix::{
    mount::{MsFlags, mount},
    unistd::{chdir, chroot},
};
use std::{
    fs,
    os::unix::{fs::symlink, process::CommandExt},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// What a booted Debian does that the tests have no use for: a slow machine need not wait for it.
const MASKED: &str = "apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    dpkg-db-backup.timer systemd-tmpfiles-clean.timer systemd-timesyncd.service \
    systemd-firstboot.service systemd-update-utmp.service systemd-udev-settle.service \
    systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-sysusers.service \
    systemd-pcrphase.service ldconfig.service kmod-static-nodes.service modprobe@configfs.service \
    modprobe@drm.service modprobe@fuse.service modprobe@efi_pstore.service modprobe@dm_mod.service \
    modprobe@loop.service getty@tty1.service serial-getty@ttyS0.service serial-getty@ttyS1.service";

/// From the initial RAM file system into Debian: a read-only image with a writable layer in memory.
pub(super) fn boot(job: &Job) -> ! {
    if let Err(trouble) = build(job) {
        println!("lab: {trouble}");
        panic!("{trouble}");
    }
    let error =
        Command::new("/lib/systemd/systemd").args(["--unit=rcon-lab.target", "--show-status=false"]).exec();
    panic!("systemd: {error}")
}

fn build(job: &Job) -> Result<()> {
    let text = |error: std::io::Error| error.to_string();
    init::load_modules()?;
    let image = init::disk("root").ok_or("no disk with the Debian image")?;
    for place in ["/lower", "/upper", "/new"] {
        fs::create_dir(place).map_err(text)?;
    }
    let on = |from: &str, to: &str, kind: &str, flags, options: &str| {
        mount(Some(from), to, Some(kind), flags, Some(options))
            .map_err(|error| format!("mount {to}: {error}"))
    };
    on(&image, "/lower", "squashfs", MsFlags::MS_RDONLY, "")?;
    on("tmpfs", "/upper", "tmpfs", MsFlags::empty(), "mode=755,size=80%")?;
    fs::create_dir("/upper/u").and_then(|()| fs::create_dir("/upper/w")).map_err(text)?;
    on("overlay", "/new", "overlay", MsFlags::empty(), "lowerdir=/lower,upperdir=/upper/u,workdir=/upper/w")?;

    fs::create_dir_all("/new/lab").map_err(text)?;
    copy(Path::new("/init"), AGENT)?;
    copy(Path::new(JOB), JOB)?;
    for file in &job.files {
        copy(file, &file.to_string_lossy())?;
    }
    fs::create_dir_all(format!("/new{}", job.directory.display())).map_err(text)?;
    let guest = Guest::named(&job.guest).ok_or("no such guest")?;
    // At boot it empties /tmp, where a project may be.
    fs::write("/new/etc/tmpfiles.d/tmp.conf", "").map_err(text)?;
    units(guest.layout).map_err(|error| format!("units: {error}"))?;
    for place in ["proc", "sys", "dev"] {
        let (from, to) = (format!("/{place}"), format!("/new/{place}"));
        mount(Some(from.as_str()), to.as_str(), None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .map_err(|error| format!("move {from}: {error}"))?;
    }
    // what switch_root(8) does, but for freeing the RAM file system, which is small
    chdir("/new")
        .and_then(|()| mount(Some("/new"), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>))
        .and_then(|()| chroot("."))
        .and_then(|()| chdir("/"))
        .map_err(|error| format!("switch root: {error}"))
}

fn copy(from: &Path, to: &str) -> Result<()> {
    let to = format!("/new{to}");
    let parent = Path::new(&to).parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)
        .and_then(|()| fs::copy(from, &to).map(drop))
        .map_err(|error| format!("{} to {to}: {error}", from.display()))
}

fn units(layout: Layout) -> std::io::Result<()> {
    let directory = "/new/etc/systemd/system";
    let (settings, started) = match layout {
        Layout::Systemd(Unit::Service) => ("MemoryMax=384M\nTasksMax=512\n", "rcon-lab.service"),
        Layout::Systemd(Unit::Delegate) => ("Delegate=yes\n", "rcon-lab.service"),
        Layout::Systemd(Unit::Timer) => ("", "rcon-lab.timer"),
        _ => ("", "rcon-lab.service"),
    };
    let service = format!(
        "[Unit]\nDescription=the tests\nAfter=dbus.service systemd-logind.service\n\
         [Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart={AGENT} lab-agent\n{settings}"
    );
    fs::write(format!("{directory}/rcon-lab.service"), service)?;
    fs::write(format!("{directory}/rcon-lab.timer"), "[Timer]\nOnActiveSec=1s\nAccuracySec=100ms\n")?;
    fs::write(
        format!("{directory}/rcon-lab.target"),
        format!(
            "[Unit]\nRequires=basic.target dbus.service\nAfter=basic.target\nAllowIsolate=yes\n\
             Wants={started} systemd-logind.service user@{USER_ID}.service\n"
        ),
    )?;
    for unit in MASKED.split_whitespace() {
        fs::remove_file(format!("{directory}/{unit}")).ok();
        symlink("/dev/null", format!("{directory}/{unit}"))?;
    }
    Ok(())
}

/// The agent as a service of systemd.
pub(super) fn agent() -> ! {
    let job = Job::read().expect("the job");
    let port = init::open_port(&job.port, true).expect("the serial port");
    let sink: Arc<dyn Sink> = Arc::new(Lines(Mutex::new(port)));
    sink.send(Message::Hello);
    let done = started(&job).and_then(|command| match job.kind {
        Kind::Tests => agent::run_tests(command, Path::new("/run/report"), Arc::clone(&sink)),
        Kind::Shell => shell(&job),
    });
    if let Err(trouble) = done {
        sink.send(Message::Trouble(trouble));
    }
    init::power_off()
}

fn started(job: &Job) -> Result<Command> {
    let guest = Guest::named(&job.guest).ok_or("no such guest")?;
    if guest.layout == Layout::Systemd(Unit::Delegate) {
        // As a service that manages groups of its own does: its processes in one, so that the top may have more.
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let main = format!("/sys/fs/cgroup{}/main", own.trim().trim_start_matches("0::"));
        fs::create_dir(&main)
            .and_then(|()| fs::write(format!("{main}/cgroup.procs"), "0"))
            .map_err(|error| format!("{main}: {error}"))?;
    }
    if guest.layout != Layout::Systemd(Unit::User) {
        return Ok(job.command());
    }
    let bus = format!("/run/user/{USER_ID}/bus");
    let deadline = Instant::now() + Duration::from_secs(180);
    while !Path::new(&bus).exists() {
        if Instant::now() > deadline {
            return Err(format!("the user's systemd has not made {bus} in 180 s"));
        }
        thread::sleep(Duration::from_millis(100));
    }
    let user = USER_ID.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--init-groups"]);
    command
        .args(["systemd-run", "--user", "--scope", "--quiet", "--"])
        .arg(&job.program)
        .args(&job.arguments);
    command.current_dir(&job.directory).envs(job.environment.iter().map(|(name, value)| (name, value)));
    command
        .env("HOME", "/home/lab")
        .env("USER", "lab")
        .env("XDG_RUNTIME_DIR", format!("/run/user/{USER_ID}"));
    command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={bus}"));
    Ok(command)
}

fn shell(job: &Job) -> Result<()> {
    let port = init::open_port(&job.port, false)?;
    let clone = || port.try_clone().map_err(|error| format!("dup: {error}"));
    let mut command = Command::new("setsid");
    command.args(["-c", "-w", "/bin/bash", "-l"]).current_dir("/").env("TERM", "linux");
    command.envs(job.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(clone()?).stdout(clone()?).stderr(clone()?);
    command.status().map(drop).map_err(|error| format!("bash: {error}"))
}
