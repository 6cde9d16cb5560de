//! `--group`: several runs, one budget, and the last to end removes it.

use crate::{
    case::Case,
    cpu::end,
    groups::{command_of, group_of, own_name},
    needs::Need,
    support::{Output, RCON, many, rcon, run, victim_line},
};
use std::{fs, path::Path, thread};

pub(crate) fn tests() -> Vec<Case> {
    const PIDS: Need = Need::Controller("pids");
    vec![
        Case::new("shared::two_runs_share_one_budget", &[PIDS], two_runs_share_one_budget),
        Case::new("shared::the_last_removes_it", &[PIDS], the_last_removes_it),
        Case::new(
            "shared::joined_wherever_it_is",
            &[PIDS, Need::Controller("cpu"), Need::Controller("memory")],
            joined_wherever_it_is,
        ),
        Case::new(
            "shared::a_later_limit_holds_for_all",
            &[Need::Controller("memory")],
            a_later_limit_holds_for_all,
        ),
        Case::new("shared::who_does_not_start_changes_nothing", &[PIDS], who_does_not_start_changes_nothing),
        Case::new("shared::a_period_is_not_left_behind", &[Need::V1("cpu")], a_period_is_not_left_behind),
        Case::new("shared::what_is_left_ends_with_its_own_run", &[PIDS], what_is_left_ends_with_its_own_run),
        Case::new("shared::many_come_and_go", &[PIDS], many_come_and_go),
        // Root: seccomp(2) lets an ordinary user filter system calls only where no_new_privs is set.
        Case::new(
            "shared::a_name_for_one_is_told_at_once",
            &[PIDS, Need::Root],
            a_name_for_one_is_told_at_once,
        ),
    ]
}

fn two_runs_share_one_budget() {
    let name = own_name("budget");
    let [program, role] = victim_line("sleep:600");
    // The shell and five more.
    let line = "for i in 1 2 3 4 5; do \"$0\" \"$1\" & done; echo ready; wait";
    let mut first =
        rcon(["--group", &name, "--pids", "8", "--", "sh", "-c", line]).args([program, role]).start();
    first.wait_for("ready");
    // Nothing asked, and held all the same: one is the victim itself, one more fits.
    let second = rcon(["--group", &name, "--"]).victim("forks:9").run();
    end(&mut first.child);
    drop(first.finish());
    assert_eq!(second.stdout, "forks ok=1 err=EAGAIN\n", "{second}");
}

fn the_last_removes_it() {
    let name = own_name("last");
    let mut first = rcon(["--group", &name, "--pids", "8", "--"]).victim("sleep:600").start();
    let group = group_of(command_of(first.child.id()), "pids");
    assert!(group.ends_with(format!("rcon-{name}")), "{}", group.display());
    let mut second = rcon(["--group", &name, "--"]).victim("sleep:600").start();
    assert_eq!(group_of(command_of(second.child.id()), "pids"), group);
    end(&mut first.child);
    drop(first.finish());
    assert!(group.exists(), "removed while the second run is in it");
    let third = rcon(["--group", &name, "--"]).victim("forks:9").run();
    assert_eq!(third.stdout, "forks ok=6 err=EAGAIN\n", "the limit outlives who set it: {third}");
    end(&mut second.child);
    let out = second.finish();
    assert_eq!((out.shell_status(), out.stderr.as_str()), (128 + 15, ""), "{out}");
    assert!(!group.exists(), "the last one leaves it");
}

fn joined_wherever_it_is() {
    let name = own_name("wide");
    let mut first = rcon(["--group", &name, "--cpu", "50%", "--pids", "8", "--"]).victim("sleep:600").start();
    let of = |pid: u32| ["cpu", "pids", "memory"].map(|controller| group_of(pid, controller));
    let theirs = of(command_of(first.child.id()));
    let mut second = rcon(["--group", &name, "--mem", "64M", "--"]).victim("sleep:600").start();
    let mine = of(command_of(second.child.id()));
    let mut third = rcon(["--group", &name, "--"]).victim("sleep:600").start();
    let others = of(command_of(third.child.id()));
    for run in [&mut first, &mut second, &mut third] {
        end(&mut run.child);
    }
    for run in [first, second, third] {
        let out = run.finish();
        assert_eq!(out.stderr, "", "{out}");
    }
    assert_eq!(theirs[..2], mine[..2]);
    assert_eq!(mine, others);
    assert!(mine.iter().all(|group| is_named(group, &name)), "{mine:?}");
}

fn is_named(group: &Path, name: &str) -> bool {
    group.ends_with(format!("rcon-{name}"))
}

fn a_later_limit_holds_for_all() {
    let name = own_name("later");
    let started = |size: &str, swap: &str| {
        rcon(["--group", &name, "--mem", size, "--swap", swap, "--"]).victim("sleep:600").start()
    };
    let first = started("64M", "0");
    command_of(first.child.id());
    // Up: on v1 memory and memory with swap can only be raised in the other order than they are lowered in.
    let alloc = |size: &str, role: &str| -> Output {
        rcon(["--group", &name, "--mem", size, "--swap", "0", "--"]).victim(role).run()
    };
    let raised = alloc("256M", "alloc:150M");
    let lowered = alloc("32M", "alloc:64M");
    let mut first = first;
    end(&mut first.child);
    drop(first.finish());
    assert_eq!(raised.status.code(), Some(0), "{raised}");
    assert_eq!(lowered.shell_status(), 137, "{lowered}");
}

fn who_does_not_start_changes_nothing() {
    let name = own_name("budget");
    let mut first = rcon(["--group", &name, "--pids", "20", "--"]).victim("sleep:600").start();
    let group = group_of(command_of(first.child.id()), "pids");
    let missing = rcon(["--group", &name, "--pids", "10", "--", "/nonexistent"]).run();
    let refused = rcon(["--group", &name, "--pids", "10", "--chdir", "/nonexistent", "--", "true"]).run();
    let left = fs::read_to_string(group.join("pids.max"));
    end(&mut first.child);
    drop(first.finish());
    assert_eq!((missing.shell_status(), refused.shell_status()), (127, 125), "{missing}\n{refused}");
    assert_eq!(left.expect("pids.max").trim(), "20");
}

fn a_period_is_not_left_behind() {
    let name = own_name("period");
    let mut first =
        rcon(["--group", &name, "--cpu", "20%", "--cpu-period", "20ms", "--"]).victim("sleep:600").start();
    let group = group_of(command_of(first.child.id()), "cpu");
    let mut second = rcon(["--group", &name, "--cpu", "20%", "--"]).victim("sleep:600").start();
    command_of(second.child.id());
    let read = |file: &str| std::fs::read_to_string(group.join(file)).expect("the group is there");
    let told = (read("cpu.cfs_quota_us"), read("cpu.cfs_period_us"));
    for run in [&mut first, &mut second] {
        end(&mut run.child);
    }
    drop((first.finish(), second.finish()));
    let number = |text: &str| text.trim().parse::<f64>().expect("a number");
    let share = number(&told.0) / number(&told.1);
    assert!((share - 0.2).abs() < 1e-9, "asked 20% twice, it is {share}: {told:?}");
}

fn what_is_left_ends_with_its_own_run() {
    let name = own_name("left");
    let mut first = rcon(["--group", &name, "--pids", "64", "--"]).victim("sleep:600").start();
    let pid = command_of(first.child.id());
    let out = rcon(["--group", &name, "--"]).victim("daemonize:600").run();
    let daemon = out.number("daemon");
    let daemon_lives = Path::new(&format!("/proc/{daemon}")).exists();
    let first_lives = Path::new(&format!("/proc/{pid}")).exists();
    end(&mut first.child);
    drop(first.finish());
    assert!(!daemon_lives, "what the second run left is in the group: {out}");
    assert!(first_lives, "the second run ended the first one's command");
}

fn many_come_and_go() {
    let name = own_name("many");
    // Enough of them that one ends while the next makes the group anew, between any two of its calls.
    let runs = many(250);
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let name = name.clone();
            thread::spawn(move || {
                let line = format!("exit {worker}");
                let one = || rcon(["--group", &name, "--pids", "500", "--", "sh", "-c", &line]).run();
                let is_right = |out: &Output| out.status.code() == Some(worker) && out.stderr.is_empty();
                (0..runs).map(|_| one()).find(|out| !is_right(out))
            })
        })
        .collect();
    for worker in workers {
        if let Some(wrong) = worker.join().expect("the worker did not panic") {
            panic!("{wrong}");
        }
    }
}

/// Not after a wait for its end: there is no system call here that waits for time to pass.
fn a_name_for_one_is_told_at_once() {
    let name = own_name("alone");
    let mut first = rcon(["--name", &name, "--pids", "8", "--"]).victim("sleep:600").start();
    command_of(first.child.id());
    let sleeps = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep].map(|call| call.to_string()).join(":");
    let second = run(crate::victim::program())
        .env("RCON_VICTIM", format!("lacking:{sleeps}"))
        .args([RCON, "--group", &name, "--", "true"])
        .run();
    end(&mut first.child);
    drop(first.finish());
    assert_eq!(second.shell_status(), 125, "{second}");
    assert!(second.stderr.contains("a run that was started with --name has this name"), "{second}");
    // And it is nobody's afterwards.
    let third = rcon(["--group", &name, "--pids", "8", "--", "true"]).run();
    assert_eq!((third.shell_status(), third.stderr.as_str()), (0, ""), "{third}");
}
