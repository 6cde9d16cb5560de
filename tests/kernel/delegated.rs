//! An ordinary user on cgroup v1, to whom an administrator has given a directory in some hierarchies, with the two files
//! through which processes come in (cgroups(7), "Cgroups delegation"; cgcreate -a USER -t USER does the same).

use crate::{
    anywhere::{fifty_at_once, storm},
    case::Case,
    facts::hierarchies,
    needs::Need,
    rights::copy_of,
    support::{Ordinary, Run, Started, rcon, run, slow, sometimes},
    victim,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

pub(crate) fn tests() -> Vec<Case> {
    const CPU: Need = Need::V1("cpu");
    const MEMORY: Need = Need::V1("memory");
    const PIDS: Need = Need::V1("pids");
    use Need::Root;
    vec![
        Case::new("delegated::limits_hold", &[Root, CPU, MEMORY, PIDS], limits_hold),
        Case::new("delegated::the_advice_helps", &[Root, PIDS], the_advice_helps),
        Case::new("delegated::runs_are_the_users", &[Root, CPU, PIDS], runs_are_the_users),
        Case::new("delegated::some_hierarchies_suffice", &[Root, CPU, MEMORY, PIDS], some_suffice),
        Case::new("delegated::what_has_become_root_is_told", &[Root, PIDS], become_root_is_told),
        Case::new("delegated::killed_at_any_moment", &[Root, CPU, PIDS], || {
            let given = Delegated::new(None);
            storm(90, &|options| given.rcon(options));
        }),
        Case::new("delegated::fifty_killed_at_once", &[Root, CPU, PIDS], || {
            let given = Delegated::new(None);
            fifty_at_once(&|options| given.rcon(options));
        }),
    ]
}

/// A directory of the user's in each v1 hierarchy, or in those that have one of these controllers. For as long as it is
/// there this process is in it, and with it what it starts.
struct Delegated {
    user: Ordinary,
    /// Our own group, and the user's below it.
    groups: Vec<(PathBuf, PathBuf)>,
}

impl Delegated {
    fn new(only: Option<&[&str]>) -> Self {
        let mut given = Self { user: Ordinary::new(), groups: Vec::new() };
        let wanted = |names: &[String]| {
            let limits = names.iter().any(|name| !name.contains('='));
            limits && only.is_none_or(|only| names.iter().any(|name| only.contains(&name.as_str())))
        };
        for one in hierarchies().iter().filter(|one| !one.v2 && !one.read_only && wanted(&one.controllers)) {
            let Some(own) = &one.own else { continue };
            let dir = own.join(directory());
            fs::create_dir_all(&dir).expect("mkdir");
            given.groups.push((own.clone(), dir.clone()));
            // Nobody can be in a group that has none of these (cpuset(7)).
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(text) = fs::read_to_string(own.join(file)) {
                    fs::write(dir.join(file), text.trim()).expect(file);
                }
            }
            for file in ["", "tasks", "cgroup.procs"] {
                chown(dir.join(file), Some(Ordinary::UID), Some(Ordinary::UID)).expect("chown");
            }
            enter(&dir).expect("entering");
        }
        given
    }

    fn rcon(&self, options: &[&str]) -> Run {
        self.user.rcon(options)
    }

    fn victim(&self, options: &[&str], role: &str) -> Run {
        self.rcon(options).args(["--"]).args(self.user.victim_line(role))
    }
}

/// Not a name that the fixture knows for one of rcon's.
fn directory() -> String {
    format!("lab-user-{}", process::id())
}

fn enter(group: &Path) -> std::io::Result<()> {
    fs::write(group.join("cgroup.procs"), process::id().to_string())
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let deadline = Instant::now() + slow(Duration::from_secs(5));
        for (own, dir) in &self.groups {
            // A directory that we are still in is not removed, which is seen below.
            enter(own).ok();
            // What is below it is looked for, and removed, by the fixture.
            while fs::remove_dir(dir).is_err() {
                if Instant::now() > deadline {
                    assert!(thread::panicking(), "{} stays", dir.display());
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn limits_hold() {
    let given = Delegated::new(None);
    let all = ["--cpu", "30%", "--mem", "64M", "--swap", "0", "--pids", "64"];
    let out = given.victim(&all, "forks:80").run();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("forks ok=63 err=EAGAIN\n", ""), "{out}");
    let out = given.victim(&all, "alloc:200M").run();
    assert_eq!(out.shell_status(), 137, "{out}");
    assert!(out.stderr.contains("rcon: out of memory") && !out.stdout.contains("done"), "{out}");
    // Where this machine is somebody's guest, a moment in which it does not run is CPU time of who is on.
    sometimes(|| {
        let out = given.victim(&all, "burn:3").run();
        let share = 100 * out.number("cpu_ms") / out.number("wall_ms");
        (15..=36).contains(&share).then_some(()).ok_or(format!("{share}% of a CPU, asked 30%: {out}"))
    });
    // What has left its parents and its session is in the groups all the same.
    let out = given.victim(&all, "daemonize:600").run();
    let daemon = out.number("daemon");
    assert!(fs::metadata(format!("/proc/{daemon}")).is_err(), "{daemon} lives: {out}");
}

/// What the refusal says that root can do, done by root.
fn the_advice_helps() {
    let mut given = Delegated { user: Ordinary::new(), groups: Vec::new() };
    let out = given.victim(&["--pids", "64"], "forks:80").run();
    assert_eq!(
        (out.status.code(), out.stdout.as_str(), out.stderr.lines().count()),
        (Some(125), "", 2),
        "{out}"
    );
    assert!(out.stderr.contains("is not ours to write: Permission denied\n"), "{out}");
    let advice = out.stderr.split_once("where root lets you: ").expect("advice").1;
    // The same words where nothing is limited, but the run must have a group.
    let named = given.rcon(&["--name", "x"]).args(["--", "true"]).run();
    assert_eq!(named.stderr, out.stderr.replace("--pids 64: ", ""), "{named}");
    let name = directory();
    let own = hierarchies().iter().find(|one| !one.v2 && one.has("pids")).and_then(|one| one.own.clone());
    let own = own.expect("our group");
    given.groups.push((own.clone(), own.join(&name)));
    let advice = advice.replace("PID", "$PPID").replace("NAME", &name);
    let done = run("sh").args(["-c", &advice.replace("USER", &Ordinary::UID.to_string())]).run();
    assert!(done.status.success(), "{done}");
    let out = given.victim(&["--pids", "64"], "forks:80").run();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("forks ok=63 err=EAGAIN\n", ""), "{out}");
}

/// Seen, changed and ended by the user's own hand.
fn runs_are_the_users() {
    let given = Delegated::new(None);
    let name = crate::groups::own_name("given");
    let line = ["--", "sh", "-c", "echo up; sleep 600; :"];
    let mut started = given.rcon(&["--name", &name, "--pids", "16"]).args(line).start();
    started.wait_for("up");
    let on = |words: &[&str]| given.rcon(words).run();
    let out = on(&["ls", "--format", "{name} {pids-limit}"]);
    assert!(out.stdout.contains(&format!("{name} 16\n")), "{out}");
    let out = on(&["set", &name, "--pids", "20"]);
    assert!(out.status.success(), "{out}");
    let out = on(&["ls", "--format", "{name} {pids-limit}"]);
    assert!(out.stdout.contains(&format!("{name} 20\n")), "{out}");
    let out = on(&["kill", &name]);
    assert!(out.status.success(), "{out}");
    assert_eq!(started.finish().shell_status(), 137);
    let report = given.rcon(&["--report=json", "--pids", "16"]).args(["--", "true"]).run();
    assert!(report.status.success() && report.stderr.contains("\"used_seconds\""), "{report}");
}

/// `cgcreate -g cpu,memory:me`, as it is often done: what a run is held together by is nobody's there but root's.
fn some_suffice() {
    let given = Delegated::new(Some(&["cpu", "memory"]));
    let two = ["--cpu", "30%", "--mem", "64M", "--swap", "0"];
    let out = given.victim(&two, "alloc:200M").run();
    assert_eq!(out.shell_status(), 137, "{out}");
    assert!(out.stderr.contains("rcon: out of memory"), "{out}");
    let out = given.victim(&two, "daemonize:600").run();
    let daemon = out.number("daemon");
    assert!(fs::metadata(format!("/proc/{daemon}")).is_err(), "{daemon} lives: {out}");
    let out = given.rcon(&["--mem", "64M", "--pids", "64"]).args(["--", "echo", "ran"]).run();
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(125), ""), "{out}");
    assert!(out.stderr.contains("pids") && out.stderr.contains("Permission denied"), "{out}");
}

/// On v1 the user cannot end it, with a group of the run's or without; on v2 `cgroup.kill` asks for nothing but the file
/// (see `sudo::within_us`).
fn become_root_is_told() {
    let given = Delegated::new(Some(&["pids"]));
    let (dir, program) = copy_of(&victim::program());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("chmod");
    let line =
        "\"$0\" --victim=root:600 & echo \"pid=$!\"; while [ ! -e \"$1\" ]; do sleep 0.1; done; exit 3";
    let end = dir.path().join("end");
    let runs = [&["--pids", "16", "--report=json"][..], &[]].map(|options| {
        let mut started = given.rcon(options).args(["--", "sh", "-c", line]).args([&program, &end]).start();
        started.wait_for("root");
        started
    });
    fs::write(end, "").expect("write");
    let [with, without] = runs.map(Started::finish);
    for out in [&with, &without] {
        let pid = out.number("pid");
        assert_eq!(out.shell_status(), 3, "{out}");
        assert!(out.stderr.contains(&format!("rcon: process {pid} could not be ended: ")), "{out}");
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("root's own hand");
    }
    assert!(with.stderr.contains("could not be removed: a process in it does not die"), "{with}");
    assert!(with.stderr.contains(&format!("\"process {}\"]", with.number("pid"))), "{with}");
    let out = rcon(["gc", "--kill"]).run();
    assert!(out.status.success(), "{out}");
}
