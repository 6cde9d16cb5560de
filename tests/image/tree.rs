//! Trees that are unpacked, and what is beside them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use rcon::error::Error;
use rcon::image::{self, Report, UnpackOptions};
use tempfile::TempDir;

use crate::archives::{Member, tar};

/// A line for each file: kind, mode, name, content or target.
pub(crate) fn describe(root: &Path) -> String {
    let mut lines = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let kind = stat.file_type();
        let mode = stat.mode() & 0o7777;
        lines.push(if kind.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            format!("{name} d {mode:o}")
        } else if kind.is_symlink() {
            format!("{name} -> {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_file() {
            let text = fs::read(&path).unwrap();
            format!("{name} f {mode:o} {}", String::from_utf8_lossy(&text))
        } else {
            format!("{name} special {mode:o}")
        });
    }
    lines.sort();
    lines.join("\n")
}

/// A directory with something to harm, and a place to unpack into.
pub(crate) struct Playground {
    pub(crate) dir: TempDir,
}

impl Playground {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/secret"), "unharmed").unwrap();
        fs::set_permissions(dir.path().join("outside/secret"), PermissionsExt::from_mode(0o640)).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.path("target")
    }

    pub(crate) fn options(&self, archive: &[u8]) -> UnpackOptions {
        let path = self.path("archive");
        fs::write(&path, archive).unwrap();
        UnpackOptions { sync: false, ..UnpackOptions::new(path, self.target()) }
    }

    pub(crate) fn unpack(&self, archive: &[u8]) -> Result<Report, Error> {
        unpack(&self.options(archive))
    }

    /// All but the tree and the archive is as it was; staging directories would show here.
    #[track_caller]
    pub(crate) fn unharmed(&self) {
        let secret = self.path("outside/secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "unharmed");
        let stat = fs::metadata(&secret).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.nlink()), (0o640, 1), "the secret's mode and links");
        assert_eq!(listed(&self.path("outside")), ["secret"]);
        let mut names = listed(self.dir.path());
        names.retain(|name| !["archive", "target", "target.image.json"].contains(&name.as_str()));
        assert_eq!(names, ["outside"]);
    }

    /// The archive is refused, the message has all these words, nothing is left.
    #[track_caller]
    pub(crate) fn refuses(&self, archive: &[u8], words: &[&str]) {
        self.refuses_with(&self.options(archive), words);
    }

    #[track_caller]
    pub(crate) fn refuses_with(&self, options: &UnpackOptions, words: &[&str]) {
        let message = match unpack(options) {
            Ok(report) => panic!("unpacked:\n{}", describe(&report.root)),
            Err(error) => error.to_string(),
        };
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        assert!(!self.target().exists(), "the target is there");
        assert!(!self.path("target.image.json").exists(), "the configuration is there");
        self.unharmed();
    }
}

pub(crate) fn listed(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

pub(crate) fn unpack(options: &UnpackOptions) -> Result<Report, Error> {
    image::unpack(options, &|| false)
}

pub(crate) fn rcon<const N: usize>(args: [&OsStr; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rcon"));
    command.arg("image").args(args);
    command
}

/// Taken for reading while a process is started, and for writing by who has something open that no fork may hold: the
/// lock of a deployment, which the next one finds taken, or a copy of the binary, which nobody can execute then.
static FORKS: RwLock<()> = RwLock::new(());

pub(crate) fn no_forks() -> RwLockWriteGuard<'static, ()> {
    FORKS.write().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn start(command: &mut Command) -> Child {
    let _forks = FORKS.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

pub(crate) fn output(command: &mut Command) -> Output {
    let _forks = FORKS.read().unwrap_or_else(PoisonError::into_inner);
    command.output().unwrap()
}

pub(crate) fn text(output: &Output) -> String {
    format!(
        "{:?}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub(crate) fn two_layers() -> Vec<Vec<u8>> {
    let lower = tar()
        .dir("./")
        .dir("./bin/")
        .member(&Member { name: b"./bin/app", data: b"old", mode: 0o755, ..Member::default() })
        .dir("etc/")
        .file("etc/kept", "kept")
        .file("etc/gone", "gone")
        .dir("cache/")
        .dir("cache/deep/")
        .file("cache/deep/old", "old")
        .file("cache/old", "old")
        .dir("swap/")
        .file("swap/inside", "inside")
        .dir("usr/")
        .dir("usr/lib/")
        .symlink("lib", "usr/lib")
        .dir("tree/")
        .dir("tree/sub/")
        .file("tree/sub/old", "old")
        .done();
    let upper = tar()
        .member(&Member { name: b"bin/app", data: b"new", mode: 0o755, ..Member::default() })
        .file("etc/.wh.gone", "")
        // What this layer brings stays, though the mark comes after it.
        .file("cache/deep/new", "new")
        .file("cache/.wh..wh..opq", "")
        .symlink("swap", "/etc")
        // Through a link of the lower layer, as a process in the image would see it.
        .file("lib/libx.so", "x")
        .hardlink("etc/hard", "etc/kept")
        .dir("tree/")
        .file("tree/.wh.sub", "")
        .file("tree/.wh.never-there", "")
        .done();
    vec![lower, upper]
}

pub(crate) const TWO_LAYERS: &str = " d 755
bin d 755
bin/app f 755 new
cache d 755
cache/deep d 755
cache/deep/new f 644 new
etc d 755
etc/hard f 644 kept
etc/kept f 644 kept
lib -> usr/lib
swap -> /etc
tree d 755
usr d 755
usr/lib d 755
usr/lib/libx.so f 644 x";
