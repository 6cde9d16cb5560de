//! An interactive shell in a pseudo-terminal, and what people do at one: driven with a command wrapped and bare, on
//! this machine and in the lab's guests.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// An interactive shell with job control in a terminal of its own.
pub(crate) struct Terminal {
    pub(crate) keyboard: File,
    pub(crate) shell: Child,
    seen: String,
    /// Up to here `expect` has looked.
    read: usize,
    wrapper: String,
    patience: Duration,
}

impl Terminal {
    /// `$W` in the shell is what wraps, `$S` a shell for scripts, `$I` an interactive one. Anything that takes longer
    /// than `patience` counts as never.
    pub(crate) fn new(wrapper: &str, [script, interactive]: [&str; 2], patience: Duration) -> Self {
        let words: Vec<&str> = interactive.split(' ').collect();
        let variables = [("W", wrapper), ("S", script), ("I", interactive)];
        let mut terminal = Self::open(&words, &variables, wrapper, patience);
        // What is typed is not what is looked for. (Without echo ash reads lines in a way that SIGCHLD ends.)
        let quiet = if script == "bash" { "stty -echo; bind 'set enable-bracketed-paste off'" } else { ":" };
        terminal.line(&format!("{quiet}; echo be''gin"));
        terminal.expect("begin");
        terminal
    }

    /// A terminal whose session this command leads: nobody is there who could continue it.
    pub(crate) fn of(words: &[&str], patience: Duration) -> Self {
        Self::open(words, &[], &words.join(" "), patience)
    }

    fn open(words: &[&str], variables: &[(&str, &str)], wrapper: &str, patience: Duration) -> Self {
        let pty = nix::pty::openpty(None, None).expect("a pseudo-terminal");
        let side = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("dup"));
        let shell = Command::new("setsid")
            .arg("-c")
            .args(words)
            .envs(variables.iter().copied())
            .env("PS1", "\\$ ")
            .env("TERM", "dumb")
            .env_remove("PROMPT_COMMAND")
            .stdin(side(&pty.slave))
            .stdout(side(&pty.slave))
            .stderr(side(&pty.slave))
            .spawn()
            .expect("setsid");
        let wrapper = wrapper.to_owned();
        Self { keyboard: pty.master.into(), shell, seen: String::new(), read: 0, wrapper, patience }
    }

    pub(crate) fn line(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).expect("type");
    }

    pub(crate) fn key(&mut self, letter: char) {
        self.keyboard.write_all(&[letter as u8 & 0x1f]).expect("type");
    }

    /// Ctrl-C for a loop that has just said `tick`, when it sleeps: one that comes while bash forks the next `sleep` can
    /// leave bash sending itself SIGINT for ever (bash 5.2 alone in a terminal: 3 of 23,312).
    pub(crate) fn interrupt_ticks(&mut self) {
        std::thread::sleep(Duration::from_millis(50));
        self.key('c');
    }

    /// Reads on until the words appear; what came before them.
    #[track_caller]
    pub(crate) fn expect(&mut self, words: &str) -> String {
        self.hear(words, self.patience).unwrap_or_else(|| {
            panic!(
                "no {words:?} in {:?} (wrapped in {:?}); all: {:?}",
                &self.seen[self.read..],
                self.wrapper,
                self.seen
            )
        })
    }

    /// For a shell to have come from a word that it said to the program that it runs next.
    fn settle(&self) {
        std::thread::sleep(self.patience / 100);
    }

    /// Do the words appear by then?
    pub(crate) fn says(&mut self, words: &str, patience: Duration) -> bool {
        self.hear(words, patience).is_some()
    }

    fn hear(&mut self, words: &str, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(at) = self.seen[self.read..].find(words) {
                let before = self.seen[self.read..self.read + at].to_owned();
                self.read += at + words.len();
                return Some(before);
            }
            if Instant::now() >= deadline {
                return None;
            }
            let mut fds = [PollFd::new(self.keyboard.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::from(200_u8)).expect("poll");
            let mut bytes = [0; 4096];
            if ready > 0 {
                let count = self.keyboard.read(&mut bytes).unwrap_or(0);
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
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

/// A command that says that it runs for as long as it does; Ctrl-C ends it with 7.
const TICKS: &str = r#"$W $S -c 'trap "echo fini""shed; exit 7" INT; echo rea""dy; while :; do sleep 0.1; echo ti""ck; done'"#;

/// Stopped means stopped, and it goes on where it was: twice, so that nothing of the first time is left over.
pub(crate) fn ctrl_z_and_fg(terminal: &mut Terminal) {
    terminal.line(TICKS);
    for _ in 0..2 {
        terminal.expect("tick");
        terminal.key('z');
        terminal.expect("Stopped");
        terminal.line("sleep 1.2; echo ba''ck");
        let meanwhile = terminal.expect("back");
        assert!(!meanwhile.contains("tick"), "{meanwhile:?}");
        terminal.line("fg; echo \"fg=$?\"");
    }
    terminal.expect("tick");
    terminal.interrupt_ticks();
    terminal.expect("finished");
    terminal.expect("fg=7");
}

pub(crate) fn bg_goes_on_in_the_background(terminal: &mut Terminal) {
    terminal.line(TICKS);
    terminal.expect("tick");
    terminal.key('z');
    terminal.expect("Stopped");
    terminal.line("bg; echo sa''id");
    terminal.expect("said");
    terminal.expect("tick");
    terminal.line("kill %1; wait %1; echo \"st=$?\"");
    terminal.expect("st=143");
}

pub(crate) fn ctrl_c_comes_once(terminal: &mut Terminal) {
    terminal.line(r#"$W $S -c 'n=0; trap "n=\$((n+1))" INT; echo rea""dy; sleep 5; sleep 0.3; echo "count=$n"'; echo "st=$?""#);
    terminal.expect("ready");
    terminal.settle();
    terminal.key('c');
    terminal.expect("count=1");
    terminal.expect("st=0");
}

pub(crate) fn ctrl_c_ends_the_command(terminal: &mut Terminal) {
    ended_by(terminal, 'c', 130);
}

pub(crate) fn ctrl_backslash_quits(terminal: &mut Terminal) {
    ended_by(terminal, '\\', 131);
}

/// bash drops the rest of a line when Ctrl-C has ended a command of it, and what is typed too early is the command's: the
/// prompt tells.
fn ended_by(terminal: &mut Terminal, key: char, status: i32) {
    terminal.line("ulimit -c 0; PROMPT_COMMAND='echo \"st=$?\"'");
    terminal.line("$W $S -c 'echo rea\"\"dy; sleep 60'");
    terminal.expect("ready");
    terminal.settle();
    terminal.key(key);
    terminal.expect(&format!("st={status}"));
    terminal.line("unset PROMPT_COMMAND");
}

/// Another process changes it, as a terminal emulator would: the command is told, once.
pub(crate) fn the_size_of_the_window_reaches_the_command(terminal: &mut Terminal) {
    let line = r#"$W $S -c 'n=0; trap "n=\$((n+1))" WINCH; echo rea""dy; while [ $n = 0 ]; do sleep 0.1; done; sleep 0.5; echo "count=$n"; stty size'"#;
    terminal.line(line);
    terminal.expect("ready");
    let changed = Command::new("stty")
        .args(["rows", "33"])
        .stdin(Stdio::from(terminal.keyboard.try_clone().expect("dup")))
        .status();
    assert!(changed.is_ok_and(|status| status.success()));
    terminal.expect("count=1");
    terminal.expect("33 0");
}

/// Its own foreground job takes Ctrl-C and Ctrl-Z; the shell and we do not.
pub(crate) fn an_interactive_shell_inside_has_its_own_jobs(terminal: &mut Terminal) {
    terminal.line("$W $I; echo \"outer=$?\"");
    terminal.line("echo in''side");
    terminal.expect("inside");
    terminal.line("$S -c 'echo jo\"\"b; sleep 60'");
    terminal.expect("job");
    terminal.settle();
    terminal.key('c');
    terminal.line("echo \"last=$?\"");
    terminal.expect("last=130");
    // By its trap at any moment: without it bash goes on where the `sleep` has just ended by itself.
    terminal.line("$S -c 'trap \"exit 130\" INT; while :; do sleep 0.1; echo ti\"\"ck; done'");
    terminal.expect("tick");
    terminal.key('z');
    terminal.expect("Stopped");
    terminal.line("echo be''tween");
    terminal.expect("between");
    terminal.line("fg");
    terminal.expect("tick");
    terminal.interrupt_ticks();
    terminal.line("echo \"last=$?\"");
    terminal.expect("last=130");
    terminal.line("exit 9");
    terminal.expect("outer=9");
}
