//! At a terminal it is as if we were not there: every case drives an interactive shell in a pseudo-terminal, with
//! the command wrapped and bare, and wants to see the same.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const RCON: &str = env!("CARGO_BIN_EXE_rcon");

/// How long anything may take on a busy machine before it counts as never.
const PATIENCE: Duration = Duration::from_secs(20);

/// An interactive shell with job control in a terminal of its own.
struct Terminal {
    keyboard: File,
    shell: Child,
    seen: String,
    /// Up to here `expect` has looked.
    read: usize,
    wrapper: String,
}

impl Terminal {
    /// `$W` in the shell is what wraps.
    fn new(wrapper: &str) -> Self {
        let pty = nix::pty::openpty(None, None).expect("a pseudo-terminal");
        let side = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("dup"));
        let shell = Command::new("setsid")
            .args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"])
            .env("W", wrapper)
            .env("PS1", "\\$ ")
            .env("TERM", "dumb")
            .env_remove("PROMPT_COMMAND")
            .stdin(side(&pty.slave))
            .stdout(side(&pty.slave))
            .stderr(side(&pty.slave))
            .spawn()
            .expect("setsid");
        let mut terminal = Self {
            keyboard: pty.master.into(),
            shell,
            seen: String::new(),
            read: 0,
            wrapper: wrapper.to_owned(),
        };
        // What is typed is not what is looked for.
        terminal.line("stty -echo; bind 'set enable-bracketed-paste off' 2>/dev/null; echo be''gin");
        terminal.expect("begin");
        terminal
    }

    fn line(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).expect("type");
    }

    fn key(&mut self, letter: char) {
        self.keyboard.write_all(&[letter as u8 & 0x1f]).expect("type");
    }

    /// Reads on until the words appear; what came before them.
    #[track_caller]
    fn expect(&mut self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen[self.read..].find(words) {
                let before = self.seen[self.read..self.read + at].to_owned();
                self.read += at + words.len();
                return before;
            }
            let mut fds = [PollFd::new(self.keyboard.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::from(200_u8)).expect("poll");
            let mut bytes = [0; 4096];
            if ready > 0 {
                let count = self.keyboard.read(&mut bytes).unwrap_or(0);
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            assert!(
                Instant::now() < deadline,
                "no {words:?} in {:?} (wrapped in {:?}); all: {:?}",
                &self.seen[self.read..],
                self.wrapper,
                self.seen
            );
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The shell, and by the hangup of its terminal whatever is left in it.
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

/// The same with us and without.
fn both(case: impl Fn(&mut Terminal)) {
    case(&mut Terminal::new(""));
    case(&mut Terminal::new(&format!("{RCON} --")));
    case(&mut Terminal::new(&format!("{RCON} --wait-all --")));
    // Behind the init of a pid namespace, which an ordinary user may not have everywhere.
    let caged = format!("{RCON} --unshare pid --");
    let tried = Command::new(RCON).args(["--unshare", "pid", "--", "true"]).output().expect("rcon");
    if tried.status.success() {
        case(&mut Terminal::new(&caged));
    } else {
        eprintln!("not behind an init: {}", String::from_utf8_lossy(&tried.stderr));
    }
}

#[test]
fn ctrl_c_comes_once() {
    both(|terminal| {
        terminal.line(r#"$W bash -c 'n=0; trap "n=\$((n+1))" INT; echo rea""dy; sleep 5; sleep 0.3; echo "count=$n"'; echo "st=$?""#);
        terminal.expect("ready");
        std::thread::sleep(Duration::from_millis(100));
        terminal.key('c');
        terminal.expect("count=1");
        terminal.expect("st=0");
    });
}

#[test]
fn ctrl_c_stops_the_shells_loop_too() {
    both(|terminal| {
        terminal.line("for i in 1 2 3; do echo ro''und; $W sleep 5; echo next; done; echo after");
        terminal.expect("round");
        std::thread::sleep(Duration::from_millis(300));
        terminal.key('c');
        terminal.line("echo \"st=$?\"");
        let between = terminal.expect("st=130");
        assert!(!between.contains("next") && !between.contains("round"), "{between:?}");
    });
}

#[test]
fn ctrl_backslash_quits() {
    both(|terminal| {
        terminal.line("ulimit -c 0; $W bash -c 'echo rea\"\"dy; sleep 5'; echo \"st=$?\"");
        terminal.expect("ready");
        std::thread::sleep(Duration::from_millis(100));
        terminal.key('\\');
        terminal.expect("st=131");
    });
}

#[test]
fn ctrl_z_and_fg() {
    both(|terminal| {
        // Twice, so that nothing of the first time is left over for the second.
        terminal.line("$W bash -c 'echo rea\"\"dy; for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; echo fini\"\"shed; exit 7'; echo \"st=$?\"");
        terminal.expect("ready");
        for _ in 0..2 {
            terminal.key('z');
            terminal.expect("Stopped");
            // Stopped means stopped.
            terminal.line("sleep 1.2; echo ba''ck");
            let meanwhile = terminal.expect("back");
            assert!(!meanwhile.contains("finished"), "{meanwhile:?}");
            terminal.line("fg; echo \"fg=$?\"");
            std::thread::sleep(Duration::from_millis(150));
        }
        terminal.expect("finished");
        terminal.expect("fg=7");
    });
}

#[test]
fn bg_goes_on_in_the_background() {
    both(|terminal| {
        terminal.line("$W bash -c 'echo rea\"\"dy; sleep 0.5; echo fini\"\"shed'");
        terminal.expect("ready");
        terminal.key('z');
        terminal.expect("Stopped");
        terminal.line("bg; wait; echo \"st=$?\"");
        terminal.expect("finished");
        terminal.expect("st=0");
    });
}

#[test]
fn who_does_not_stop_does_not_make_us_stop() {
    both(|terminal| {
        terminal.line(
            "$W bash -c 'trap \"\" TSTP; echo rea\"\"dy; sleep 0.7; echo fini\"\"shed'; echo \"st=$?\"",
        );
        terminal.expect("ready");
        terminal.key('z');
        let before = terminal.expect("finished");
        assert!(!before.contains("Stopped"), "{before:?}");
        terminal.expect("st=0");
    });
}

#[test]
fn who_stops_itself_makes_us_stop() {
    for signal in ["TSTP", "STOP"] {
        both(|terminal| {
            terminal
                .line(&format!("$W bash -c 'kill -{signal} $$; echo fini\"\"shed; exit 3'; echo \"st=$?\""));
            terminal.expect("Stopped");
            terminal.line("fg; echo \"fg=$?\"");
            terminal.expect("finished");
            terminal.expect("fg=3");
        });
    }
}

#[test]
fn who_reads_in_the_background_stops() {
    both(|terminal| {
        terminal.line("$W bash -c 'read line; echo \"got:$line:\"' &");
        terminal.line("while ! jobs -s | grep -q .; do sleep 0.05; done; jobs");
        terminal.expect("Stopped");
        terminal.line("fg");
        std::thread::sleep(Duration::from_millis(300));
        terminal.line("words");
        terminal.expect("got:words:");
    });
}

#[test]
fn an_interactive_shell_inside_has_its_own_jobs() {
    both(|terminal| {
        terminal.line("$W bash --norc --noprofile -i; echo \"outer=$?\"");
        terminal.line("echo in''side");
        terminal.expect("inside");
        // Its own foreground job takes Ctrl-C and Ctrl-Z; the shell and we do not.
        terminal.line("bash -c 'echo jo\"\"b; sleep 5'; echo \"st=$?\"");
        terminal.expect("job");
        std::thread::sleep(Duration::from_millis(100));
        terminal.key('c');
        terminal.line("echo \"last=$?\"");
        terminal.expect("last=130");
        terminal.line("bash -c 'echo jo\"\"b; sleep 1; echo do\"\"ne'");
        terminal.expect("job");
        std::thread::sleep(Duration::from_millis(100));
        terminal.key('z');
        terminal.expect("Stopped");
        terminal.line("fg");
        terminal.expect("done");
        terminal.line("exit 9");
        terminal.expect("outer=9");
    });
}

#[test]
fn a_shell_inside_can_suspend_itself() {
    both(|terminal| {
        terminal.line("$W bash --norc --noprofile -i; echo \"outer=$?\"");
        terminal.line("echo in''side; suspend -f");
        terminal.expect("inside");
        terminal.expect("Stopped");
        terminal.line("echo outer''most; fg; echo \"fg=$?\"");
        terminal.expect("outermost");
        std::thread::sleep(Duration::from_millis(300));
        terminal.line("echo aga''in; exit 4");
        terminal.expect("again");
        terminal.expect("fg=4");
    });
}

#[test]
fn the_size_of_the_window_reaches_the_command() {
    both(|terminal| {
        terminal.line("$W bash -c 'n=0; trap \"n=\\$((n+1))\" WINCH; echo rea\"\"dy; for i in 1 2 3 4 5 6; do sleep 0.1; done; echo \"count=$n\"; stty size'");
        terminal.expect("ready");
        // Another process changes it, as a terminal emulator would.
        let changed = Command::new("stty")
            .args(["rows", "33"])
            .stdin(Stdio::from(terminal.keyboard.try_clone().expect("dup")))
            .status();
        assert!(changed.is_ok_and(|status| status.success()));
        terminal.expect("count=1");
        terminal.expect("33 0");
    });
}

#[test]
fn a_hangup_ends_the_command() {
    for wrapper in ["", &format!("{RCON} --")] {
        let mut terminal = Terminal::new(wrapper);
        terminal.line("$W bash -c 'echo \"pid=$$.\"; exec sleep 600'");
        terminal.expect("pid=");
        let pid = terminal.expect(".");
        drop(terminal.keyboard.try_clone());
        // The window is closed: the last descriptor of the master goes.
        let Terminal { .. } = &terminal;
        drop(terminal);
        let deadline = Instant::now() + PATIENCE;
        while std::path::Path::new(&format!("/proc/{pid}")).exists() {
            assert!(Instant::now() < deadline, "{pid} outlives its terminal");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
