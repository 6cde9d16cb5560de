//! `rcon doctor`: what works on this machine, by trying it, and for what does not the command that mends it.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;

use clap::{ArgMatches, Command};
use nix::fcntl::OFlag;
use serde_json::{Value, json};

use crate::cli::{self, Request};
use crate::error::{Error, printable};
use crate::host::Host;
use crate::limits::{Controller, LIMITS, Support, Version};
use crate::runs;

/// The run that this is all about.
const RUN: [&str; 6] = ["--cpu", "50%", "--mem", "64M", "--pids", "16"];

/// One limit of each controller. A disk's weight needs no disk to be named.
const TRIALS: [(Controller, &str, &str); 5] = [
    (Controller::Cpu, "--cpu", "50%"),
    (Controller::Memory, "--mem", "64M"),
    (Controller::Pids, "--pids", "16"),
    (Controller::Cpuset, "--mems", "0"),
    (Controller::Io, "--io-weight", "100"),
];

pub(super) fn command() -> Command {
    Command::new("doctor")
        .about("Tell what works on this machine, and how to mend what does not")
        .arg(super::format())
}

pub(super) fn run(matches: &ArgMatches) -> Result<i32, Error> {
    let layout = runs::layout()?;
    let mounts: Vec<String> = layout
        .v1
        .iter()
        .map(|h| (h, h.controllers.join(",")))
        .chain(layout.v2.iter().map(|h| (h, "v2".to_owned())))
        .map(|(h, what)| format!("{what} at {}", printable(h.mount.as_os_str().as_encoded_bytes())))
        .collect();
    let whole = trial(&RUN, None)?;
    let mut checks: Vec<Check> = TRIALS.iter().map(controller).collect::<Result<_, _>>()?;
    checks.extend(features(layout.v2.is_some()));
    let view = View { layout: layout.name(), mounts, whole, checks };
    crate::print(&match matches.get_one::<String>("format").map(String::as_str) {
        Some("json") => format!("{:#}\n", view.json()),
        _ => view.text(),
    })?;
    Ok(i32::from(!view.whole.works))
}

/// Something that works or does not.
struct Check {
    name: String,
    works: bool,
    /// Where and how; or why not.
    says: String,
    /// The command that mends it.
    mend: Option<String>,
    /// The options that depend on it.
    serves: Vec<String>,
}

struct View {
    layout: &'static str,
    mounts: Vec<String>,
    whole: Check,
    checks: Vec<Check>,
}

/// Does the run for real, with this program as its command, and asks the plan where its groups went.
fn trial(options: &[&str], controller: Option<Controller>) -> Result<Check, Error> {
    let mut words: Vec<OsString> = options.iter().map(OsString::from).collect();
    words.extend(["--", "/proc/self/exe", "--version"].map(OsString::from));
    let Request::Run(args) = cli::parse(&words, false)? else { return Err(Error::new("no trial")) };
    let planned = Host::read(Path::new("/"), &args).and_then(|host| crate::plan::plan(&args, &host));
    let (status, said) = alone(words)?;
    let works = status == 0;
    let says = match (&planned, works) {
        (Ok(plan), true) => {
            let place = |group: &crate::plan::GroupPlan| {
                let version = if group.version == Version::V2 { "v2" } else { "v1" };
                format!("{version}, below {}: {}", group.parent.display(), group.why)
            };
            let of = |group: &&crate::plan::GroupPlan| {
                controller.is_none_or(|controller| group.controllers.contains(&controller))
            };
            let mut places: Vec<String> = plan.groups.iter().filter(of).map(place).collect();
            places.dedup();
            places.join("; ")
        }
        _ => said.lines().next().unwrap_or("it ended for no reason that was said").replace("rcon: ", ""),
    };
    let mend = said.lines().find_map(|line| line.strip_prefix("try: ")).map(str::to_owned);
    Ok(Check { name: options.join(" "), works, says, mend, serves: Vec::new() })
}

/// This program with these words, in a process of its own: its status and what it says on standard error.
fn alone(words: Vec<OsString>) -> Result<(i32, String), Error> {
    let cannot = |errno| Error::new("cannot start a trial").errno(errno);
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(cannot)?;
    let mut argv = vec![OsString::from("rcon")];
    argv.extend(words);
    let pid = crate::sys::fork(|| {
        crate::sys::replace_standard_descriptors(writer.as_fd());
        crate::main(argv)
    })
    .map_err(cannot)?;
    drop(writer);
    let said = crate::files::drain(reader.as_fd()).map_err(cannot)?;
    let status = nix::sys::wait::waitpid(pid, None).map_err(cannot)?;
    let status = match status {
        nix::sys::wait::WaitStatus::Exited(_, status) => status,
        _ => 125,
    };
    Ok((status, printable_lines(&said)))
}

fn printable_lines(bytes: &[u8]) -> String {
    let lines: Vec<String> = bytes.split(|byte| *byte == b'\n').map(printable).collect();
    lines.join("\n")
}

fn controller((controller, option, value): &(Controller, &str, &str)) -> Result<Check, Error> {
    let check = trial(&[option, value], Some(*controller))?;
    let v2 = check.works && check.says.starts_with("v2");
    let serves = LIMITS
        .iter()
        .filter(|limit| limit.controller == *controller)
        .filter(|limit| matches!(if v2 { limit.v2 } else { limit.v1 }, Support::Files(_)))
        .map(|limit| format!("--{}", limit.name))
        .collect();
    Ok(Check { name: controller.name().to_owned(), serves, ..check })
}

fn features(v2: bool) -> Vec<Check> {
    let exists = |path: &str| Path::new(path).exists();
    let has = |path: &str, word: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.split_whitespace().any(|one| one == word))
    };
    let check = |name: &str, works: bool, says: &str, mend: &str, serves: &[&str]| Check {
        name: name.to_owned(),
        works,
        says: if works { String::new() } else { says.to_owned() },
        mend: (!works && !mend.is_empty()).then(|| mend.to_owned()),
        serves: serves.iter().map(|&option| option.to_owned()).collect(),
    };
    let landlock = crate::sys::landlock_version();
    vec![
        check(
            "cgroup.kill",
            v2 && crate::sys::kernel_release() >= (5, 14),
            "only cgroup v2 of Linux 5.14 and later kills a whole group in one step; elsewhere a loop does",
            "",
            &[],
        ),
        check(
            "user namespaces",
            crate::sys::can_make_user_namespace(),
            "this user cannot make one",
            if exists("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") {
                "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
            } else {
                "sysctl user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1"
            },
            &["--unshare", "--root (without root's power)"],
        ),
        check(
            "overlay",
            has("/proc/filesystems", "overlay"),
            "the file system is not loaded",
            "modprobe overlay",
            &["--ephemeral"],
        ),
        check(
            "seccomp",
            exists("/proc/sys/kernel/seccomp/actions_avail"),
            "the kernel was built without it",
            "",
            &[],
        ),
        Check {
            says: landlock.map_or_else(
                || "not in the kernel's list of security modules".to_owned(),
                |version| format!("ABI {version}"),
            ),
            ..check(
                "Landlock",
                landlock.is_some(),
                "",
                "boot with lsm=landlock,... on the kernel's command line",
                &[],
            )
        },
        check(
            "swap",
            std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1),
            "none is on: --swap limits nothing here",
            "swapon FILE",
            &["--swap"],
        ),
        check(
            "PSI",
            exists("/proc/pressure/cpu"),
            "the kernel does not measure pressure",
            "boot with psi=1 on the kernel's command line",
            &["show"],
        ),
        check(
            "systemd",
            exists("/run/systemd/system"),
            "it does not run here: groups are made without it",
            "",
            &[],
        ),
    ]
}

impl View {
    fn text(&self) -> String {
        let mut out = format!("kernel      {}\n", crate::sys::kernel_name());
        out.push_str(&format!("cgroups     {} ({})\n", self.layout, self.mounts.join("; ")));
        let verdict = if self.whole.works { "works" } else { "does not work" };
        out.push_str(&format!("\nrcon {} -- true   {verdict}\n", self.whole.name));
        if !self.whole.works {
            out.push_str(&format!("  {}\n", self.whole.says));
            out.extend(self.whole.mend.iter().map(|mend| format!("  try: {mend}\n")));
        }
        out.push('\n');
        for check in &self.checks {
            let mark = match (check.works, &check.mend) {
                (true, _) => '✓',
                (false, Some(_)) => '✗',
                // Nothing is amiss, or nothing can be done.
                (false, None) => '-',
            };
            let serves = if check.works { check.serves.join(" ") } else { String::new() };
            let says = if check.says.is_empty() { &serves } else { &check.says };
            out.push_str(format!("{mark} {:<16} {says}", check.name).trim_end());
            out.push('\n');
            if !check.says.is_empty() && !serves.is_empty() {
                out.push_str(&format!("{:<18} {serves}\n", ""));
            }
            out.extend(check.mend.iter().map(|mend| format!("{:<18} try: {mend}\n", "")));
        }
        out
    }

    fn json(&self) -> Value {
        let check = |check: &Check| {
            json!({
                "name": check.name, "works": check.works, "says": check.says,
                "try": check.mend, "serves": check.serves,
            })
        };
        json!({
            "schema_version": 1,
            "kernel": crate::sys::kernel_name(),
            "layout": self.layout,
            "mounts": self.mounts,
            "run": check(&self.whole),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
        })
    }
}
