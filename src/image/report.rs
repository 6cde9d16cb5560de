//! What an unpacking did, and what it left out.

use std::collections::BTreeMap;
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
    seen: BTreeMap<Kind, (u64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Set-user-ID, set-group-ID, file capabilities.
    Privilege,
    Device,
    /// An attribute that only the system itself sets.
    Attribute,
    /// Waived because of `best_effort`.
    Owner,
    OtherAttribute,
    Mode,
    OtherDevice,
}

impl Notes {
    pub(super) fn add(&mut self, kind: Kind, first: impl FnOnce() -> String) {
        self.seen.entry(kind).or_insert_with(|| (0, first())).0 += 1;
    }

    /// Nothing was left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// A line for each kind.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.seen.iter().map(|(kind, (count, first))| {
            let (what, more) = match kind {
                Kind::Privilege => (
                    "set-user-ID or set-group-ID bits or file capabilities dropped",
                    "; --keep-setuid keeps them",
                ),
                Kind::Device => ("device nodes left out", ""),
                Kind::Attribute => ("extended attributes left out that only the system itself sets", ""),
                Kind::Owner => ("owners not kept", ""),
                Kind::OtherAttribute => ("extended attributes not kept", ""),
                Kind::Mode => ("modes not kept", ""),
                Kind::OtherDevice => ("device nodes not made", ""),
            };
            format!("{count} {what} (first: {first}){more}")
        })
    }
}
