//! Nothing is left behind: after many runs, at once, and after the wrapper's own violent end. The fixture of every
//! case compares groups, mounts and processes; here is what makes it hard.

use crate::{
    case::Case,
    groups::{children, command_of, group_of},
    needs::Need,
    support::{RCON, Started, rcon, run, slow, victim_line},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    env, fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

pub(crate) fn tests() -> Vec<Case> {
    const PIDS: &[Need] = &[Need::Controller("pids")];
    vec![
        Case::new("cleanup::three_hundred_in_a_row", PIDS, three_hundred_in_a_row),
        Case::new("cleanup::a_hundred_at_once", PIDS, a_hundred_at_once),
        Case::new("cleanup::a_daemon_does_not_survive", PIDS, a_daemon_does_not_survive),
        Case::new("cleanup::a_held_stdout_does_not_hang", PIDS, a_held_stdout_does_not_hang),
        Case::new("cleanup::wait_all_waits_for_the_group", PIDS, wait_all_waits_for_the_group),
        Case::new("cleanup::groups_within_go_too", &[Need::V1("pids"), Need::Root], groups_within_go_too),
        Case::new("cleanup::the_wrapper_killed_at_any_moment", PIDS, the_wrapper_killed_at_any_moment),
        Case::new("cleanup::a_fork_bomb", &[Need::Controller("pids"), Need::Lab], a_fork_bomb),
        Case::new(
            "cleanup::a_bomb_without_a_limit",
            &[Need::Controller("cpu"), Need::Lab],
            a_bomb_without_a_limit,
        ),
        Case::new(
            "cleanup::a_bomb_without_the_pids_hierarchy",
            &[Need::V1("cpu"), Need::V1("pids"), Need::V1("freezer"), Need::Root, Need::Lab],
            a_bomb_without_the_pids_hierarchy,
        ),
        Case::new(
            "cleanup::a_controller_of_others_stays",
            &[Need::V2("io"), Need::Root, Need::Lab],
            a_controller_of_others_stays,
        ),
        Case::new("cleanup::a_stopped_keeper_goes_on", &[], a_stopped_keeper_goes_on),
        Case::new("cleanup::signals_reach_the_command", PIDS, signals_reach_the_command),
        Case::new("cleanup::closed_streams", PIDS, closed_streams),
    ]
}

fn three_hundred_in_a_row() {
    for number in 0..300 {
        let wanted = number % 256;
        let status = Command::new(RCON)
            .args(["--pids", "64", "--", "sh", "-c", &format!("exit {wanted}")])
            .stdin(Stdio::null())
            .status()
            .expect("rcon");
        assert_eq!(status.code(), Some(wanted), "run {number}");
    }
}

fn a_hundred_at_once() {
    let started: Vec<_> = (0..100)
        .map(|number| {
            let line = format!("sleep 0.5; exit {number}");
            rcon(["--pids", "64", "--", "sh", "-c", &line]).limit(Duration::from_secs(120)).start()
        })
        .collect();
    for (number, run) in started.into_iter().enumerate() {
        let out = run.finish();
        assert_eq!((out.status.code(), out.stderr.as_str()), (i32::try_from(number).ok(), ""), "{out}");
    }
}

fn a_daemon_does_not_survive() {
    let out = rcon(["--pids", "64", "--"]).victim("daemonize:600").run();
    let daemon = out.number("daemon");
    assert!(fs::metadata(format!("/proc/{daemon}")).is_err(), "{daemon} lives: {out}");
    assert_eq!(out.status.code(), Some(0), "{out}");
}

fn a_held_stdout_does_not_hang() {
    let [program, role] = victim_line("sleep:600");
    let start = Instant::now();
    // A pipe this time: it ends only when nobody holds it any more.
    let out = Command::new(RCON)
        .args(["--pids", "64", "--", "sh", "-c", "\"$0\" \"$1\" & echo started"])
        .args([program, role])
        .stdin(Stdio::null())
        .output()
        .expect("rcon");
    assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(0), &b"started\n"[..]));
    assert!(start.elapsed() < slow(Duration::from_secs(30)), "it hung");
}

fn wait_all_waits_for_the_group() {
    let line = "(setsid sh -c 'sleep 0.4; echo later' &) ; exit 3";
    let out = rcon(["--pids", "64", "--wait-all", "--", "sh", "-c", line]).run();
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(3), "later\n"), "{out}");
    // Signals reach those that are left, too.
    let [program, role] = victim_line("sleep:600");
    let mut run = rcon(["--pids", "64", "--wait-all", "--", "sh", "-c", "\"$0\" \"$1\" & echo ready"]);
    run = run.args([&program, &role]);
    let mut run = run.start();
    run.wait_for("ready");
    crate::groups::until("the shell has not ended", || {
        let left = crate::groups::keeper_of(run.child.id()).map(children).unwrap_or_default();
        // The shell's command line has the program too, at its end.
        let adopted = |pid: &u32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(program.as_bytes()))
        };
        (left.len() == 1 && left.iter().all(adopted)).then_some(())
    });
    crate::cpu::end(&mut run.child);
    let out = run.finish();
    assert_eq!(out.status.code(), Some(0), "the command's own status: {out}");
}

fn groups_within_go_too() {
    let mut run = rcon(["--pids", "64", "--"]).victim("sleep:600").start();
    let group = group_of(command_of(run.child.id()), "pids");
    fs::create_dir_all(group.join("inner/most")).expect("mkdir");
    let [program, role] = victim_line("sleep:600");
    let mut inner = Command::new(program).arg(role).stdin(Stdio::null()).spawn().expect("victim");
    fs::write(group.join("inner/most/cgroup.procs"), inner.id().to_string()).expect("move");
    crate::cpu::end(&mut run.child);
    drop(run.finish());
    let ended = inner.wait().expect("wait");
    assert_eq!(ended.code(), None, "who is in the group ends with it: {ended:?}");
}

/// Numbers that nobody chose, and that can be had again: RCON_SEED=N.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = env::var("RCON_SEED").ok().and_then(|text| text.parse().ok());
        let now = || {
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64)
        };
        Self(given.unwrap_or_else(now) | 1)
    }

    /// xorshift64 (Marsaglia, 2003).
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn the_wrapper_killed_at_any_moment() {
    let mut random = Random::new();
    let seed = random.0;
    // How long a whole run takes decides how far the moments spread.
    let start = Instant::now();
    rcon(["--pids", "64", "--cpu-weight", "50", "--", "true"]).run();
    let whole = start.elapsed().as_micros() as u64;
    let own = process::id();
    for number in 0..50 {
        let args = ["--pids", "64", "--"];
        let mut child = Command::new(RCON)
            .args(args)
            .args(victim_line("sleep:600"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rcon");
        thread::sleep(Duration::from_micros(random.below(whole + whole / 2)));
        child.kill().expect("kill");
        child.wait().expect("wait");
        // Whoever runs on does so inside: orphans are ours, as the fixture made us a subreaper.
        for orphan in children(own) {
            let line = fs::read(format!("/proc/{orphan}/cmdline")).unwrap_or_default();
            if line.ends_with(b"sleep:600\0") && !line.starts_with(RCON.as_bytes()) {
                let group = fs::read_to_string(format!("/proc/{orphan}/cgroup")).unwrap_or_default();
                // Empty: it has ended meanwhile.
                assert!(
                    group.is_empty() || group.contains("/rcon-") || is_dead(orphan),
                    "run {number} with RCON_SEED={seed}: {orphan} runs without limits: {group}"
                );
            }
        }
    }
    let out = rcon(["gc", "--kill"]).run();
    assert!(out.status.success(), "RCON_SEED={seed}: {out}");
}

fn is_dead(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

fn tasks(group: &Path) -> usize {
    fs::read_to_string(group.join("cgroup.procs")).expect("it runs").lines().count()
}

fn a_fork_bomb() {
    let mut run = rcon(["--pids", "16", "--"]).victim("bomb").start();
    let group = group_of(command_of(run.child.id()), "pids");
    // Not pids.current: a fork that is about to be refused is counted there for a moment.
    crate::groups::until("the bomb never reached the limit", || (tasks(&group) >= 16).then_some(()));
    for _ in 0..20 {
        let tasks = tasks(&group);
        assert!(tasks <= 16, "{tasks} tasks");
        thread::sleep(Duration::from_millis(20));
    }
    crate::cpu::end(&mut run.child);
    let out = run.finish();
    assert_eq!(out.shell_status(), 128 + 15, "{out}");
}

/// A shell that waits beside it is the command: who spawns blocks signals for that long, and would die of the SIGKILL
/// if that is sent right after the SIGTERM.
const BOMB: &str = "\"$0\" \"$@\" & wait";

/// It goes off by number, and has no time to end by itself (`--kill-after 0`): memory has an end, and how far a bomb
/// gets in a time is up to the machine.
fn end_bomb(mut run: Started, group: &Path) {
    crate::groups::until("the bomb has not gone off", || (tasks(group) >= 50).then_some(()));
    crate::cpu::end(&mut run.child);
    let out = run.finish();
    assert_eq!(out.shell_status(), 128 + 15, "{out}");
}

/// Nothing holds this one but the speed of our killing.
fn a_bomb_without_a_limit() {
    let args = ["--cpu", "50%", "--kill-after", "0", "--", "sh", "-c", BOMB];
    let run = rcon(args).args(victim_line("bomb")).start();
    let group = group_of(command_of(run.child.id()), "cpu");
    end_bomb(run, &group);
}

/// Its limit of 0 would forbid new ones. Without it all are frozen while they are killed, and looked for again at once.
fn a_bomb_without_the_pids_hierarchy() {
    let inner = format!("{RCON} --cpu 50% --kill-after 0 -- sh -c '{BOMB}' \"$0\" \"$@\"");
    let script = format!("umount /sys/fs/cgroup/pids && exec {inner}");
    // The outer one must not end the inner one's two processes at once because that takes its time with the bomb. Its
    // limit, of which the inner one cannot know, is for the machine's memory.
    let outer = ["--kill-after", "1h", "--pids", "1000", "--unshare", "mount", "--", "sh", "-c", &script];
    let run = rcon(outer).args(victim_line("bomb")).start();
    let is_rcon =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "rcon\n");
    let front = crate::groups::until("the second rcon never came", || {
        children(crate::groups::keeper_of(run.child.id())?).into_iter().find(is_rcon)
    });
    let command = command_of(front);
    let (group, pids) = (group_of(command, "freezer"), group_of(command, "pids"));
    let name = group.file_name().and_then(|name| name.to_str()).filter(|name| name.starts_with("rcon-"));
    let name = name.unwrap_or_else(|| panic!("no freezer holds it: {}", group.display()));
    assert!(!pids.display().to_string().contains(name), "{}", pids.display());
    end_bomb(run, &group);
}

/// A file that this kernel lacks (io.bfq.weight, without that scheduler) is not had by passing its controller on, and
/// who has done that keeps it.
fn a_controller_of_others_stays() {
    let parent = Path::new("/sys/fs/cgroup").join(format!("others.{}", process::id()));
    let root = "/sys/fs/cgroup/cgroup.subtree_control";
    let was_on = fs::read_to_string(root).expect("read").split_whitespace().any(|name| name == "io");
    fs::write(root, "+io").expect("passed on");
    fs::create_dir(&parent).expect("mkdir");
    let file = parent.join("cgroup.subtree_control");
    fs::write(&file, "+io").expect("passed on");
    let place = format!("/others.{}", process::id());
    let out = rcon(["--cgroup-parent", &place, "--io-weight", "10", "--", "true"]).run();
    let left = fs::read_to_string(&file);
    fs::remove_dir(&parent).expect("nothing is in it");
    if !was_on {
        fs::write(root, "-io").expect("taken back");
    }
    assert_eq!(left.expect("read"), "io\n", "{out}");
}

/// The command is the keeper's child, and may stop it; the limit of time holds all the same.
fn a_stopped_keeper_goes_on() {
    let script = "kill -STOP $PPID; exec sleep 12345";
    let out = rcon(["--timeout", "1s", "--", "sh", "-c", script]).limit(Duration::from_secs(60)).run();
    assert_eq!(out.shell_status(), 124, "{out}");
}

fn signals_reach_the_command() {
    let signals = [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGQUIT, "QUIT"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGUSR2, "USR2"),
        (Signal::SIGWINCH, "WINCH"),
    ];
    for (signal, name) in signals {
        let line = format!("trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done");
        let mut run = rcon(["--pids", "64", "--", "sh", "-c", &line]).start();
        run.wait_for("ready");
        kill(Pid::from_raw(run.child.id() as i32), signal).expect("kill");
        let out = run.finish();
        assert_eq!(
            (out.status.code(), out.stdout.as_str()),
            (Some(5), format!("ready\ngot {name}\n").as_str()),
            "{out}"
        );
    }
}

/// Nothing that we open may land on 0, 1 or 2: a limit file as the command's stdout would be a catastrophe.
fn closed_streams() {
    let line = format!(
        "exec 5>&1 <&- >&- 2>&-; {RCON} --pids 64 -- \
         sh -c 'for fd in 0 1 2; do [ -e /proc/self/fd/$fd ]; echo $fd $? >&5; done; exit 9'; echo $? >&5"
    );
    let out = run("sh").args(["-c", &line]).run();
    assert_eq!(out.stdout, "0 1\n1 1\n2 1\n9\n", "{out}");
}
