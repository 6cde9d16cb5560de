//! Starting a guest and hearing it: QEMU, User-mode Linux, or the tests on this machine.

use crate::{
    Result,
    guest::{Job, Kind, run_tests},
    guests::{Guest, Machine},
    payload::write_initrd,
    prepare::{Places, Ready},
    shell::which,
    wire::{Message, Sink},
};
use nix::unistd::geteuid;
use std::{
    env, fs,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

/// A started guest.
pub(crate) struct Running {
    pub(crate) messages: mpsc::Receiver<Heard>,
    /// The guest as a process of this machine; `None` for this machine itself.
    pub(crate) process: Option<Child>,
    /// What the kernel and init wrote.
    pub(crate) console: Option<PathBuf>,
    /// What came by the agent's port and was not the agent's.
    pub(crate) noise: Vec<String>,
    /// Disks, sockets, the RAM file system: gone with the value.
    _directory: tempfile::TempDir,
}

/// A line from the guest.
pub(crate) enum Heard {
    Message(Message),
    /// Not from the agent.
    Noise(String),
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It has ended, or it has to: a guest holds nothing that could be lost.
            process.kill().ok();
            process.wait().ok();
        }
    }
}

/// What a directory of ours in the temporary one begins with; our process id follows.
const SCRATCH: &str = "rcon-lab-";

/// Removes what a lab that was killed has left.
pub(crate) fn sweep() -> io::Result<()> {
    for entry in fs::read_dir(env::temp_dir())? {
        let entry = entry?;
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(SCRATCH)?.split('-').next()?.parse::<u32>().ok());
        let stale = owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        if stale {
            // Another lab may be faster.
            remove(&entry).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
    }
    Ok(())
}

fn remove(entry: &fs::DirEntry) -> io::Result<()> {
    let metadata = entry.metadata()?; // of the entry itself: no link is followed
    match metadata.is_dir() && metadata.uid() == geteuid().as_raw() {
        true => fs::remove_dir_all(entry.path()),
        false => Ok(()),
    }
}

/// Boots the guest, or starts the tests here; `more` is added to a QEMU guest's kernel command line.
pub(crate) fn start(places: &Places, ready: &Ready, guest: &Guest, job: &Job, more: &str) -> Result<Running> {
    // A short path: a Unix socket's may have 107 bytes.
    let prefix = format!("{SCRATCH}{}-", process::id());
    let directory = tempfile::Builder::new().prefix(&prefix).tempdir().map_err(|error| error.to_string())?;
    let console = places.lab.join("consoles").join(format!("{}.log", guest.name));
    let (sender, messages) = mpsc::channel();
    if guest.machine == Machine::Host {
        here(job, directory.path(), sender);
        return Ok(Running {
            messages,
            process: None,
            console: None,
            noise: Vec::new(),
            _directory: directory,
        });
    }
    let initrd = directory.path().join("initrd");
    let log = || File::create(&console).map_err(|error| format!("{}: {error}", console.display()));
    let process = match guest.machine {
        Machine::Qemu(kernel, words) => {
            let files = &ready.kernels[&kernel];
            write_initrd(&initrd, &files.base, job)?;
            let mut command = qemu(&files.image, &initrd, guest, &format!("{words} {more}"), &console);
            disks(&mut command, directory.path(), guest.has_systemd().then_some(ready.rootfs.as_path()))?;
            if job.kind == Kind::Shell {
                command.args(["-chardev", "stdio,id=agent,signal=off", "-serial", "chardev:agent"]);
                command.spawn().map_err(|error| format!("qemu: {error}"))?
            } else {
                let socket = directory.path().join("agent");
                let listener = UnixListener::bind(&socket).map_err(|error| format!("socket: {error}"))?;
                let option = format!("socket,id=agent,path={}", socket.display());
                command.args(["-chardev", &option, "-serial", "chardev:agent"]);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_beside(&console)?);
                let child = command.spawn().map_err(|error| format!("qemu: {error}"))?;
                thread::spawn(move || {
                    if let Ok((stream, _)) = listener.accept() {
                        hear(stream, &sender);
                    }
                });
                child
            }
        }
        Machine::Uml => {
            write_initrd(&initrd, &ready.uml_base, job)?;
            let disk = blank(&directory.path().join("disk"), 64)?;
            let mut command = uml(&initrd, &disk, directory.path(), guest);
            if job.kind == Kind::Shell {
                command.args(["ssl0=fd:0,fd:1", "con0=null"]).stderr(log()?);
                command.spawn().map_err(|error| format!("linux.uml: {error}"))?
            } else {
                command.args(["con0=null,fd:1", "ssl0=null,fd:2"]);
                command.stdin(Stdio::null()).stdout(log()?).stderr(Stdio::piped());
                let mut child = command.spawn().map_err(|error| format!("linux.uml: {error}"))?;
                if let Some(stream) = child.stderr.take() {
                    thread::spawn(move || hear(stream, &sender));
                }
                child
            }
        }
        Machine::Host => unreachable!("handled above"),
    };
    Ok(Running {
        messages,
        process: Some(process),
        console: Some(console),
        noise: Vec::new(),
        _directory: directory,
    })
}

/// The tests on this machine itself, told in the same way as a guest's.
fn here(job: &Job, directory: &Path, sender: mpsc::Sender<Heard>) {
    struct Straight(mpsc::Sender<Heard>);
    impl Sink for Straight {
        fn send(&self, message: Message) {
            // nobody listens any more once the time is up
            self.0.send(Heard::Message(message)).ok();
        }
    }
    let (command, report) = (job.command(), directory.join("report"));
    thread::spawn(move || {
        let sink: Arc<dyn Sink> = Arc::new(Straight(sender));
        sink.send(Message::Hello);
        if let Err(trouble) = run_tests(command, &report, Arc::clone(&sink)) {
            sink.send(Message::Trouble(trouble));
        }
    });
}

fn hear(stream: impl Read, sender: &mpsc::Sender<Heard>) {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
        let heard = Message::parse(&text).map_or(Heard::Noise(text), Heard::Message);
        if sender.send(heard).is_err() {
            break;
        }
        line.clear();
    }
}

/// A program that is killed when the thread that starts it ends, however that comes about.
fn tied(program: &str) -> Command {
    match which("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--", program]);
            command
        }
        None => Command::new(program),
    }
}

fn qemu(image: &Path, initrd: &Path, guest: &Guest, words: &str, console: &Path) -> Command {
    let mut command = tied("qemu-system-x86_64");
    // Emulation everywhere: hardware virtualisation is faster where it works, but a /dev/kvm that opens and then
    // hangs is common inside of virtual machines, which is where CI runs.
    // One thread for all of a guest's CPUs: with one each, QEMU can translate code that another CPU is changing at
    // that moment (static keys, on the first CPU limit) and keep the old translation: the kernel dies of a stray int3.
    // It is also faster here, where guests outnumber the machine's CPUs.
    command.args("-M pc -accel tcg,thread=single,tb-size=256 -cpu max -smp 2".split(' '));
    command.args(["-m", if guest.has_systemd() { "1024M" } else { "512M" }]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-kernel").arg(image).arg("-initrd").arg(initrd);
    let line = format!(
        "console=ttyS0 loglevel=4 panic=-1 oops=panic tsc=reliable no_timer_check random.trust_cpu=1 \
         mitigations=off audit=0 psi=1 rcon.lab={} rcon.disk=/dev/vdb rcon.slow=/dev/{} {words}",
        guest.name,
        if guest.has_systemd() { "vdd" } else { "vdc" },
    );
    command.args(["-append", &line]);
    command.args(["-chardev", &format!("file,id=console,path={}", console.display())]);
    command.args(["-serial", "chardev:console"]);
    command
}

/// `vda` for swap, `vdb` for the tests, then one with Debian where it is needed, and a slow one.
fn disks(command: &mut Command, directory: &Path, rootfs: Option<&Path>) -> Result<()> {
    let mut add = |id: &str, file: &Path, rest: &str| {
        command.args(["-drive", &format!("if=none,id={id},format=raw,file={}{rest}", file.display())]);
        command.args(["-device", &format!("virtio-blk-pci,drive={id},serial={id}")]);
    };
    add("swap", &blank(&directory.join("swap"), 128)?, ",cache=unsafe");
    add("disk", &blank(&directory.join("disk"), 64)?, ",cache=unsafe");
    if let Some(rootfs) = rootfs {
        add("root", rootfs, ",readonly=on");
    }
    add("slow", &blank(&directory.join("slow"), 64)?, ",cache=unsafe,throttling.iops-total=50");
    Ok(())
}

/// User-mode Linux without a window on this machine's files: everything it has is in its RAM.
fn uml(initrd: &Path, disk: &Path, directory: &Path, guest: &Guest) -> Command {
    // It is several processes, which outlive their first one: a process namespace holds them together.
    let mut command = tied("unshare");
    if !geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--", "linux.uml"]);
    command
        .arg("mem=512M")
        .arg(format!("initrd={}", initrd.display()))
        .arg(format!("ubda={}", disk.display()));
    command.arg(format!("uml_dir={}", directory.display())).args(["umid=uml", "con=null", "ssl=null"]);
    command.args(["loglevel=4", "panic=-1", "rdinit=/init", "rcon.disk=/dev/ubda"]);
    command.arg(format!("rcon.lab={}", guest.name));
    command.env("TMPDIR", directory);
    command
}

fn blank(path: &Path, megabytes: u64) -> Result<PathBuf> {
    let made = File::create(path).and_then(|file| file.set_len(megabytes << 20));
    made.map(|()| path.to_owned()).map_err(|error| format!("{}: {error}", path.display()))
}

/// What QEMU itself has to say.
fn log_beside(console: &Path) -> Result<File> {
    let path = console.with_extension("engine.log");
    File::create(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// How long a guest may take to switch itself off after its tests have ended.
pub(crate) const POWER_OFF: Duration = Duration::from_secs(60);
