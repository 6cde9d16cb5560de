//! Running the real binary, with what it says and how it ends captured, and never for ever.

use crate::{facts::boot_word, victim};
use nix::unistd::geteuid;
use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    fs::{self, File},
    io::{Seek, Write},
    os::unix::{
        fs::{FileExt, PermissionsExt},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The binary under test.
pub(crate) const RCON: &str = env!("CARGO_BIN_EXE_rcon");

/// A time that would be right on a real machine, made long enough for this one: the lab's guests are emulated,
/// and it says by `RCON_SLOW` how much slower they may be.
pub(crate) fn slow(time: Duration) -> Duration {
    time * env::var("RCON_SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// A number of repetitions that would be right on a real machine, made small enough for this one.
pub(crate) fn many(number: usize) -> usize {
    let slow = slow(Duration::from_secs(1)).as_secs() as usize;
    (number / slow).max(number.min(10))
}

/// `rcon` with these arguments: `rcon(["--pids", "16", "--"]).victim("forks:40").run()`.
pub(crate) fn rcon<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Run {
    run(RCON).args(args)
}

/// A victim that is not wrapped, for comparison.
pub(crate) fn victim(role: &str) -> Run {
    let [program, role] = victim_line(role);
    run(program).args([role])
}

/// For what somebody else on the machine can spoil: it holds if one of five attempts says so.
#[track_caller]
pub(crate) fn sometimes(mut attempt: impl FnMut() -> Result<(), String>) {
    let mut seen = Vec::new();
    for _ in 0..5 {
        match attempt() {
            Ok(()) => return,
            Err(what) => seen.push(what),
        }
    }
    panic!("not once: {seen:#?}");
}

/// Any program, run in the same way: what rcon is compared with.
pub(crate) fn run(program: impl AsRef<OsStr>) -> Run {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    Run { command, input: None, limit: Duration::from_secs(30) }
}

/// A command line in the making.
#[derive(Debug)]
pub(crate) struct Run {
    /// For what has no method here: directory, descriptors, identity.
    pub(crate) command: Command,
    input: Option<Vec<u8>>,
    limit: Duration,
}

impl Run {
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Wraps this test binary as a victim: see [`victim::play`] for the roles.
    pub(crate) fn victim(mut self, role: &str) -> Self {
        self.command.args(victim_line(role));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// How long it may take on a real machine (default 30 s); stretched in guests.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end. What takes too long is killed and fails the case.
    pub(crate) fn run(self) -> Output {
        self.start().finish()
    }

    /// Starts it and returns, for a case that does something to it meanwhile.
    pub(crate) fn start(mut self) -> Started {
        // Files, not pipes: a grandchild that holds the stream open must not hang the test.
        let (stdout, stderr) = (scratch(b""), scratch(b""));
        if let Some(bytes) = &self.input {
            self.command.stdin(scratch(bytes));
        }
        self.command.stdout(stdout.try_clone().expect("dup")).stderr(stderr.try_clone().expect("dup"));
        let line = format!("{:?}", self.command);
        let start = Instant::now();
        let child = self.command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        Started { child, line, stdout, stderr, start, deadline: start + slow(self.limit) }
    }
}

/// A running command.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    line: String,
    stdout: File,
    stderr: File,
    start: Instant,
    deadline: Instant,
}

impl Started {
    /// What it has said so far on stdout.
    pub(crate) fn said(&mut self) -> String {
        content(&self.stdout)
    }

    /// Waits until it has said `word` on stdout.
    pub(crate) fn wait_for(&mut self, word: &str) {
        while !self.said().contains(word) {
            self.check(&format!("never said {word:?}"));
        }
    }

    pub(crate) fn finish(mut self) -> Output {
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                let (stdout, stderr) = (content(&self.stdout), content(&self.stderr));
                return Output { line: self.line, status, stdout, stderr, took: self.start.elapsed() };
            }
            self.check("did not end");
        }
    }

    /// A short sleep, or the end of patience.
    fn check(&mut self, complaint: &str) {
        if Instant::now() > self.deadline {
            // The case fails in any case; the fixture ends what else is left.
            drop(self.child.kill());
            let (stdout, stderr) = (content(&self.stdout), content(&self.stderr));
            panic!("{} {complaint} in time\nstdout: {stdout}\nstderr: {stderr}", self.line);
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// How it ended and what it said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) line: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// From before its start on.
    pub(crate) took: Duration,
}

impl Output {
    /// The status as a shell shows it: 128+N for signal N.
    pub(crate) fn shell_status(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().expect("ended"))
    }

    /// The number after `key=` on stdout.
    pub(crate) fn number(&self, key: &str) -> u64 {
        let found = self.stdout.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no {key}= in: {self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\nstdout: {}\nstderr: {}", self.line, self.status, self.stdout, self.stderr)
    }
}

/// The command line of a victim, to be wrapped.
pub(crate) fn victim_line(role: &str) -> [OsString; 2] {
    [victim::program().into(), format!("--victim={role}").into()]
}

/// An ordinary user, and programs that everybody can reach.
#[derive(Debug)]
pub(crate) struct Ordinary {
    dir: tempfile::TempDir,
}

impl Ordinary {
    /// Nobody's number, so that nothing else runs as this user.
    pub(crate) const UID: u32 = 54_321;

    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        Self { dir }
    }

    /// `rcon` with these arguments, as this user.
    pub(crate) fn rcon<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        let mut run = run(self.reachable(Path::new(RCON))).args(args);
        run.command.uid(Self::UID).gid(Self::UID).current_dir("/");
        run
    }

    /// As [`victim_line`], of a program that this user can execute.
    pub(crate) fn victim_line(&self, role: &str) -> [OsString; 2] {
        let [program, role] = victim_line(role);
        [self.reachable(Path::new(&program)).into(), role]
    }

    /// The program itself, or a copy of one that lies where only its owner comes.
    fn reachable(&self, program: &Path) -> PathBuf {
        let open =
            |path: &Path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
        if program.ancestors().all(open) {
            return program.to_owned();
        }
        let copy = self.dir.path().join(program.file_name().expect("a program"));
        if !copy.exists() {
            fs::copy(program, &copy).expect("copy");
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        copy
    }
}

/// A block device that is this case's to write (needs [`crate::needs::Need::Disk`]).
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    backing: Option<tempfile::NamedTempFile>,
}

impl Disk {
    /// The lab's disk, or a loop device of 64 MiB that goes with the value.
    pub(crate) fn get() -> Self {
        if let Some(path) = boot_word("rcon.disk") {
            return Self { path: path.into(), backing: None };
        }
        assert!(geteuid().is_root(), "a loop device needs root");
        let backing = tempfile::NamedTempFile::new_in("/var/tmp").expect("temporary file");
        backing.as_file().set_len(64 << 20).expect("size");
        let out = run("losetup").args(["--find", "--show"]).args([backing.path()]).run();
        assert!(out.status.success(), "{out}");
        Self { path: Path::new(out.stdout.trim()).to_owned(), backing: Some(backing) }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.backing.is_some() {
            // Panicking here would abort; a loop device that stays is seen by whoever counts them.
            drop(Command::new("losetup").arg("--detach").arg(&self.path).status());
        }
    }
}

fn scratch(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(bytes).and_then(|()| file.rewind()).expect("temporary file");
    file
}

/// The whole content, read without moving the offset, which the writer shares.
fn content(file: &File) -> String {
    let mut bytes = vec![0; file.metadata().expect("temporary file").len() as usize];
    let read = file.read_at(&mut bytes, 0).expect("temporary file");
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}
