//! The part that runs inside a guest: this binary is the guest's init process, mounts what the layout says,
//! runs the tests and tells the lab over a serial port.

mod agent;
mod init;
mod layout;
mod systemd;

pub(crate) use agent::run_tests;

use crate::Result;
use serde::{Deserialize, Serialize};
use std::{fs, os::unix::process::CommandExt, path::PathBuf, process, process::Command, process::ExitCode};

/// Where the guest finds its orders.
pub(crate) const JOB: &str = "/lab/job.json";
/// This binary, in a guest whose init is systemd.
const AGENT: &str = "/lab/agent";
/// The ordinary user of the guests, and its group.
pub(crate) const USER_ID: u32 = 1000;

/// What a guest is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Its name in [`crate::guests::GUESTS`].
    pub(crate) guest: String,
    pub(crate) kind: Kind,
    /// The serial port to tell the lab by.
    pub(crate) port: PathBuf,
    /// The test binary, its arguments, directory and environment.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) directory: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    /// Everything that was carried in, by its absolute path.
    pub(crate) files: Vec<PathBuf>,
    /// Where the lab reads the first of them.
    #[serde(skip)]
    pub(crate) held: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Tests,
    Shell,
}

impl Job {
    fn read() -> Result<Self> {
        let text = fs::read_to_string(JOB).map_err(|error| format!("{JOB}: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{JOB}: {error}"))
    }

    /// The test binary as it is started; its streams are the caller's to set.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.directory);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Plays a part in a guest if this process was started for that.
pub(crate) fn maybe_play() -> Option<ExitCode> {
    if process::id() == 1 {
        init::main();
    }
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("lab-agent") => systemd::agent(),
        Some("lab-enter") => {
            let rest: Vec<String> = arguments.collect();
            let error = layout::enter().err().unwrap_or_else(|| {
                let error = Command::new(&rest[0]).args(&rest[1..]).exec();
                format!("{}: {error}", rest[0])
            });
            println!("lab: {error}");
            Some(ExitCode::FAILURE)
        }
        _ => None,
    }
}
