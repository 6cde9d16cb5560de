//! What the lab needs of Debian: programs, kernels, a root file system. All of it is kept under `target/lab/`.

pub(crate) mod cpio;
pub(crate) mod kernel;
pub(crate) mod packages;
pub(crate) mod rootfs;

use crate::{Result, guests::Guest, guests::Machine, shell::capture};
use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the guests' own mounts hide what is carried to them. (Over what is carried to /tmp nothing is mounted.)
const HIDDEN: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Places {
    /// The package's directory.
    pub(crate) project: PathBuf,
    /// Where cargo puts what it built, and what it built on the way.
    pub(crate) target: PathBuf,
    pub(crate) build: PathBuf,
    /// `target/lab`.
    pub(crate) lab: PathBuf,
}

impl Places {
    pub(crate) fn find() -> Result<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let text = capture(Command::new(cargo).args(["metadata", "--format-version=1", "--no-deps"]))?;
        let metadata: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let path =
            |key: &str| metadata[key].as_str().map(PathBuf::from).ok_or(format!("cargo metadata: no {key}"));
        let target = path("target_directory")?;
        let places =
            Self { project: path("workspace_root")?, lab: target.join("lab"), build: target.clone(), target };
        for path in [&places.project, &places.target] {
            if let Some(hidden) = HIDDEN.iter().find(|hidden| path.starts_with(hidden)) {
                let path = path.display();
                return Err(format!("{path}: a guest has a {hidden} of its own: move the project elsewhere"));
            }
        }
        for directory in ["consoles", "kernels"] {
            make(&places.lab.join(directory))?;
        }
        Ok(places)
    }
}

/// What the guests boot from.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Per kernel: the image, and the part of the initial RAM file system that does not change.
    pub(crate) kernels: HashMap<crate::guests::Kernel, kernel::Files>,
    /// For User-mode Linux.
    pub(crate) uml_base: PathBuf,
    /// The Debian image.
    pub(crate) rootfs: PathBuf,
}

/// Gets what these guests need, from the cache or from Debian.
///
/// # Errors
/// What is missing, and the command that would bring it.
pub(crate) fn prepare(places: &Places, guests: &[&'static Guest]) -> Result<Ready> {
    let mut ready = Ready::default();
    packages::install(guests)?;
    if guests.iter().any(|guest| guest.machine == Machine::Uml) {
        ready.uml_base = places.lab.join("uml.cpio");
        kernel::base(&ready.uml_base, None)?;
    }
    for guest in guests {
        if let Machine::Qemu(version, _) = guest.machine
            && !ready.kernels.contains_key(&version)
        {
            ready.kernels.insert(version, kernel::get(places, version)?);
        }
    }
    if guests.iter().any(|guest| guest.has_systemd()) {
        ready.rootfs = rootfs::get(places)?;
    }
    Ok(ready)
}

pub(crate) fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))
}
