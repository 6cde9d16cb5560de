//! Wherever rcon runs and whatever becomes of it: nothing of a run is left when it is over.

use crate::{
    case::Case,
    groups::until,
    needs::Need,
    support::{Run, Started, rcon, run, slow},
};
use nix::{
    sys::signal::{Signal, kill, killpg},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("anywhere::killed_front", &[Need::Controller("memory")], killed_front),
        Case::new("anywhere::killed_front_without_a_group", &[], killed_front_without_a_group),
        Case::new("anywhere::killed_keeper", &[Need::Controller("memory")], killed_keeper),
        Case::new("anywhere::killed_keeper_without_a_group", &[], killed_keeper_without_a_group),
        Case::new("anywhere::killed_process_group", &[Need::Controller("pids")], killed_process_group),
        Case::new("anywhere::kept_after_death", &[Need::Controller("pids")], kept_after_death),
        Case::new("anywhere::killed_at_any_moment", &[Need::Controller("pids")], || storm(90, &rcon_with)),
        Case::new("anywhere::killed_a_thousand_times", &[Need::Controller("pids"), Need::Lab], || {
            storm(1000, &rcon_with)
        }),
        Case::new("anywhere::fifty_killed_at_once", &[Need::Controller("pids")], || {
            fifty_at_once(&rcon_with)
        }),
        Case::new("anywhere::the_keeper_is_no_job_of_the_callers", &[], the_keeper_is_no_job_of_the_callers),
        Case::new("anywhere::within_itself", &[Need::Controller("pids")], within_itself),
    ]
}

/// `rcon` with these options, as whom and where a case wants it.
type Rcon<'a> = &'a dyn Fn(&[&str]) -> Run;

fn rcon_with(options: &[&str]) -> Run {
    rcon(options)
}

/// What a run starts: a daemon that has left its session and its parents, and a process that stays.
fn nest(run: Run, tag: &str) -> Run {
    let line = format!("(setsid sleep {tag} >/dev/null 2>&1 &); echo up; sleep {tag}; :");
    run.args(["--", "sh", "-c", &line])
}

/// Numbers that no other process sleeps for.
pub(crate) fn tag(number: u32) -> String {
    format!("{}", 100_000_000 + u64::from(std::process::id()) * 10_000 + u64::from(number))
}

/// Processes whose command line has this word.
pub(crate) fn processes(word: &str) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|part| part == word.as_bytes()))
    };
    pids.filter(has).map(Pid::from_raw).collect()
}

/// Groups of the run whose front is this process.
fn groups(front: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(&format!("rcon-{front}-")) {
                    found.push(entry.path());
                }
                dirs.push(entry.path());
            }
        }
    }
    found
}

/// Within a second nothing is left: no process with this word on its command line, no group of this front's. The second
/// is one of our own CPU time, of which we use all that we get: where others keep the machine busy, whoever cleans up
/// gets no more of it than we do.
pub(crate) fn gone(front: u32, word: &str) {
    let used = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock"));
    let (start, before) = (Instant::now(), used());
    loop {
        let left = processes(word);
        let groups = groups(front);
        if left.is_empty() && groups.is_empty() {
            return;
        }
        assert!(
            used() - before < slow(Duration::from_secs(1)),
            "{:?} after: processes {left:?}, groups {groups:?}",
            start.elapsed()
        );
    }
}

pub(crate) fn keeper(front: u32) -> Option<Pid> {
    let text = fs::read_to_string(format!("/proc/{front}/task/{front}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
}

fn pid_of(started: &Started) -> Pid {
    Pid::from_raw(i32::try_from(started.child.id()).expect("a process id"))
}

fn end(run: Run, word: &str, whom: fn(&Started) -> Pid) -> crate::support::Output {
    let mut started = run.start();
    started.wait_for("up");
    let front = started.child.id();
    let deadline = Instant::now() + slow(Duration::from_secs(10));
    while processes(word).len() < 2 {
        assert!(Instant::now() < deadline, "the daemon and the command sleep");
        thread::sleep(Duration::from_millis(2));
    }
    kill(whom(&started), Signal::SIGKILL).expect("kill");
    let out = started.finish();
    assert_eq!(out.shell_status(), 137, "{out}");
    gone(front, word);
    out
}

fn killed_front() {
    end(nest(rcon_with(&["--mem", "64M", "--pids", "16"]), &tag(1)), &tag(1), pid_of);
}

fn killed_front_without_a_group() {
    end(nest(rcon_with(&[]), &tag(2)), &tag(2), pid_of);
}

fn keeper_of(started: &Started) -> Pid {
    keeper(started.child.id()).expect("a keeper")
}

fn killed_keeper() {
    let out = end(nest(rcon_with(&["--mem", "64M", "--pids", "16"]), &tag(3)), &tag(3), keeper_of);
    assert!(out.stderr.contains("was killed"), "{out}");
}

fn killed_keeper_without_a_group() {
    end(nest(rcon_with(&[]), &tag(4)), &tag(4), keeper_of);
}

/// `kill -9 -PGRP`, as CI runners do it.
fn killed_process_group() {
    let mut run = nest(rcon_with(&["--pids", "16"]), &tag(5));
    run.command.process_group(0);
    let mut started = run.start();
    started.wait_for("up");
    killpg(pid_of(&started), Signal::SIGKILL).expect("killpg");
    let front = started.child.id();
    started.finish();
    gone(front, &tag(5));
}

fn kept_after_death() {
    let tag = tag(7);
    let line = format!("echo up; sleep 0.5; echo on; sleep {tag} & wait");
    let run = rcon(["--pids", "16", "--on-wrapper-death", "keep", "--", "sh", "-c", &line]);
    let mut started = run.start();
    started.wait_for("up");
    let front = started.child.id();
    kill(pid_of(&started), Signal::SIGKILL).expect("kill");
    started.wait_for("on");
    assert!(!groups(front).is_empty(), "the limits still hold");
    kill(until("it does not go on", || processes(&tag).pop()), Signal::SIGTERM).expect("kill");
    started.finish();
    let deadline = Instant::now() + slow(Duration::from_secs(5));
    while !groups(front).is_empty() {
        assert!(Instant::now() < deadline, "{:?} stay", groups(front));
        thread::sleep(Duration::from_millis(5));
    }
}

/// Kills the front, the keeper or the process group at a moment of a run's life that `number` decides.
fn kill_at(number: u32, rcon: Rcon) {
    let word = tag(100 + number);
    let options: &[&str] = if number.is_multiple_of(4) { &[] } else { &["--pids", "16", "--cpu", "50%"] };
    let mut run = nest(rcon(options), &word);
    run.command.process_group(0);
    let started = run.start();
    let front = started.child.id();
    // Golden ratio: any number of steps covers the whole span evenly.
    let share = (f64::from(number) * 0.618_033_988_75).fract();
    let moment = Instant::now() + slow(Duration::from_millis(8)).mul_f64(share);
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
    let pid = pid_of(&started);
    // Whoever is not there any more needs no signal; a keeper that is not there yet leaves its front to be killed.
    match (number % 3, keeper(front)) {
        (0, Some(keeper)) => kill(keeper, Signal::SIGKILL),
        (0 | 1, _) => kill(pid, Signal::SIGKILL),
        _ => killpg(pid, Signal::SIGKILL),
    }
    .ok();
    started.finish();
    gone(front, &word);
}

/// So many runs, each killed at another moment of its life.
pub(crate) fn storm(kills: u32, rcon: Rcon) {
    (0..kills).for_each(|number| kill_at(number, rcon));
}

pub(crate) fn fifty_at_once(rcon: Rcon) {
    let word = tag(6);
    let mut all: Vec<Started> = (0..50).map(|_| nest(rcon(&["--pids", "16"]), &word).start()).collect();
    all.iter_mut().for_each(|one| one.wait_for("up"));
    let fronts: BTreeSet<u32> = all.iter().map(|one| one.child.id()).collect();
    for one in &all {
        kill(pid_of(one), Signal::SIGKILL).expect("kill");
    }
    all.into_iter().for_each(|one| drop(one.finish()));
    fronts.iter().for_each(|front| gone(*front, &word));
}

/// The command is in the caller's process group; the keeper is not, and holds up no reader of a pipe. A group of
/// another pid namespace is 0 here, and the keeper stays in it.
fn the_keeper_is_no_job_of_the_callers() {
    let mut started =
        rcon(["--", "sh", "-c", "read -r a b c d e rest </proc/self/stat; echo group $e up; sleep 600"])
            .start();
    started.wait_for("up");
    let group = |pid: Pid| nix::unistd::getpgid(Some(pid)).expect("getpgid");
    let (front, keeper) = (pid_of(&started), keeper_of(&started));
    assert_eq!(started.said().trim(), format!("group {} up", group(front)));
    let apart = if group(front) == Pid::from_raw(0) { group(front) } else { keeper };
    assert_eq!(group(keeper), apart);
    assert_eq!(nix::unistd::getsid(Some(keeper)), nix::unistd::getsid(Some(front)));
    kill(front, Signal::SIGTERM).expect("kill");
    assert_eq!(started.finish().shell_status(), 143);
}

/// Each within the limits of the one around it.
fn within_itself() {
    let rcon = crate::support::RCON;
    let out = run(rcon)
        .args(["--pids", "40", "--", rcon, "--pids", "30", "--", rcon, "--pids", "12", "--"])
        .victim("forks:40")
        .run();
    assert_eq!(out.stdout, "forks ok=11 err=EAGAIN\n", "{out}");
    let out = run(rcon)
        .args(["--pids", "12", "--", rcon, "--pids", "30", "--", rcon, "--pids", "40", "--"])
        .victim("forks:40")
        .run();
    // The outermost group holds two fronts, two keepers and the victim itself.
    assert_eq!(out.stdout, "forks ok=7 err=EAGAIN\n", "{out}");
}
