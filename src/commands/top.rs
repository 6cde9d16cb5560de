//! `rcon top`: the table of `rcon ls`, live.
//!
//! Plain control sequences and termios: a screen of lines needs no library for terminals, and each weighs as much
//! as a tenth of this program.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::ls::{Memory, Row, table};
use crate::error::{Error, printable};
use crate::order;
use crate::runs::counters::Usage;
use crate::runs::{Fronts, find_by, process};
use crate::value::Span;

pub(super) fn command() -> Command {
    Command::new("top")
        .about("Watch runs live, sorted by what they use")
        .arg(
            Arg::new("interval")
                .long("interval")
                .value_name("TIME")
                .value_parser(|text: &str| text.parse::<Span>())
                .help("Between two looks (default 2s, at least 100ms)"),
        )
        .arg(
            Arg::new("sort")
                .long("sort")
                .value_name("KEY")
                .value_parser(["cpu", "mem", "pids", "age", "name"])
                .help("Sort by this at the start (default cpu)"),
        )
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Cpu,
    Memory,
    Pids,
    Age,
    Name,
}

impl Key {
    const ALL: [(Self, u8, &'static str); 5] = [
        (Self::Cpu, b'c', "cpu"),
        (Self::Memory, b'm', "mem"),
        (Self::Pids, b'p', "pids"),
        (Self::Age, b'a', "age"),
        (Self::Name, b'n', "name"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(key, ..)| *key == self).map_or("", |(.., word)| word)
    }

    /// The largest first; names in order.
    fn sort(self, rows: &mut Vec<Row>) {
        let number = |value: Option<u64>| std::cmp::Reverse(value.unwrap_or(0));
        match self {
            Self::Cpu => {
                order::sort_by_key(rows, |row| number(row.cpu.map(|percent| (percent * 100.0) as u64)));
            }
            Self::Memory => order::sort_by_key(rows, |row| number(row.usage.memory)),
            Self::Pids => order::sort_by_key(rows, |row| number(Some(row.usage.tasks))),
            Self::Age => order::sort_by_key(rows, |row| std::cmp::Reverse(row.age)),
            Self::Name => order::sort_by(rows, |a, b| a.run.name.cmp(&b.run.name)),
        }
    }
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    if !std::io::stdin().is_terminal() || crate::sys::terminal_size().is_none() {
        return Err(Error::new("top needs a terminal").try_this("rcon ls --format json"));
    }
    let interval = matches.get_one::<Span>("interval").map_or(Duration::from_secs(2), |span| span.0);
    let interval = interval.max(Duration::from_millis(100));
    let sort = matches.get_one::<String>("sort");
    let key = Key::ALL.iter().find(|(.., word)| sort.is_some_and(|sort| sort == word));
    let mut screen = Screen::open()?;
    let mut view = View {
        key: key.map_or(Key::Cpu, |(key, ..)| *key),
        skip: 0,
        before: HashMap::new(),
        rows: Vec::new(),
        memory: Memory::default(),
        fronts: Fronts::new(),
        looks: 0,
    };
    // Files stay open.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let raised = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        debug_assert!(raised != Err(Errno::EFAULT));
    }
    view.look()?;
    // The first look has nothing to compare with: the second comes soon.
    let mut next = Instant::now() + interval.min(Duration::from_millis(300));
    loop {
        screen.draw(&view);
        match screen.wait(next.saturating_duration_since(Instant::now()))? {
            Event::Quit => return Ok(0),
            Event::Key(byte) => view.press(byte),
            Event::Redraw => {}
            Event::Time => {
                view.look()?;
                next = Instant::now() + interval;
            }
        }
    }
}

struct View {
    key: Key,
    skip: usize,
    /// The reading before, by the run's first directory.
    before: HashMap<std::path::PathBuf, Usage>,
    rows: Vec<Row>,
    memory: Memory,
    fronts: Fronts,
    looks: usize,
}

/// What is remembered is remembered for so many looks: most of the cost of one is to read what hardly changes.
const REMEMBERED: usize = 5;

impl View {
    fn look(&mut self) -> Result<(), Error> {
        let now = process::uptime();
        if self.looks.is_multiple_of(REMEMBERED) {
            self.memory.forget();
            self.fronts.clear();
            self.memory.files.keep(self.rows.iter().flat_map(|row| &row.run.dirs));
        }
        self.looks += 1;
        let mut seen = HashMap::new();
        self.rows.clear();
        for run in find_by(&mut self.fronts)? {
            let Some(place) = run.dirs.first().map(|dir| dir.path.clone()) else { continue };
            let row = Row::new(run, self.before.get(&place), now, &mut self.memory);
            seen.insert(place, row.usage.clone());
            self.rows.push(row);
        }
        self.before = seen;
        self.key.sort(&mut self.rows);
        Ok(())
    }

    fn press(&mut self, byte: u8) {
        match byte {
            b'j' => self.skip = (self.skip + 1).min(self.rows.len().saturating_sub(1)),
            b'k' => self.skip = self.skip.saturating_sub(1),
            _ => {
                if let Some((key, ..)) = Key::ALL.iter().find(|(_, letter, _)| *letter == byte) {
                    self.key = *key;
                    self.skip = 0;
                    self.key.sort(&mut self.rows);
                }
            }
        }
    }

    /// Exactly as many lines as the terminal has, none wider.
    fn lines(&self, width: usize, height: usize) -> Vec<String> {
        let shown = self.rows.get(self.skip..).unwrap_or_default();
        let shown = shown.get(..height.saturating_sub(3).min(shown.len())).unwrap_or_default();
        let cut = |text: String| text.chars().take(width).collect::<String>();
        let cpu: f64 = self.rows.iter().filter_map(|row| row.cpu).sum();
        let runs = self.rows.len();
        let mut lines = vec![cut(format!(
            "rcon top: {runs} run{}, {cpu:.0}% of a CPU, sorted by {}",
            if runs == 1 { "" } else { "s" },
            self.key.word()
        ))];
        lines.extend(table(shown, width).lines().map(str::to_owned));
        lines.resize(height.saturating_sub(1), String::new());
        lines.push(cut("c m p a n: sort by cpu mem pids age name   j k: down up   q: quit".to_owned()));
        lines
    }
}

enum Event {
    Key(u8),
    Redraw,
    Time,
    Quit,
}

/// The terminal, taken over and given back.
struct Screen {
    before: Termios,
    signals: SignalFd,
}

impl Screen {
    fn open() -> Result<Self, Error> {
        let cannot = |errno| Error::new("cannot take over the terminal").errno(errno);
        let signals: SigSet =
            [Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT]
                .into_iter()
                .collect();
        signals.thread_block().map_err(cannot)?;
        let signals =
            SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(cannot)?;
        let before = tcgetattr(std::io::stdin()).map_err(cannot)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &raw).map_err(cannot)?;
        // The other screen, without a cursor: what stood there is there again afterwards.
        put("\x1b[?1049h\x1b[?25l");
        Ok(Self { before, signals })
    }

    fn draw(&mut self, view: &View) {
        let (width, height) = crate::sys::terminal_size().unwrap_or((80, 24));
        let lines = view.lines(usize::from(width), usize::from(height));
        let mut text = String::from("\x1b[H");
        let last = lines.len().saturating_sub(1);
        for (at, line) in lines.iter().enumerate() {
            // Control characters in names and command lines are escaped already; this is the last gate.
            let line = printable(line.as_bytes());
            match at {
                1 => text.push_str(&format!("\x1b[7m{line:<width$}\x1b[0m", width = usize::from(width))),
                _ => text.push_str(&line),
            }
            text.push_str(if at == last { "\x1b[K" } else { "\x1b[K\r\n" });
        }
        put(&text);
    }

    fn wait(&self, rest: Duration) -> Result<Event, Error> {
        let stdin = std::io::stdin();
        let mut fds = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let limit = PollTimeout::try_from(rest.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, limit) {
            Ok(0) => return Ok(Event::Time),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::new("cannot wait for the terminal").errno(errno)),
        }
        if let Ok(Some(info)) = self.signals.read_signal() {
            return Ok(if info.ssi_signo == Signal::SIGWINCH as u32 { Event::Redraw } else { Event::Quit });
        }
        if fds.first().and_then(PollFd::revents).is_none_or(|events| events.is_empty()) {
            return Ok(Event::Redraw);
        }
        let mut byte = [0_u8; 1];
        Ok(match nix::unistd::read(stdin.as_fd(), &mut byte) {
            // q, Ctrl-C, Ctrl-D; or the terminal is gone.
            Ok(1) if ![b'q', 3, 4].contains(&byte[0]) => Event::Key(byte[0]),
            Err(Errno::EINTR) => Event::Redraw,
            _ => Event::Quit,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        put("\x1b[?25h\x1b[?1049l");
        // The terminal is gone: nobody needs it back.
        let back = tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &self.before);
        debug_assert!(back != Err(Errno::EBADF));
    }
}

fn put(text: &str) {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    drop(written);
}
