//! `sudo rcon ... -- command` at a terminal is as `sudo command` is: its keys, its window and itself are the command's,
//! and the status is the command's. Each case sees that of both, and where sudo leaves the command the caller's terminal
//! as well as where it gives it one of its own.

use crate::{
    anywhere::{gone, processes, tag},
    case::Case,
    groups::{keeper_of, until},
    needs::Need,
    pty::{self, Terminal},
    support::{RCON, rcon, run, slow},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

pub(crate) fn tests() -> Vec<Case> {
    const PIDS: Need = Need::Controller("pids");
    const TTY: &[Need] = &[Need::Sudo { pty: false }, PIDS];
    const PTY: &[Need] = &[Need::Sudo { pty: true }, PIDS];
    // Who is not root may send none to sudo.
    const TTY_AS_ROOT: &[Need] = &[Need::Sudo { pty: false }, PIDS, Need::Root];
    const PTY_AS_ROOT: &[Need] = &[Need::Sudo { pty: true }, PIDS, Need::Root];
    vec![
        Case::new("sudo::the_terminal_is_the_callers", TTY, the_terminal_is_the_callers),
        Case::new("sudo::ctrl_c", TTY, || both(false, ctrl_c)),
        Case::new("sudo::ctrl_c_on_a_pty_of_sudos", PTY, || both(true, ctrl_c)),
        Case::new("sudo::ctrl_z", TTY, || both(false, pty::ctrl_z_and_fg)),
        Case::new("sudo::ctrl_z_on_a_pty_of_sudos", PTY, || both(true, pty::ctrl_z_and_fg)),
        Case::new("sudo::in_the_background", TTY_AS_ROOT, || both(false, pty::bg_goes_on_in_the_background)),
        Case::new("sudo::window", TTY, || both(false, pty::the_size_of_the_window_reaches_the_command)),
        Case::new("sudo::window_of_a_pty_of_sudos", PTY, || {
            both(true, pty::the_size_of_the_window_reaches_the_command);
        }),
        Case::new("sudo::limits_hold", PTY, limits_hold),
        Case::new("sudo::within_us", PTY, within_us),
        Case::new("sudo::signals_without_a_terminal", PTY_AS_ROOT, signals),
    ]
}

/// sudo with what decides whether the command has a terminal of its own: the lab's sudoers(5) goes by the command.
const WAYS: [&str; 2] = ["sudo -n", "sudo -n env"];

/// The way in which it has, or has not.
pub(crate) fn way(pty: bool) -> Result<&'static str, String> {
    static FOUND: OnceLock<[Result<bool, String>; 2]> = OnceLock::new();
    let found = FOUND.get_or_init(|| WAYS.map(gives_a_terminal));
    match found.iter().position(|gives| *gives == Ok(pty)) {
        Some(at) => Ok(WAYS[at]),
        None => Err(match (&found[0], pty) {
            (Err(why), _) => why.clone(),
            (Ok(_), false) => "sudo gives each command a terminal of its own (use_pty)".to_owned(),
            (Ok(_), true) => "sudo gives no command a terminal of its own (use_pty)".to_owned(),
        }),
    }
}

/// Tries it, at a terminal: is that of the command another one?
fn gives_a_terminal(way: &str) -> Result<bool, String> {
    let pty = nix::pty::openpty(None, None).map_err(|error| format!("openpty: {error}"))?;
    let out = Command::new("setsid")
        .args(["-c", "sh", "-c", &format!("cat /proc/self/stat; {way} cat /proc/self/stat")])
        .stdin(Stdio::from(pty.slave))
        .output()
        .map_err(|error| format!("setsid: {error}"))?;
    let said = String::from_utf8_lossy(&out.stdout);
    let terminals: Vec<&str> = said.lines().filter_map(|stat| Some(Stat::parse(stat)?.terminal)).collect();
    match terminals[..] {
        [own, commands] => Ok(own != commands),
        _ => Err(format!("{way}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

/// Of a line of /proc/PID/stat (proc_pid_stat(5)).
struct Stat<'a> {
    job: &'a str,
    session: &'a str,
    terminal: &'a str,
    foreground: &'a str,
}

impl<'a> Stat<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().rsplit_once(") ")?.1.split(' ').skip(2);
        let mut next = || fields.next();
        Some(Self { job: next()?, session: next()?, terminal: next()?, foreground: next()? })
    }
}

/// bash everywhere: who has sudo has it.
fn terminal(wrapper: &str) -> Terminal {
    Terminal::new(wrapper, ["bash", "bash --norc --noprofile -i"], slow(Duration::from_secs(30)))
}

/// The shell does with sudo and us as it does with sudo.
fn both(pty: bool, case: fn(&mut Terminal)) {
    let way = way(pty).expect("sudo");
    case(&mut terminal(way));
    case(&mut terminal(&wrapped(way)));
}

fn wrapped(way: &str) -> String {
    format!("{way} {RCON} --pids 64 --")
}

fn ctrl_c(terminal: &mut Terminal) {
    pty::ctrl_c_comes_once(terminal);
    pty::ctrl_c_ends_the_command(terminal);
    pty::ctrl_backslash_quits(terminal);
}

/// No relay in between: the command's controlling terminal, its session and its place in the foreground are the caller's.
fn the_terminal_is_the_callers() {
    let way = way(false).expect("sudo");
    for wrapper in [way.to_owned(), wrapped(way)] {
        let mut terminal = terminal(&wrapper);
        terminal.line("echo; tty; $S -c 'cat /proc/$$/stat'; $W $S -c 'tty; cat /proc/$$/stat'; echo en''d");
        let said = terminal.expect("end");
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let names: Vec<&&str> = lines.iter().filter(|line| line.starts_with("/dev/pts/")).collect();
        let stats: Vec<Stat> = lines.iter().filter_map(|line| Stat::parse(line)).collect();
        let ([own, commands], [before, within]) = (&names[..], &stats[..]) else { panic!("{said:?}") };
        assert_eq!(own, commands, "{wrapper}: {said:?}");
        assert_eq!(
            (before.terminal, before.session),
            (within.terminal, within.session),
            "{wrapper}: {said:?}"
        );
        assert_eq!(within.job, within.foreground, "{wrapper}: {said:?}");
    }
}

/// Root's groups are made wherever the caller is: below its own, or in a scope of the system's systemd.
fn limits_hold() {
    let sudo = |role| {
        let line = format!("{} {RCON} --pids 16 --", way(true).expect("sudo"));
        let mut words = line.split(' ');
        run(words.next().expect("sudo")).args(words).victim(role).run()
    };
    let out = sudo("forks:40");
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("forks ok=15 err=EAGAIN\n", ""), "{out}");
    let out = sudo("daemonize:600");
    let daemon = out.number("daemon");
    assert!(!Path::new(&format!("/proc/{daemon}")).exists(), "{daemon} lives: {out}");
}

/// `rcon ... -- sudo command`: root's processes are in the groups of the user who has asked for them, and end with us.
fn within_us() {
    let tag = tag(40);
    let started = |options: &[&str]| {
        let line = format!("setsid sleep {tag} & echo up; sleep {tag}; :");
        let sudo = way(true).expect("sudo").split(' ');
        let mut started = rcon(options).args(["--"]).args(sudo).args(["sh", "-c", &line]).start();
        started.wait_for("up");
        until("the two do not sleep", || (processes(&tag).len() >= 2).then_some(()));
        started
    };
    let whom: [fn(u32) -> u32; 2] = [|front| front, |front| keeper_of(front).expect("a keeper")];
    for whom in whom {
        let started = started(&["--pids", "64"]);
        let front = started.child.id();
        kill(Pid::from_raw(whom(front) as i32), Signal::SIGKILL).expect("kill");
        assert_eq!(started.finish().shell_status(), 137);
        gone(front, &tag);
    }
    // From before sudo is there, while all that it starts has to be seen.
    let timeout = format!("{}s", slow(Duration::from_secs(5)).as_secs());
    let started = started(&["--pids", "64", "--timeout", &timeout, "--kill-after", "300ms"]);
    let front = started.child.id();
    let out = started.finish();
    assert_eq!(out.shell_status(), 124, "{out}");
    gone(front, &tag);
}

/// What is sent to sudo goes to its command, whose end is sudo's, and nothing stays.
fn signals() {
    let way = way(true).expect("sudo");
    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGUSR1, 7)] {
        for wrapper in [way.to_owned(), wrapped(way)] {
            let script = "trap 'echo told; exit 7' USR1; echo up; while :; do sleep 0.05; done";
            let mut words = wrapper.split(' ');
            let mut line = run(words.next().expect("sudo")).args(words).args(["sh", "-c", script]);
            // It passes on nothing that comes from its own process group (sudo(8), "Signal handling").
            line.command.process_group(0);
            let mut started = line.start();
            started.wait_for("up");
            kill(Pid::from_raw(started.child.id() as i32), signal).expect("kill");
            let out = started.finish();
            assert_eq!(out.shell_status(), status, "{out}");
        }
    }
}
