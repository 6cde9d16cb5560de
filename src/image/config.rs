//! What an image says about how to run it, kept beside the tree: `app.image.json` for the tree `app`.
//!
//! Beside and not inside, because what runs in the tree could change it there, and an archive could bring it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use serde_json::Value;

use super::json::{Json, parse};
use super::stream::read_up_to;
use crate::error::{Error, printable};

/// The most that a configuration or manifest may take: bytes. Real ones have a few KiB.
pub(super) const LARGEST: u64 = 4 << 20;

/// The part of an OCI image configuration that concerns running it; names are those of the specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// What every command line of the image begins with.
    pub entrypoint: Vec<String>,
    /// The arguments where the user gives none.
    pub cmd: Vec<String>,
    /// `user`, `uid`, `user:group`, …, to be looked up in the tree's own passwd and group files; empty: root.
    pub user: String,
    /// Where it starts, in the tree; empty: `/`.
    pub working_dir: String,
    /// Where it came from: the digest that [`super::Report::digest`] tells.
    pub digest: String,
}

/// A tree and what its image says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The tree itself: no part of this path is a link. Open this one, so that a deployment that happens now
    /// does not give one release's tree with another's configuration.
    pub root: PathBuf,
    /// `None`: it does not come from an image, or from one that says nothing.
    pub config: Option<Config>,
}

impl Config {
    /// From the specification's names.
    pub(super) fn read(from: Json) -> Result<Self, Error> {
        Ok(Self {
            env: from.texts("Env")?,
            entrypoint: from.texts("Entrypoint")?,
            cmd: from.texts("Cmd")?,
            user: from.text("User")?.to_owned(),
            working_dir: from.text("WorkingDir")?.to_owned(),
            digest: from.text("Digest")?.to_owned(),
        })
    }

    /// What [`Self::read`] reads.
    pub(super) fn json(&self) -> Value {
        serde_json::json!({
            "Env": self.env,
            "Entrypoint": self.entrypoint,
            "Cmd": self.cmd,
            "User": self.user,
            "WorkingDir": self.working_dir,
            "Digest": self.digest,
        })
    }

    /// Finds the configuration that belongs to the tree at `root`, which may be reached through links
    /// (`/srv/app/current`).
    ///
    /// # Errors
    /// The tree is not there, or the configuration is damaged.
    pub fn beside(root: &Path) -> Result<Tree, Error> {
        let shown = printable(root.as_os_str().as_bytes());
        let root = std::fs::canonicalize(root).map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL));
            Error::new(format!("{shown} cannot be opened")).errno(errno)
        })?;
        let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else {
            return Ok(Tree { root, config: None });
        };
        let path = parent.join(file_name(name));
        let shown = printable(path.as_os_str().as_bytes());
        let fail = |errno| Error::new(format!("{shown} cannot be read")).errno(errno);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match open(&path, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(Tree { root, config: None }),
            other => other.map_err(fail)?,
        };
        if fstat(&file).map_err(fail)?.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
            return Err(Error::new(format!("{shown} is no plain file")));
        }
        let text = read_up_to(&mut std::fs::File::from(file), LARGEST)
            .map_err(|error| Error { what: format!("{shown} {}", error.what), ..error })?;
        let config = Self::read(Json::new(&shown, &parse(&shown, &text)?))?;
        Ok(Tree { root, config: Some(config) })
    }

    /// The command line: the entry point, then what the user gave, or the image's own arguments (as docker run).
    #[must_use]
    pub fn command(&self, given: &[OsString]) -> Vec<OsString> {
        let own = |words: &[String]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let arguments = if given.is_empty() { own(&self.cmd) } else { given.to_vec() };
        [own(&self.entrypoint), arguments].concat()
    }
}

/// The name of the configuration of the tree `name`.
pub(super) fn file_name(name: &OsStr) -> OsString {
    let mut file = name.to_owned();
    file.push(".image.json");
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_writes_null() {
        let value = parse("x", br#"{"Env":null,"Cmd":["a"],"Labels":{"x":"y"}}"#).unwrap();
        let config = Config::read(Json::new("x", &value)).unwrap();
        assert_eq!(Config::read(Json::new("x", &config.json())).unwrap(), config);
        assert_eq!(config, Config { cmd: vec!["a".to_owned()], ..Config::default() });
    }

    #[test]
    fn command_lines() {
        let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        let config = |entrypoint: &[&str], cmd: &[&str]| Config {
            entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(),
            cmd: cmd.iter().map(|word| (*word).to_owned()).collect(),
            ..Config::default()
        };
        assert_eq!(config(&["e"], &["c"]).command(&[]), words(&["e", "c"]));
        assert_eq!(config(&["e"], &["c"]).command(&words(&["x"])), words(&["e", "x"]));
        assert_eq!(config(&[], &["c"]).command(&words(&["x"])), words(&["x"]));
    }
}
