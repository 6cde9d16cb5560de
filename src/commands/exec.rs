//! `rcon exec`: starts a command where a run is: in its groups, its namespaces and its root, as its user, with its
//! capabilities and no more.
//!
//! What the run's own command is confined by is read from `/proc` and becomes options of an ordinary run, so that
//! the same plan with the same checks does it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use nix::unistd::Pid;

use crate::cage::namespaces::Kind;
use crate::capabilities;
use crate::cgroup::write_at;
use crate::cli::{self, Request};
use crate::error::Error;
use crate::guardian::Line;
use crate::live::Member;
use crate::runs::{self, Run, process};
use crate::sys::caps;

pub(super) fn command() -> Command {
    Command::new("exec")
        .about("Start a command inside a run: in its groups and namespaces, with its capabilities")
        .override_usage("rcon exec [OPTIONS] NAME [--] COMMAND [ARG]...")
        .arg(super::name())
        .arg(
            Arg::new("COMMAND")
                .required(true)
                .num_args(1..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .value_parser(clap::value_parser!(OsString))
                .hide(true),
        )
        .arg(
            Arg::new("without-seccomp")
                .long("without-seccomp")
                .action(ArgAction::SetTrue)
                .help("Go on where the run has a seccomp filter, which no other process can be given"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    let run = runs::one(&matches.get_one::<OsString>("NAME").cloned().unwrap_or_default())?;
    let pid =
        runs::first_process(&run).ok_or_else(|| Error::new(format!("no process is in {}", run.shown())))?;
    // From here on it is this process, or an error.
    let model = Member::open(pid, process::stat(pid).map(|stat| stat.started))?;
    let status = Status::read(pid)?;
    if status.number("Seccomp") == Some(2) && !matches.get_flag("without-seccomp") {
        return Err(Error::new(format!(
            "{} has a seccomp filter, which no other process can be given",
            run.shown()
        ))
        .try_this("rcon exec --without-seccomp starts the command without it"));
    }
    let namespaces = Namespaces::open(pid)?;
    let mut words = namespaces.words();
    words.extend(confinement(pid, &status, &namespaces)?);
    words.push("--".into());
    words.extend(matches.get_many::<OsString>("COMMAND").into_iter().flatten().cloned());
    let Request::Run(args) = cli::parse(&words, false)? else {
        return Err(Error::new("no command given"));
    };
    join(&run)?;
    if !model.lives() {
        return Err(Error::new(format!("{} has just ended", run.shown())));
    }
    drop(model);
    crate::run(&args, &Line { words: &words, capcon: false }, None)
}

/// Into the run's groups: whatever is started from here is born in them.
fn join(run: &Run) -> Result<(), Error> {
    for dir in &run.dirs {
        let fd = dir.open().map_err(|errno| super::gone(run, errno))?;
        write_at(fd.as_fd(), "cgroup.procs", "0").map_err(|errno| {
            Error::new(format!("cannot join {}", dir.path.display()))
                .errno(errno)
                .try_this("as root, or as the user whose run it is")
        })?;
    }
    Ok(())
}

/// The namespaces in which the model is not with us, open.
struct Namespaces(Vec<(Kind, OwnedFd)>);

impl Namespaces {
    fn open(pid: Pid) -> Result<Self, Error> {
        let mut list = Vec::new();
        for kind in Kind::ALL {
            let cannot = |error: std::io::Error| {
                Error::new(format!("cannot open the {} namespace of process {pid}: {error}", kind.name()))
                    .try_this("as root, or as the user whose run it is")
            };
            let path = format!("/proc/{pid}/ns/{}", kind.file());
            let theirs = match File::open(&path) {
                Ok(file) => file,
                // A kernel without this kind.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(cannot(error)),
            };
            let theirs_is = theirs.metadata().map_err(cannot)?;
            let ours = fs::metadata(format!("/proc/self/ns/{}", kind.file())).map_err(cannot)?;
            if (ours.dev(), ours.ino()) != (theirs_is.dev(), theirs_is.ino()) {
                list.push((kind, theirs.into()));
            }
        }
        Ok(Self(list))
    }

    fn has(&self, kind: Kind) -> bool {
        self.0.iter().any(|(one, _)| *one == kind)
    }

    fn words(&self) -> Vec<OsString> {
        let join = |(kind, fd): &(Kind, OwnedFd)| {
            let path = format!("{}=/proc/self/fd/{}", kind.name(), fd.as_raw_fd());
            [OsString::from("--join"), path.into()]
        };
        self.0.iter().flat_map(join).collect()
    }
}

/// User, groups, capabilities and root of the model, as options; what is as with us is left out.
fn confinement(pid: Pid, status: &Status, namespaces: &Namespaces) -> Result<Vec<OsString>, Error> {
    let mut words: Vec<OsString> = Vec::new();
    let user = namespaces.has(Kind::User);
    let map = |id: u32, file: &str| if user { inside(pid, file, id) } else { Ok(id) };
    let (users, groups) = caps::ids().map_err(|e| Error::new("cannot read our own identity").errno(e))?;
    let (uid, gid) = (status.id("Uid")?, status.id("Gid")?);
    let ours: Vec<u32> = nix::unistd::getgroups()
        .map(|list| list.into_iter().map(nix::unistd::Gid::as_raw).collect())
        .unwrap_or_default();
    let supplementary = status.list("Groups");
    if [uid; 3] != users || [gid; 3] != groups || ours != supplementary {
        let (uid, gid) = (map(uid, "uid_map")?, map(gid, "gid_map")?);
        words.extend(["--user".into(), format!("{uid}:{gid}").into(), "--keep-env".into()]);
        // A user namespace that an ordinary user made may forbid it (user_namespaces(7)).
        let denied =
            fs::read_to_string(format!("/proc/{pid}/setgroups")).is_ok_and(|text| text.trim() == "deny");
        if !(user && denied) {
            let list: Result<Vec<String>, Error> =
                supplementary.iter().map(|gid| map(*gid, "gid_map").map(|gid| gid.to_string())).collect();
            let list = Some(list?.join(",")).filter(|list| !list.is_empty());
            words.extend(["--groups".into(), list.unwrap_or_else(|| "none".to_owned()).into()]);
        }
    }
    let sets = ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"].map(|name| status.mask(name));
    let [bounding, _, effective, inheritable, ambient] = sets;
    let own = Status::read(Pid::this())?;
    // Entering a user namespace fills all sets but the ambient one (user_namespaces(7)).
    if bounding != if user { caps::bounding().1 } else { own.mask("CapBnd") } {
        words.extend(["--bounding".into(), capabilities::names(bounding).into()]);
    }
    if ambient != 0 {
        words.extend(["--allow".into(), capabilities::names(ambient).into()]);
    } else if uid == 0 && effective != bounding {
        // Root without root's power by exec: securebits, which /proc does not show.
        return Err(Error::new(
            "the run's command is root with fewer capabilities than its bounding set: it has securebits that cannot be read from outside",
        ));
    } else if inheritable != own.mask("CapInh") {
        words.extend(["--inheritable".into(), capabilities::names(inheritable).into()]);
    }
    if status.number("NoNewPrivs") == Some(1) {
        words.push("--no-new-privs".into());
    }
    let root = fs::read_link(format!("/proc/{pid}/root"))
        .map_err(|error| Error::new(format!("cannot read the root of process {pid}: {error}")))?;
    if root != Path::new("/") && !namespaces.has(Kind::Mount) {
        words.extend(["--root".into(), root.into_os_string(), "--chroot-only".into()]);
    }
    Ok(words)
}

/// The number that `id`, as we see it, has inside the model's user namespace.
fn inside(pid: Pid, file: &str, id: u32) -> Result<u32, Error> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    text.lines()
        .find_map(|line| {
            let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let [inside, outside, count] = numbers[..] else { return None };
            (id >= outside && id - outside < count).then(|| inside + (id - outside))
        })
        .ok_or_else(|| Error::new(format!("{id} has no number in the user namespace of process {pid}")))
}

/// `/proc/PID/status`.
struct Status(String);

impl Status {
    fn read(pid: Pid) -> Result<Self, Error> {
        // The name in it may be anybody's bytes.
        let bytes = fs::read(format!("/proc/{pid}/status"))
            .map_err(|_| Error::new(format!("process {pid} has just ended")))?;
        Ok(Self(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.field(name)?.parse().ok()
    }

    /// The effective id: real, effective, saved and file system ids stand in one line.
    fn id(&self, name: &str) -> Result<u32, Error> {
        let second = self.field(name).and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        second.ok_or_else(|| Error::new(format!("/proc does not tell the {name} of the run's command")))
    }

    fn list(&self, name: &str) -> Vec<u32> {
        let words = self.field(name).unwrap_or_default().split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    }

    fn mask(&self, name: &str) -> u64 {
        self.field(name).and_then(|word| u64::from_str_radix(word, 16).ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_found_by_its_whole_name() {
        let status =
            Status("Name:\tx\nUid:\t1\t2\t3\t4\nNoNewPrivs:\t1\nCapBnd:\t00ff\nGroups:\t5 6 \n".to_owned());
        assert_eq!((status.id("Uid").unwrap(), status.mask("CapBnd")), (2, 0xff));
        assert_eq!((status.number("NoNewPrivs"), status.number("No")), (Some(1), None));
        assert_eq!(status.list("Groups"), [5, 6]);
        assert!(status.id("Gid").is_err());
    }
}
