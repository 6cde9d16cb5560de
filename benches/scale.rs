//! What the wrapper costs when there are many: memory of waiting wrappers, wake-ups, thousands of runs in a row, and
//! hundreds at once. Everything beside the floor, in one run.
//!
//! `cargo bench --bench scale [-- --runs N] [--waiting N] [--at-once N]`.

#[allow(dead_code, reason = "shared with the other benchmarks")]
#[path = "common/mod.rs"]
mod common;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{at, build_floors, find, floor_groups, installed};

const RCON: &str = env!("CARGO_BIN_EXE_rcon");
const LIMITS: [&str; 7] = ["--cpu", "30%", "--mem", "256M", "--pids", "64", "--"];

fn main() {
    let number = |name: &str, default: usize| {
        let words: Vec<String> = std::env::args().collect();
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let Some(groups) = floor_groups(RCON) else {
        println!("left out, because rcon cannot make groups here");
        return;
    };
    let Some((_, floor)) = build_floors().into_iter().next() else { return };
    let floor = installed(&floor).display().to_string();
    let mut floor_line = vec![floor.clone()];
    floor_line.extend(groups.iter().cloned());
    floor_line.push("--".to_owned());
    let mut rcon_line = vec![installed(std::path::Path::new(RCON)).display().to_string()];
    rcon_line.extend(LIMITS.map(str::to_owned));

    memory(&floor_line, &rcon_line, 64);
    memory(&floor_line, &rcon_line, number("--waiting", 1000));
    in_a_row(&floor_line, &rcon_line, number("--runs", 10_000));
    at_once(&floor_line, &rcon_line, number("--at-once", 500));
}

fn start(line: &[String], command: &[&str]) -> Child {
    // The floor looks nothing up in PATH.
    let program = find(command[0]).expect("a program of every machine");
    Command::new(&line[0])
        .args(&line[1..])
        .arg(program)
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("a wrapper starts")
}

/// A number of kilobytes from a file of `/proc/PID`.
fn kilobytes(pid: u32, file: &str, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn memory(floor: &[String], rcon: &[String], count: usize) {
    println!("\n{count} waiting wrappers: Pss of each, KiB; context switches of each in 5 s");
    for (name, line) in [("floor", floor), ("rcon", rcon)] {
        let mut children: Vec<Child> = (0..count).map(|_| start(line, &["sleep", "1000"])).collect();
        std::thread::sleep(Duration::from_secs(2));
        let switches = |pid| {
            kilobytes(pid, "status", "voluntary_ctxt_switches:")
                + kilobytes(pid, "status", "nonvoluntary_ctxt_switches:")
        };
        let before: u64 = children.iter().map(|child| switches(child.id())).sum();
        std::thread::sleep(Duration::from_secs(5));
        let after: u64 = children.iter().map(|child| switches(child.id())).sum();
        let pss: u64 = children.iter().map(|child| kilobytes(child.id(), "smaps_rollup", "Pss:")).sum();
        // What stands beside the wrapper (a guardian) counts too: all processes that run the same program.
        let program = std::fs::canonicalize(&line[0]).ok();
        let all: u64 = processes()
            .filter(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok() == program)
            .map(|pid| kilobytes(pid, "smaps_rollup", "Pss:"))
            .sum();
        println!(
            "{name:<8} {:>8} wrapper {:>8} with helpers {:>8} total KiB {:>5} switches",
            pss / count as u64,
            all / count as u64,
            all,
            after - before
        );
        for child in &children {
            // The floor passes no signals on: its sleep is what has to be ended, below whatever stands between.
            let mut below = vec![i32::try_from(child.id()).expect("a process id")];
            while let Some(pid) = below.pop() {
                let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                if comm.trim() == "sleep" {
                    let pid = nix::unistd::Pid::from_raw(pid);
                    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)
                        .expect("our own sleep can be ended");
                }
                let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
                below.extend(
                    listed.unwrap_or_default().split_whitespace().filter_map(|word| word.parse::<i32>().ok()),
                );
            }
        }
        for child in &mut children {
            child.wait().expect("it ends");
        }
    }
}

fn processes() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn in_a_row(floor: &[String], rcon: &[String], runs: usize) {
    println!("\n{runs} runs in a row: median us of the first hundred and of the last");
    for (name, line) in [("floor", floor), ("rcon", rcon)] {
        let mut times = Vec::with_capacity(runs);
        for _ in 0..runs {
            let begin = Instant::now();
            let status = start(line, &["true"]).wait().expect("it ends");
            assert!(status.success(), "{name}: {status}");
            times.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        let edge = runs.min(100);
        let (first, last) = (at(&times[..edge], 50), at(&times[runs - edge..], 50));
        println!("{name:<8} {first:>8.0} {last:>8.0}  ratio {:.3}; dying groups: {}", last / first, dying());
    }
}

/// Groups that the kernel has not yet let go of: (all, in use by nobody) as it tells them.
fn dying() -> String {
    let text = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("memory"));
    line.and_then(|line| line.split_whitespace().nth(2))
        .map_or_else(|| "n/a".to_owned(), |n| format!("{n} memory groups"))
}

fn at_once(floor: &[String], rcon: &[String], count: usize) {
    println!("\n{count} runs at once: wall ms, all of them");
    let mut walls = Vec::new();
    for round in 0..5 {
        for (name, line) in [("floor", floor), ("rcon", rcon)] {
            let begin = Instant::now();
            let mut children: Vec<Child> = (0..count).map(|_| start(line, &["true"])).collect();
            for child in &mut children {
                let status = child.wait().expect("it ends");
                assert!(status.success(), "{name}: {status}");
            }
            walls.push((name, round, begin.elapsed().as_secs_f64() * 1e3));
        }
    }
    let of = |wanted: &str| {
        walls.iter().filter(|(name, ..)| *name == wanted).map(|(.., ms)| *ms).collect::<Vec<_>>()
    };
    let (floor, rcon) = (at(&of("floor"), 50), at(&of("rcon"), 50));
    println!("floor {floor:.0}  rcon {rcon:.0}  throughput ratio {:.3}", floor / rcon);
}
