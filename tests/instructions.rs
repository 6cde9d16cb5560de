//! How many instructions a run takes outside of the kernel, front and keeper together: counted by valgrind, the same
//! on a busy machine as on an idle one.

use std::path::Path;
use std::{fs, process::Command};

/// What the release build takes, on x86-64 with glibc. More than 5 % above it fails: find out why, or, if it is worth
/// it, write the new number down; far below it, write that down as well.
const BUDGET: [(&str, &[&str], u64); 3] = [
    // Of a machine whose controllers are on v1, as most of these instructions are for the three groups.
    ("limits", &["--cpu", "30%", "--mem", "256M", "--pids", "64", "--", "/bin/true"], 106_700),
    ("no group", &["--", "/bin/true"], 37_300),
    ("help", &["--help"], 9_190_000),
];

#[test]
#[ignore = "needs the release binary of these sources (cargo build --release), and valgrind"]
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn a_run_takes_no_more_instructions_than_it_did() {
    let built = Path::new(env!("CARGO_BIN_EXE_rcon")).parent().expect("a directory");
    let rcon = built.with_file_name("release").join("rcon");
    let mut over = Vec::new();
    for (name, line, budget) in BUDGET {
        if name == "limits" && !Path::new("/sys/fs/cgroup/pids/tasks").exists() {
            println!("{name}: skipped, because pids is not on v1 here");
            continue;
        }
        let own = instructions(&rcon, line);
        println!("{name}: {own} instructions, {budget} budgeted");
        if own > budget + budget / 20 {
            over.push(name);
        }
    }
    assert!(
        over.is_empty(),
        "more than 5 % above the budget: {over:?} (cargo test --test instructions -- --ignored)"
    );
}

fn instructions(program: &Path, line: &[&str]) -> u64 {
    let dir = tempfile::tempdir().expect("temporary directory");
    let done = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}/out.%p", dir.path().display()))
        .arg(program)
        .args(line)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .expect("valgrind is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // One file for each process that has not become another program.
    let total = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).expect("a result");
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ").map(str::to_owned));
        total.expect("a total").trim().parse::<u64>().expect("a number")
    };
    fs::read_dir(dir.path()).expect("results").flatten().map(total).sum()
}
