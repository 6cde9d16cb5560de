//! What an unpacking did, and what it left out.

use std::path::PathBuf;

use super::config::Config;

/// The outcome of [`super::unpack`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The tree: the target, or the release below it.
    pub root: PathBuf,
    /// `sha256:…` of the manifest (OCI), of the configuration (docker save), or of the file (a plain tar).
    pub digest: String,
    /// Entries of all layers.
    pub entries: u64,
    /// Bytes of all layers, decompressed.
    pub bytes: u64,
    /// What the image says about how to run it; a plain tar says nothing.
    pub config: Option<Config>,
    /// Releases that `keep` removed.
    pub removed: Vec<PathBuf>,
    /// What is not in the tree as the archive has it.
    pub notes: Notes,
}

/// Things that were left out, by kind: how often, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    seen: Vec<(&'static str, u64, String)>,
}

/// Kinds of notes. What stands behind `|` follows the first name.
pub(super) const PRIVILEGE: &str =
    "set-user-ID or set-group-ID bits or file capabilities dropped|; --keep-setuid keeps them";
pub(super) const DEVICE: &str = "device nodes left out";
pub(super) const ATTRIBUTE: &str = "extended attributes left out that only the system itself sets";
pub(super) const IN_USE: &str = "old releases kept, which are the root of a run";

impl Notes {
    pub(super) fn add(&mut self, kind: &'static str, first: impl FnOnce() -> String) {
        match self.seen.iter_mut().find(|(known, ..)| *known == kind) {
            Some((_, count, _)) => *count += 1,
            None => self.seen.push((kind, 1, first())),
        }
    }

    /// Nothing was left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// A line for each kind.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.seen.iter().map(|(kind, count, first)| {
            let (what, more) = kind.split_once('|').unwrap_or((kind, ""));
            format!("{count} {what} (first: {first}){more}")
        })
    }
}
