//! Victims: this binary, started again to behave in a known way under rcon. Guests have busybox and nothing
//! else, and a victim of our own needs no tool there.
//!
//! Asked for by `--victim=ROLE` as the only argument (survives a cleared environment) or `RCON_VICTIM=ROLE`.

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigSet, Signal, kill, raise},
        signalfd::SignalFd,
    },
    time::{ClockId, clock_gettime},
    unistd::{Pid, setsid},
};
use std::{
    env,
    error::Error,
    fs::OpenOptions,
    io::{Read, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::Path,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Which victim this process was started to be, if any.
pub(crate) fn asked() -> Option<String> {
    let mut args = env::args().skip(1);
    match (args.next(), args.next()) {
        (Some(arg), None) if arg.starts_with("--victim=") => Some(arg["--victim=".len()..].to_owned()),
        _ => env::var("RCON_VICTIM").ok(),
    }
}

/// This program.
pub(crate) fn program() -> PathBuf {
    env::current_exe().expect("/proc/self/exe")
}

/// Plays a role:
///
/// | role | does |
/// |---|---|
/// | `alloc:200M[:SECONDS]` | touches that much memory, says `alloc done`, holds it so long |
/// | `burn:2` | burns CPU for so many seconds, says `wall_ms=… cpu_ms=…` |
/// | `forks:20` | starts so many children, says `forks ok=N err=NAME`, ends them |
/// | `bomb` | forks without end (lab only) |
/// | `sleep:N` | sleeps so many seconds |
/// | `root:N` | becomes root, says `root`, sleeps; of a program with the set-user-ID bit |
/// | `daemonize:N` | leaves a double-forked daemon that sleeps, with stdout held open; says `daemon=PID` |
/// | `exit:N`, `raise:N` | ends with the status, by the signal |
/// | `write:SIZE:PATH`, `read:SIZE:PATH` | direct I/O in blocks of 64 KiB, says `io_ms=…` |
/// | `ignore-term:N` | ignores SIGTERM, says `ready`, sleeps |
/// | `catch-term:N:STATUS` | says `ready`; on SIGTERM says `caught`, needs N seconds more and leaves with STATUS |
/// | `lacking:N:…` | (in `RCON_VICTIM`) executes the command line that it has as arguments without these system calls |
/// | `kill-group` | sends SIGUSR1 to its process group, says `got N`: how often it got it itself |
/// | `continued` | says `ready`, and `continued N.` for each SIGCONT that it gets |
/// | `stop` | says `ready`, stops itself with SIGSTOP; when continued sleeps |
/// | `with:ROLE:…` | starts that as a child and sleeps |
/// | `orphan:ROLE:…` | starts that as a child, waits for it to say something and leaves with 0 |
/// | `spin:S` | uses S seconds of CPU time, says `cpu_ms=…` |
/// | `spinners:N:S` | N children that do so at once |
/// | `allocs:N:SIZE` | N children that each touch so much memory, all at once |
/// | `burners:N:S` | N children that burn CPU for S seconds each; waits for them |
/// | `deep:ROLE:…` | runs that in a grandchild whose parents end at once, and waits until it has ended |
/// | `notify:TEXT[:SECONDS]` | says it to `NOTIFY_SOCKET`, `|` for a newline; waits until it has been read, and so long |
/// | `notify-fds:TEXT:N:M` | says it M times with N descriptors, then READY=1 as `notify` does |
/// | `listen` | says which descriptors `LISTEN_FDS` brings, if `LISTEN_PID` is this process |
/// | `escape:PATH` | tries every way out of a root directory that is known to it, to see PATH |
/// | `escape-chroot:PATH` | tries those that lead out of a chroot, which leave nothing behind |
/// | `session:N:LINE` | runs the line N times as a job in the foreground of its terminal, see [`crate::orphans::session`] |
/// | `userns` | makes a user namespace or says why not |
/// | `may:DEED` | does what needs a capability, see [`crate::deeds`] |
pub(crate) fn play(role: &str) -> ExitCode {
    match act(role) {
        Ok(code) => code,
        Err(error) => {
            println!("victim {role}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(role: &str) -> Result<ExitCode, Box<dyn Error>> {
    let words: Vec<&str> = role.split(':').collect();
    match words[..] {
        ["alloc", size] => alloc(bytes(size)?, Duration::ZERO),
        ["alloc", size, hold] => alloc(bytes(size)?, seconds(hold)?),
        ["burn", time] => burn(seconds(time)?)?,
        ["forks", number] => forks(number.parse()?),
        ["bomb"] => loop {
            drop(again("bomb").spawn());
        },
        ["sleep", time] => thread::sleep(seconds(time)?),
        ["session", rounds, line] => crate::orphans::session(rounds.parse()?, line)?,
        ["root", time] => {
            nix::unistd::setuid(nix::unistd::Uid::from_raw(0))?;
            println!("root");
            thread::sleep(seconds(time)?);
        }
        ["daemonize", time] => drop(again(&format!("daemonize-1:{time}")).spawn()?.wait()?),
        ["daemonize-1", time] => {
            setsid()?;
            let daemon = again(&format!("sleep:{time}")).spawn()?;
            println!("daemon={}", daemon.id());
        }
        ["exit", status] => return Ok(ExitCode::from(status.parse::<u8>()?)),
        ["notify", message] => notify(message)?,
        ["notify", message, time] => {
            notify(message)?;
            thread::sleep(seconds(time)?);
        }
        ["notify-fds", message, count, times] => {
            let fds = vec![1; count.parse()?];
            for _ in 0..times.parse()? {
                tell_manager(message, &fds)?;
            }
            notify("READY=1")?;
        }
        ["listen"] => listen(),
        ["escape", outside] => crate::escape::attempt(Path::new(outside), false),
        ["escape-chroot", outside] => crate::escape::attempt(Path::new(outside), true),
        ["raise", signal] => raise(Signal::try_from(signal.parse::<i32>()?)?)?,
        ["write", size, path] => direct_io(bytes(size)?, path, true)?,
        ["read", size, path] => direct_io(bytes(size)?, path, false)?,
        ["continued"] => {
            // Blocked, it continues all the same, and is there to be counted.
            let set = SigSet::from(Signal::SIGCONT);
            set.thread_block()?;
            println!("ready");
            for number in 1.. {
                set.wait()?;
                println!("continued {number}.");
            }
        }
        ["ignore-term", time] => {
            // Blocked is as good as ignored, and needs no unsafe code.
            SigSet::from(Signal::SIGTERM).thread_block()?;
            println!("ready");
            thread::sleep(seconds(time)?);
        }
        ["catch-term", time, status] => {
            let set = SigSet::from(Signal::SIGTERM);
            set.thread_block()?;
            println!("ready");
            set.wait()?;
            println!("caught");
            thread::sleep(seconds(time)?);
            return Ok(ExitCode::from(status.parse::<u8>()?));
        }
        ["lacking", ref calls @ ..] => {
            use std::os::unix::process::CommandExt;
            let calls: Result<Vec<u32>, _> = calls.iter().map(|number| number.parse()).collect();
            refuse_calls(&calls?)?;
            let mut args = env::args_os().skip(1);
            let program = args.next().ok_or("no program")?;
            return Err(Command::new(program).args(args).env_remove("RCON_VICTIM").exec().into());
        }
        ["kill-group"] => {
            let set = SigSet::from(Signal::SIGUSR1);
            set.thread_block()?;
            let fd = SignalFd::new(&set)?;
            kill(Pid::from_raw(0), Signal::SIGUSR1)?;
            let (mut count, patience) = (0, crate::support::slow(Duration::from_millis(200)));
            let patience = PollTimeout::try_from(patience)?;
            while poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], patience)? > 0 {
                fd.read_signal()?;
                count += 1;
            }
            println!("got {count}");
        }
        ["stop"] => {
            println!("ready");
            raise(Signal::SIGSTOP)?;
            thread::sleep(Duration::from_secs(600));
        }
        ["with", ..] => {
            drop(again(&words[1..].join(":")).spawn()?);
            thread::sleep(Duration::from_secs(600));
        }
        ["orphan", ..] => {
            let child = again(&words[1..].join(":")).stdout(Stdio::piped()).spawn()?;
            let mut said = [0];
            child.stdout.ok_or("no pipe")?.read_exact(&mut said)?;
        }
        ["spin", time] => spin(seconds(time)?)?,
        ["spinners", number, time] => {
            let start = || again(&format!("spin:{time}")).spawn();
            let children: Result<Vec<Child>, _> = (0..number.parse()?).map(|_: u32| start()).collect();
            for mut child in children? {
                child.wait()?;
            }
        }
        ["allocs", number, size] => {
            // All hold theirs until the last has it: they end when their standard input does.
            let start =
                || again(&format!("alloc-until:{size}")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            let children: Result<Vec<Child>, _> = (0..number.parse()?).map(|_: u32| start()).collect();
            let mut children = children?;
            for child in &mut children {
                child.stdout.as_mut().ok_or("no pipe")?.read_exact(&mut [0])?;
            }
            for mut child in children {
                drop(child.stdin.take());
                child.wait()?;
            }
        }
        ["alloc-until", size] => {
            let memory = vec![1_u8; bytes(size)?];
            println!("done");
            std::io::stdin().read_to_end(&mut Vec::new())?;
            drop(std::hint::black_box(memory));
        }
        ["burners", number, time] => {
            let start = || again(&format!("burn:{time}")).stdout(Stdio::null()).spawn();
            let children: Result<Vec<Child>, _> = (0..number.parse()?).map(|_: u32| start()).collect();
            for mut child in children? {
                child.wait()?;
            }
        }
        ["deep", ..] => {
            // A pipe ends when the last process that holds it has: nobody waits for the grandchild otherwise.
            let role = words[1..].join(":");
            let mut child = again(&format!("deep-1:{role}")).stdout(Stdio::piped()).spawn()?;
            let mut said = String::new();
            child.stdout.take().ok_or("no pipe")?.read_to_string(&mut said)?;
            child.wait()?;
            print!("{said}");
        }
        ["deep-1", ..] => drop(again(&words[1..].join(":")).spawn()?),
        ["may", ref deed @ ..] => crate::deeds::act(deed)?,
        ["userns"] => unshare(CloneFlags::CLONE_NEWUSER)?,
        _ => return Err("no such role".into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// This program as another victim; it inherits the standard streams.
fn again(role: &str) -> Command {
    let mut command = Command::new(program());
    command.arg(format!("--victim={role}")).env_remove("RCON_VICTIM");
    command
}

/// A seccomp filter for which the kernel has not these system calls.
#[allow(unsafe_code, reason = "no crate here wraps seccomp(2)")]
fn refuse_calls(calls: &[u32]) -> Result<(), Box<dyn Error>> {
    let step = |code: u32, jt: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    // The number of the call is the first field of what the filter sees.
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (at, call) in calls.iter().enumerate() {
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (calls.len() - at) as u8, *call));
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, refuse));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program lives until the call is over, and has the length that is said.
    nix::errno::Errno::result(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
    })?;
    Ok(())
}

fn alloc(size: usize, hold: Duration) {
    let mut memory: Vec<u8> = Vec::with_capacity(size);
    while memory.len() < size {
        memory.resize((memory.len() + (1 << 20)).min(size), 1);
    }
    println!("alloc done");
    thread::sleep(hold);
    drop(std::hint::black_box(memory));
}

fn burn(time: Duration) -> nix::Result<()> {
    let used = || nix::Result::Ok(Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?));
    let (start, before) = (Instant::now(), used()?);
    while start.elapsed() < time {
        let _number =
            std::hint::black_box((0..20_000u64).fold(0, |sum, number| sum ^ std::hint::black_box(number)));
    }
    println!("wall_ms={} cpu_ms={}", start.elapsed().as_millis(), (used()? - before).as_millis());
    Ok(())
}

/// Uses so much CPU time, however long that takes.
fn spin(time: Duration) -> nix::Result<()> {
    let used = || nix::Result::Ok(Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?));
    while used()? < time {
        let _number =
            std::hint::black_box((0..20_000u64).fold(0, |sum, number| sum ^ std::hint::black_box(number)));
    }
    println!("cpu_ms={}", used()?.as_millis());
    Ok(())
}

fn forks(number: usize) {
    let mut children: Vec<Child> = Vec::new();
    let mut refusal = "none".to_owned();
    while children.len() < number {
        match again("sleep:600").stdout(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(error) => {
                refusal = match error.raw_os_error() {
                    Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
                    None => error.to_string(),
                };
                break;
            }
        }
    }
    println!("forks ok={} err={refusal}", children.len());
    for mut child in children {
        // a child may have been killed already; it is waited for in any case
        drop(child.kill());
        drop(child.wait());
    }
}

/// O_DIRECT wants aligned buffers (open(2)).
#[repr(align(4096))]
struct Block([u8; 65536]);

fn direct_io(size: usize, path: &str, write: bool) -> Result<(), Box<dyn Error>> {
    let direct = OFlag::O_DIRECT.bits();
    let mut file = OpenOptions::new().read(!write).write(write).custom_flags(direct).open(path)?;
    let mut block = Box::new(Block([0x5a; 65536]));
    let start = Instant::now();
    for _ in 0..size.div_ceil(block.0.len()) {
        match write {
            true => file.write_all(&block.0)?,
            false => file.read_exact(&mut block.0)?,
        }
    }
    println!("io_ms={}", start.elapsed().as_millis());
    Ok(())
}

fn bytes(text: &str) -> Result<usize, Box<dyn Error>> {
    let (digits, shift) = match text.char_indices().last() {
        Some((end, 'K')) => (&text[..end], 10),
        Some((end, 'M')) => (&text[..end], 20),
        Some((end, 'G')) => (&text[..end], 30),
        _ => (text, 0),
    };
    Ok(digits.parse::<usize>()? << shift)
}

fn seconds(text: &str) -> Result<Duration, Box<dyn Error>> {
    Ok(Duration::from_secs_f64(text.trim_end_matches('s').parse()?))
}

/// sd_notify(3) and sd_notify_barrier(3).
fn notify(message: &str) -> Result<(), Box<dyn Error>> {
    use std::os::fd::AsRawFd;
    tell_manager(message, &[])?;
    let (mut reader, writer) = std::io::pipe()?;
    tell_manager("BARRIER=1", &[writer.as_raw_fd()])?;
    drop(writer);
    reader.read_to_end(&mut Vec::new())?;
    println!("notified");
    Ok(())
}

/// sd_pid_notify_with_fds(3).
fn tell_manager(message: &str, fds: &[i32]) -> Result<(), Box<dyn Error>> {
    use nix::sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
    };
    use std::os::fd::AsRawFd;
    let to = env::var("NOTIFY_SOCKET")?;
    let to = match to.strip_prefix('@') {
        Some(name) => UnixAddr::new_abstract(name.as_bytes())?,
        None => UnixAddr::new(to.as_str())?,
    };
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::empty(), None)?;
    let text = message.replace('|', "\n");
    let parts = [std::io::IoSlice::new(text.as_bytes())];
    let control = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &control[..] };
    sendmsg(socket.as_raw_fd(), &parts, control, MsgFlags::empty(), Some(&to))?;
    Ok(())
}

/// sd_listen_fds(3).
fn listen() {
    let var = |name: &str| env::var(name).unwrap_or_default();
    let own = var("LISTEN_PID") == std::process::id().to_string();
    let open: Vec<String> = (3..10)
        .filter_map(|fd| {
            Some(format!("{fd}={}", std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?.display()))
        })
        .collect();
    let watchdog = var("WATCHDOG_PID") == std::process::id().to_string();
    println!(
        "own={own} count={} names={} watchdog={watchdog} {}",
        var("LISTEN_FDS"),
        var("LISTEN_FDNAMES"),
        open.join(" ")
    );
}
