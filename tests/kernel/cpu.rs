//! CPU limits, by the time that processes got.

use crate::{
    case::Case,
    groups::{by_another, command_of, group_of, keyed, until},
    needs::Need,
    support::{Output, rcon, slow, sometimes, victim_line},
};
use cgroups_rs::fs::cpu::CpuController;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) fn tests() -> Vec<Case> {
    const CPU: Need = Need::Controller("cpu");
    const CPUSET: Need = Need::Controller("cpuset");
    vec![
        Case::new("cpu::a_fifth_is_a_fifth", &[CPU], a_fifth_is_a_fifth),
        Case::new("cpu::one_and_a_half_of_two", &[CPU, Need::Cpus(2)], one_and_a_half_of_two),
        Case::new("cpu::the_period_is_the_one_asked_for", &[CPU], the_period_is_the_one_asked_for),
        Case::new("cpu::weights_share_a_busy_cpu", &[CPU], weights_share_a_busy_cpu),
        Case::new("cpu::the_files_say_so_to_others", &[CPU], the_files_say_so_to_others),
        Case::new("cpu::more_than_the_parent_has", &[Need::V1("cpu")], more_than_the_parent_has),
        Case::new("cpuset::pins", &[CPUSET, Need::Cpus(2)], cpuset_pins),
        Case::new("cpuset::what_is_not_there_is_refused", &[CPUSET], what_is_not_there_is_refused),
    ]
}

/// Weighted, so that whatever else the machine does takes little of the share.
const FIRST: [&str; 2] = ["--cpu-weight", "10000"];

fn share(out: &Output) -> f64 {
    100.0 * out.number("cpu_ms") as f64 / out.number("wall_ms") as f64
}

fn a_fifth_is_a_fifth() {
    // A busy machine may give less than the limit allows; or more, for a moment, where it looks too late.
    sometimes(|| {
        let run = rcon(["--cpu", "20%"]).args(FIRST).args(["--"]).victim("burn:2.5").start();
        let group = group_of(command_of(run.child.id()), "cpu");
        until("never throttled", || (keyed(&group, "cpu.stat", "nr_throttled") > 3).then_some(()));
        let share = share(&run.finish());
        (17.0..=23.0).contains(&share).then_some(()).ok_or_else(|| format!("asked 20%, used {share}%"))
    });
}

fn one_and_a_half_of_two() {
    // Each counts by its own clock: where one starts late, the other has more than its half for that time.
    sometimes(|| {
        let two = r#""$0" "$1" & "$0" "$1" & wait"#;
        let run = rcon(["--cpu", "150%"]).args(FIRST).args(["--", "sh", "-c", two]);
        let run = run.args(victim_line("burn:3")).start();
        let group = group_of(command_of(run.child.id()), "cpu");
        until("never throttled", || (keyed(&group, "cpu.stat", "nr_throttled") > 3).then_some(()));
        let out = run.finish();
        let of_each: Vec<f64> = out
            .stdout
            .lines()
            .filter(|line| line.contains("cpu_ms"))
            .map(|line| {
                let number = |key: &str| {
                    let word = line.split_whitespace().find_map(|word| word.strip_prefix(key));
                    word.and_then(|digits| digits.parse::<f64>().ok()).unwrap_or_else(|| panic!("{out}"))
                };
                100.0 * number("cpu_ms=") / number("wall_ms=")
            })
            .collect();
        assert_eq!(of_each.len(), 2, "{out}");
        let sum: f64 = of_each.iter().sum();
        // More than one CPU can give, so that it was not one loop alone.
        (120.0..=155.0).contains(&sum).then_some(()).ok_or_else(|| format!("asked 150%, used {of_each:?}%"))
    });
}

fn the_period_is_the_one_asked_for() {
    // In a second of the time that has really passed.
    let periods = |args: [&str; 4]| {
        let mut run = rcon(args).args(["--"]).victim("burn:60").start();
        let group = group_of(command_of(run.child.id()), "cpu");
        let (start, before) = (Instant::now(), keyed(&group, "cpu.stat", "nr_periods"));
        thread::sleep(Duration::from_secs(1));
        let passed = keyed(&group, "cpu.stat", "nr_periods") - before;
        let rate = passed as f64 / start.elapsed().as_secs_f64();
        end(&mut run.child);
        drop(run.finish());
        rate
    };
    let (short, long) = (
        periods(["--cpu", "50%", "--cpu-period", "10ms"]),
        periods(["--cpu", "50%", "--cpu-period", "100ms"]),
    );
    assert!(short >= 4.0 * long, "{short} periods of 10 ms, {long} of 100 ms in a second");
    assert!((2.0..=14.0).contains(&long), "{long} periods of 100 ms in a second");
}

fn weights_share_a_busy_cpu() {
    let [heavy, light] = on_one_cpu([&["--cpu-weight", "300"], &["--cpu-weight", "100"]]);
    let ratio = heavy as f64 / light.max(1) as f64;
    assert!((2.3..=3.8).contains(&ratio), "asked 3 to 1, got {heavy} and {light} ticks");
}

/// What each of two busy runs with these options gets of one CPU, in ticks.
pub(crate) fn on_one_cpu(options: [&[&str]; 2]) -> [u64; 2] {
    // Both on one CPU, by our own affinity, which they inherit.
    let before = sched_getaffinity(Pid::from_raw(0)).expect("affinity");
    let cpu = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu) == Ok(true)).expect("a CPU");
    let mut one = CpuSet::new();
    one.set(cpu).expect("CPU number");
    sched_setaffinity(Pid::from_raw(0), &one).expect("affinity");
    let mut runs = options.map(|options| rcon(options).args(["--"]).victim("burn:60").start());
    sched_setaffinity(Pid::from_raw(0), &before).expect("affinity");
    let pids = [0, 1].map(|one: usize| command_of(runs[one].child.id()));
    // Both run by now; how each goes on is what counts.
    let start = pids.map(ticks);
    let used = until("they do not burn", || {
        let [first, second] = [0, 1].map(|one: usize| ticks(pids[one]) - start[one]);
        (first + second >= 300).then_some([first, second])
    });
    for run in &mut runs {
        end(&mut run.child);
    }
    for run in runs {
        drop(run.finish());
    }
    used
}

/// User and system time of a process, in ticks of 10 ms (proc_pid_stat(5)).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
}

fn the_files_say_so_to_others() {
    let run = ["--cpu", "30%", "--cpu-period", "50ms", "--cpu-weight", "200", "--"];
    let mut run = rcon(run).victim("sleep:600").start();
    let groups = by_another(command_of(run.child.id()));
    let cpu: &CpuController = groups.controller_of().expect("cgroups-rs finds the controller");
    // On v1 the weight is shares of 1024 for 100, as systemd and the OCI runtimes have it.
    let weight = if groups.v2() { 200 } else { 2048 };
    let told =
        (cpu.cfs_quota().expect("quota"), cpu.cfs_period().expect("period"), cpu.shares().expect("shares"));
    end(&mut run.child);
    drop(run.finish());
    assert_eq!(told, (15_000, 50_000, weight));
}

fn more_than_the_parent_has() {
    let inner = [crate::support::RCON, "--cpu", "50%", "--", "true"];
    let out = rcon(["--cpu", "20%", "--"]).args(inner).run();
    assert_eq!(out.status.code(), Some(125), "{out}");
    assert!(
        out.stderr.starts_with("rcon: --cpu 50%: ") && out.stderr.contains("than the one around it"),
        "{out}"
    );
    // Less is taken.
    let inner = [crate::support::RCON, "--cpu", "10%", "--", "true"];
    let out = rcon(["--cpu", "20%", "--"]).args(inner).run();
    assert_eq!((out.status.code(), out.stderr.as_str()), (Some(0), ""), "{out}");
}

fn cpuset_pins() {
    for (option, key, list) in [("--cpuset", "Cpus_allowed_list", "1"), ("--mems", "Mems_allowed_list", "0")]
    {
        let out = rcon([option, list, "--", "grep", key, "/proc/self/status"]).run();
        assert_eq!(out.stdout, format!("{key}:\t{list}\n"), "{out}");
    }
    let out = rcon(["--cpuset", "0", "--cpu", "50%", "--"])
        .victim("burn:0.1")
        .limit(slow(Duration::from_secs(10)))
        .run();
    assert_eq!(out.status.code(), Some(0), "{out}");
}

fn what_is_not_there_is_refused() {
    for (option, list) in [("--cpuset", "0,1000"), ("--mems", "63")] {
        let out = rcon([option, list, "--", "true"]).run();
        assert_eq!(out.status.code(), Some(125), "{out}");
        assert!(out.stderr.starts_with(&format!("rcon: {option} {list}: ")), "{out}");
        assert!(out.stderr.contains("try: ask only for what the enclosing group has"), "{out}");
    }
}

/// SIGTERM, which the victims do not catch.
pub(crate) fn end(child: &mut std::process::Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
}
