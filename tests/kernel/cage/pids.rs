//! Pid namespaces and their init.

use super::{eventually, holding};
use crate::groups::{children, init_of};
use crate::jobs::state;
use crate::support::{RCON, rcon, run, slow};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{os::unix::process::CommandExt, thread, time::Duration};

pub(super) fn pid_statuses_are_exact() {
    for (script, status) in
        [("exit 0", 0), ("exit 42", 42), ("exit 125", 125), ("kill -9 $$", 137), ("kill -15 $$", 143)]
    {
        for options in
            [&["--unshare", "pid"][..], &["--unshare", "pid", "--unshare", "mount,uts,ipc,net"][..]]
        {
            let out = rcon(options).args(["--", "sh", "-c", script]).run();
            assert_eq!(out.shell_status(), status, "{out}");
            assert_eq!(out.stderr, "", "{out}");
        }
    }
    let out = rcon(["--unshare", "pid", "--", "/nonexistent"]).run();
    assert_eq!(out.shell_status(), 127, "{out}");
}

pub(super) fn pid_shows_its_own_proc() {
    let out = rcon(["--unshare", "pid", "--", "sh", "-c", "echo $$; ls -d /proc/[0-9]*"]).run();
    // the init and the shell, which has not started ls yet when it lists
    assert_eq!(out.stdout, "2\n/proc/1\n/proc/2\n", "{out}");
}

pub(super) fn init_reaps() {
    // A grandchild whose parent is gone ends: nobody but the init can reap it. Seen until it is: it may be about to be.
    let script = "(sleep 0.1 & exec true) & (sleep 0.1 & exec true) & wait; sleep 0.5; \
                  for try in 1 2 3 4 5 6 7 8 9; do \
                  left=$(grep -c '^State:.Z' /proc/[0-9]*/status | grep -v ':0$') || break; sleep 0.5; done; \
                  echo ${left}end";
    let out = rcon(["--unshare", "pid", "--", "sh", "-c", script]).run();
    assert_eq!(out.stdout, "end\n", "zombies: {out}");
}

pub(super) fn init_passes_signals_on() {
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGHUP, "HUP"), (Signal::SIGUSR1, "USR1")] {
        let script =
            format!("trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.05; done");
        let mut run = rcon(["--unshare", "pid", "--", "sh", "-c", &script]).start();
        run.wait_for("ready");
        kill(Pid::from_raw(run.child.id() as i32), signal).expect("kill");
        let out = run.finish();
        assert_eq!(
            (out.shell_status(), out.stdout.as_str()),
            (7, format!("ready\ngot {name}\n").as_str()),
            "{out}"
        );
    }
    // What it sends to its own process group it gets once, though we are in that group, too.
    for options in [&[][..], &["--unshare", "pid"]] {
        let mut run = rcon(options);
        run.command.process_group(0);
        let out = run.args(["--"]).victim("kill-group").run();
        assert_eq!(out.stdout, "got 1\n", "{options:?}: {out}");
    }
    let mut run = rcon(["--unshare", "pid", "--", "sh", "-c", "echo ready; exec sleep 100"]).start();
    run.wait_for("ready");
    kill(Pid::from_raw(run.child.id() as i32), Signal::SIGTERM).expect("kill");
    assert_eq!(run.finish().shell_status(), 128 + 15);
}

pub(super) fn as_init_is_pid_one() {
    let out = rcon(["--unshare", "pid", "--as-init", "--", "sh", "-c", "echo $$; exit 9"]).run();
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("1\n", 9), "{out}");
    let out = rcon(["--as-init", "--", "true"]).run();
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(out.stderr.contains("--as-init") && out.stderr.contains("--unshare pid"), "{out}");
}

pub(super) fn dies_with_the_wrapper() {
    let mark = format!("cage-mark-{}", std::process::id());
    // A change of user takes the wish to die with the parent away (prctl(2)).
    for extra in [
        &["--unshare", "pid"][..],
        &["--unshare", "pid", "--as-init"],
        &["--unshare", "pid", "--as-init", "--user", "65534:65534", "--allow", "kill"],
    ] {
        for both in [false, true] {
            // One that left its session and its parents: only the namespace's end reaches it.
            let script = format!(
                "setsid sh -c 'sleep 300 # {mark}' & setsid sh -c 'trap : TERM HUP; sleep 300; : {mark}' & echo ready; wait"
            );
            let mut run = rcon(extra).args(["--", "sh", "-c", &script]).start();
            run.wait_for("ready");
            eventually("they run", || holding(&mark).len() >= 3);
            if both {
                crate::groups::kill_both(run.child.id());
            } else {
                run.child.kill().expect("SIGKILL");
            }
            drop(run.finish());
            eventually("the whole namespace dies with rcon", || holding(&mark).is_empty());
        }
    }
}

/// The init is all that stands between rcon and a command that leaves nothing; what has to be removed or watched has
/// a keeper.
pub(super) fn an_init_is_keeper_enough() {
    let root = super::Busybox::new();
    let place = tempfile::tempdir().expect("temporary directory");
    let (root, writes) = (root.path().display(), format!("--ephemeral={}", place.path().display()));
    let caged = [
        (vec!["--unshare".to_owned(), "pid".to_owned()], true),
        (vec![format!("--root={root}"), "--proc".to_owned()], true),
        (vec!["--unshare=pid".to_owned(), "--timeout=1h".to_owned()], false),
        (vec!["--unshare=pid".to_owned(), "--wait-all".to_owned()], false),
        (vec!["--unshare=pid".to_owned(), "--on-wrapper-death=keep".to_owned()], false),
        (vec![format!("--root={root}"), "--proc".to_owned(), writes], false),
    ];
    for (options, alone) in caged {
        let mut run = rcon(&options).args(["--", "sh", "-c", "echo ready; exec sleep 300"]).start();
        run.wait_for("ready");
        let init = init_of(run.child.id());
        assert_eq!(children(run.child.id()).contains(&init), alone, "{options:?}");
        // `pkill rcon` means us alone.
        let name = std::fs::read_to_string(format!("/proc/{init}/comm")).expect("comm");
        assert_eq!(name, "keeper\n", "{options:?}");
        kill(Pid::from_raw(init as i32), Signal::SIGKILL).expect("kill");
        let out = run.finish();
        assert_eq!(out.shell_status(), 137, "{out}");
    }
}

/// The command's first instruction finds an init whose memory and descriptors it cannot have, and which `pkill rcon`
/// does not mean: seen as the order of calls, because a command that looks may look too late.
pub(super) fn an_init_hides_before_it_has_a_command() {
    // The second one's steps are not for a borrowed memory.
    for options in [&["--unshare", "pid"][..], &["--unshare", "pid", "--user", "65534:65534"]] {
        let log = tempfile::NamedTempFile::new().expect("temporary file");
        let place = log.path().display().to_string();
        let trace = ["-f", "-qq", "-e", "trace=prctl,execve", "-o", &place, RCON];
        let out = run("strace").args(trace).args(options).args(["--", "true"]).run();
        assert_eq!(out.shell_status(), 0, "{out}");
        let log = std::fs::read_to_string(log.path()).expect("log");
        let at = |call: &str| log.lines().position(|line| line.contains(call));
        let (hidden, named) =
            (at("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE"), at("prctl(PR_SET_NAME, \"keeper\""));
        let command = log.lines().position(|line| line.contains("execve(") && line.contains("[\"true\"]"));
        assert!(hidden.is_some() && hidden < command && named.is_some() && named < command, "{log}");
    }
}

pub(super) fn wait_all_waits_inside() {
    let out =
        rcon(["--wait-all", "--unshare", "pid", "--", "sh", "-c", "(sleep 0.3; echo late) & exit 3"]).run();
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("late\n", 3), "{out}");
    let out = rcon(["--unshare", "pid", "--", "sh", "-c", "(sleep 60; echo late) & exit 3"]).run();
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("", 3), "{out}");
}

pub(super) fn stops_and_goes_on() {
    // Without a terminal nobody would wake rcon: the command alone is stopped, and woken from outside.
    let mut run = rcon(["--unshare", "pid", "--", "sh", "-c", "echo ready; kill -STOP $$; echo on"]).start();
    run.wait_for("ready");
    let command = Pid::from_raw(children(init_of(run.child.id()))[0] as i32);
    eventually("it stops", || state(command) == 'T');
    thread::sleep(slow(Duration::from_millis(100)));
    assert_eq!((state(command), run.said().as_str()), ('T', "ready\n"), "it stays stopped");
    kill(Pid::from_raw(run.child.id() as i32), Signal::SIGCONT).expect("kill");
    let out = run.finish();
    assert_eq!((out.stdout.as_str(), out.shell_status()), ("ready\non\n", 0), "{out}");
}
