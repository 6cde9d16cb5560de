//! `--hint-env`: runtimes are told what the kernel will give them, the limits around included.

use crate::{
    case::Case,
    needs::Need,
    support::{Output, RCON, rcon},
};
use std::collections::BTreeMap;

pub(crate) fn tests() -> Vec<Case> {
    const BOTH: &[Need] = &[Need::Controller("cpu"), Need::Controller("memory")];
    vec![
        Case::new("hints::of_what_is_asked", BOTH, of_what_is_asked),
        Case::new("hints::of_what_encloses", BOTH, of_what_encloses),
        Case::new("hints::never_over_the_users", BOTH, never_over_the_users),
        Case::new("hints::none_where_nothing_limits", &[Need::Host], none_where_nothing_limits),
        Case::new(
            "hints::a_percentage_is_of_what_encloses",
            &[Need::Controller("memory")],
            a_percentage_is_of_what_encloses,
        ),
    ]
}

const NAMES: [&str; 9] = [
    "GOMAXPROCS",
    "GOMEMLIMIT",
    "OMP_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "CARGO_BUILD_JOBS",
    "MAKEFLAGS",
    "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "PYTHON_CPU_COUNT",
];

fn told(words: &[&str], set: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut run = rcon(words);
    for name in NAMES {
        run.command.env_remove(name);
    }
    for (name, value) in set {
        run = run.env(name, value);
    }
    let out: Output = run.run();
    assert_eq!((out.status.code(), out.stderr.as_str()), (Some(0), ""), "{out}");
    let pairs = out.stdout.lines().filter_map(|line| line.split_once('='));
    let ours = pairs.filter(|(name, _)| NAMES.contains(name));
    ours.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn of_what_is_asked() {
    let said = told(&["--hint-env", "--cpu", "50%", "--mem", "64M", "--", "env"], &[]);
    assert_eq!(said.len(), NAMES.len(), "{said:?}");
    assert_eq!(said["GOMAXPROCS"], "1");
    assert_eq!(said["MAKEFLAGS"], "-j1");
    assert_eq!(said["GOMEMLIMIT"], (64 * 1024 * 1024 / 10 * 9).to_string());
    assert_eq!(said["NODE_OPTIONS"], "--max-old-space-size=48");
    assert_eq!(said["JAVA_TOOL_OPTIONS"], "-XX:ActiveProcessorCount=1 -XX:MaxRAM=67108864");
    // Nobody asked.
    assert!(told(&["--cpu", "50%", "--mem", "64M", "--", "env"], &[]).is_empty());
}

/// The outer run's limits are those of the inner one, which asks for more, or for nothing.
fn of_what_encloses() {
    let inner = [RCON, "--hint-env", "--", "env"];
    let said = told(&[&["--cpu", "50%", "--mem", "64M", "--"], &inner[..]].concat(), &[]);
    assert_eq!(
        (said["RAYON_NUM_THREADS"].as_str(), said["NODE_OPTIONS"].as_str()),
        ("1", "--max-old-space-size=48")
    );
    let inner = [RCON, "--hint-env", "--mem", "32M", "--", "env"];
    let said = told(&[&["--mem", "64M", "--"], &inner[..]].concat(), &[]);
    assert_eq!(said["NODE_OPTIONS"], "--max-old-space-size=24");
}

fn never_over_the_users() {
    let words =
        ["--hint-env", "--cpu", "50%", "--env", "OMP_NUM_THREADS=9", "--unset", "MAKEFLAGS", "--", "env"];
    let said = told(&words, &[("GOMAXPROCS", "3"), ("CARGO_BUILD_JOBS", "")]);
    assert_eq!((said["GOMAXPROCS"].as_str(), said["OMP_NUM_THREADS"].as_str()), ("3", "9"));
    assert_eq!((said["CARGO_BUILD_JOBS"].as_str(), said["PYTHON_CPU_COUNT"].as_str()), ("", "1"));
    assert!(!said.contains_key("MAKEFLAGS"), "{said:?}");
}

/// This machine's own limits, if it has any, are read by us as well as by rcon, so only their absence is certain.
fn none_where_nothing_limits() {
    let said = told(&["--hint-env", "--pids", "64", "--", "env"], &[]);
    let limited = |files: &[&str]| {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        own.lines().any(|line| {
            let path = line.rsplit(':').next().unwrap_or_default();
            let name = line.split(':').nth(1).unwrap_or_default();
            std::path::Path::new(path).ancestors().any(|dir| {
                files.iter().any(|file| {
                    let file = format!("/sys/fs/cgroup/{name}{}/{file}", dir.display());
                    std::fs::read_to_string(file).is_ok_and(|text| {
                        !text.starts_with("max")
                            && text.trim().parse::<i64>().is_ok_and(|n| n > 0 && n < 1 << 60)
                    })
                })
            })
        })
    };
    assert_eq!(said.contains_key("GOMAXPROCS"), limited(&["cpu.cfs_quota_us"]), "{said:?}");
    assert_eq!(
        said.contains_key("GOMEMLIMIT"),
        limited(&["memory.limit_in_bytes", "memory.max"]),
        "{said:?}"
    );
}

/// Half of the enclosing group's, not of the machine's: the kernel kills for what is between.
fn a_percentage_is_of_what_encloses() {
    let half = ["--mem", "128M", "--", RCON, "--mem", "50%", "--swap", "0", "--"];
    let lives = rcon(half).victim("alloc:32M").run();
    assert_eq!((lives.status.code(), lives.stdout.as_str()), (Some(0), "alloc done\n"), "{lives}");
    let dies = rcon(half).victim("alloc:100M").run();
    assert_eq!(dies.shell_status(), 137, "{dies}");
    assert!(dies.stderr.contains("limit 64M"), "{dies}");
}
