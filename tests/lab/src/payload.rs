//! What is carried into the guests: the test binary, the real `rcon`, and this binary as their init.

use crate::{
    Result,
    guest::{JOB, Job, Kind},
    guests::{Guest, Machine},
    lab::Order,
    prepare::{Places, cpio::Archive},
    shell::capture,
};
use serde_json::Value;
use std::{
    env,
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The test that is run in guests.
const TEST: &str = "kernel";
/// The benchmark that is.
const BENCH: &str = "overhead";
/// How much slower than a real machine a guest may be.
const SLOW: u32 = 10;

/// What cargo built.
#[derive(Debug)]
pub(crate) struct Payload {
    test: PathBuf,
    rcon: PathBuf,
    /// What the benchmark needs beside itself and rcon.
    floors: Vec<PathBuf>,
    /// test, rcon and floors, held open: whoever builds anew while guests are still to come replaces the files.
    held: Vec<File>,
}

impl Payload {
    /// Builds the tests, once for all guests: they are the same static binaries everywhere.
    pub(crate) fn build(places: &Places) -> Result<Self> {
        Self::cargo(places, "test", TEST)?.hold()
    }

    /// Builds the benchmark of whole runs, and has it build the floors: a guest has no compiler.
    pub(crate) fn bench(places: &Places) -> Result<Self> {
        let mut payload = Self::cargo(places, "bench", BENCH)?;
        let listed = capture(Command::new(&payload.test).arg("--floors"))?;
        payload.floors = listed.lines().map(PathBuf::from).collect();
        payload.hold()
    }

    fn hold(mut self) -> Result<Self> {
        let open = |path: &PathBuf| File::open(path).map_err(|error| format!("{}: {error}", path.display()));
        self.held = self.built().map(open).collect::<Result<_>>()?;
        Ok(self)
    }

    fn built(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.test, &self.rcon].into_iter().chain(&self.floors)
    }

    fn cargo(places: &Places, kind: &str, name: &str) -> Result<Self> {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args([kind, "--no-run", "--message-format=json-render-diagnostics", "--package=rcon"]);
        cargo.arg("--target-dir").arg(&places.target).env("CARGO_BUILD_BUILD_DIR", &places.build);
        cargo
            .args([&format!("--{kind}"), name])
            .current_dir(&places.project)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let out = cargo.output().map_err(|error| format!("cargo: {error}"))?;
        if !out.status.success() {
            return Err(format!("cargo {kind} --no-run: {}", out.status));
        }
        let (mut test, mut rcon) = (None, None);
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
            let Some(path) = message["executable"].as_str() else { continue };
            match (message["target"]["name"].as_str(), message["target"]["kind"][0].as_str()) {
                (Some(one), Some(of)) if one == name && of == kind => test = Some(PathBuf::from(path)),
                (Some("rcon"), Some("bin")) => rcon = Some(PathBuf::from(path)),
                _ => {}
            }
        }
        Ok(Self {
            test: test.ok_or_else(|| format!("cargo built no {kind} {name}"))?,
            rcon: rcon.ok_or("cargo built no rcon")?,
            floors: Vec::new(),
            held: Vec::new(),
        })
    }

    /// What a guest is told to do.
    pub(crate) fn job(&self, places: &Places, guest: &Guest, kind: Kind, order: &Order<'_>) -> Job {
        let mut environment: Vec<(String, String)> = vec![("RCON_MUST".into(), guest.must.to_owned())];
        // This machine runs everything, always.
        if !order.all && guest.machine != Machine::Host {
            environment.push(("RCON_MODULES".into(), guest.modules()));
        }
        environment.extend(order.environment.iter().cloned());
        if guest.machine != Machine::Host {
            let bin = self.rcon.parent().unwrap_or(Path::new("/")).display();
            environment.extend([
                (
                    "PATH".into(),
                    format!("{bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
                ),
                ("HOME".into(), if guest.is_ordinary_user() { "/home/lab" } else { "/root" }.into()),
                ("TERM".into(), "dumb".into()),
                ("RCON_SLOW".into(), SLOW.to_string()),
                ("RCON_TESTS".into(), self.test.display().to_string()),
            ]);
        }
        let words: &[&str] = if order.bench { &["100", "--gap-rounds", "30"] } else { &["--color=never"] };
        let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(order.bench.then(|| "--only".to_owned()).filter(|_| order.filter.is_some()));
        arguments.extend(order.filter.map(str::to_owned));
        Job {
            guest: guest.name.to_owned(),
            kind,
            port: if guest.machine == Machine::Uml { "/dev/ttyS0" } else { "/dev/ttyS1" }.into(),
            program: self.test.clone(),
            arguments,
            directory: places.project.clone(),
            environment,
            files: self.built().chain(&fixtures(places)).cloned().collect(),
            held: self.held.iter().map(|file| format!("/proc/self/fd/{}", file.as_raw_fd()).into()).collect(),
        }
    }
}

/// Files that tests read: carried along at the same path.
fn fixtures(places: &Places) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![places.project.join("tests/fixtures")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// The guest's initial RAM file system: what belongs to the kernel, then what belongs to this run.
pub(crate) fn write_initrd(to: &Path, base: &Path, job: &Job) -> Result<()> {
    let write = || -> io::Result<()> {
        fs::copy(base, to)?;
        let mut archive = Archive::new(io::BufWriter::new(fs::OpenOptions::new().append(true).open(to)?));
        archive.file("/init", 0o755, Path::new("/proc/self/exe"))?;
        archive.text(JOB, 0o644, serde_json::to_string(job)?.as_bytes())?;
        archive.directory(&job.directory.to_string_lossy(), 0o755)?;
        let sources = job.held.iter().chain(job.files.iter().skip(job.held.len()));
        for (file, source) in job.files.iter().zip(sources) {
            let mode = fs::metadata(source)?.permissions().mode() & 0o777;
            archive.file(&file.to_string_lossy(), mode | 0o444, source)?;
        }
        archive.finish().map(drop)
    };
    write().map_err(|error| format!("{}: {error}", to.display()))
}
