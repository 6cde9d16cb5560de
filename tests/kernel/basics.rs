//! The first promises: the status is the command's, and each of the main limits bites.

use crate::{
    case::Case,
    needs::Need,
    support::{rcon, victim},
};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("basics::status_passes_through", &[], status_passes_through),
        Case::new("basics::signal_passes_through", &[], signal_passes_through),
        Case::new("basics::streams_are_the_commands", &[], streams_are_the_commands),
        Case::new("basics::pids_refuses_a_fork", &[Need::Controller("pids")], pids_refuses_a_fork),
        Case::new(
            "basics::mem_kills_who_takes_more",
            &[Need::Controller("memory")],
            mem_kills_who_takes_more,
        ),
        Case::new("basics::cpu_throttles", &[Need::Controller("cpu")], cpu_throttles),
    ]
}

fn status_passes_through() {
    for status in [0, 1, 37, 125, 255] {
        let out = rcon(["--"]).victim(&format!("exit:{status}")).run();
        assert_eq!(out.status.code(), Some(status), "{out}");
        assert_eq!(out.stderr, "", "{out}");
    }
}

fn signal_passes_through() {
    for signal in [9, 15] {
        let out = rcon(["--"]).victim(&format!("raise:{signal}")).run();
        assert_eq!(out.shell_status(), 128 + signal, "{out}");
        assert_eq!(out.status.code(), None, "rcon must die of the signal itself: {out}");
    }
}

fn streams_are_the_commands() {
    let out = rcon(["--", "sh", "-c", "cat; echo said >&2"]).input("given").run();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("given", "said\n"), "{out}");
}

fn pids_refuses_a_fork() {
    let free = victim("forks:40").run();
    assert_eq!(free.stdout, "forks ok=40 err=none\n", "without a limit: {free}");
    let out = rcon(["--pids", "16", "--"]).victim("forks:40").run();
    // the victim itself is the sixteenth
    assert_eq!(out.stdout, "forks ok=15 err=EAGAIN\n", "{out}");
}

fn mem_kills_who_takes_more() {
    let lives = rcon(["--mem", "64M", "--swap", "0", "--"]).victim("alloc:32M").run();
    assert_eq!((lives.status.code(), lives.stdout.as_str()), (Some(0), "alloc done\n"), "{lives}");
    let dies = rcon(["--mem", "64M", "--swap", "0", "--"]).victim("alloc:200M").run();
    assert_eq!(dies.shell_status(), 137, "{dies}");
    assert!(dies.stderr.contains("rcon: out of memory"), "{dies}");
    assert!(!dies.stdout.contains("done"), "{dies}");
}

fn cpu_throttles() {
    let out = rcon(["--cpu", "20%", "--"]).victim("burn:3").run();
    let share = 100 * out.number("cpu_ms") / out.number("wall_ms");
    assert!((15..=25).contains(&share), "{share}% of a CPU, asked 20%: {out}");
}
