//! Images without a daemon: `rcon image unpack` makes a directory of an archive, `rcon image pack` an archive of
//! a directory.
//!
//! Read in this order: [`unpack`] below; `place` (where the tree goes, at once or not at all), `source` and
//! `stream` (what comes in), `store` and `manifest` (which layers), `entries` (tar), `apply` (entries become
//! files), `tree` (nothing leaves the root), `limits` (nothing takes more than it may).

mod apply;
mod cli;
mod config;
mod entries;
mod gzip;
mod json;
mod limits;
mod manifest;
mod pack;
mod place;
mod report;
mod source;
mod store;
mod stream;
mod tree;

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

pub use cli::{command, run};
pub use config::{Config, Tree};
pub use limits::Limits;
pub use pack::pack;
pub use report::{Notes, Report};

use crate::error::Error;
use apply::Builder;
use limits::Budget;
use place::{Place, Staging};
use source::Source;
use stream::Stream;

/// What to unpack, where, and what to do with the doubtful.
#[derive(Clone, Debug)]
pub struct UnpackOptions {
    /// An archive, a layout directory, or `-` for standard input.
    pub source: PathBuf,
    /// The tree's place, which must be empty or not there; with `deploy` the directory that holds the releases.
    pub target: PathBuf,
    /// Makes a release below `target` and points `target/current` to it.
    pub deploy: bool,
    /// With `deploy`: how many releases stay, the new one included. `None`: all.
    pub keep: Option<NonZeroU32>,
    /// What the source is.
    pub form: Form,
    /// Which of several images.
    pub image: Option<String>,
    /// For which machine; `None`: for this one.
    pub platform: Option<Platform>,
    /// What becomes of device nodes.
    pub devices: Devices,
    /// Keep set-user-ID and set-group-ID bits and file capabilities: on the host they work for everybody who can
    /// reach the tree.
    pub keep_setuid: bool,
    /// Leave out owners, attributes and devices that this user may not make.
    pub best_effort: bool,
    /// What it may cost.
    pub limits: Limits,
    /// Have it on the disk before it gets its name.
    pub sync: bool,
}

impl UnpackOptions {
    /// The defaults for unpacking `source` as `target`.
    #[must_use]
    pub fn new(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            deploy: false,
            keep: None,
            form: Form::Auto,
            image: None,
            platform: None,
            devices: Devices::Refuse,
            keep_setuid: false,
            best_effort: false,
            limits: Limits::default(),
            sync: true,
        }
    }
}

/// What an archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The first name in it tells.
    Auto,
    /// The tree itself (docker export).
    Rootfs,
    /// An image in layers (docker save, OCI).
    Image,
}

/// What becomes of device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// The archive is refused.
    Refuse,
    /// They are left out.
    Skip,
    /// They are made: who can open them has the device.
    Keep,
}

/// An operating system and a processor, as OCI names them: `linux/arm64`, `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, …
    pub variant: Option<String>,
}

impl Platform {
    /// This machine's.
    #[must_use]
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }
}

impl FromStr for Platform {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some((*variant).to_owned())),
            _ => return Err("give a platform such as linux/amd64 or linux/arm/v7".to_owned()),
        };
        Ok(Self { os: (*os).to_owned(), architecture: (*architecture).to_owned(), variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// Unpacks an archive. The tree is there as a whole, with its configuration, or not at all.
///
/// `stopped` is asked often; when it says yes, all is removed and an error comes back.
///
/// # Errors
/// Names the entry that was the reason, where one was.
pub fn unpack(options: &UnpackOptions, stopped: &dyn Fn() -> bool) -> Result<Report, Error> {
    let budget = Budget::new(options.limits, stopped);
    let place = Place::open(&options.target, options.deploy, options.keep)?;
    let staging = Staging::new(place.dir())?;
    let (root, trash) = staging.tree()?;
    let mut builder = Builder::new(root, trash, options, &budget);
    let (digest, config) = match source::open_source(&options.source, options.form, &staging, &budget)? {
        Source::Tree(mut stream) => {
            builder.layer(&mut stream, false)?;
            // A writer that failed at once leaves nothing, which must not replace what is there. (A layer of an
            // image may well be empty.)
            if budget.entries_so_far() == 0 {
                return Err(Error::new("is an empty archive: nothing came").try_this(
                    "in a pipe see what its writer said, and have its failure count: set -o pipefail",
                ));
            }
            (stream.finish()?.packed, None)
        }
        Source::Image(store) => {
            let image = manifest::choose(&store, options)?;
            let count = image.layers.len();
            for (number, layer) in (1..).zip(&image.layers) {
                apply(&mut builder, &store, layer, &budget).map_err(|error| {
                    let what = format!("layer {number} of {count}: {}", error.what);
                    Error { what, ..error }
                })?;
            }
            (image.digest, Some(image.config))
        }
    };
    let mut notes = builder.finish()?;
    if options.sync {
        staging.sync()?;
    }
    let root = place.publish(&staging, &digest, config.as_ref())?;
    let removed = place.prune(&staging, &mut notes)?;
    let (entries, bytes) = (budget.entries_so_far(), budget.bytes_so_far());
    Ok(Report { root, digest, entries, bytes, config, removed, notes })
}

/// Applies one layer and checks that it was the right one: until the end nobody else sees the tree.
fn apply(
    builder: &mut Builder,
    store: &store::Store,
    layer: &manifest::Layer,
    budget: &Budget,
) -> Result<(), Error> {
    let mut stream = Stream::open(store.open(&layer.name)?, budget)?;
    builder.layer(&mut stream, true)?;
    let found = stream.finish()?;
    let wrong = |told: &str, found: &str| {
        let told = crate::error::printable(told.as_bytes());
        Error::new(format!("{told} is damaged or was changed: its digest is {found}"))
    };
    match &layer.digest {
        Some(told) if *told != found.packed => Err(wrong(told, &found.packed)),
        _ if layer.diff_id != found.plain => Err(wrong(&layer.diff_id, &found.plain)),
        _ => Ok(()),
    }
}
